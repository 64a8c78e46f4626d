//! Work connections (client.md §5): opened at the server's request, idle until a user comes, then joined with the local
//! service of the user's proxy.

use std::sync::Arc;
use std::time::Duration;

use frp_proto::msg::{Message, NewWorkConn, StartWorkConn, handshake, io};
use frp_proto::net::Conn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::connector::Link;
use crate::nathole::Exchanges;
use crate::proxy::Proxy;
use crate::visitor;

/// Work connections of a session that may be without a user at a time: more than any burst of users an frps can have
/// asked for while they wait, and few enough for the memory of a small machine.
const MAX_IDLE: usize = 8_192;
/// For the first message.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What the work connections and visitors of one session share.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run_id: Arc<str>,
    pub(crate) link: Link,
    pub(crate) visitors: visitor::manager::Manager,
    pub(crate) exchanges: Arc<Exchanges>,
    /// Cancelled when the session has ended: who has no user yet ends too.
    pub(crate) ended: CancellationToken,
    idle: Arc<Semaphore>,
}

impl Context {
    pub(crate) fn new(
        shared: Arc<Shared>,
        run_id: Arc<str>,
        link: Link,
        ended: CancellationToken,
    ) -> Self {
        Self {
            shared,
            run_id,
            link,
            visitors: visitor::manager::Manager::default(),
            exchanges: Arc::default(),
            ended,
            idle: Arc::new(Semaphore::new(MAX_IDLE)),
        }
    }
}

/// Answers one request of the server with a task of its own.
pub(crate) fn start(context: &Arc<Context>) {
    let Ok(permit) = context.idle.clone().try_acquire_owned() else {
        tracing::warn!(run_id = %context.run_id, "{MAX_IDLE} work connections wait for users, request for one more ignored");
        return;
    };
    let tasks = &context.shared.tasks;
    tasks.spawn(run(context.clone(), permit));
}

/// The life of one work connection. While it is idle this future is all that it costs here, so what is large is boxed.
async fn run(context: Arc<Context>, idle: OwnedSemaphorePermit) {
    let assigned = context.ended.run_until_cancelled(assigned(&context)).await;
    let Some(Some((proxy, work, start))) = assigned else {
        return;
    };
    drop(idle);
    // From here on the connection may outlive its session.
    let (shared, run_id) = (context.shared.clone(), context.run_id.clone());
    let exchanges = context.exchanges.clone();
    drop(context);
    let serve = proxy.serve(&shared, &run_id, &exchanges, work, &start);
    shared.stop.run_until_cancelled(Box::pin(serve)).await;
}

/// Opens the connection and waits, without a limit, for a user.
async fn assigned(context: &Context) -> Option<(Arc<Proxy>, Conn, Box<StartWorkConn>)> {
    let run_id = &context.run_id;
    let opened = Box::pin(open(context)).await;
    context.shared.metrics.work_conn(opened.is_some());
    let mut work = opened?;
    let start = match io::read_message(&mut work, context.shared.settings.wire_version).await {
        Ok(Some(Message::StartWorkConn(start))) => Box::new(start),
        Ok(other) => {
            let name = other.map_or("null", |m| m.name());
            tracing::debug!(run_id = %run_id, "work connection closed: unexpected message type {name}, want StartWorkConn");
            return None;
        }
        Err(e) => {
            tracing::trace!(run_id = %run_id, "work connection closed before response StartWorkConn message: {e}");
            return None;
        }
    };
    if !start.error.is_empty() {
        tracing::error!(run_id = %run_id, "StartWorkConn contains error: {}", start.error);
        return None;
    }
    let proxy = context
        .shared
        .with_proxies(|m| m.running(&start.proxy_name))?;
    tracing::debug!(run_id = %run_id, proxy = %proxy.name, "start a new work connection");
    Some((proxy, work, start))
}

/// A new connection that frps knows as this session's.
async fn open(context: &Context) -> Option<Conn> {
    let (shared, run_id) = (&context.shared, &context.run_id);
    let mut hello = NewWorkConn {
        run_id: run_id.to_string(),
        ..NewWorkConn::default()
    };
    if shared.settings.scopes.new_work_conns {
        match shared.auth.later().await {
            Ok((timestamp, key)) => (hello.timestamp, hello.privilege_key) = (timestamp, key),
            Err(e) => {
                tracing::warn!(run_id = %run_id, "error during NewWorkConn authentication: {e}");
                return None;
            }
        }
    }
    let mut work = match context.link.connect().await {
        Ok(work) => work,
        Err(e) => {
            tracing::warn!(run_id = %run_id, "start new connection to server error: {e}");
            return None;
        }
    };
    let hello = Message::NewWorkConn(hello);
    let written = handshake::open(&mut work, shared.settings.wire_version, &hello);
    let error = match timeout(WRITE_LIMIT, written).await {
        Ok(Ok(())) => return Some(work),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "i/o timeout".into(),
    };
    tracing::warn!(run_id = %run_id, "work connection write to server error: {error}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of an idle connection's future.
    const IDLE_BUDGET: usize = 1_024;

    #[test]
    fn an_idle_connection_is_small() {
        fn size<F: Future>(_: impl FnOnce(Arc<Context>, OwnedSemaphorePermit) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(run);
        assert!(size <= IDLE_BUDGET, "{size} bytes");
    }
}
