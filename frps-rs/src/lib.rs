//! The `frps` server as a library: `run` binds what the configuration names and serves until told to stop.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | the checked form of the configuration |
//! | `accept` | from an accepted socket to the first frp message |
//! | `session` | one logged-in client: login, messages, heartbeats, work connections, end |
//! | `sessions` | who is logged in, and how a re-login replaces its predecessor |
//! | `auth` | who a client is |
//! | `disabled` | names of proxies that an administrator refuses |
//! | `events` | what happens, told to who listens |
//! | `pushed` | proxies that administrators have pushed to clients |
//! | `reload` | settings that may change while the server runs |
//! | `clients` | the client registry: who is and was connected |
//! | `claims` | proxy names, held as values whose drop gives them back |
//! | `stats` | what is counted of proxies and of the server |
//! | `admin` | the admin API and metrics |
//! | `metrics` | what is measured beyond upstream's statistics |
//! | `records` | access and audit log |
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
mod disabled;
mod events;
mod group;
mod id;
mod metrics;
mod nathole;
mod plugin;
mod ports;
mod proxy;
mod proxy_protocol;
mod pushed;
mod records;
mod reload;
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

use arc_swap::ArcSwap;
use balancer::First;
use frp_proto::auth::Secret;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::net::listen;
use frp_proto::telemetry::Sink;
use frp_proto::tls::ServerTls;
use frp_proto::udp::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use proxy::connect::Ends;
use reload::Live;
use ssh_gateway::SshGateway;
use vhost::Protocol;

pub use accept::detect::SharedPort;
pub use balance::BalancingSettings;
pub use plugin::PluginSettings;
pub use proxy_protocol::{Listener, ProxyProtocol};
pub use reload::{ConfigFile, Handle, ReloadError};
pub use settings::{Info, Scopes, Settings, WebSettings};
pub use ssh_gateway::SshGatewaySettings;

/// The command of an SSH client. For fuzzing.
#[doc(hidden)]
pub fn fuzz_ssh_command(data: &[u8]) {
    ssh_gateway::command::fuzz(data);
}

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
    /// Those of the start, for what cannot change.
    pub(crate) settings: Settings,
    /// Those of now, for what can.
    live: ArcSwap<Live>,
    /// Where reloads come from.
    pub(crate) source: Option<reload::Source>,
    pub(crate) events: events::Events,
    pub(crate) disabled: disabled::Disabled,
    pub(crate) pushed: pushed::Pushed,
    pub(crate) tls: ServerTls,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) names: claims::Claims,
    pub(crate) stats: stats::Stats,
    pub(crate) history: Option<Arc<stats::Keeper>>,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) access: Sink,
    pub(crate) audit: Sink,
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
    /// The settings of now. Not to be held for long.
    pub(crate) fn now(&self) -> arc_swap::Guard<Arc<Live>> {
        self.live.load()
    }

    /// See [`ProxyProtocol::ends`]; `None` also when the server stops.
    pub(crate) async fn ends(
        &self,
        listener: Listener,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Option<Ends> {
        let live = self.live.load_full();
        let ends = live.settings.proxy_protocol.ends(listener, stream, peer);
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
        let history = settings.traffic_history.clone();
        let stats = stats::Stats::new(settings.web.is_some() || history.is_some());
        let history = history.and_then(|path| stats::Keeper::open(path, &stats));
        let ssh_gateway = match &settings.ssh_gateway {
            Some(ssh) => Some(SshGateway::bind(&settings.bind_addr, ssh).await?),
            None => None,
        };
        let balancing = balance::Balancing::new(settings.balancing.clone());
        let shared = Shared {
            live: ArcSwap::from_pointee(Live::new(settings.clone(), auth, token)),
            source: None,
            events: events::Events::default(),
            disabled: disabled::Disabled::default(),
            pushed: pushed::Pushed::default(),
            tls,
            sessions: sessions::Sessions::default(),
            names: claims::Claims::default(),
            stats,
            metrics: metrics::Metrics::default(),
            access: settings.logs.access(),
            audit: settings.logs.audit(),
            history,
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

    /// The same server, which can read its configuration again from `file`; `config` is what it says now, validated.
    #[must_use]
    pub fn with_file(mut self, config: ServerConfig, file: Box<dyn ConfigFile>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.source = Some(reload::Source::new(config, file));
        }
        self
    }

    /// Changes the server while it runs.
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
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
        if let Some(history) = &shared.history {
            let saving = shared
                .stop
                .clone()
                .run_until_cancelled_owned(history.clone().run());
            shared.tasks.spawn(saving);
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
        if let Some(history) = shared.history.clone() {
            // What the last sessions have left is in it.
            let saved = tokio::task::spawn_blocking(move || history.save()).await;
            if let Ok(Err(e)) = saved {
                tracing::warn!("trafficHistory.path: {e}");
            }
        }
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
    let router = admin::router(&shared, settings);
    let web = web.audited(shared.audit.clone());
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
