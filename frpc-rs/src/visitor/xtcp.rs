//! `xtcp` visitors (client.md §13.5): all users share one tunnel through a hole, which is made when there is somebody who needs it.

mod tokens;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frp_proto::auth::token_key;
use frp_proto::config::raw::client::XtcpVisitor;
use frp_proto::msg::{Message, NatHoleVisitor};
use frp_proto::net::{Conn, relay};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Visitor;
use super::users::{User, Users};
use crate::host;
use crate::nathole::tunnel::{self, Opener, Protocol};
use crate::nathole::{self, Name};
use crate::work::Context;
use tokens::Tokens;

/// A user waits for the tunnel no longer.
const USER_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether there is a tunnel.
const LOOK: Duration = Duration::from_millis(500);
/// At least this much lies between the starts of two attempts.
const PAUSE: Duration = Duration::from_secs(10);

/// Keys that only `xtcp` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    protocol: Protocol,
    /// The addresses of this host's interfaces may be tried.
    assisted: bool,
    keep_open: Option<KeepOpen>,
    /// Another visitor, for users who have waited so long.
    fallback: Option<(String, Duration)>,
}

/// Have a tunnel when nobody needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeepOpen {
    /// Between two looks whether there is one.
    interval: Duration,
    /// Attempts to make one; `None` = any number.
    retries_an_hour: Option<u32>,
}

impl Options {
    pub(super) fn new(c: &XtcpVisitor) -> Self {
        let positive =
            |n: i64, default: u64| u64::try_from(n).ok().filter(|n| *n > 0).unwrap_or(default);
        let traversal = c.nat_traversal.as_ref();
        Self {
            protocol: Protocol::from_name(&c.protocol),
            assisted: !traversal.is_some_and(|t| t.disable_assisted_addrs),
            keep_open: c.keep_tunnel_open.then(|| KeepOpen {
                interval: Duration::from_secs(positive(c.min_retry_interval, 90)),
                retries_an_hour: (c.max_retries_an_hour >= 0)
                    .then(|| u32::try_from(positive(c.max_retries_an_hour, 8)).unwrap_or(u32::MAX)),
            }),
            fallback: (!c.fallback_to.is_empty()).then(|| {
                let limit = Duration::from_millis(positive(c.fallback_timeout_ms, 1_000));
                (c.fallback_to.clone(), limit.min(USER_LIMIT))
            }),
        }
    }
}

/// Serves users until the visitor is told to end. Then the tunnel ends, too.
pub(super) async fn serve(
    context: &Arc<Context>,
    visitor: &Arc<Visitor>,
    options: &Options,
    mut users: Users,
    cancel: &CancellationToken,
) {
    let hub = Arc::new(Hub {
        context: context.clone(),
        visitor: visitor.clone(),
        options: options.clone(),
        tunnel: Mutex::default(),
        wanted: Notify::new(),
    });
    let accept = async {
        while let Some(user) = users.next().await {
            let name = hub.name();
            tracing::debug!(run_id = %name.run_id, proxy = %name.proxy, "get a new xtcp user connection");
            let (hub, tasks) = (hub.clone(), context.shared.tasks.clone());
            tasks.spawn(async move {
                let stop = hub.context.shared.stop.clone();
                stop.run_until_cancelled(visit(hub, user)).await;
            });
        }
    };
    let run = async { tokio::join!(accept, hub.make_tunnels(), hub.keep_open()) };
    cancel.run_until_cancelled(run).await;
    hub.close();
    let name = hub.name();
    tracing::info!(run_id = %name.run_id, proxy = %name.proxy, "xtcp visitor closed");
}

/// What the users of a visitor share.
struct Hub {
    context: Arc<Context>,
    visitor: Arc<Visitor>,
    options: Options,
    tunnel: Mutex<Slot>,
    /// Somebody needs a tunnel. Who makes them hears it only when idle.
    wanted: Notify,
}

#[derive(Default)]
struct Slot {
    tunnel: Option<Arc<Opener>>,
    /// The visitor has ended, and so does what comes in.
    closed: bool,
}

/// Why there is no stream.
enum NoStream {
    NoTunnel,
    /// There was one, which is gone now.
    Failed(std::io::Error),
}

impl Hub {
    fn name(&self) -> Name<'_> {
        Name {
            run_id: &self.context.run_id,
            proxy: &self.visitor.name,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Every change is one assignment: a panic elsewhere leaves it whole.
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut slot = self.slot();
        slot.closed = true;
        slot.tunnel = None;
    }

    /// A stream of the tunnel. Without one a tunnel is made. Cancel safe.
    async fn open(&self) -> Result<Conn, NoStream> {
        let tunnel = self.slot().tunnel.clone();
        let failure = match &tunnel {
            None => NoStream::NoTunnel,
            Some(tunnel) => match tunnel.open().await {
                Ok(stream) => return Ok(stream),
                Err(e) => NoStream::Failed(e),
            },
        };
        if let Some(failed) = tunnel {
            let mut slot = self.slot();
            if slot
                .tunnel
                .as_ref()
                .is_some_and(|t| Arc::ptr_eq(t, &failed))
            {
                slot.tunnel = None;
            }
        }
        self.wanted.notify_waiters();
        Err(failure)
    }

