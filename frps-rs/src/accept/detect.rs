//! Whose a connection to the client port is, by its first bytes (server.md §1.3).

use std::time::Duration;

use frp_proto::config::raw::server::ServerConfig;
use frp_proto::ws;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::vhost::Protocol;

/// Beginnings of the methods that are taken for HTTP; the last one is HTTP/2's.
const METHODS: [&[u8; 3]; 10] = [
    b"GET", b"HEA", b"POS", b"PUT", b"DEL", b"CON", b"OPT", b"TRA", b"PAT", b"PRI",
];
/// What TLS begins with.
const HANDSHAKE: u8 = 0x16;

/// Pauses between looks at a connection whose first bytes come one by one: from the first, doubling up to the second.
const MIN_PAUSE: Duration = Duration::from_millis(2);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Which vhost ports share the client port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedPort {
    /// `vhostHTTPPort`.
    pub http: bool,
    /// `vhostHTTPSPort`.
    pub https: bool,
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    User(Protocol),
    /// More bytes will tell.
    Open,
}

impl SharedPort {
    /// Ports are shared when their numbers and the texts of their addresses are the same.
    pub(crate) fn new(c: &ServerConfig) -> Self {
        let shared = |port| port == c.bind_port && port != 0 && c.bind_addr == c.proxy_bind_addr;
        Self {
            http: shared(c.vhost_http_port),
            https: shared(c.vhost_https_port),
        }
    }

    /// What users who come to the client port speak; `None` for clients. Takes nothing off the stream.
    ///
    /// Waits for the bytes it needs, without a limit of its own.
    pub(super) async fn user_protocol(
        self,
        stream: &TcpStream,
    ) -> std::io::Result<Option<Protocol>> {
        if self == Self::default() {
            return Ok(None);
        }
        let mut first = [0; ws::PREFIX.len()];
        let mut pause = MIN_PAUSE;
        loop {
            let n = stream.peek(&mut first).await?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match self.side(&first[..n]) {
                Side::Client => return Ok(None),
                Side::User(protocol) => return Ok(Some(protocol)),
                // A peek returns at once as long as there is a byte, so it cannot wait for the next.
                Side::Open => sleep(pause).await,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn side(self, first: &[u8]) -> Side {
        if self.https && first[0] == HANDSHAKE {
            return Side::User(Protocol::Https);
        }
        if self.http && ws::PREFIX.starts_with(first) {
            return if first.len() == ws::PREFIX.len() {
                Side::Client
            } else {
                Side::Open
            };
        }
        let first = &first[..first.len().min(METHODS[0].len())];
        let begun = |method: &&&[u8; 3]| method.starts_with(first);
        match METHODS.iter().find(begun) {
            Some(method) if self.http && first.len() == method.len() => Side::User(Protocol::Http),
            Some(_) if self.http => Side::Open,
            _ => Side::Client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const BOTH: SharedPort = SharedPort {
        http: true,
        https: true,
    };

    #[test]
    fn three_bytes_decide() {
        for (first, side) in [
            (&b"GET"[..], Side::Open),
            (b"GET /", Side::Open),
            (b"GET /~!frp", Side::Client),
            (b"GET /~!frx", Side::User(Protocol::Http)),
            (b"PRI", Side::User(Protocol::Http)),
            (b"CON", Side::User(Protocol::Http)),
            (b"P", Side::Open),
            (b"PA", Side::Open),
            (b"PO", Side::Open),
            (b"PX", Side::Client),
            (b"MKC", Side::Client),
            (b"get", Side::Client),
            (b"\x16", Side::User(Protocol::Https)),
            (b"\x17", Side::Client),
            (b"o", Side::Client),
            (b"\0", Side::Client),
        ] {
            assert_eq!(BOTH.side(first), side, "{first:?}");
        }
        let http = SharedPort {
            https: false,
            ..BOTH
        };
        assert_eq!(http.side(b"\x16"), Side::Client);
        let https = SharedPort {
            http: false,
            ..BOTH
        };
        assert_eq!(https.side(b"GET"), Side::Client);
    }

    #[test]
    fn ports_are_shared_by_number_and_address() {
        let of = |http, proxy_bind_addr: &str| {
            SharedPort::new(&ServerConfig {
                bind_addr: "0.0.0.0".into(),
                bind_port: 7000,
                proxy_bind_addr: proxy_bind_addr.into(),
                vhost_http_port: http,
                ..ServerConfig::default()
            })
        };
        assert!(of(7000, "0.0.0.0").http);
        assert!(!of(7000, "0.0.0.0").https);
        assert!(!of(7001, "0.0.0.0").http);
        assert!(!of(7000, "127.0.0.1").http);
    }

    #[tokio::test]
    async fn first_bytes_may_come_one_by_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut user = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let write = async {
            // Up to where it cannot be a WebSocket of a client any more.
            for byte in b"GET /x" {
                user.write_all(&[*byte]).await.unwrap();
                sleep(2 * MIN_PAUSE).await;
            }
        };
        let (protocol, ()) = tokio::join!(BOTH.user_protocol(&stream), write);
        assert_eq!(protocol.unwrap(), Some(Protocol::Http));
        let mut first = [0; ws::PREFIX.len()];
        assert_eq!(stream.peek(&mut first).await.unwrap(), 6);
    }
}
