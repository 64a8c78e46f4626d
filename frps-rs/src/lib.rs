//! The `frps` server as a library: `run` binds what the configuration names and serves until told to stop.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | the checked form of the configuration |
//! | `accept` | from an accepted socket to the first frp message |
//! | `session` | one logged-in client: login, messages, heartbeats, work connections, end |
//! | `sessions` | who is logged in, and how a re-login replaces its predecessor |
//! | `auth` | who a client is |
//! | `claims` | proxy names and client ids, held as values whose drop gives them back |
//! | `plugin` | HTTP services that are asked before the server decides |
//! | `ports` | the port manager |
//! | `ssh_gateway` | tunnels for who has no frpc but an SSH client |
//! | `proxy` | registration and the user side of proxies |

mod accept;
mod auth;
mod claims;
mod id;
mod plugin;
mod ports;
mod proxy;
mod session;
mod sessions;
mod settings;
mod ssh_gateway;

use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::Secret;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::crypto;
use frp_proto::net::listen;
use frp_proto::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use ssh_gateway::SshGateway;

pub use plugin::PluginSettings;
pub use settings::{Scopes, Settings};
pub use ssh_gateway::SshGatewaySettings;

/// How long a stop waits for tasks to end by themselves before they are dropped.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How often TLS files are looked at for changes.
const TLS_WATCH_PERIOD: Duration = Duration::from_secs(5);
/// Connections that may be between accept and the decision about their first message at a time; each costs a descriptor and about 2 KiB.
const MAX_PENDING: usize = 20_000;

/// Why the server could not start. `Display` is what `frps` prints (config-frps.md §9.1).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// What every task of the server shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) token: Secret,
    pub(crate) auth: auth::Auth,
    /// AES key of proxies with `useEncryption`, derived once.
    pub(crate) payload_key: [u8; 16],
    pub(crate) tls: ServerTls,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) names: claims::Claims,
    pub(crate) client_ids: claims::Claims,
    pub(crate) tcp_ports: ports::PortManager,
    pub(crate) plugins: plugin::Plugins,
    pub(crate) pending: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// A server whose ports are bound and that serves once [`Server::serve`] runs.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    ssh_gateway: Option<SshGateway>,
}

impl Server {
    /// Loads TLS material and binds the client port.
    pub async fn bind(
        settings: Settings,
        token: Secret,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let tls = ServerTls::new(settings.tls_files.clone()).map_err(|e| Error(e.to_string()))?;
        let auth = auth::Auth::new(&token, settings.oidc.as_ref())
            .await
            .map_err(Error)?;
        let plugins = plugin::Plugins::new(&settings.plugins);
        let listener = listen::bind(&settings.bind_addr, settings.bind_port)
            .await
            .map_err(|e| Error(format!("create server listener error, {e}")))?;
        tracing::info!(
            "frps tcp listen on {}",
            listen::join_host_port(&settings.bind_addr, settings.bind_port)
        );
        let ssh_gateway = match &settings.ssh_gateway {
            Some(ssh) => Some(SshGateway::bind(&settings.bind_addr, ssh).await?),
            None => None,
        };
        let shared = Shared {
            payload_key: crypto::derive_key(token.expose()),
            token,
            auth,
            tls,
            sessions: sessions::Sessions::default(),
            names: claims::Claims::default(),
            client_ids: claims::Claims::default(),
            tcp_ports: ports::PortManager::new(
                settings.proxy_bind_addr.clone(),
                settings.allow_ports.clone(),
            ),
            plugins,
            pending: Semaphore::new(MAX_PENDING),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
            settings,
        };
        Ok(Self {
            shared: Arc::new(shared),
            listener,
            ssh_gateway,
        })
    }

    /// Where clients connect to; tells the port when the settings asked for port 0.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the stop token given to [`Server::bind`] is cancelled, then closes listeners, sessions and connections.
    pub async fn serve(self) {
        let Self {
            shared,
            listener,
            ssh_gateway,
        } = self;
        if let Some(gateway) = ssh_gateway {
            shared.tasks.spawn(gateway.serve(shared.clone()));
        }
        tracing::info!("frps started successfully");
        let watch = shared.tls.clone().watch(TLS_WATCH_PERIOD);
        tokio::select! {
            () = accept::serve(&shared, listener) => {}
            () = watch => {}
            () = shared.stop.cancelled() => {}
        }
        shared.stop.cancel();
        shared.tasks.close();
        // A task that outlives the grace is dropped with the runtime.
        let _ = tokio::time::timeout(STOP_GRACE, shared.tasks.wait()).await;
        tracing::info!("frps stopped");
    }
}

/// Runs a server with this configuration until `stop` is cancelled.
pub async fn run(
    config: ServerConfig,
    token: Secret,
    stop: CancellationToken,
) -> Result<(), Error> {
    let settings = Settings::new(&config)?;
    Server::bind(settings, token, stop).await?.serve().await;
    Ok(())
}
