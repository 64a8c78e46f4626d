//! `If-Modified-Since`, `Range` and `If-Range` (RFC 9110 §13, §14).

use std::ops;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{HeaderName, IF_MODIFIED_SINCE, IF_RANGE, RANGE};

/// What of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it. Several ranges at a time are not worth more.
    Whole,
    /// These bytes; never empty.
    Part(ops::Range<usize>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whole seconds, which is what dates in headers have.
fn seconds(time: SystemTime) -> Option<Duration> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(since.as_secs()))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    seconds(httpdate::parse_http_date(text(headers, name)?).ok()?)
}

/// Whether the asker has the file already.
pub(super) fn is_unmodified(headers: &HeaderMap, modified: Option<SystemTime>) -> bool {
    let modified = modified.and_then(seconds);
    match (modified, date(headers, &IF_MODIFIED_SINCE)) {
        (Some(modified), Some(known)) => modified <= known,
        _ => false,
    }
}

/// What is wanted of a file of this size.
pub(super) fn range(headers: &HeaderMap, size: usize, modified: Option<SystemTime>) -> Range {
    let changed =
        headers.contains_key(IF_RANGE) && date(headers, &IF_RANGE) != modified.and_then(seconds);
    match text(headers, &RANGE).and_then(parse) {
        Some(asked) if !changed => satisfied(asked, size),
        _ => Range::Whole,
    }
}

/// First and last byte, or how many from the end.
fn parse(range: &str) -> Option<(Option<usize>, Option<usize>)> {
    let (first, last) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    match (first, last) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        other => Some(other),
    }
}

fn satisfied(asked: (Option<usize>, Option<usize>), size: usize) -> Range {
    let part = match asked {
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        (None, last) => size.saturating_sub(last.unwrap_or(0))..size,
    };
    if part.start < part.end {
        Range::Part(part)
    } else {
        Range::Unsatisfiable
    }
}
