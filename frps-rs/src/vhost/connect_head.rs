//! The head of a `CONNECT` request, as users of an HTTP proxy send it (server.md §8.2).
//!
//! A head may go on to a backend as it is, so it must not be possible to read it in two ways: what RFC 9112 forbids is
//! malformed here.

use http::HeaderValue;

use super::http::target::canonical;

/// Longest head taken.
pub(super) const MAX_LEN: usize = 64 * 1024;

const METHOD: &[u8] = b"CONNECT ";

/// What routing needs of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConnectHead {
    /// The host wanted, in lower case, without port.
    pub(super) host: String,
    /// The first one, if there is any.
    pub(super) proxy_authorization: Option<HeaderValue>,
    /// Bytes of the head; payload follows.
    pub(super) len: usize,
}

/// The bytes are no head of a `CONNECT` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("connections to tcp vhost must be of method CONNECT")]
    Method,
    #[error("malformed HTTP request")]
    Malformed,
}

/// Finds the end of a head that arrives bit by bit.
#[derive(Default)]
pub(super) struct Decoder {
    /// Bytes known not to hold the end.
    searched: usize,
}

impl Decoder {
    /// The head at the front of `bytes`, which are those of the last call and more; `None` when it is not complete.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Option<ConnectHead>, HeadError> {
        let n = bytes.len().min(METHOD.len());
        if bytes[..n] != METHOD[..n] {
            return Err(HeadError::Method);
        }
        let Some(len) = self.end(bytes) else {
            return Ok(None);
        };
        parse(&bytes[..len]).map(Some).ok_or(HeadError::Malformed)
    }

    /// Where the first empty line ends.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(n) = bytes[self.searched..].iter().position(|b| *b == b'\n') {
            let line_end = self.searched + n + 1;
            match bytes[line_end..] {
                [b'\n', ..] => return Some(line_end + 1),
                [b'\r', b'\n', ..] => return Some(line_end + 2),
                // The end of the next line is not known yet.
                [] | [b'\r'] => return None,
                _ => self.searched = line_end,
            }
        }
        self.searched = bytes.len();
        None
    }
}

/// `head` with its empty line; `None` if it is malformed.
fn parse(head: &[u8]) -> Option<ConnectHead> {
    let mut lines = head
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request = str::from_utf8(lines.next()?.strip_prefix(METHOD)?).ok()?;
    let (target, version) = request.split_once(' ')?;
    let (b"HTTP/", [major, b'.', minor]) = version.as_bytes().split_at_checked(5)? else {
        return None;
    };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return None;
    }
    let (mut hosts, mut proxy_authorization) = (0, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A name with white space before or behind it, as in a folded line, is none.
        http::HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
        if name.eq_ignore_ascii_case(b"proxy-authorization") {
            proxy_authorization.get_or_insert(value);
        }
    }
    (hosts < 2).then_some(())?;
    Some(ConnectHead {
        host: host(target)?,
        proxy_authorization,
        len: head.len(),
    })
}

/// The host of a target; a user, a path or a query around it mean nothing.
fn host(target: &str) -> Option<String> {
    let authority = target.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]".contains(&b);
    if !authority.bytes().all(allowed) {
        return None;
    }
    let (_, tail) = authority.rsplit_once(']').unwrap_or(("", authority));
    let port = tail.rsplit_once(':').map_or("", |(_, port)| port);
    port.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| canonical(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(head: &str) -> Result<Option<ConnectHead>, HeadError> {
        Decoder::default().decode(head.as_bytes())
    }

    fn host_of(target: &str) -> Result<String, HeadError> {
        let head = decode(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"))?;
        Ok(head.unwrap().host)
    }

    #[test]
    fn targets() {
        for (target, host) in [
            ("m.test:80", "m.test"),
            ("m.test", "m.test"),
            ("M.TEST.:80", "m.test"),
            ("u:p@m.test:80", "m.test"),
            ("m.test:80/x", "m.test"),
            ("[::1]:80", "::1"),
            ("/m.test:80", ""),
            ("", ""),
        ] {
            assert_eq!(host_of(target).as_deref(), Ok(host), "{target}");
        }
        for target in [
            "m.test:abc",
            "%6d.test:80",
            "m\u{1}.test",
            "m.test HTTP/1.1",
        ] {
            assert_eq!(host_of(target), Err(HeadError::Malformed), "{target}");
        }
    }

    #[test]
    fn heads() {
        let head = "CONNECT m.test:80 HTTP/1.0\nHost: x\nproxy-AUTHORIZATION:  a \nProxy-Authorization: b\n\n";
        assert_eq!(
            decode(&format!("{head}payload")),
            Ok(Some(ConnectHead {
                host: "m.test".into(),
                proxy_authorization: Some(HeaderValue::from_static("a")),
                len: head.len(),
            }))
        );
        for malformed in [
            "CONNECT m.test:80\r\n\r\n",
            "CONNECT m.test:80 HTTX/1.1\r\n\r\n",
            "CONNECT m.test:80 HTTP/11\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nFoo bar\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nFoo : bar\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nFoo: bar\r\n baz: x\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\n Foo: bar\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nFoo: b\0r\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nFoo: b\rar\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\n: x\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        ] {
            assert_eq!(
                decode(malformed),
                Err(HeadError::Malformed),
                "{malformed:?}"
            );
        }
        for other in ["GET / HTTP/1.1\r\n", "connect m", "\r\nCONNECT", "\u{16}"] {
            assert_eq!(decode(other), Err(HeadError::Method), "{other:?}");
        }
    }

    #[test]
    fn a_head_may_come_byte_by_byte() {
        for head in [
            "CONNECT m.test:80 HTTP/1.1\r\nA: b\r\n\r\n",
            "CONNECT m.test:80 HTTP/1.1\n\n",
            "CONNECT m.test:80 HTTP/1.1\r\n\n",
        ] {
            let mut decoder = Decoder::default();
            for end in 0..head.len() {
                assert_eq!(decoder.decode(&head.as_bytes()[..end]), Ok(None), "{end}");
            }
            let whole = decoder.decode(head.as_bytes()).unwrap();
            assert_eq!(whole.map(|h| h.len), Some(head.len()));
        }
    }
}
