//! From the settings to a connection that can carry frp messages (wire.md §1.7). Every step has a time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::kcp;
use frp_proto::mux::{self, Role};
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use frp_proto::net::via_proxy::{ProxyUrl, dial_via};
use frp_proto::net::{Conn, Io};
use frp_proto::quic;
use frp_proto::tls::{ClientTls, TlsError};
use frp_proto::ws;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::settings::{Protocol, Settings, Way};

/// Announces TLS to a port that is shared with others.
const CUSTOM_TLS_BYTE: u8 = 0x17;
/// For the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// For the WebSocket handshake.
const WEBSOCKET_LIMIT: Duration = Duration::from_secs(10);
/// For a stream of an established mux session.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Reaches frps in one way.
pub(crate) struct Connector {
    protocol: Protocol,
    dial: DialOptions,
    outer_proxy: Option<ProxyUrl>,
    tls: Option<Tls>,
    mux: Option<mux::Config>,
    tasks: TaskTracker,
}

struct Tls {
    client: ClientTls,
    server_name: String,
    custom_first_byte: bool,
}

impl Connector {
    pub(crate) fn new(settings: &Settings, way: &Way, tasks: TaskTracker) -> Self {
        Self {
            protocol: way.protocol,
            dial: DialOptions {
                port: way.port,
                ..settings.dial.clone()
            },
            outer_proxy: settings.outer_proxy.clone(),
            tls: way.tls.as_ref().map(|tls| Tls {
                client: ClientTls::new(tls.files.clone()),
                server_name: tls.server_name.clone(),
                custom_first_byte: tls.custom_first_byte,
            }),
            mux: settings.mux.clone(),
            tasks,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Makes what the connections of one session share: a QUIC connection, with the mux its session, else nothing.
    pub(crate) async fn open(self: &Arc<Self>) -> io::Result<Link> {
        if let (Protocol::Quic(options), Some(tls)) = (self.protocol, &self.tls) {
            let connected =
                quic::connect(&self.dial, &tls.client, &tls.server_name, &options).await;
            return Ok(Link::Quic {
                connection: connected.inspect_err(warn_of_files)?,
                tasks: self.tasks.clone(),
            });
        }
        let Some(config) = &self.mux else {
            return Ok(Link::Dialled(self.clone()));
        };
        Ok(match self.transport().await? {
            Conn::Tcp(stream) => self.multiplex(stream, config),
            other => self.multiplex(other, config),
        })
    }

    fn multiplex(&self, io: impl Io, config: &mux::Config) -> Link {
        // Frps opens no streams; what it opens nevertheless is refused by the mux.
        let (session, _, driver) = mux::session(io, Role::Client, config.clone());
        self.tasks.spawn(driver);
        Link::Multiplexed(session)
    }

    /// Dials, and puts the layers on (transports.md §1).
    async fn transport(&self) -> io::Result<Conn> {
        let tls = self.tls.as_ref();
        match self.protocol {
            // QUIC connects its streams in another way.
            Protocol::Tcp | Protocol::Quic(_) => secured(tls, self.tcp().await?).await,
            Protocol::Kcp => {
                let stream = kcp::connect(&self.dial, kcp::Windows::CLIENT).await?;
                secured(tls, Conn::Other(Box::new(stream))).await
            }
            Protocol::WebSocket => {
                let host = join_host_port(&self.dial.host, self.dial.port);
                secured(tls, websocket(self.tcp().await?, &host).await?).await
            }
            // A proxy ends TLS and wants to know which of its hosts is meant.
            Protocol::Wss => {
                let host = tls.map_or(&self.dial.host, |tls| &tls.server_name);
                websocket(secured(tls, self.tcp().await?).await?, host).await
            }
        }
    }

    async fn tcp(&self) -> io::Result<Conn> {
        match &self.outer_proxy {
            None => dial(&self.dial).await.map(Conn::Tcp),
            Some(proxy) => dial_via(proxy, &self.dial).await,
        }
    }
}

async fn websocket(conn: Conn, host: &str) -> io::Result<Conn> {
    let connected = limited(
        "WebSocket handshake",
        WEBSOCKET_LIMIT,
        ws::connect(conn, host),
    );
    Ok(Conn::Other(Box::new(connected.await?)))
}

/// Puts TLS on, if it is wanted.
async fn secured(tls: Option<&Tls>, conn: Conn) -> io::Result<Conn> {
    let Some(tls) = tls else {
        return Ok(conn);
    };
    let secured = async {
        match conn {
            Conn::Tcp(stream) => tls.connect(stream).await,
            other => tls.connect(other).await,
        }
    };
    limited("TLS handshake", TLS_LIMIT, secured).await
}

/// The result of a step, unless it takes too long.
async fn limited<T>(
    step: &str,
    limit: Duration,
    result: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, result).await.unwrap_or_else(|_| {
        let text = format!("{step}: i/o timeout");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

impl Tls {
    async fn connect(&self, mut stream: impl Io) -> io::Result<Conn> {
        if self.custom_first_byte {
            stream.write_all(&[CUSTOM_TLS_BYTE]).await?;
            stream.flush().await?;
        }
        let connected = self.client.connect(stream, &self.server_name).await;
        let stream = connected.inspect_err(warn_of_files)?;
        Ok(Conn::Other(Box::new(stream)))
    }
}

/// Certificates that cannot be used are worth a line of their own.
fn warn_of_files(e: &io::Error) {
    let cause = e.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    if cause.is_some() {
        tracing::warn!("fail to build tls configuration, err: {e}");
    }
}

/// Where the connections of one session come from. Dropping it ends what they share, with all of them.
pub(crate) enum Link {
    /// Streams of one QUIC connection.
    Quic {
        connection: quic::Connection,
        /// Where the last words are said.
        tasks: TaskTracker,
    },
    /// Streams of one mux session.
    Multiplexed(mux::Session),
    /// Each is dialled.
    Dialled(Arc<Connector>),
}

impl Link {
    /// One more connection.
    pub(crate) async fn connect(&self) -> io::Result<Conn> {
        match self {
            Self::Dialled(connector) => connector.transport().await,
            Self::Quic { connection, .. } => {
                let stream = opened(connection.open()).await?;
                Ok(Conn::Other(Box::new(stream)))
            }
            Self::Multiplexed(session) => {
                let opening = async { session.open().await.map_err(io::Error::other) };
                opened(opening).await.map(Conn::Mux)
            }
        }
    }

    /// Ends what the session's connections share.
    pub(crate) fn close(&self) {
        match self {
            Self::Quic { connection, tasks } => {
                tasks.spawn(connection.close());
            }
            Self::Multiplexed(session) => session.close(),
            Self::Dialled(_) => {}
        }
    }
}

/// The stream, unless the peer does not let it open in time.
async fn opened<T>(opening: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(OPEN_LIMIT, opening).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "i/o deadline reached",
        ))
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        match self {
            // Perhaps nobody is left who could wait for the last words.
            Self::Quic { connection, .. } => drop(connection.close()),
            _ => self.close(),
        }
    }
}