    /// A stream, as soon as there is one. Cancel safe.
    async fn stream(&self) -> Conn {
        loop {
            match self.open().await {
                Ok(stream) => return stream,
                Err(NoStream::NoTunnel) => {}
                Err(NoStream::Failed(e)) => {
                    let name = self.name();
                    tracing::warn!(run_id = %name.run_id, proxy = %name.proxy, "get tunnel connection error: {e}");
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Makes tunnels when they are wanted, for ever.
    async fn make_tunnels(&self) {
        let mut wanted = self.options.keep_open.is_some();
        loop {
            if !wanted {
                self.wanted.notified().await;
            }
            wanted = false;
            let next = Instant::now() + PAUSE;
            if let Err(e) = Box::pin(self.make_tunnel()).await {
                let name = self.name();
                tracing::warn!(run_id = %name.run_id, proxy = %name.proxy, "{e}");
            }
            sleep_until(next).await;
        }
    }

    /// One attempt. The error is the text of the log.
    async fn make_tunnel(&self) -> Result<(), String> {
        let (name, visitor) = (self.name(), &self.visitor);
        let (settings, exchanges) = (&self.context.shared.settings, &self.context.exchanges);
        let question = |transaction_id| {
            Message::NatHoleVisitor(NatHoleVisitor {
                transaction_id,
                proxy_name: visitor.target.clone(),
                pre_check: true,
                ..NatHoleVisitor::default()
            })
        };
        let allowed = exchanges.check(question).await;
        allowed.map_err(|e| format!("nathole precheck error: {e}"))?;
        let stun_server = &settings.nat_hole_stun_server;
        let prepared = nathole::prepare(name, stun_server, self.options.assisted).await?;
        let timestamp = host::unix_time();
        let question = |transaction_id| {
            Message::NatHoleVisitor(NatHoleVisitor {
                transaction_id,
                proxy_name: visitor.target.clone(),
                pre_check: false,
                protocol: self.options.protocol.name().into(),
                sign_key: token_key(&visitor.secret, timestamp),
                timestamp,
                mapped_addrs: prepared.mapped.clone(),
                assisted_addrs: prepared.assisted.clone(),
            })
        };
        let resp = exchanges.ask(question).await;
        let resp = resp.map_err(|e| format!("nathole exchange info error: {e}"))?;
        let hole = nathole::make_hole(name, prepared, &visitor.secret, &resp).await?;
        let options = tunnel::Options {
            protocol: self.options.protocol,
            quic: &settings.hole_quic,
            tasks: &self.context.shared.tasks,
        };
        let opener = Opener::new(hole, &options).await;
        let opener = opener.map_err(|e| format!("init tunnel session error: {e}"))?;
        let mut slot = self.slot();
        if !slot.closed {
            slot.tunnel = Some(Arc::new(opener));
        }
        Ok(())
    }

    /// Looks whether there is a tunnel, again and again, if that is wanted. Never ends.
    async fn keep_open(&self) {
        let Some(keep) = self.options.keep_open else {
            return std::future::pending().await;
        };
        let mut tokens = keep.retries_an_hour.map(|n| Tokens::new(n, Instant::now()));
        loop {
            sleep(keep.interval).await;
            // The other side hears of a stream that ends at once.
            if let Err(e) = self.open().await.map(drop) {
                let e = match e {
                    NoStream::NoTunnel => "no tunnel session available".into(),
                    NoStream::Failed(e) => e.to_string(),
                };
                let name = self.name();
                tracing::warn!(run_id = %name.run_id, proxy = %name.proxy, "keepTunnelOpenWorker get tunnel connection error: {e}");
                if let Some(tokens) = &mut tokens {
                    sleep_until(tokens.take(Instant::now())).await;
                }
            }
        }
    }
}

/// Joins one user with the proxy, or hands it over to another visitor. The connection ends with the tunnel.
async fn visit(hub: Arc<Hub>, user: User) {
    let fallback = hub.options.fallback.as_ref();
    let limit = fallback.map_or(USER_LIMIT, |(_, limit)| *limit);
    let Ok(stream) = timeout(limit, hub.stream()).await else {
        let name = hub.name();
        tracing::error!(run_id = %name.run_id, proxy = %name.proxy, "open tunnel error: open tunnel timeout");
        let Some((to, _)) = fallback else {
            return user.refuse("open tunnel timeout");
        };
        tracing::debug!(run_id = %name.run_id, proxy = %name.proxy, "try to transfer connection to visitor: {to}");
        if let Err(e) = hub.context.visitors.hand_over(to, user) {
            tracing::error!(run_id = %name.run_id, proxy = %name.proxy, "transfer connection to visitor {to} error: {e}");
        }
        return;
    };
    let visitor = &hub.visitor;
    let stream = stream.layered(visitor.key.as_ref(), visitor.use_compression);
    let (run_id, name) = (hub.context.run_id.clone(), visitor.name.clone());
    // Neither the session nor the tunnel has to wait for this user.
    drop(hub);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections");
    let outcome = relay::relay(user.conn, stream).await;
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections closed");
    if let Some((_, e)) = outcome.error {
        tracing::trace!(run_id = %run_id, proxy = %name, "join connections errors: [{e}]");
    }
}
