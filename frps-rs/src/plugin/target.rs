//! Where a plugin is: its URL, taken apart for requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// What can be told apart about where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// TLS.
    pub(super) secure: bool,
    /// Name or address; IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A URL that can be asked. `Debug` does not print the password.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) origin: Origin,
    /// Value of `Host`.
    pub(super) authority: HeaderValue,
    /// Path and query.
    pub(super) path: String,
    /// Basic credentials of the URL.
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    /// Takes an absolute URL apart; the error says what is wrong and not with which URL.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{e}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("unsupported protocol scheme".into()),
        };
        let authority = uri.authority().ok_or("no Host in request URL")?.as_str();
        let (user, host_and_port) = match authority.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, authority),
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("no Host in request URL".into());
        }
        let port = match (uri.port_u16(), host_and_port.rsplit_once(':')) {
            (Some(port), _) => port,
            (None, Some((_, digits))) if !digits.is_empty() && !digits.ends_with(']') => {
                return Err("invalid port".into());
            }
            (None, _) if secure => HTTPS,
            (None, _) => HTTP,
        };
        Ok(Self {
            origin: Origin {
                secure,
                host: host.to_owned(),
                port,
            },
            authority: HeaderValue::from_str(host_and_port).map_err(|e| e.to_string())?,
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            authorization: user.map(basic).transpose()?,
        })
    }

    /// The target of a `Location` that a request for `self` was answered with (RFC 3986 §5.2).
    pub(super) fn redirected(&self, location: &str) -> Result<Self, String> {
        let scheme = if self.origin.secure { "https" } else { "http" };
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
            format!("{directory}{location}")
        };
        let uri: Uri = path.parse().map_err(|e| format!("{e}"))?;
        Ok(Self {
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            ..self.clone()
        })
    }
}

/// Credentials as they stand before the `@` of a URL.
fn basic(user: &str) -> Result<HeaderValue, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut credentials = unescape(name);
    credentials.push(b':');
    credentials.extend(unescape(password));
    let text = format!("Basic {}", STANDARD.encode(credentials));
    let mut value = HeaderValue::from_str(&text).map_err(|e| e.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Bytes of a text with `%XX`; what is not such an escape stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let Some(byte) = escaped {
            out.push(byte);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, secure, host, port, authority, path) in [
            ("http://a:1/h", false, "a", 1, "a:1", "/h"),
            ("http://a.test", false, "a.test", 80, "a.test", "/"),
            ("https://a/h?x=1?op=", true, "a", 443, "a", "/h?x=1?op="),
            ("https://[::1]:9/", true, "::1", 9, "[::1]:9", "/"),
            ("http://[::1]", false, "::1", 80, "[::1]", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            let origin = Origin {
                secure,
                host: host.into(),
                port,
            };
            assert_eq!(target.origin, origin, "{url}");
            assert_eq!(target.authority, authority, "{url}");
            assert_eq!(target.path, path, "{url}");
            assert_eq!(target.authorization, None);
        }
        for url in [
            "http://",
            "http:///h",
            "http://a:1handler",
            "http://a:99999/",
            "ftp://a/",
            "a:1/h",
            "http://a b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn credentials_of_a_url_become_a_header_that_does_not_print() {
        let target = Target::parse("http://user:p%40ss@a:1/h").unwrap();
        assert_eq!(target.authorization.as_ref().unwrap(), "Basic dXNlcjpwQHNz");
        assert_eq!(target.authority, "a:1");
        let printed = format!("{target:?}");
        assert!(!printed.contains("p%40ss") && !printed.contains("dXNlcjpwQHNz"));
    }

    #[test]
    fn locations_are_absolute_or_relative() {
        let target = Target::parse("http://a:1/dir/h?op=Login").unwrap();
        for (location, host, path) in [
            ("https://b/x?y", "b", "/x?y"),
            ("//c:2/x", "c", "/x"),
            ("/new?op=Login", "a", "/new?op=Login"),
            ("other", "a", "/dir/other"),
            ("?q=1", "a", "/dir/h?q=1"),
            ("/login?next=http://z/", "a", "/login?next=http://z/"),
        ] {
            let next = target.redirected(location).unwrap();
            assert_eq!(
                (next.origin.host.as_str(), next.path.as_str()),
                (host, path)
            );
        }
        assert!(target.redirected("http://").is_err());
    }
}
