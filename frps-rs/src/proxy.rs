//! Registration of proxies (server.md §3.1) and what a registered proxy is: claims that end with it, and a task if it has
//! something to do between its users.

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

use std::any::Any;
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
    has_port: bool,
    /// First of all: what it has claimed is free before others hear that it is gone.
    life: Life,
    /// Before the name, which a successor takes.
    _online: stats::Online,
    up: Up,
    _name: Claim,
}

/// What it is to be a proxy, beside its name.
enum Life {
    /// A task that owns what the proxy has claimed.
    Task(CancellationToken, JoinHandle<()>),
    /// What the proxy has claimed: others accept its users.
    Held { _claims: Box<dyn Any + Send> },
}

/// Tells who listens that a proxy is there, and by its drop that it no longer is.
struct Up(Arc<Context>);

impl Up {
    fn new(context: Arc<Context>, remote_addr: &str) -> Self {
        context.shared.events.tell(|| Event::ProxyUp {
            name: &context.name,
            kind: context.kind,
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
            kind: context.kind,
            run_id: &context.session.run_id,
        });
    }
}

impl Proxy {
    /// Ports it holds.
    pub(crate) fn ports(&self) -> usize {
        usize::from(self.has_port)
    }

    /// What its users need.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.up.0
    }

    /// Stops listening; when this returns, name, port and routes are free.
    pub(crate) async fn close(self) {
        if let Life::Task(cancel, task) = self.life {
            cancel.cancel();
            // An error is a panic of the task, which has released what it held by unwinding.
            let _ = task.await;
        }
    }
}

/// What each user connection of a proxy needs.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Handle>,
    pub(crate) name: Arc<str>,
    pub(crate) kind: &'static str,
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
        self.lifelines.all(&self.shared.stop)
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
        self.lifelines.end_all();
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
    pub(crate) life: Begun,
}

/// What holds everything the proxy has claimed: ports, routes, a place in a group.
pub(crate) enum Begun {
    /// Runs until the token is cancelled, and has given everything back when it ends.
    Runs(CancellationToken, Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Gives everything back by its drop.
    Held(Box<dyn Any + Send>),
}

impl Begun {
    /// A task that `cancel` ends.
    fn runs(cancel: CancellationToken, life: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::Runs(cancel, Box::pin(life))
    }

    /// Of a proxy that others accept users for.
    fn held<T: Send + 'static>(context: Arc<Context>, claims: T) -> Self {
        let claims = Some(claims);
        Self::Held(Box::new(Held { context, claims }))
    }
}

/// What a proxy has claimed that others accept users for.
struct Held<T> {
    context: Arc<Context>,
    /// Taken by the drop only.
    claims: Option<T>,
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        drop(self.claims.take());
        let context = &self.context;
        tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
    }
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
    let has_port = matches!(kind(m), "tcp" | "udp");
    if shared
        .now()
        .settings
        .max_ports_per_client
        .is_some_and(|max| held + usize::from(has_port) > max)
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
    let full_name = offer.shared_name(&m.proxy_name);
    let name = shared
        .names
        .claim(&full_name, &session.run_id, replica)
        .map_err(|_| format!("proxy [{}] already exists", m.proxy_name))?;
    let kind = stats::kind(&m.proxy_type);
    let kind = kind.ok_or_else(|| format!("unknown proxy type: {}", m.proxy_type))?;
    let stats = shared.stats.proxy(&full_name, kind);
    let context = Arc::new(Context {
        shared: shared.clone(),
        session: session.clone(),
        stats: stats.clone(),
        metrics: shared.metrics.proxy(&full_name, kind),
        name: full_name,
        kind,
        use_encryption: m.use_encryption,
        use_compression: m.use_compression,
        limiter: limiter(m),
        offer,
        verdicts: m.dial_verdict,
        lifelines: Lifelines::default(),
    });
    let announced = context.clone();
    let started = match kind {
        "tcp" => tcp::start(context, m).await,
        "https" => https::start(context, m).await,
        "tcpmux" => tcpmux::start(context, m).await,
        "http" => http::start(context, m).await,
        "udp" => udp::start(context, m).await,
        "stcp" => secret::start(secret::Kind::Stcp, context, m),
        "sudp" => secret::start(secret::Kind::Sudp, context, m),
        "xtcp" => xtcp::start(context, m),
        other => Err(format!("unknown proxy type: {other}")),
    }?;
    let known = || (owner(session), Spec::new(m, &started.remote_addr));
    let proxy = Proxy {
        has_port,
        _online: shared.stats.online(&stats, known),
        up: Up::new(announced, &started.remote_addr),
        life: match started.life {
            Begun::Runs(cancel, life) => Life::Task(cancel, shared.tasks.spawn(life)),
            Begun::Held(claims) => Life::Held { _claims: claims },
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::balance::Balanced;
    use crate::vhost::http::pool::Pool;
    use crate::vhost::http::routes::{Route, Seat};

    /// Bytes of what each `http` proxy has, beside its group in the balancer and its names. One that rests has no task and
    /// no token.
    const BUDGET: usize = 640;

    #[test]
    fn a_proxy_that_rests_is_small() {
        let parts = [
            size_of::<Proxy>(),
            size_of::<Context>(),
            size_of::<ProxyStats>(),
            size_of::<Pool>(),
            size_of::<Balanced<Pool>>(),
            size_of::<Seat>(),
            size_of::<Route>(),
        ];
        assert!(parts.iter().sum::<usize>() <= BUDGET, "{parts:?}");
    }
}
