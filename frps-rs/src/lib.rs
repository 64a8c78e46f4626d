//! The `frps` server as a library: `run` binds what the configuration names and serves until told to stop.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | the checked form of the configuration |
//! | `accept` | from an accepted socket to the first frp message |
//! | `session` | one logged-in client: login, messages, heartbeats, work connections, end |
//! | `sessions` | who is logged in, and how a re-login replaces its predecessor |
//! | `auth` | who a client is |
//! | `clients` | the client registry: who is and was connected |
//! | `claims` | proxy names, held as values whose drop gives them back |
//! | `stats` | what is counted of proxies and of the server |
//! | `admin` | the admin API and metrics |
//! | `group` | load-balancing groups: who shares a port or route |
//! | `balance` | who of a group is picked, and what becomes known of its members |
//! | `proxy_protocol` | balancers in front that say whose connection it is |
//! | `nathole` | what makes `xtcp` visitors and proxies meet |
//! | `plugin` | HTTP services that are asked before the server decides |
//! | `ports` | the port manager |
//! | `ssh_gateway` | tunnels for who has no frpc but an SSH client |
//! | `proxy` | registration and the user side of proxies |
//! | `vhost` | ports that proxies share by domain |
//! | `visitors` | which proxies visitors may ask for, and their connections |

mod accept;
mod admin;
mod auth;
mod balance;
mod claims;
mod clients;
mod group;
mod id;
mod nathole;
mod plugin;
mod ports;
mod proxy;
mod proxy_protocol;
mod session;
mod sessions;
mod settings;
mod ssh_gateway;
mod stats;
mod vhost;
mod visitors;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use balancer::First;
use frp_proto::auth::Secret;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::crypto;
use frp_proto::net::listen;
use frp_proto::tls::ServerTls;
use frp_proto::udp::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use proxy::connect::Ends;
use ssh_gateway::SshGateway;
use vhost::Protocol;

pub use accept::detect::SharedPort;
pub use balance::BalancingSettings;
pub use plugin::PluginSettings;
pub use proxy_protocol::{Listener, ProxyProtocol};
pub use settings::{Info, Scopes, Settings, WebSettings};
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
    pub(crate) stats: stats::Stats,
    pub(crate) tcp_ports: ports::PortManager<TcpListener>,
    pub(crate) udp_ports: ports::PortManager<Socket>,
    pub(crate) balancing: Arc<balance::Balancing>,
    pub(crate) tcp_groups: Arc<proxy::tcp::TcpGroups>,
    pub(crate) https: vhost::https::Https,
    pub(crate) tcpmux: vhost::tcpmux::Tcpmux,
    pub(crate) http: vhost::http::routes::Routes,
    pub(crate) visitors: visitors::Visitors,
    pub(crate) nat_holes: nathole::NatHoles,
    pub(crate) plugins: plugin::Plugins,
    pub(crate) pending: Semaphore,
    /// As `pending`, for the vhost ports of byte streams.
    pub(crate) sniffing: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// See [`ProxyProtocol::ends`]; `None` also when the server stops.
    pub(crate) async fn ends(
        &self,
        listener: Listener,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Option<Ends> {
        let ends = self.settings.proxy_protocol.ends(listener, stream, peer);
        self.stop.run_until_cancelled(ends).await.flatten()
    }
}

/// A server whose ports are bound and that serves once [`Server::serve`] runs.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    udp: accept::udp::Listeners,
    ssh_gateway: Option<SshGateway>,
    web: Option<frp_admin::Server>,
    vhosts: Vec<(Protocol, TcpListener)>,
}

