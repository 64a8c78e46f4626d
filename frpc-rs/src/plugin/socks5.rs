//! `socks5`: a SOCKS5 server (RFC 1928, RFC 1929; client.md §14.2) that knows CONNECT.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use frp_proto::config::raw::client::Socks5Plugin;
use frp_proto::net::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::basic_auth::{Credentials, PENALTY};
use super::{HANDSHAKE_LIMIT, User, join, target};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USERNAME_PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
/// Version of the username and password exchange.
const AUTH_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// What a client is told about its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Succeeded = 0,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

/// Why a client is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("unsupported version {0}")]
    Version(u8),
    #[error("no acceptable authentication method")]
    Method,
    #[error("authentication failed")]
    Credentials,
    #[error("request refused: {0:?}")]
    Request(Reply),
}

#[derive(Debug)]
pub(super) struct Socks5 {
    credentials: Option<Credentials>,
}

impl Socks5 {
    pub(super) fn new(c: &Socks5Plugin) -> Self {
        Self {
            credentials: Credentials::new(&c.username, &c.password),
        }
    }

    pub(super) async fn serve(&self, user: User<'_>, mut work: Conn) {
        let (run_id, proxy) = (user.run_id, user.proxy);
        let negotiated = timeout(HANDSHAKE_LIMIT, self.negotiate(&mut work))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let served = match negotiated {
            Ok((host, port)) => connect(&mut work, &host, port).await,
            Err(e) => Err(e),
        };
        match served {
            Ok(service) => join(work, Conn::Tcp(service)).await,
            Err(e) => {
                tracing::debug!(run_id = %run_id, proxy = %proxy, "socks5: {e}");
                // What was answered shall arrive; a user that is gone needs no answer.
                let _ = work.shutdown().await;
            }
        }
    }

    /// Method, credentials and request: host and port to connect to. Whatever is refused has been answered.
    async fn negotiate(&self, work: &mut Conn) -> Result<(String, u16), Refusal> {
        version(work).await?;
        let mut methods = vec![0; work.read_u8().await?.into()];
        work.read_exact(&mut methods).await?;
        let method = match self.credentials {
            None => NO_AUTHENTICATION,
            Some(_) => USERNAME_PASSWORD,
        };
        if !methods.contains(&method) {
            answer(work, &[VERSION, NO_ACCEPTABLE_METHOD]).await?;
            return Err(Refusal::Method);
        }
        answer(work, &[VERSION, method]).await?;
        if let Some(credentials) = &self.credentials {
            authenticate(credentials, work).await?;
        }
        request(work).await
    }
}

async fn version(work: &mut Conn) -> Result<(), Refusal> {
    match work.read_u8().await? {
        VERSION => Ok(()),
        other => Err(Refusal::Version(other)),
    }
}

async fn authenticate(credentials: &Credentials, work: &mut Conn) -> Result<(), Refusal> {
    let version = work.read_u8().await?;
    if version != AUTH_VERSION {
        return Err(Refusal::Version(version));
    }
    let user = short(work).await?;
    let password = short(work).await?;
    if credentials.are(&user, &password) {
        answer(work, &[AUTH_VERSION, 0]).await?;
        return Ok(());
    }
    sleep(PENALTY).await;
    answer(work, &[AUTH_VERSION, 1]).await?;
    Err(Refusal::Credentials)
}

/// A length and as many bytes.
async fn short(work: &mut Conn) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; work.read_u8().await?.into()];
    work.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn request(work: &mut Conn) -> Result<(String, u16), Refusal> {
    version(work).await?;
    let command = work.read_u8().await?;
    let _reserved = work.read_u8().await?;
    let host = match work.read_u8().await? {
        IPV4 => Ipv4Addr::from_bits(work.read_u32().await?).to_string(),
        IPV6 => Ipv6Addr::from_bits(work.read_u128().await?).to_string(),
        DOMAIN => match String::from_utf8(short(work).await?) {
            Ok(name) => name,
            Err(_) => return refuse(work, Reply::HostUnreachable).await,
        },
        _ => return refuse(work, Reply::AddressTypeNotSupported).await,
    };
    let port = work.read_u16().await?;
    if command == CONNECT {
        Ok((host, port))
    } else {
        refuse(work, Reply::CommandNotSupported).await
    }
}

