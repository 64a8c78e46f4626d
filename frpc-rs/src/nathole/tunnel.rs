//! A tunnel through a hole: many streams, one for each user (nathole.md §10). The visitor opens it.

use std::io;
use std::time::Duration;

use frp_proto::kcp;
use frp_proto::mux::{self, Incoming, Role};
use frp_proto::nathole::punch::Hole;
use frp_proto::net::Conn;
use frp_proto::quic;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// Between two pings of the mux.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a tunnel is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A QUIC connection.
    Quic,
    /// A mux session over KCP, without TLS.
    Kcp,
}

impl Protocol {
    /// By its name on the wire; what is not known is QUIC.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "kcp" => Self::Kcp,
            _ => Self::Quic,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Kcp => "kcp",
        }
    }
}

/// What both ends need.
pub(crate) struct Options<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) quic: &'a quic::Options,
    /// Where its own tasks run.
    pub(crate) tasks: &'a TaskTracker,
}

/// The visitor's end. Dropping it closes the tunnel.
pub(crate) enum Opener {
    Quic(quic::Connection),
    Kcp(mux::Session),
}

impl Opener {
    /// Makes a tunnel.
    pub(crate) async fn new(hole: Hole, o: &Options<'_>) -> io::Result<Self> {
        Ok(match o.protocol {
            Protocol::Quic => {
                let socket = hole.socket.into_std()?;
                Self::Quic(quic::connect_peer(socket, hole.peer, o.quic).await?)
            }
            Protocol::Kcp => {
                // What the other side opens nevertheless is refused by the mux.
                let (session, _, _) = multiplex(hole, Role::Client, o.tasks);
                Self::Kcp(session)
            }
        })
    }

    /// Opens a stream. Cancel safe.
    pub(crate) async fn open(&self) -> io::Result<Conn> {
        match self {
            Self::Quic(connection) => Ok(Conn::Other(Box::new(connection.open().await?))),
            Self::Kcp(session) => {
                let stream = session.open().await;
                stream.map(Conn::Mux).map_err(io::Error::other)
            }
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        match self {
            // Nobody waits for the last words to be heard.
            Self::Quic(connection) => drop(connection.close()),
            Self::Kcp(session) => session.close(),
        }
    }
}

/// The proxy's end. Dropping it closes the tunnel.
pub(crate) enum Acceptor {
    Quic(quic::Connection),
    Kcp {
        incoming: Incoming,
        _running: Running,
    },
}

/// A mux session's driver. Dropping it ends the session.
pub(crate) struct Running {
    session: mux::Session,
    driver: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.session.close();
        self.driver.abort();
    }
}

impl Acceptor {
    /// Waits for the visitor, for so long as it may need.
    pub(crate) async fn new(hole: Hole, o: &Options<'_>) -> io::Result<Self> {
        Ok(match o.protocol {
            Protocol::Quic => {
                let socket = hole.socket.into_std()?;
                Self::Quic(quic::accept_peer(socket, hole.peer, o.quic).await?)
            }
            Protocol::Kcp => {
                let (session, incoming, driver) = multiplex(hole, Role::Server, o.tasks);
                Self::Kcp {
                    incoming,
                    _running: Running { session, driver },
                }
            }
        })
    }

    /// The next stream. The error, which ends the tunnel, is the text of the log. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Result<Conn, String> {
        match self {
            Self::Quic(connection) => match connection.accept().await {
                Ok(stream) => Ok(Conn::Other(Box::new(stream))),
                Err(e) => Err(format!("quic accept stream error: {e}")),
            },
            Self::Kcp { incoming, .. } => {
                let stream = incoming.accept().await.map(Conn::Mux);
                stream.ok_or_else(|| "accept connection error: session shutdown".into())
            }
        }
    }
}

fn multiplex(hole: Hole, role: Role, tasks: &TaskTracker) -> (mux::Session, Incoming, AbortHandle) {
    let config = mux::Config {
        keepalive_interval: KEEPALIVE,
        ..mux::Config::default()
    };
    let stream = kcp::join(hole.socket, hole.peer);
    let (session, incoming, driver) = mux::session(stream, role, config);
    let driver = tasks.spawn(driver).abort_handle();
    (session, incoming, driver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UdpSocket;

    /// Both ends of a hole.
    async fn hole() -> (Hole, Hole) {
        let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0"));
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let hole = |socket, peer| Hole { socket, peer };
        (hole(a, to_b), hole(b, to_a))
    }

    #[tokio::test]
    async fn streams_pass_until_the_visitor_closes() {
        for protocol in [Protocol::Quic, Protocol::Kcp] {
            let (quic, tasks) = (quic::Options::default(), TaskTracker::new());
            let options = Options {
                protocol,
                quic: &quic,
                tasks: &tasks,
            };
            let (a, b) = hole().await;
            let (opener, acceptor) =
                tokio::join!(Opener::new(a, &options), Acceptor::new(b, &options));
            let (opener, mut acceptor) = (opener.unwrap(), acceptor.unwrap());
            for _ in 0..3 {
                let ask = async {
                    let mut stream = opener.open().await.unwrap();
                    stream.write_all(b"ping").await.unwrap();
                    let mut got = [0; 4];
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(&got, b"pong");
                };
                let answer = async {
                    let mut stream = acceptor.accept().await.unwrap();
                    let mut got = [0; 4];
                    stream.read_exact(&mut got).await.unwrap();
                    stream.write_all(b"pong").await.unwrap();
                    stream.flush().await.unwrap();
                    stream
                };
                tokio::join!(ask, answer);
            }
            drop(opener);
            assert!(acceptor.accept().await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_does_not_come_is_not_waited_for() {
        let (quic, tasks) = (quic::Options::default(), TaskTracker::new());
        let options = |protocol| Options {
            protocol,
            quic: &quic,
            tasks: &tasks,
        };
        let (a, _b) = hole().await;
        assert!(Acceptor::new(a, &options(Protocol::Quic)).await.is_err());
        let (a, _b) = hole().await;
        let mut acceptor = Acceptor::new(a, &options(Protocol::Kcp)).await.unwrap();
        assert!(acceptor.accept().await.is_err());
    }
}
