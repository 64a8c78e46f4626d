//! What a request asks for (server.md §7.1, §7.2).

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method, Version};

use super::pages::Malformed;

/// The inputs of routing, from one place of the request each.
pub(super) struct Target {
    /// As the user wrote it, with port; empty when there is none.
    pub(super) authority: HeaderValue,
    /// `authority` in lower case, without port and final dot.
    pub(super) host: String,
    /// Decoded; empty for CONNECT.
    pub(super) path: Vec<u8>,
    /// The user takes this port for a proxy: an absolute target, or CONNECT.
    pub(super) proxied: bool,
}

impl Target {
    /// Reads and checks the target and the `Host` of a request.
    pub(super) fn of(parts: &Parts) -> Result<Self, Malformed> {
        let is_http2 = parts.version == Version::HTTP_2;
        let is_connect = parts.method == Method::CONNECT;
        let mut hosts = parts.headers.get_all(HOST).iter();
        let host = hosts.next();
        if !is_http2 {
            if hosts.next().is_some() {
                return Err(Malformed::Request);
            }
            if host.is_none() && parts.version == Version::HTTP_11 && !is_connect {
                return Err(Malformed::NoHost);
            }
        }
        if host.is_some_and(|host| !is_valid_host(host)) {
            return Err(Malformed::Host);
        }
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), _) => {
                // What may stand before the host is not for routing, nor for anybody else.
                let host = authority.as_str().rsplit('@').next().unwrap_or_default();
                HeaderValue::from_str(host).ok()
            }
            (None, host) => host.cloned(),
        }
        .unwrap_or(HeaderValue::from_static(""));
        let path = if is_connect {
            Cow::default()
        } else {
            percent_decoded(parts.uri.path().as_bytes()).ok_or(Malformed::Request)?
        };
        Ok(Self {
            host: canonical(authority.to_str().unwrap_or_default()),
            authority,
            path: path.into_owned(),
            proxied: !is_http2 && parts.uri.authority().is_some(),
        })
    }
}

/// Whether only characters of a registered name or an address (RFC 3986 §3.2.2) and a port are in it.
fn is_valid_host(host: &HeaderValue) -> bool {
    host.as_bytes()
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(b))
}

/// Lower case, without port and one final dot.
pub(in crate::vhost) fn canonical(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') && host.ends_with(']') => &host[1..host.len() - 1],
        Some((host, _)) if !host.contains([':', '[', ']']) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// `None` on a per cent sign that two hexadecimal digits do not follow.
pub(super) fn percent_decoded(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&b) = rest.next() {
        if b == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            decoded.push((digit()? << 4 | digit()?) as u8);
        } else {
            decoded.push(b);
        }
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn target(method: &str, uri: &str, hosts: &[&str]) -> Result<Target, Malformed> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Target::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (authority, host) in [
            ("A.Test", "a.test"),
            ("a.test:80", "a.test"),
            ("a.test.:80", "a.test"),
            ("a.test..", "a.test."),
            ("[::1]:80", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(canonical(authority), host, "{authority}");
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_host_header() {
        let direct = target("GET", "/a%20b?x=%zz", &["A.test:1"]).ok().unwrap();
        assert_eq!(direct.authority, "A.test:1");
        assert_eq!((&*direct.host, &*direct.path), ("a.test", &b"/a b"[..]));
        assert!(!direct.proxied);
        let absolute = target("GET", "http://B.test/x", &["a.test"]).ok().unwrap();
        assert_eq!((&*absolute.host, &*absolute.path), ("b.test", &b"/x"[..]));
        assert!(absolute.proxied);
        let named = target("GET", "http://a@b.test:1/", &["x"]).ok().unwrap();
        assert_eq!(named.authority, "b.test:1");
        let connect = target("CONNECT", "c.test:443", &[]).ok().unwrap();
        assert_eq!((&*connect.host, &*connect.path), ("c.test", &b""[..]));
        assert!(connect.proxied);
    }

    #[test]
    fn malformed_requests_are_told_apart() {
        let error = |uri, hosts: &[&str]| target("GET", uri, hosts).err().unwrap();
        assert_eq!(error("/", &[]), Malformed::NoHost);
        assert_eq!(error("/", &["a b"]), Malformed::Host);
        assert_eq!(error("/", &["a", "b"]), Malformed::Request);
        assert_eq!(error("/%zz", &["a"]), Malformed::Request);
        assert_eq!(error("/%a", &["a"]), Malformed::Request);
    }
}
