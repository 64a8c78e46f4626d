//! The `frpc` client as a library: `run` logs in, keeps the session, and serves the configured proxies until told to stop.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | the checked form of the configuration |
//! | `connector` | from a dial to a connection that carries frp messages |
//! | `vnet` | the virtual network: the interface, and the ways of packets |
//! | `ways` | which transport is taken where there is a choice |
//! | `auth` | how the client proves who it is |
//! | `login` | one login attempt, and attempts until one succeeds |
//! | `backoff` | the pauses between attempts |
//! | `session` | one control session: messages, heartbeats, end |
//! | `work` | work connections, from the server's request to the join |
//! | `proxy` | proxies: what is announced, where they stand, their local side |
//! | `nathole` | holes through NATs, and the tunnels through them |
//! | `plugin` | client plugins, which serve users in place of a local service |
//! | `visitor` | visitors: which exist, their users, their way to secret proxies |
//! | `service` | what runs: the file's entries and the store's, merged and changed at run time |
//! | `sources` | proxies and visitors that come from elsewhere and are looked at again and again |
//! | `pushed` | proxies that frps pushes: whether they are taken |
//! | `store` | proxies and visitors that are managed over the admin API |
//! | `admin` | the admin API |
//! | `metrics` | what is counted |
//! | `records` | access and audit log |
//! | `proxy_protocol` | the header that tells a local service who the user is |

mod admin;
mod auth;
mod backoff;
mod connector;
mod login;
mod metrics;
mod nathole;
mod plugin;
mod proxy;
mod proxy_protocol;
mod pushed;
mod records;
mod service;
mod session;
mod settings;
mod sources;
mod store;
mod visitor;
mod vnet;
mod ways;
mod work;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use frp_proto::auth::Secret;
use frp_proto::config::raw::client::ClientConfig;
use frp_proto::net::resolve;
use frp_proto::telemetry::Sink;
use frp_proto::{crypto, host};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use proxy::state::Phase;
pub use proxy::status::ProxyStatus;
pub use service::{ConfigFile, Handle, ReloadError};
pub use settings::{Protocol, Scopes, Settings, TlsSettings, Way};
pub use store::Store;

use auth::Auth;
use backoff::Backoff;
use proxy::manager::Manager;
use service::Service;
use sources::Source;
use visitor::Visitor;
use ways::Ways;

/// How long a stop waits for tasks to end by themselves before they are dropped.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why the client could not start or go on. `Display` is what `frpc` prints.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// What `main` opens for a client; each part may be left out.
#[derive(Default)]
pub struct Resources {
    /// The file it was configured with: it can be read again.
    pub file: Option<Box<dyn ConfigFile>>,
    /// Proxies and visitors that are managed over the admin API.
    pub store: Option<Store>,
    /// The admin API's server, bound.
    pub admin: Option<frp_admin::Server>,
}

