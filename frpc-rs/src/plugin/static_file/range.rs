//! The `Range` header (RFC 9110 §14).

/// Parts of one request; more are answered with the whole file, since each part costs a header.
const MAX_PARTS: usize = 64;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    Whole,
    Parts(Vec<Part>),
}

/// Bytes `start..start + len`; never empty, always within the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Part {
    /// `Content-Range` of this part of a file.
    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.len - 1)
    }
}

/// Why there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    Invalid,
    NoOverlap,
}

impl Error {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Invalid => "invalid range",
            Self::NoOverlap => "invalid range: failed to overlap",
        }
    }
}

/// Reads the header for a file of `size` bytes.
pub(super) fn parse(value: &[u8], size: u64) -> Result<Ranges, Error> {
    let specs = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.strip_prefix("bytes="))
        .ok_or(Error::Invalid)?;
    let mut parts = Vec::new();
    let mut beyond = false;
    for spec in specs.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        match part(spec, size)? {
            Some(part) => parts.push(part),
            None => beyond = true,
        }
    }
    // A client that asks for more than there is wastes its time: it gets the file.
    let asked: u64 = parts.iter().fold(0, |sum, p| sum.saturating_add(p.len));
    if parts.is_empty() && beyond && size > 0 {
        return Err(Error::NoOverlap);
    }
    if parts.is_empty() || parts.len() > MAX_PARTS || asked > size {
        return Ok(Ranges::Whole);
    }
    Ok(Ranges::Parts(parts))
}

/// One `start-end`; `None` if it lies beyond the end.
fn part(spec: &str, size: u64) -> Result<Option<Part>, Error> {
    let (start, end) = spec.split_once('-').ok_or(Error::Invalid)?;
    let (start, end) = (start.trim(), end.trim());
    if start.is_empty() {
        let len = number(end)?.min(size);
        let start = size - len;
        return Ok((len > 0).then_some(Part { start, len }));
    }
    let start = number(start)?;
    let last = if end.is_empty() {
        u64::MAX
    } else {
        number(end)?
    };
    if start >= size {
        return Ok(None);
    }
    if start > last {
        return Err(Error::Invalid);
    }
    let last = last.min(size - 1);
    Ok(Some(Part {
        start,
        len: last - start + 1,
    }))
}

fn number(text: &str) -> Result<u64, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Invalid);
    }
    // More than fits is more than any file has.
    Ok(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Result<Vec<(u64, u64)>, Error> {
        parse(value.as_bytes(), 12).map(|ranges| match ranges {
            Ranges::Whole => Vec::new(),
            Ranges::Parts(parts) => parts.iter().map(|p| (p.start, p.len)).collect(),
        })
    }

    #[test]
    fn ranges_of_twelve_bytes() {
        for (value, expected) in [
            ("bytes=1-3", Ok(vec![(1, 3)])),
            ("bytes=0-1, 3-4", Ok(vec![(0, 2), (3, 2)])),
            ("bytes=-3", Ok(vec![(9, 3)])),
            ("bytes=-30", Ok(vec![(0, 12)])),
            ("bytes=5-", Ok(vec![(5, 7)])),
            ("bytes=5-99999999999999999999999", Ok(vec![(5, 7)])),
            ("bytes=12-,0-0", Ok(vec![(0, 1)])),
            ("bytes=0-11,0-11", Ok(vec![])),
            ("bytes=", Ok(vec![])),
            ("bytes=100-", Err(Error::NoOverlap)),
            ("bytes=-0", Err(Error::NoOverlap)),
            ("bytes=3-1", Err(Error::Invalid)),
            ("bytes=abc", Err(Error::Invalid)),
            ("bytes=+1-2", Err(Error::Invalid)),
            ("bytes=-", Err(Error::Invalid)),
            ("bytes=--1", Err(Error::Invalid)),
            ("chars=0-1", Err(Error::Invalid)),
        ] {
            assert_eq!(parsed(value), expected, "{value}");
        }
        assert_eq!(parse(b"bytes=0-1", 0), Ok(Ranges::Whole));
    }

    #[test]
    fn many_small_parts_are_the_whole_file() {
        let many = format!("bytes={}", "0-0,".repeat(MAX_PARTS + 1));
        assert_eq!(parse(many.as_bytes(), 1 << 20), Ok(Ranges::Whole));
    }
}
