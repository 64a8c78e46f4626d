//! Connections to the backend of one proxy (server.md §7.8): each is a work connection that speaks HTTP/1.1 and is used again
//! as long as both ends want it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balancer::{CheckConfig, NoMember};
use frp_proto::msg::Verdict;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::body::Upload;
use super::forward::Failure;
use crate::balance::{Balanced, Endpoint, Offer};
use crate::proxy::connect::{self, Ends};
use crate::proxy::{Context, Lifeline};
use crate::stats::Counted;

/// How long a connection may wait for the next request.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// How many connections wait that long: each may hold a worker of the backend.
const KEPT: usize = 5;
/// How long the others wait. A busy proxy needs as many as it has requests at a time, and only as long as it is busy.
const SURPLUS_LIMIT: Duration = Duration::from_secs(2);
/// How many may wait at a time, for however short: each costs a stream and a descriptor at the client.
const MAX_IDLE: usize = 1024;
/// How often the limits are looked after while connections wait.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// A connection whose last exchange is over, yet not ready for another within this time, is not waited for.
const READY_LIMIT: Duration = Duration::from_millis(100);

/// One `http` proxy as a backend.
pub(crate) struct Pool {
    context: Arc<Context>,
    state: Mutex<State>,
}

struct State {
    open: bool,
    /// A task looks after those that wait.
    swept: bool,
    /// Who waits longest comes first, since the last one is taken.
    idle: Vec<Idle>,
}

struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// A connection while it serves a request. Dropping it closes the connection.
pub(super) struct Lease {
    pool: Arc<Pool>,
    pub(super) sender: SendRequest<Upload>,
    /// What the client says of its dial, if it was asked and has not been heard.
    verdict: Option<oneshot::Receiver<Verdict>>,
}

/// How a new connection is made.
#[derive(Clone)]
pub(super) struct Dialing {
    /// Whose users wait, where they are counted.
    pub(super) group: Option<Arc<Balanced<Pool>>>,
    /// How long to wait for a work connection.
    pub(super) limit: Duration,
    /// Whether the client is to say, if it can, how its dial of the service went.
    pub(super) asks: bool,
}

impl Lease {
    /// Waits until it is known whether the service can be reached; whether it can, or nobody says.
    pub(super) async fn is_reached(&mut self) -> bool {
        let Some(verdict) = self.verdict.take() else {
            return true;
        };
        verdict.await != Ok(Verdict::Refused)
    }

    /// Whether the client has said that it cannot reach the service.
    pub(super) fn was_refused(&mut self) -> bool {
        let verdict = self.verdict.as_mut().map(oneshot::Receiver::try_recv);
        verdict == Some(Ok(Verdict::Refused))
    }

    /// The exchange is over.
    pub(super) fn give_back(self) {
        if !self.sender.is_closed() {
            self.pool.park(self.sender);
        }
    }
}