/// What every task of the client shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) token: Secret,
    pub(crate) auth: Auth,
    /// AES key of proxies with `useEncryption`, derived once.
    pub(crate) payload_key: [u8; 16],
    pub(crate) ways: Ways,
    pub(crate) metrics: metrics::Metrics,
    /// Set while the client runs, if there is to be one.
    pub(crate) network: OnceLock<Arc<vnet::Controller>>,
    pub(crate) access: Sink,
    pub(crate) audit: Sink,
    proxies: Mutex<Manager>,
    /// All of them; a session follows it.
    visitors: watch::Sender<Arc<[Arc<Visitor>]>>,
    /// Whether the server is told, at the next login, that it may push proxies.
    pub(crate) accepts_proxies: AtomicBool,
    /// What the server wants to have served.
    pub(crate) wishes: mpsc::Sender<pushed::Wish>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// Runs a function on the proxies.
    pub(crate) fn with_proxies<T>(&self, f: impl FnOnce(&mut Manager) -> T) -> T {
        f(&mut self.proxies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client that is ready to log in.
pub struct Client {
    service: Arc<Service>,
    sources: Vec<Source>,
    wishes: mpsc::Receiver<pushed::Wish>,
    admin: Option<frp_admin::Server>,
}

impl Client {
    /// Makes a client from a loaded and validated configuration; nothing is dialled before [`Client::run`]. What the store
    /// holds is served, too.
    pub fn new(
        config: ClientConfig,
        token: Secret,
        resources: Resources,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let Resources { file, store, admin } = resources;
        let tasks = TaskTracker::new();
        let settings = Settings::new(&config)?;
        let (sender, wishes) = mpsc::channel(pushed::QUEUE);
        let shared = Arc::new(Shared {
            payload_key: crypto::derive_key(token.expose()),
            ways: Ways::new(&settings, &tasks),
            metrics: metrics::Metrics::default(),
            network: OnceLock::new(),
            access: settings.logs.access(),
            audit: settings.logs.audit(),
            proxies: Mutex::new(Manager::new(&settings.user)),
            visitors: watch::Sender::new(Arc::default()),
            accepts_proxies: AtomicBool::new(false),
            wishes: sender,
            auth: match &settings.oidc {
                Some(source) => Auth::Oidc(source.clone()),
                None => Auth::Token(token.clone()),
            },
            settings,
            token,
            tasks,
            stop: stop.child_token(),
        });
        let sources = config.sources.iter().map(Source::new);
        let sources = sources.collect::<Result<_, _>>()?;
        Ok(Self {
            sources,
            wishes,
            service: Arc::new(Service::new(shared, config, store, file)?),
            admin,
        })
    }

    /// To change, ask and stop the client while it runs.
    pub fn handle(&self) -> Handle {
        Handle::new(self.service.clone())
    }

    /// Serves until the stop token given to [`Client::new`] is cancelled or [`Handle::stop`] is called, then closes proxies,
    /// session and connections. Sessions that end are replaced without end; only a first login can fail. Dropping the future
    /// ends all at once.
    pub async fn run(self) -> Result<(), Error> {
        let Self {
            service,
            sources,
            wishes,
            admin,
        } = self;
        let shared = service.shared();
        if !shared.settings.dns_server.is_empty() {
            resolve::use_server(&shared.settings.dns_server);
        }
        join_network(shared)?;
        let stop_all = shared.stop.clone().drop_guard();
        if let Some(server) = admin {
            shared.tasks.spawn(admin::serve(server, service.clone()));
        }
        for (place, source) in sources.into_iter().enumerate() {
            let follow = source.follow(place, service.clone());
            let stop = shared.stop.clone();
            shared.tasks.spawn(stop.run_until_cancelled_owned(follow));
        }
        let serve = pushed::serve(wishes, service.clone());
        let stop = shared.stop.clone();
        shared.tasks.spawn(stop.run_until_cancelled_owned(serve));
        let ended = sessions(shared).await;
        drop(stop_all);
        shared.tasks.close();
        // A task that outlives the grace is dropped with the runtime.
        let _ = timeout(STOP_GRACE, shared.tasks.wait()).await;
        ended
    }
}

/// Opens the interface of the virtual network, if there is to be one.
fn join_network(shared: &Arc<Shared>) -> Result<(), Error> {
    let address = &shared.settings.virtual_net_address;
    if address.is_empty() {
        return Ok(());
    }
    let network = vnet::Controller::open(address).map_err(|e| {
        tracing::error!("init virtual network controller error: {e}");
        Error(e)
    })?;
    let network = Arc::new(network);
    let run = network.clone();
    let stop = shared.stop.clone();
    shared.tasks.spawn(async move {
        stop.run_until_cancelled(run.run()).await;
    });
    let first = shared.network.set(network);
    first.expect("a client runs once");
    Ok(())
}

/// One session after the other, until the stop.
async fn sessions(shared: &Arc<Shared>) -> Result<(), Error> {
    let mut backoff = Backoff::session();
    let mut run_id = None;
    let mut ends = 0_u64;
    loop {
        let login = login::until_success(shared, run_id.as_ref());
        let Some(session) = shared.stop.run_until_cancelled(login).await else {
            return Ok(());
        };
        let session = session?;
        run_id = Some(session.run_id().clone());
        // On a worker of the runtime, where what wakes it up is mostly on, too; the caller may be on a thread of its own.
        let session = AbortOnDropHandle::new(tokio::spawn(session.run()));
        if let Err(e) = session.await {
            std::panic::resume_unwind(e.into_panic());
        }
        ends += 1;
        // The login after the first end is immediate.
        if ends > 1 {
            let pause = sleep(backoff.pause(Instant::now(), host::random()));
            shared.stop.run_until_cancelled(pause).await;
        }
    }
}

/// Runs a client with this (loaded and validated) configuration until `stop` is cancelled.
pub async fn run(
    config: ClientConfig,
    token: Secret,
    resources: Resources,
    stop: CancellationToken,
) -> Result<(), Error> {
    Client::new(config, token, resources, &stop)?.run().await
}
