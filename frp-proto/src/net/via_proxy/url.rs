//! The proxy's URL: `scheme://[user[:password]@]host:port`.

use std::{fmt, io};

use super::Credentials;

/// A URL as it is configured; what is wrong with it is found when it is used. It may hold a password, and is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Socks5,
    Ntlm,
}

#[derive(PartialEq, Eq)]
pub(super) struct OuterProxy {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<Credentials>,
}

impl ProxyUrl {
    /// `None` if it is empty: no proxy.
    pub fn new(url: &str) -> Option<Self> {
        (!url.is_empty()).then(|| Self(url.to_owned()))
    }

    /// A URL as HTTP clients take it: what is wrong is found at once, `socks5h` is known, too, and the port may be left out.
    pub fn of_client(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("invalid URL")?;
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", 80),
            "https" => ("https", 443),
            "socks5" | "socks5h" => ("socks5", 1080),
            _ => return Err("unsupported scheme, want http, https, socks5 or socks5h".into()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let at = authority.rsplit('@').next().unwrap_or_default();
        let has_port = at
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let url = Self(if has_port {
            format!("{scheme}://{authority}")
        } else {
            format!("{scheme}://{authority}:{port}")
        });
        url.parse().map_err(|e| e.to_string())?;
        Ok(url)
    }

    /// Whether it is an HTTP proxy, which can be told whole URLs.
    pub fn forwards(&self) -> bool {
        let parsed = self.parse();
        parsed.is_ok_and(|p| matches!(p.scheme, Scheme::Http | Scheme::Https))
    }

    /// Its parts; errors are in upstream's words where it fails too.
    pub(super) fn parse(&self) -> io::Result<OuterProxy> {
        let fail = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let (scheme, rest) = match self.0.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some(_) => {
                // What has a user may have a password.
                let shown = if self.0.contains('@') { "..." } else { &self.0 };
                tracing::error!("fail to parse proxy url");
                return fail(format!(
                    "parse {shown:?}: first path segment in URL cannot contain colon"
                ));
            }
            None => (String::new(), &*self.0),
        };
        let scheme = match scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "socks5" => Scheme::Socks5,
            "ntlm" => Scheme::Ntlm,
            other => {
                return fail(format!(
                    "ProxyType must be http, https, socks5 or ntlm, not [{other}]"
                ));
            }
        };
        let authority = rest.strip_prefix("//").unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, at) = match authority.rsplit_once('@') {
            Some((user, at)) => (Some(user), at),
            None => (None, authority),
        };
        if at.is_empty() || at.starts_with(':') {
            return fail("the proxy url has no host".into());
        }
        let port = at.rsplit_once(':').filter(|(host, _)| {
            !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
        });
        let Some((host, port)) = port.filter(|(_, port)| !port.is_empty()) else {
            return fail(format!("dial tcp: address {at}: missing port in address"));
        };
        let Ok(port) = port.parse() else {
            return fail(format!("dial tcp: address {port}: invalid port"));
        };
        let credentials = match user.map(credentials) {
            Some(None) => return fail("the proxy url has a bad escape in its user".into()),
            other => other.flatten(),
        };
        Ok(OuterProxy {
            scheme,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            credentials,
        })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn credentials(text: &str) -> Option<Credentials> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Some((unescape(user)?, unescape(password)?))
}

/// Takes percent encoding off.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<OuterProxy, String> {
        let url = ProxyUrl::new(url).unwrap();
        url.parse().map_err(|e| e.to_string())
    }

    #[test]
    fn urls_come_apart() {
        let proxy = |scheme, host: &str, port, credentials: Option<(&str, &str)>| OuterProxy {
            scheme,
            host: host.into(),
            port,
            credentials: credentials.map(|(u, p)| (u.into(), p.into())),
        };
        for (url, expected) in [
            (
                "http://us%40er:pa%3Ass@127.0.0.1:63140",
                proxy(Scheme::Http, "127.0.0.1", 63140, Some(("us@er", "pa:ss"))),
            ),
            (
                "https://proxy:1/path?q",
                proxy(Scheme::Https, "proxy", 1, None),
            ),
            (
                "socks5://u@[::1]:2",
                proxy(Scheme::Socks5, "::1", 2, Some(("u", ""))),
            ),
            (
                "ntlm://D%5Cu:p@h:3",
                proxy(Scheme::Ntlm, "h", 3, Some(("D\\u", "p"))),
            ),
            ("HTTP://h:3", proxy(Scheme::Http, "h", 3, None)),
        ] {
            assert!(parsed(url) == Ok(expected), "{url}");
        }
        assert_eq!(ProxyUrl::new(""), None);
    }

    #[test]
    fn clients_have_usual_ports() {
        let port = |url| {
            let url = ProxyUrl::of_client(url)?;
            let parsed = url.parse().map_err(|e| e.to_string())?;
            Ok::<_, String>((parsed.port, url.forwards()))
        };
        assert_eq!(port("http://u:p%40@a"), Ok((80, true)));
        assert_eq!(port("https://a/"), Ok((443, true)));
        assert_eq!(port("socks5://a"), Ok((1080, false)));
        assert_eq!(port("socks5h://[::1]:9"), Ok((9, false)));
        assert_eq!(port("http://[::1]"), Ok((80, true)));
        for url in ["ftp://a", "http://", "a:1", "http://u@:80", "http://%zz@h"] {
            assert!(port(url).is_err(), "{url}");
        }
    }

    #[test]
    fn errors_are_upstreams_and_hide_the_password() {
        for (url, expected) in [
            (
                "127.0.0.1:3128",
                "parse \"127.0.0.1:3128\": first path segment in URL cannot contain colon",
            ),
            (
                "1u:secret@h:1",
                "parse \"...\": first path segment in URL cannot contain colon",
            ),
            (
                "ftp://h:1",
                "ProxyType must be http, https, socks5 or ntlm, not [ftp]",
            ),
            (
                "proxy",
                "ProxyType must be http, https, socks5 or ntlm, not []",
            ),
            ("http://h", "dial tcp: address h: missing port in address"),
            (
                "http://[::1]",
                "dial tcp: address [::1]: missing port in address",
            ),
            ("http://h:99999", "dial tcp: address 99999: invalid port"),
            ("http://", "the proxy url has no host"),
            (
                "http://%zz@h:1",
                "the proxy url has a bad escape in its user",
            ),
        ] {
            assert_eq!(parsed(url).err().as_deref(), Some(expected), "{url}");
        }
        let url = ProxyUrl::new("http://user:secret@h:1").unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }
}
