//! The SSH tunnel gateway (server.md §10): `ssh -R :80:127.0.0.1:8080 v0@frps -p PORT tcp --remote-port 9000` is a client
//! with one proxy.
//!
//! | module | holds |
//! |--|--|
//! | `host_key` | the server's key, from a file or made once |
//! | `authorized_keys` | who may come |
//! | `handler` | what the SSH protocol engine asks and tells |
//! | `command` | the command line that says what the proxy is |
//! | `tunnel` | one SSH connection, from its greeting to its end |
//! | `forward` | users, from their work connections to the SSH client |
//! | `client` | the frp client inside this process that the tunnel's proxy belongs to |
//! | `stream` | the socket, which a token closes |

mod authorized_keys;
mod client;
pub(crate) mod command;
mod forward;
mod handler;
mod host_key;
mod stream;
mod tunnel;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::config::raw::server::SshTunnelGateway;
use frp_proto::net::listen;
use russh::keys::PrivateKey;
use russh::{MethodKind, MethodSet, SshId, server};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{Error, Shared};

/// SSH connections whose proxy does not run yet; each costs a descriptor and some 100 KiB.
const MAX_PENDING: usize = 256;
/// Silence of an SSH client before it is asked whether it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Such questions without an answer.
const KEEPALIVE_MAX: usize = 3;
/// A client that neither answers nor takes what is sent is gone.
const INACTIVITY_LIMIT: Duration = Duration::from_mins(2);
/// Keys a client may offer.
const MAX_AUTH_ATTEMPTS: usize = 6;
/// Received packets of one channel that may wait for their user; as much as a window at the usual packet size.
const CHANNEL_BUFFER: usize = 64;
/// As other SSH servers do, a refusal takes its time.
const REJECTION_TIME: Duration = Duration::from_millis(100);

/// `sshTunnelGateway` of the configuration.
#[derive(Debug, Clone)]
pub struct SshGatewaySettings {
    /// Port on the address of the client port; 0 lets the system choose (no file can say it).
    pub bind_port: u16,
    /// Host key; made and kept at `auto_gen_private_key` if absent.
    pub private_key: Option<PathBuf>,
    /// Where a made host key is kept.
    pub auto_gen_private_key: PathBuf,
    /// Keys of who may come; without the file frp's token decides.
    pub authorized_keys: Option<PathBuf>,
}

impl SshGatewaySettings {
    pub(crate) fn new(c: &SshTunnelGateway) -> Result<Option<Self>, Error> {
        if c.bind_port <= 0 {
            return Ok(None);
        }
        let path = |p: &String| (!p.is_empty()).then(|| PathBuf::from(p));
        Ok(Some(Self {
            bind_port: u16::try_from(c.bind_port).map_err(|_| {
                let port = c.bind_port;
                gateway_error(format!("listen tcp: address {port}: invalid port"))
            })?,
            private_key: path(&c.private_key_file),
            auto_gen_private_key: PathBuf::from(&c.auto_gen_private_key_path),
            authorized_keys: path(&c.authorized_keys_file),
        }))
    }
}

fn gateway_error(e: impl std::fmt::Display) -> Error {
    Error(format!("create ssh gateway error: {e}"))
}

/// A gateway whose port is bound.
pub(crate) struct SshGateway {
    listener: TcpListener,
    key: PrivateKey,
    authorized_keys: Option<PathBuf>,
}

/// What every SSH connection needs.
struct Context {
    shared: Arc<Shared>,
    config: Arc<server::Config>,
    authorized_keys: Option<PathBuf>,
    pending: Semaphore,
}

impl SshGateway {
    pub(crate) async fn bind(addr: &str, settings: &SshGatewaySettings) -> Result<Self, Error> {
        let key = match &settings.private_key {
            Some(path) => host_key::load(path),
            None => host_key::load_or_make(&settings.auto_gen_private_key),
        };
        let key = key.map_err(gateway_error)?;
        let listener = listen::bind(addr, settings.bind_port)
            .await
            .map_err(gateway_error)?;
        tracing::info!(
            "frps sshTunnelGateway listen on port {}",
            settings.bind_port
        );
        Ok(Self {
            listener,
            key,
            authorized_keys: settings.authorized_keys.clone(),
        })
    }

    /// Accepts SSH clients until the server stops.
    pub(crate) async fn serve(self, shared: Arc<Shared>) {
        let Self {
            listener,
            key,
            authorized_keys,
        } = self;
        let method = match &authorized_keys {
            Some(_) => MethodKind::PublicKey,
            None => MethodKind::None,
        };
        let config = server::Config {
            server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Go")),
            methods: MethodSet::from(&[method][..]),
            auth_rejection_time: REJECTION_TIME,
            // The first question is which methods there are.
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![key],
            channel_buffer_size: CHANNEL_BUFFER,
            max_auth_attempts: MAX_AUTH_ATTEMPTS,
            inactivity_timeout: Some(INACTIVITY_LIMIT),
            keepalive_interval: Some(KEEPALIVE_INTERVAL),
            keepalive_max: KEEPALIVE_MAX,
            nodelay: true,
            ..server::Config::default()
        };
        let context = Arc::new(Context {
            shared: shared.clone(),
            config: Arc::new(config),
            authorized_keys,
            pending: Semaphore::new(MAX_PENDING),
        });
        let accept = async {
            loop {
                match listen::accept(&listener).await {
                    Ok((stream, peer)) => {
                        let run = tunnel::run(context.clone(), stream, peer);
                        shared.tasks.spawn(run);
                    }
                    Err(e) => {
                        tracing::warn!("listener of the ssh tunnel gateway closed: {e}");
                        return;
                    }
                }
            }
        };
        shared.stop.run_until_cancelled(accept).await;
    }
}
