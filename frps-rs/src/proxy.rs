//! Registration of proxies (server.md §3.1) and what a registered proxy is: a task, and claims that end with it.

mod annotations;
mod bridge;
pub(crate) mod connect;
pub(crate) mod domains;
mod http;
mod https;
mod lifelines;
mod secret;
pub(crate) mod spec;
pub(crate) mod tcp;
mod tcpmux;
mod udp;
mod xtcp;

use std::pin::Pin;
use std::sync::Arc;

use balancer::CheckConfig;
use frp_proto::auth::Secret;
use frp_proto::config;
use frp_proto::msg::{NewProxy, StartWorkConn};
use frp_proto::net::limit::Limiter;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::balance::{Endpoint, Offer, check};
use crate::claims::{Claim, Replica};
use crate::events::Event;
use crate::metrics;
use crate::session::Handle;
use crate::stats::{self, Owner, ProxyStats, Tally};
use lifelines::Lifelines;
use spec::Spec;

pub(crate) use lifelines::Lifeline;

/// A registered proxy. Connections that users already have outlive it.
pub(crate) struct Proxy {
    /// Counts against `maxPortsPerClient`.
    ports: usize,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    /// Before the name, which a successor takes.
    _online: stats::Online,
    up: Up,
    _name: Claim,
}

/// Tells who listens that a proxy is there, and by its drop that it no longer is.
struct Up(Arc<Context>);

impl Up {
    fn new(context: Arc<Context>, remote_addr: &str) -> Self {
        context.shared.events.tell(|| Event::ProxyUp {
            name: &context.name,
            kind: &context.kind,
            run_id: &context.session.run_id,
            remote_addr,
        });
        Self(context)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let Self(context) = self;
        context.shared.events.tell(|| Event::ProxyDown {
            name: &context.name,
            kind: &context.kind,
            run_id: &context.session.run_id,
        });
    }
}

impl Proxy {
    /// Ports it holds.
    pub(crate) fn ports(&self) -> usize {
        self.ports
    }

    /// What its users need.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.up.0
    }

    /// Stops listening; when this returns, name, port and routes are free.
    pub(crate) async fn close(self) {
        self.cancel.cancel();
        // An error is a panic of the task, which has released what it held by unwinding.
        let _ = self.task.await;
    }
}

/// What each user connection of a proxy needs.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Handle>,
    pub(crate) name: Arc<str>,
    pub(crate) kind: Box<str>,
    pub(crate) use_encryption: bool,
    pub(crate) use_compression: bool,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) metrics: Arc<metrics::Proxy>,
    /// Of all user connections together.
    pub(crate) limiter: Option<Limiter>,
    /// What it says about balancing.
    pub(crate) offer: Offer,
    /// Whether its client can say how a dial went.
    pub(crate) verdicts: bool,
    lifelines: Lifelines,
}

impl Context {
    /// Cancelled when connections that begin now are to end.
    pub(crate) fn cut_token(&self) -> CancellationToken {
        self.lifelines.all()
    }

    /// A `StartWorkConn` for this proxy without addresses.
    pub(crate) fn start(&self) -> StartWorkConn {
        StartWorkConn {
            proxy_name: self.name.to_string(),
            ..StartWorkConn::default()
        }
    }

    /// A connection that has just opened.
    pub(crate) fn tally(&self) -> Tally {
        Tally::new(&self.stats, &self.metrics, &self.session.metrics)
    }

    /// Bytes went to the service outside of any connection.
    pub(crate) fn traffic_in(&self, bytes: u64) {
        self.stats.traffic_in(bytes);
        self.session.metrics.traffic(bytes, 0);
    }

    /// Bytes came from the service outside of any connection.
    pub(crate) fn traffic_out(&self, bytes: u64) {
        self.stats.traffic_out(bytes);
        self.session.metrics.traffic(0, bytes);
    }
}

impl Endpoint for Context {
    fn check(self: Arc<Self>, check: CheckConfig) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async move { check::passes(&self, check).await })
    }

    fn is(&self, context: &Context) -> bool {
        std::ptr::eq(self, context)
    }

    fn cut(&self) {
        self.lifelines.end_all(self.shared.stop.child_token());
    }

    fn open(&self) -> u32 {
        self.lifelines.len()
    }

    fn end_oldest(&self) {
        self.lifelines.end_oldest();
    }
}