/// Dials for a client and tells it how that went.
async fn connect(work: &mut Conn, host: &str, port: u16) -> Result<TcpStream, Refusal> {
    let reply = match target::connect_to(host, port).await {
        Ok(service) => {
            answer(work, &reply(Reply::Succeeded, service.local_addr()?)).await?;
            return Ok(service);
        }
        Err(e) => match e.kind() {
            io::ErrorKind::ConnectionRefused => Reply::ConnectionRefused,
            io::ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
            _ => Reply::HostUnreachable,
        },
    };
    refuse(work, reply).await
}

async fn refuse<T>(work: &mut Conn, why: Reply) -> Result<T, Refusal> {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    answer(work, &reply(why, nowhere)).await?;
    Err(Refusal::Request(why))
}

fn reply(reply: Reply, bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, reply as u8, 0];
    match bound {
        SocketAddr::V4(a) => {
            bytes.push(IPV4);
            bytes.extend(a.ip().octets());
        }
        SocketAddr::V6(a) => {
            bytes.push(IPV6);
            bytes.extend(a.ip().octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    bytes
}

async fn answer(work: &mut Conn, bytes: &[u8]) -> io::Result<()> {
    work.write_all(bytes).await?;
    work.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::user;
    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    fn start(username: &str, password: &str) -> (DuplexStream, JoinHandle<()>) {
        let plugin = Socks5::new(&Socks5Plugin {
            username: username.into(),
            password: password.into(),
        });
        let (near, far) = duplex(1024);
        let task = tokio::spawn(async move {
            plugin.serve(user(), Conn::Other(Box::new(far))).await;
        });
        (near, task)
    }

    /// Everything that comes back for these bytes.
    async fn talk(username: &str, sent: &[u8]) -> Vec<u8> {
        let (mut near, task) = start(username, "");
        near.write_all(sent).await.unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        task.await.unwrap();
        got
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_upstreams() {
        let failure = |code| [&[5, 0, 5, code, 0, 1][..], &[0; 6]].concat();
        for (sent, expected) in [
            (
                &b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x01"[..],
                failure(7),
            ),
            (
                b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x01",
                failure(7),
            ),
            (b"\x05\x01\x00\x05\x01\x00\x09", failure(8)),
            (b"\x05\x01\x00\x04", vec![5, 0]),
            (b"\x04", vec![]),
            (b"\x05\x00", vec![5, 255]),
            (b"\x05\x01\x01", vec![5, 255]),
        ] {
            assert_eq!(talk("", sent).await, expected, "{sent:x?}");
        }
        assert_eq!(talk("u", b"\x05\x01\x00").await, [5, 255]);
        assert_eq!(talk("u", b"\x05\x01\x02\x01\x01x\x00").await, [5, 2, 1, 1]);
        assert_eq!(talk("u", b"\x05\x01\x02\x05").await, [5, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_not_waited_for() {
        let (mut near, task) = start("", "");
        near.write_all(b"\x05").await.unwrap();
        let started = tokio::time::Instant::now();
        task.await.unwrap();
        assert_eq!(started.elapsed(), HANDSHAKE_LIMIT);
    }

    #[tokio::test]
    async fn a_client_with_the_right_credentials_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut near, _task) = start("u", "p");
        near.write_all(b"\x05\x02\x00\x02\x01\x01u\x01p\x05\x01\x00\x03\x09localhost")
            .await
            .unwrap();
        near.write_u16(port).await.unwrap();
        let (mut service, peer) = listener.accept().await.unwrap();
        let mut got = [0; 14];
        near.read_exact(&mut got).await.unwrap();
        let [rest @ .., high, low] = &got;
        assert_eq!(rest, b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01");
        assert_eq!(u16::from_be_bytes([*high, *low]), peer.port());
        service.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        near.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
    }

    #[tokio::test]
    async fn a_closed_port_is_told() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut sent = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01".to_vec();
        sent.extend(port.to_be_bytes());
        let got = talk("", &sent).await;
        assert_eq!(got, [&b"\x05\x00\x05\x05\x00\x01"[..], &[0; 6]].concat());
    }
}
