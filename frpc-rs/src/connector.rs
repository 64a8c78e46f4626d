//! From the settings to a connection that can carry frp messages (wire.md §1.7). Every step has a time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::mux::{self, Role};
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use frp_proto::net::{Conn, Io};
use frp_proto::tls::{ClientTls, TlsError};
use frp_proto::ws;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::settings::{Protocol, Settings};

/// Announces TLS to a port that is shared with others.
const CUSTOM_TLS_BYTE: u8 = 0x17;
/// For the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// For the WebSocket handshake.
const WEBSOCKET_LIMIT: Duration = Duration::from_secs(10);
/// For a stream of an established mux session.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Reaches frps.
pub(crate) struct Connector {
    protocol: Protocol,
    dial: DialOptions,
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
    pub(crate) fn new(settings: &Settings, tasks: TaskTracker) -> Self {
        Self {
            protocol: settings.protocol,
            dial: settings.dial.clone(),
            tls: settings.tls.as_ref().map(|tls| Tls {
                client: ClientTls::new(tls.files.clone()),
                server_name: tls.server_name.clone(),
                custom_first_byte: tls.custom_first_byte,
            }),
            mux: settings.mux.clone(),
            tasks,
        }
    }

    /// Makes what the connections of one session share: with the mux its session, else nothing.
    pub(crate) async fn open(self: &Arc<Self>) -> io::Result<Link> {
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
        let conn = Conn::Tcp(dial(&self.dial).await?);
        match (self.protocol, &self.tls) {
            (Protocol::Tcp, tls) => secured(tls.as_ref(), conn).await,
            (Protocol::WebSocket, tls) => {
                let host = join_host_port(&self.dial.host, self.dial.port);
                secured(tls.as_ref(), websocket(conn, &host).await?).await
            }
            // A proxy ends TLS and wants to know which of its hosts is meant.
            (Protocol::Wss, tls) => {
                let host = tls.as_ref().map_or(&self.dial.host, |tls| &tls.server_name);
                websocket(secured(tls.as_ref(), conn).await?, host).await
            }
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
        match self.client.connect(stream, &self.server_name).await {
            Ok(stream) => Ok(Conn::Other(Box::new(stream))),
            Err(e) => {
                let cause = e.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
                if cause.is_some() {
                    tracing::warn!("fail to build tls configuration, err: {e}");
                }
                Err(e)
            }
        }
    }
}

/// Where the connections of one session come from. Dropping it ends a mux session with all its streams.
pub(crate) enum Link {
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
            Self::Multiplexed(session) => match timeout(OPEN_LIMIT, session.open()).await {
                Ok(Ok(stream)) => Ok(Conn::Mux(stream)),
                Ok(Err(e)) => Err(io::Error::other(e)),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "i/o deadline reached",
                )),
            },
        }
    }

    /// Ends what the session's connections share.
    pub(crate) fn close(&self) {
        if let Self::Multiplexed(session) = self {
            session.close();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}
