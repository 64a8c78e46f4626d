//! A request as handlers get it, and percent-encoding with Go's rules.

use bytes::Bytes;

/// One request that has passed routing and authentication.
#[derive(Debug, Default)]
pub struct Request {
    pub(crate) path: String,
    pub(crate) params: crate::router::Params,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    /// The decoded path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What stands in the path for `{name}` of the route; empty for a name that the route does not have.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value)
    }

    /// The first value of a query parameter; `None` if it is not there at all.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body, whatever its `Content-Type` says.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Parameters in their order. As in Go, a pair that is badly encoded or has a semicolon is left out.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'));
    pairs
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((
                unescape(&key.replace('+', " "))?,
                unescape(&value.replace('+', " "))?,
            ))
        })
        .collect()
}

/// Takes off percent-encoding; `None` if it is invalid. Bytes that are not UTF-8 are replaced.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    Some(match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    })
}

/// Percent-encodes a path as Go does.
pub(crate) fn escape_path(path: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_in_go() {
        let query = parse_query("a=1&a=2&b&c=x+%2B%26&&d=%zz&e=1;f=2&=g&h=%");
        let request = Request {
            query,
            ..Request::default()
        };
        assert_eq!(request.query("a"), Some("1"));
        assert_eq!(request.query("b"), Some(""));
        assert_eq!(request.query("c"), Some("x +&"));
        assert_eq!(request.query(""), Some("g"));
        for absent in ["d", "e", "f", "h", "i"] {
            assert_eq!(request.query(absent), None, "{absent}");
        }
    }

    #[test]
    fn percent_encoding() {
        assert_eq!(unescape("/a%2Fb+%e4%b8%AD").as_deref(), Some("/a/b+中"));
        assert_eq!(unescape("%ff").as_deref(), Some("\u{fffd}"));
        for bad in ["%", "%2", "%zz", "%+1"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
        assert_eq!(
            escape_path("/*/ä b/$&+,:;=@-_.~!"),
            "/%2A/%C3%A4%20b/$&+,:;=@-_.~%21"
        );
    }
}
