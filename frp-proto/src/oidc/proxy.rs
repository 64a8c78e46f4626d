//! Reaching a provider through an HTTP (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928, RFC 1929) proxy.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a proxy's answer to CONNECT.
const MAX_HEAD: usize = 16 * 1024;

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    /// HTTP within TLS.
    Https,
    /// Names are resolved by the proxy.
    Socks5,
}

/// A proxy, from its URL. Not `Debug`: it holds a password.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password.
    credentials: Option<(String, String)>,
}

impl Proxy {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let uri: ::http::Uri = url.parse().map_err(|_| "invalid URL".to_owned())?;
        let (kind, default_port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("https") => (Kind::Https, 443),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            _ => return Err("unsupported scheme, want http, https, socks5 or socks5h".into()),
        };
        let authority = uri.authority().map_or("", |a| a.as_str());
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("no host".into());
        }
        let credentials = authority.rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decoded(name), decoded(password))
        });
        Ok(Self {
            kind,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            credentials,
        })
    }

    /// Value of `Proxy-Authorization`.
    pub(super) fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials.as_ref()?;
        let pair = STANDARD.encode(format!("{user}:{password}"));
        Some(format!("Basic {pair}"))
    }

    /// Asks the proxy at the other end of `io` for a connection to `host`.
    pub(super) async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        match self.kind {
            Kind::Http | Kind::Https => self.connect(io, host, port).await,
            Kind::Socks5 => self.socks5(io, host, port).await,
        }
    }

    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        let target = crate::net::listen::join_host_port(host, port);
        let authorization = self.authorization().map_or(String::new(), |value| {
            format!("Proxy-Authorization: {value}\r\n")
        });
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let mut head = Vec::new();
        // The proxied peer says nothing before it is spoken to, so nothing of it is read here.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            head.push(io.read_u8().await?);
        }
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split_once(' ') {
            Some((_, status)) if status.starts_with("200") => Ok(()),
            Some((_, status)) => Err(io::Error::other(status)),
            None => Err(io::Error::other("malformed answer of the proxy")),
        }
    }

    async fn socks5<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        let refused = |what| Err(io::Error::other(format!("socks connect: {what}")));
        let greeting: &[u8] = match self.credentials {
            Some(_) => &[5, 2, 0, 2],
            None => &[5, 1, 0],
        };
        io.write_all(greeting).await?;
        io.flush().await?;
        let mut answer = [0; 2];
        io.read_exact(&mut answer).await?;
        match (answer, &self.credentials) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => {
                let mut request = vec![1];
                for text in [user, password] {
                    let Ok(len) = u8::try_from(text.len()) else {
                        return refused("user or password is too long");
                    };
                    request.push(len);
                    request.extend_from_slice(text.as_bytes());
                }
                io.write_all(&request).await?;
                io.flush().await?;
                io.read_exact(&mut answer).await?;
                if answer[1] != 0 {
                    return refused("username/password authentication failed");
                }
            }
            _ => return refused("no acceptable authentication methods"),
        }
        let Ok(len) = u8::try_from(host.len()) else {
            return refused("host is too long");
        };
        let mut request = vec![5, 1, 0, 3, len];
        request.extend_from_slice(host.as_bytes());
        request.extend_from_slice(&port.to_be_bytes());
        io.write_all(&request).await?;
        io.flush().await?;
        let mut head = [0; 4];
        io.read_exact(&mut head).await?;
        if head[..2] != [5, 0] {
            return refused("request refused");
        }
        let len = match head[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(io.read_u8().await?),
            _ => return refused("unknown address type"),
        };
        let mut bound = vec![0; len + 2];
        io.read_exact(&mut bound).await.map(drop)
    }
}

/// A part of a URL without its percent encoding.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: &u8| char::from(*b).to_digit(16);
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            bytes.push((high * 16 + low) as u8);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    async fn tunnel(url: &str, answers: &'static [&'static [u8]]) -> (io::Result<()>, Vec<u8>) {
        let (mut near, mut far) = duplex(4096);
        let proxy = Proxy::parse(url).unwrap();
        let serve = tokio::spawn(async move {
            let mut seen = Vec::with_capacity(4096);
            for answer in answers {
                far.read_buf(&mut seen).await.unwrap();
                far.write_all(answer).await.unwrap();
            }
            seen
        });
        let result = proxy.tunnel(&mut near, "id.test", 443).await;
        (result, serve.await.unwrap())
    }

    #[tokio::test]
    async fn an_http_proxy_is_asked_with_its_password() {
        let (result, seen) =
            tunnel("http://u:p%40@proxy", &[b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"]).await;
        result.unwrap();
        assert_eq!(
            String::from_utf8(seen).unwrap(),
            "CONNECT id.test:443 HTTP/1.1\r\nHost: id.test:443\r\nProxy-Authorization: Basic dTpwQA==\r\n\r\n"
        );
        let (result, _) = tunnel("http://proxy", &[b"HTTP/1.1 407 Who\r\n\r\n"]).await;
        assert_eq!(result.unwrap_err().to_string(), "407 Who");
    }

    #[tokio::test]
    async fn a_socks_proxy_resolves_the_name() {
        let (result, seen) = tunnel(
            "socks5://u:p@proxy:1",
            &[&[5, 2], &[1, 0], &[5, 0, 0, 1, 1, 2, 3, 4, 0, 80]],
        )
        .await;
        result.unwrap();
        assert_eq!(
            seen,
            b"\x05\x02\x00\x02\x01\x01u\x01p\x05\x01\x00\x03\x07id.test\x01\xbb"
        );
        let (result, _) = tunnel("socks5h://proxy", &[&[5, 255]]).await;
        assert!(result.is_err());
    }

    #[test]
    fn urls_of_proxies() {
        let port = |url| Proxy::parse(url).map(|p| p.port);
        assert_eq!(port("http://a"), Ok(80));
        assert_eq!(port("https://a"), Ok(443));
        assert_eq!(port("socks5h://[::1]:9"), Ok(9));
        assert!(port("ftp://a").is_err() && port("http://").is_err());
    }
}
