//! Conditional requests (RFC 9110 §13) for files that have a date and no entity tag.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Serve,
    NotModified,
    Failed,
}

/// The preconditions in the order of RFC 9110 §13.2.2.
pub(super) fn check(headers: &HeaderMap, modified: Option<SystemTime>) -> Outcome {
    if let Some(tags) = headers.get(header::IF_MATCH) {
        if !names_any(tags) {
            return Outcome::Failed;
        }
    } else if let (Some(since), Some(modified)) =
        (date(headers, header::IF_UNMODIFIED_SINCE), modified)
        && whole_seconds(modified) > since
    {
        return Outcome::Failed;
    }
    let unchanged = match headers.get(header::IF_NONE_MATCH) {
        Some(tags) => names_any(tags),
        None => not_modified_since(headers, modified),
    };
    if unchanged {
        Outcome::NotModified
    } else {
        Outcome::Serve
    }
}

/// Whether `If-Modified-Since` tells that the client has the current version.
pub(super) fn not_modified_since(headers: &HeaderMap, modified: Option<SystemTime>) -> bool {
    match (date(headers, header::IF_MODIFIED_SINCE), modified) {
        (Some(since), Some(modified)) => whole_seconds(modified) <= since,
        _ => false,
    }
}

/// Whether `Range` counts: without `If-Range`, or with the current date in it.
pub(super) fn if_range(headers: &HeaderMap, modified: Option<SystemTime>) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    match (date(headers, header::IF_RANGE), modified) {
        (Some(date), Some(modified)) => date == whole_seconds(modified),
        _ => false,
    }
}

pub(super) fn http_date(at: SystemTime) -> Option<HeaderValue> {
    HeaderValue::try_from(httpdate::fmt_http_date(at)).ok()
}

/// `*` is true of all that exists.
fn names_any(tags: &HeaderValue) -> bool {
    tags.as_bytes().trim_ascii() == b"*"
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Dates in headers have no fractions.
fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Tue, 02 Jan 2024 03:04:04 GMT";
    const EQUAL: &str = "Tue, 02 Jan 2024 03:04:05 GMT";

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn conditions_of_a_file_changed_at_a_time_with_a_fraction() {
        let at = httpdate::parse_http_date(EQUAL).unwrap() + Duration::from_millis(300);
        for (fields, expected) in [
            (vec![], Outcome::Serve),
            (
                vec![(header::IF_MODIFIED_SINCE, EQUAL)],
                Outcome::NotModified,
            ),
            (vec![(header::IF_MODIFIED_SINCE, BEFORE)], Outcome::Serve),
            (
                vec![(header::IF_MODIFIED_SINCE, "yesterday")],
                Outcome::Serve,
            ),
            (vec![(header::IF_UNMODIFIED_SINCE, EQUAL)], Outcome::Serve),
            (vec![(header::IF_UNMODIFIED_SINCE, BEFORE)], Outcome::Failed),
            (vec![(header::IF_NONE_MATCH, "*")], Outcome::NotModified),
            (
                vec![
                    (header::IF_NONE_MATCH, "\"x\""),
                    (header::IF_MODIFIED_SINCE, EQUAL),
                ],
                Outcome::Serve,
            ),
            (vec![(header::IF_MATCH, "\"x\"")], Outcome::Failed),
            (
                vec![
                    (header::IF_MATCH, "*"),
                    (header::IF_UNMODIFIED_SINCE, BEFORE),
                ],
                Outcome::Serve,
            ),
        ] {
            assert_eq!(check(&headers(&fields), Some(at)), expected, "{fields:?}");
        }
        assert!(if_range(&headers(&[]), Some(at)));
        assert!(if_range(&headers(&[(header::IF_RANGE, EQUAL)]), Some(at)));
        assert!(!if_range(&headers(&[(header::IF_RANGE, BEFORE)]), Some(at)));
        assert!(!if_range(
            &headers(&[(header::IF_RANGE, "\"x\"")]),
            Some(at)
        ));
    }
}