impl Pool {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            state: Mutex::new(State {
                open: true,
                swept: false,
                idle: Vec::new(),
            }),
        }
    }

    /// The proxy.
    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the proxy says about balancing.
    pub(super) fn offer(&self) -> &Offer {
        &self.context.offer
    }

    /// Of an exchange that turns into a stream now.
    pub(super) fn lifeline(&self) -> Lifeline {
        Lifeline::new(&self.context)
    }

    /// The proxy's name, for logs.
    pub(super) fn name(&self) -> &str {
        &self.context.name
    }

    /// A connection that has served before, if one is left that still lives.
    pub(super) async fn reuse(self: &Arc<Self>) -> Option<Lease> {
        loop {
            let mut sender = self.lock().idle.pop()?.sender;
            if let Ok(Ok(())) = timeout(READY_LIMIT, sender.ready()).await {
                return Some(self.lease(sender, None));
            }
        }
    }

    fn lease(
        self: &Arc<Self>,
        sender: SendRequest<Upload>,
        verdict: Option<oneshot::Receiver<Verdict>>,
    ) -> Lease {
        Lease {
            pool: self.clone(),
            sender,
            verdict,
        }
    }

    /// Whether the client can say how its dial of the service went.
    pub(super) fn gives_verdicts(&self) -> bool {
        self.context.verdicts
    }

    /// A new connection on behalf of `user`.
    pub(super) async fn dial(
        self: &Arc<Self>,
        user: SocketAddr,
        Dialing { limit, asks, group }: Dialing,
    ) -> Result<Lease, Failure> {
        let full = Failure::Unavailable(NoMember::Full);
        let _pending = match &group {
            Some(group) => Some(group.wait().ok_or(full)?),
            None => None,
        };
        let ends = Ends {
            src: Some(user),
            dst: None,
        };
        let asks = asks && self.gives_verdicts();
        let work = Box::pin(connect::open_within(&self.context, ends, limit, asks)).await;
        let work = work.ok_or(Failure::NoWorkConn)?;
        let (tell, verdict) = asks.then(oneshot::channel).unzip();
        let work = Counted::new(work, self.context.tally(), tell);
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .handshake(TokioIo::new(work))
            .await
            .map_err(Failure::Backend)?;
        let shared = &self.context.shared;
        let stop = shared.stop.clone();
        shared.tasks.spawn(async move {
            if let Some(Err(e)) = stop.run_until_cancelled(connection.with_upgrades()).await {
                tracing::debug!("connection to a backend: {e}");
            }
        });
        Ok(self.lease(sender, verdict))
    }

    fn park(self: &Arc<Self>, sender: SendRequest<Upload>) {
        let mut state = self.lock();
        if !state.open || state.idle.len() >= MAX_IDLE {
            return;
        }
        let since = Instant::now();
        state.idle.push(Idle { sender, since });
        if !std::mem::replace(&mut state.swept, true) {
            drop(state);
            self.look_after();
        }
    }

    /// Closes connections that have waited too long, as long as any waits: most proxies have none.
    fn look_after(self: &Arc<Self>) {
        let (pool, shared) = (Arc::downgrade(self), &self.context.shared);
        let sweep = async move {
            loop {
                sleep(SWEEP_PERIOD).await;
                if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
                    return;
                }
            }
        };
        let stop = shared.stop.clone();
        shared.tasks.spawn(stop.run_until_cancelled_owned(sweep));
    }

    /// Closes all that wait, and those that are in use when they come back.
    pub(crate) fn close(&self) {
        let idle = {
            let mut state = self.lock();
            state.open = false;
            std::mem::take(&mut state.idle)
        };
        drop(idle);
    }

    /// Whether connections are left; if none is, nobody looks after them any more.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        state.idle.retain(|idle| !idle.sender.is_closed());
        let gone = overdue(&state.idle, |idle| now.duration_since(idle.since));
        state.idle.drain(..gone);
        state.swept = !state.idle.is_empty();
        state.swept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint for Pool {
    fn check(self: Arc<Self>, check: CheckConfig) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        self.context.clone().check(check)
    }

    fn is(&self, context: &Context) -> bool {
        self.context.is(context)
    }

    fn cut(&self) {
        self.context.cut();
    }

    fn open(&self) -> u32 {
        self.context.open()
    }

    fn end_oldest(&self) {
        self.context.end_oldest();
    }
}

/// How many have waited too long; who waits longest comes first.
fn overdue<T>(idle: &[T], waited: impl Fn(&T) -> Duration) -> usize {
    let at_least = |limit| idle.partition_point(|idle| waited(idle) >= limit);
    let surplus = at_least(SURPLUS_LIMIT).saturating_sub(KEPT);
    surplus.max(at_least(IDLE_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wait_long_and_many_only_as_long_as_they_are_needed() {
        let overdue = |seconds: &[u64]| overdue(seconds, |s| Duration::from_secs(*s));
        assert_eq!(overdue(&[]), 0);
        assert_eq!(overdue(&[59, 59, 58, 30, 2]), 0);
        assert_eq!(overdue(&[60, 60, 59]), 2);
        assert_eq!(overdue(&[9, 9, 8, 7, 6, 5, 2, 1, 0]), 2);
        assert_eq!(overdue(&[60, 9, 8, 7, 6, 5, 4, 1]), 2);
        assert_eq!(overdue(&[1; 100]), 0);
    }
}