impl Server {
    /// Loads TLS material and binds the admin port and the client port.
    pub async fn bind(
        settings: Settings,
        token: Secret,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let tls = ServerTls::new(settings.tls_files.clone()).map_err(|e| Error(e.to_string()))?;
        let auth = auth::Auth::new(&token, settings.oidc.as_ref())
            .await
            .map_err(Error)?;
        let web = match &settings.web {
            Some(web) => Some(
                frp_admin::Server::bind(&web.server)
                    .await
                    .map_err(|e| Error(e.to_string()))?,
            ),
            None => None,
        };
        let plugins = plugin::Plugins::new(&settings.plugins);
        let mut vhosts = Vec::new();
        vhosts.extend(vhost::bind(&settings, Protocol::Tcpmux).await?);
        let listener = listen::bind(&settings.bind_addr, settings.bind_port)
            .await
            .map_err(|e| Error(format!("create server listener error, {e}")))?;
        tracing::info!(
            "frps tcp listen on {}",
            listen::join_host_port(&settings.bind_addr, settings.bind_port)
        );
        let udp = accept::udp::Listeners::bind(&settings, &tls).await?;
        vhosts.extend(vhost::bind(&settings, Protocol::Http).await?);
        vhosts.extend(vhost::bind(&settings, Protocol::Https).await?);
        let ssh_gateway = match &settings.ssh_gateway {
            Some(ssh) => Some(SshGateway::bind(&settings.bind_addr, ssh).await?),
            None => None,
        };
        let balancing = balance::Balancing::new(settings.balancing.clone());
        let shared = Shared {
            payload_key: crypto::derive_key(token.expose()),
            token,
            auth,
            tls,
            sessions: sessions::Sessions::default(),
            names: claims::Claims::default(),
            stats: stats::Stats::new(settings.web.is_some()),
            tcp_ports: ports::PortManager::new(
                settings.proxy_bind_addr.clone(),
                settings.allow_ports.clone(),
            ),
            tcp_groups: group::Groups::new(
                &balancing,
                "tcp",
                First::Oldest,
                "group should have same remote port",
            ),
            https: vhost::https::Https::new(&balancing),
            tcpmux: vhost::tcpmux::Tcpmux::new(&balancing),
            http: vhost::http::routes::Routes::new(&balancing),
            balancing,
            udp_ports: ports::PortManager::new(
                settings.proxy_bind_addr.clone(),
                settings.allow_ports.clone(),
            ),
            visitors: visitors::Visitors::default(),
            nat_holes: nathole::NatHoles::new(settings.nat_hole_memory),
            plugins,
            pending: Semaphore::new(MAX_PENDING),
            sniffing: Semaphore::new(MAX_PENDING),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
            settings,
        };
        Ok(Self {
            shared: Arc::new(shared),
            listener,
            udp,
            ssh_gateway,
            web,
            vhosts,
        })
    }

    /// Where clients connect to; tells the port when the settings asked for port 0.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where clients connect to over QUIC.
    pub fn quic_addr(&self) -> Option<std::io::Result<std::net::SocketAddr>> {
        self.udp.quic().map(frp_proto::quic::Listener::local_addr)
    }

    /// Where the admin server listens, if there is one.
    pub fn web_addr(&self) -> Option<std::net::SocketAddr> {
        self.web.as_ref()?.local_addr().ok()
    }

    /// Serves until the stop token given to [`Server::bind`] is cancelled, then closes listeners, sessions and connections.
    pub async fn serve(self) {
        let Self {
            shared,
            listener,
            udp,
            ssh_gateway,
            web,
            vhosts,
        } = self;
        if let Some(gateway) = ssh_gateway {
            shared.tasks.spawn(gateway.serve(shared.clone()));
        }
        tracing::info!("frps started successfully");
        if let Some(web) = web {
            shared.tasks.spawn(serve_web(shared.clone(), web));
        }
        for (protocol, listener) in vhosts {
            let served = vhost::serve(shared.clone(), protocol, listener);
            shared.tasks.spawn(served);
        }
        let watch = shared.tls.clone().watch(TLS_WATCH_PERIOD);
        tokio::select! {
            () = accept::serve(&shared, listener) => {}
            () = udp.serve(&shared) => {}
            () = watch => {}
            () = shared.stats.maintain() => {}
            () = balance::maintain(&shared) => {}
            () = shared.stop.cancelled() => {}
        }
        shared.stop.cancel();
        shared.tasks.close();
        // A task that outlives the grace is dropped with the runtime.
        let ended = async { tokio::join!(shared.tasks.wait(), udp.close()) };
        let _ = tokio::time::timeout(STOP_GRACE, ended).await;
        tracing::info!("frps stopped");
    }
}

/// Serves the admin API; without it the server goes on.
async fn serve_web(shared: Arc<Shared>, web: frp_admin::Server) {
    let Some(settings) = &shared.settings.web else {
        return;
    };
    let server = &settings.server;
    tracing::info!(
        "dashboard listen on {}",
        listen::join_host_port(&server.addr, server.port)
    );
    let router = admin::router(&shared, server.pprof, settings.prometheus);
    if let Err(e) = web.serve(router, shared.stop.clone()).await {
        tracing::warn!("dashboard server exit with error: {e}");
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