/// A proxy that users can reach.
pub(crate) struct Started {
    /// Where; empty when nowhere in particular.
    pub(crate) remote_addr: String,
    /// Runs until the proxy's token is cancelled. It holds everything the proxy has claimed (ports, routes, a place in a
    /// group) and has given it back when it ends.
    pub(crate) life: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A proxy's type; without one it is `tcp`.
pub(crate) fn kind(m: &NewProxy) -> &str {
    match m.proxy_type.as_str() {
        "" => "tcp",
        other => other,
    }
}

/// The limit that is this server's affair. One that cannot be read is none.
fn limiter(m: &NewProxy) -> Option<Limiter> {
    (m.bandwidth_limit_mode == "server")
        .then(|| config::bandwidth(&m.bandwidth_limit).ok().flatten())
        .flatten()
        .map(Limiter::new)
}

/// Registers and starts a proxy for a session that holds `held` ports already; gives it with its `remote_addr` text.
///
/// The error is the text for the client.
pub(crate) async fn register(
    shared: &Arc<Shared>,
    session: &Arc<Handle>,
    held: usize,
    m: &NewProxy,
) -> Result<(Proxy, String), String> {
    acceptable(shared, m)?;
    shared.disabled.check(&m.proxy_name)?;
    let ports = usize::from(matches!(kind(m), "tcp" | "udp"));
    if shared
        .now()
        .settings
        .max_ports_per_client
        .is_some_and(|max| held + ports > max)
    {
        return Err("exceed the max_ports_per_client".into());
    }
    let offer = shared.balancing.offer(m, kind(m), &session.run_id)?;
    let replica = offer.replicas.then(|| Replica {
        kind: kind(m).into(),
        user: session.login.user.clone(),
        group: m.group.clone(),
        key: Secret::from(m.group_key.as_str()),
    });
    let name = shared
        .names
        .claim(&m.proxy_name, &session.run_id, replica)
        .map_err(|_| format!("proxy [{}] already exists", m.proxy_name))?;
    let kind = stats::kind(&m.proxy_type);
    let kind = kind.ok_or_else(|| format!("unknown proxy type: {}", m.proxy_type))?;
    let full_name: Arc<str> = m.proxy_name.as_str().into();
    let stats = shared.stats.proxy(&full_name, kind);
    let context = Arc::new(Context {
        shared: shared.clone(),
        session: session.clone(),
        stats: stats.clone(),
        metrics: shared.metrics.proxy(&full_name, kind),
        name: full_name,
        kind: kind.into(),
        use_encryption: m.use_encryption,
        use_compression: m.use_compression,
        limiter: limiter(m),
        offer,
        verdicts: m.dial_verdict,
        lifelines: Lifelines::new(shared.stop.child_token()),
    });
    let cancel = session.cancel.child_token();
    let announced = context.clone();
    let started = match kind {
        "tcp" => tcp::start(context, m, cancel.clone()).await,
        "https" => https::start(context, m, cancel.clone()).await,
        "tcpmux" => tcpmux::start(context, m, cancel.clone()).await,
        "http" => http::start(context, m, cancel.clone()).await,
        "udp" => udp::start(context, m, cancel.clone()).await,
        "stcp" => secret::start(secret::Kind::Stcp, context, m, cancel.clone()),
        "sudp" => secret::start(secret::Kind::Sudp, context, m, cancel.clone()),
        "xtcp" => xtcp::start(context, m, cancel.clone()),
        other => Err(format!("unknown proxy type: {other}")),
    }?;
    let spec = Spec::new(m, &started.remote_addr);
    let proxy = Proxy {
        ports,
        cancel,
        _online: shared.stats.online(&stats, owner(session), spec),
        up: Up::new(announced, &started.remote_addr),
        task: shared.tasks.spawn(started.life),
        _name: name,
    };
    Ok((proxy, started.remote_addr))
}

/// Whose the proxies of a session are.
fn owner(session: &Handle) -> Owner {
    let login = &session.login;
    Owner {
        user: login.user.clone(),
        client_id: if login.client_id.is_empty() {
            session.run_id.to_string()
        } else {
            login.client_id.clone()
        },
    }
}

/// The life of a proxy that others accept users for: holds what it has claimed until it is closed.
async fn hold<T>(context: Arc<Context>, claims: T, cancel: CancellationToken) {
    cancel.cancelled().await;
    drop(claims);
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
}

/// Whether this server can carry the proxy at all.
fn acceptable(shared: &Shared, m: &NewProxy) -> Result<(), String> {
    annotations::check(&m.annotations)?;
    let vhost = &shared.settings.vhost_ports;
    match kind(m) {
        "tcp" | "udp" | "stcp" | "sudp" | "xtcp" => {}
        "http" if vhost.http == 0 => {
            return Err("type [http] not supported when vhost http port is not set".into());
        }
        "https" if vhost.https == 0 => {
            return Err("type [https] not supported when vhost https port is not set".into());
        }
        "tcpmux" if vhost.tcpmux == 0 && m.multiplexer == "httpconnect" => {
            return Err("tcpmux with multiplexer httpconnect not supported because this feature is not enabled in server".into());
        }
        "http" | "https" | "tcpmux" => domains::check(&shared.now().settings.sub_domain_host, m)?,
        other => return Err(format!("unknown proxy type: {other}")),
    }
    Ok(())
}
