//! From the settings to a connection that can carry frp messages (wire.md §1.7). Every step has a time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::mux::{self, Role};
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::{Conn, Io};
use frp_proto::tls::{ClientTls, TlsError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::settings::Settings;

/// Announces TLS to a port that is shared with others.
const CUSTOM_TLS_BYTE: u8 = 0x17;
/// For the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// For a stream of an established mux session.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Reaches frps.
pub(crate) struct Connector {
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

    /// Dials, and puts TLS on.
    async fn transport(&self) -> io::Result<Conn> {
        let stream = dial(&self.dial).await?;
        let Some(tls) = &self.tls else {
            return Ok(Conn::Tcp(stream));
        };
        match timeout(TLS_LIMIT, tls.connect(stream)).await {
            Ok(conn) => conn,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "TLS handshake: i/o timeout",
            )),
        }
    }
}

impl Tls {
    async fn connect(&self, mut stream: TcpStream) -> io::Result<Conn> {
        if self.custom_first_byte {
            stream.write_all(&[CUSTOM_TLS_BYTE]).await?;
        }
        match self.client.connect(stream, &self.server_name).await {
            Ok(stream) => Ok(Conn::Other(Box::new(stream))),
            Err(e) => {
                if e.get_ref().is_some_and(|cause| cause.is::<TlsError>()) {
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
