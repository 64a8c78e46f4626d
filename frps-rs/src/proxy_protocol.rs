//! Balancers in front, which say by the PROXY protocol whose connection it is that they pass on.
//!
//! Only trusted ones are listened to, and those must speak it: a port is either behind a balancer for a peer or it is not.
//! What anybody else sends is payload, even if it looks like a header.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::net::proxy_protocol::{self, Addresses, Decoded};
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::connect::Ends;

/// For the whole header, from accept on.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// The kinds of listeners that a balancer may be in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The client port, and whatever shares it.
    Bind,
    /// `vhostHTTPPort`.
    Http,
    /// `vhostHTTPSPort`.
    Https,
    /// `tcpmuxHTTPConnectPort`.
    Tcpmux,
    /// The ports of `tcp` proxies.
    Proxy,
}

impl Listener {
    /// By its name in `proxyProtocol.ports`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bind" => Self::Bind,
            "http" => Self::Http,
            "https" => Self::Https,
            "tcpmux" => Self::Tcpmux,
            "proxy" => Self::Proxy,
            _ => return None,
        })
    }
}

/// Which peers must begin with a header, and where.
#[derive(Debug, Clone, Default)]
pub struct ProxyProtocol {
    /// Networks of the balancers; IPv4 ones as IPv4.
    pub trusted: Vec<IpNet>,
    /// Where they connect to.
    pub listeners: Vec<Listener>,
}

impl ProxyProtocol {
    /// Both ends of an accepted connection as its user has it, after the header that a trusted peer must send. `None` when
    /// it did not, which has been logged.
    pub(crate) async fn ends(
        &self,
        listener: Listener,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Option<Ends> {
        let own = Ends::of(stream, peer);
        if !self.is_trusted(listener, peer) {
            return Some(own);
        }
        match timeout(HEADER_LIMIT, Box::pin(read(stream))).await {
            Ok(Ok(None)) => Some(own),
            Ok(Ok(Some(Addresses {
                source,
                destination,
            }))) => Some(Ends {
                src: Some(source),
                dst: Some(destination),
            }),
            // Balancers look this way whether the port is open.
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!("connection of balancer [{peer}] ended before its header");
                None
            }
            Ok(Err(e)) => {
                tracing::warn!("connection of balancer [{peer}] closed: {e}");
                None
            }
            Err(_) => {
                tracing::warn!("connection of balancer [{peer}] closed: no header in time");
                None
            }
        }
    }

    fn is_trusted(&self, listener: Listener, peer: SocketAddr) -> bool {
        let ip = peer.ip();
        self.listeners.contains(&listener) && self.trusted.iter().any(|net| net.contains(&ip))
    }
}

/// Takes a header off the front of `stream`, and not a byte more.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Addresses>> {
    let mut bytes = vec![0; proxy_protocol::MAX_LEN];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut bytes[taken..]).await?;
        if seen == taken {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let decoded = proxy_protocol::decode(&bytes[..seen])
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let end = match decoded {
            Decoded::Header { len, .. } => len,
            Decoded::Incomplete => seen,
        };
        stream.read_exact(&mut bytes[taken..end]).await?;
        taken = end;
        if let Decoded::Header { addresses, .. } = decoded {
            return Ok(addresses);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// A connection from loopback: the balancer's side, ours, and its address.
    async fn connection() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let balancer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (balancer, stream, peer)
    }

    fn trusting(net: &str) -> ProxyProtocol {
        ProxyProtocol {
            trusted: vec![net.parse().unwrap()],
            listeners: vec![Listener::Https],
        }
    }

    #[tokio::test]
    async fn a_header_in_pieces_is_taken_and_nothing_more() {
        let (mut balancer, mut stream, peer) = connection().await;
        let front = trusting("127.0.0.0/8");
        let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\npayload";
        let write = async {
            balancer.set_nodelay(true).unwrap();
            for piece in header.chunks(5) {
                balancer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (ends, ()) = tokio::join!(front.ends(Listener::Https, &mut stream, peer), write);
        let ends = ends.unwrap();
        assert_eq!(ends.src, "192.0.2.1:56324".parse().ok());
        assert_eq!(ends.dst, "198.51.100.2:443".parse().ok());
        let mut rest = [0; 7];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"payload");
    }

    #[tokio::test]
    async fn a_header_without_addresses_leaves_those_of_the_connection() {
        let (mut balancer, mut stream, peer) = connection().await;
        balancer.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
        let front = trusting("127.0.0.1/32");
        let ends = front.ends(Listener::Https, &mut stream, peer).await;
        assert_eq!(ends.unwrap().src, Some(peer));
    }

    #[tokio::test]
    async fn others_are_not_listened_to() {
        for (front, listener) in [
            (trusting("10.0.0.0/8"), Listener::Https),
            (trusting("127.0.0.0/8"), Listener::Proxy),
            (ProxyProtocol::default(), Listener::Bind),
        ] {
            let (mut balancer, mut stream, peer) = connection().await;
            balancer.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
            let ends = front.ends(listener, &mut stream, peer).await.unwrap();
            assert_eq!(ends.src, Some(peer));
            let mut first = [0; 5];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"PROXY");
        }
    }

    #[tokio::test]
    async fn a_trusted_peer_must_send_one() {
        let front = trusting("127.0.0.0/8");
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 x\r\n", b"PROXY"] {
            let (mut balancer, mut stream, peer) = connection().await;
            balancer.write_all(bytes).await.unwrap();
            balancer.shutdown().await.unwrap();
            let ends = front.ends(Listener::Https, &mut stream, peer).await;
            assert!(ends.is_none(), "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_is_given_up() {
        let (_balancer, mut stream, peer) = connection().await;
        let front = trusting("127.0.0.0/8");
        let begun = tokio::time::Instant::now();
        assert!(
            front
                .ends(Listener::Https, &mut stream, peer)
                .await
                .is_none()
        );
        assert_eq!(begun.elapsed(), HEADER_LIMIT);
    }
}
