//! From a user to a work connection of a proxy's client (server.md §4): ask for one, say what it is for, join the two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::Outcome;
use bytes::Bytes;
use frp_proto::msg::{Message, StartWorkConn, io};
use frp_proto::net::relay::Side;
use frp_proto::net::{Conn, listen, relay};
use frp_proto::plugin::NewUserConn;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Context, Lifeline};
use crate::Shared;
use crate::balance::watch::{self, How, Watched};
use crate::balance::{Stage, Turn, Usage};
use crate::metrics::Failure;
use crate::records::Connection;
use crate::session::pool::WorkConn;

/// For handing `StartWorkConn` to a work connection; one that takes longer is dead.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Both ends of a user connection, as the client is told; absent where there is no address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    /// The user's.
    pub(crate) src: Option<SocketAddr>,
    /// Where the user connected to.
    pub(crate) dst: Option<SocketAddr>,
}

impl Ends {
    /// Those of an accepted socket.
    pub(crate) fn of(user: &TcpStream, peer: SocketAddr) -> Self {
        Self {
            src: Some(peer),
            dst: user.local_addr().ok(),
        }
    }

    /// The user, for logs.
    fn name(&self) -> String {
        self.src.map_or_else(|| "pipe".into(), |a| a.to_string())
    }

    fn tell(&self, start: &mut StartWorkConn) {
        if let Some(src) = self.src {
            (start.src_addr, start.src_port) = (src.ip().to_canonical().to_string(), src.port());
        }
        if let Some(dst) = self.dst {
            (start.dst_addr, start.dst_port) = (dst.ip().to_canonical().to_string(), dst.port());
        }
    }
}

/// Serves one user who came over TCP and has been given a turn. When a member cannot take it, another one does.
/// `head` is what has been read from the user already and belongs to the payload.
pub(crate) async fn serve_turn(
    shared: &Shared,
    turn: Turn<Context>,
    user: TcpStream,
    ends: Ends,
    head: Bytes,
) {
    // The way there needs much more memory than what lasts.
    let Some(joint) = Box::pin(begin(shared, turn, user, ends, head)).await else {
        return;
    };
    let Joint {
        usage,
        context,
        user,
        user_addr,
        began,
        work,
        ahead,
    } = joint;
    let mut record = Connection::new(&context, &user_addr, began);
    let line = Lifeline::new(&context);
    relayed(&mut record, user, work, ahead, line.token()).await;
    drop(line);
    usage.finish(Outcome::Ok);
}

/// A user and the work connection of a member.
struct Joint {
    usage: Usage<Context>,
    context: Arc<Context>,
    user: Conn,
    user_addr: String,
    began: Instant,
    work: Conn,
    /// Bytes that have been handed over already.
    ahead: usize,
}

/// Finds a member that takes the user.
async fn begin(
    shared: &Shared,
    mut turn: Turn<Context>,
    user: TcpStream,
    ends: Ends,
    head: Bytes,
) -> Option<Joint> {
    if let Err(e) = listen::set_options(&user, shared.now().settings.tcp_keepalive) {
        tracing::debug!("socket options of a user connection: {e}");
    }
    let mut user = Conn::Tcp(user);
    let user_addr = ends.name();
    loop {
        let (context, began) = (turn.endpoint().clone(), Instant::now());
        let failed = |failure| {
            Connection::new(&context, &user_addr, began).ended(Some(failure));
        };
        if !greet(&context, &user_addr).await {
            failed(Failure::Rejected);
            return None;
        }
        let Some(pending) = turn.group().wait() else {
            failed(Failure::NoWorkConn);
            return None;
        };
        let limit = turn.patience(user_conn_timeout(shared));
        let asks = context.verdicts && turn.may_fail_over();
        let Some(mut work) = open_within(&context, ends, limit, asks).await else {
            failed(Failure::NoWorkConn);
            if turn.again(Stage::A, Outcome::Local) {
                continue;
            }
            return None;
        };
        drop(pending);
        if !write_head(&context, &mut work, &head).await {
            failed(Failure::Backend);
            if turn.asked().safe && turn.again(Stage::B, Outcome::Local) {
                continue;
            }
            turn.into_usage().finish(Outcome::Local);
            return None;
        }
        let mut outcome = Outcome::Ok;
        if turn.is_watched() || asks {
            let until = watch::Until {
                verdict: asks,
                answer: turn.is_watched(),
            };
            let cut = context.cut_token();
            let watched = cut
                .run_until_cancelled(watch::begin(user, work, until))
                .await;
            let how;
            Watched { user, work, how } = watched?;
            let stage = match how {
                How::Answered | How::Over => None,
                How::Refused => Some(Stage::A),
                How::Failed { silent } => {
                    let may_repeat = silent && (head.is_empty() || turn.asked().safe);
                    outcome = Outcome::Local;
                    may_repeat.then_some(Stage::B)
                }
            };
            if let Some(stage) = stage {
                if turn.again(stage, Outcome::Local) {
                    failed(Failure::Backend);
                    continue;
                }
                outcome = Outcome::Local;
            }
        }
        let mut usage = turn.into_usage();
        usage.first_byte(outcome);
        return Some(Joint {
            usage,
            context,
            user,
            user_addr,
            began,
            work,
            ahead: head.len(),
        });
    }
}

/// Serves one user until both directions have ended, or the server stops. `head` as in [`serve_turn`].
pub(crate) async fn serve(context: &Context, user: Conn, ends: Ends, head: Bytes) {
    let user_addr = ends.name();
    let mut record = Connection::new(context, &user_addr, Instant::now());
    if !greet(context, &user_addr).await {
        return record.ended(Some(Failure::Rejected));
    }
    let Some(mut work) = Box::pin(open(context, ends)).await else {
        return record.ended(Some(Failure::NoWorkConn));
    };
    if !write_head(context, &mut work, &head).await {
        return record.ended(Some(Failure::Backend));
    }
    let ahead = head.len();
    drop(head);
    relayed(&mut record, user, work, ahead, &context.cut_token()).await;
}

/// Says that a user is there, and whether plugins let it in.
async fn greet(context: &Context, user_addr: &str) -> bool {
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "get a user connection [{user_addr}]");
    admit(context, user_addr).await
}

/// Hands over what has been read ahead; whether that worked.
async fn write_head(context: &Context, work: &mut Conn, head: &Bytes) -> bool {
    if head.is_empty() {
        return true;
    }
    let written = work.write_all(head).await;
    if let Err(e) = &written {
        tracing::debug!(run_id = %context.session.run_id, proxy = %context.name, "work connection: {e}");
    }
    written.is_ok()
}

/// Joins a user and a work connection until both directions have ended, or `cut` is cancelled. `ahead`: how many bytes have
/// been handed over already.
async fn relayed(
    record: &mut Connection<'_>,
    user: Conn,
    work: Conn,
    ahead: usize,
    cut: &CancellationToken,
) {
    let context = record.context();
    let (run_id, name) = (&context.session.run_id, &context.name);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections, userConn([{}])", record.user());
    let mut tally = context.tally();
    tally.add(ahead as u64, 0);
    record.add(ahead as u64, 0);
    // As `run_until_cancelled`, which keeps room for the future twice.
    let outcome = tokio::select! {
        biased;
        outcome = relay::relay(user, work) => Some(outcome),
        () = cut.cancelled() => None,
    };
    if let Some(outcome) = outcome {
        tally.add(outcome.a_to_b, outcome.b_to_a);
        record.add(outcome.a_to_b, outcome.b_to_a);
        record.ended(outcome.error.as_ref().map(|(side, _)| match side {
            Side::A => Failure::User,
            Side::B => Failure::Backend,
        }));
        tracing::debug!(
            run_id = %run_id, proxy = %name,
            "join connections closed, in {} bytes, out {} bytes", outcome.a_to_b, outcome.b_to_a
        );
    }
}

/// Whether plugins let this user in.
pub(crate) async fn admit(context: &Context, user_addr: &str) -> bool {
    let user = || NewUserConn {
        proxy_name: context.name.to_string(),
        proxy_type: context.kind.to_string(),
        remote_addr: user_addr.to_owned(),
    };
    let (session, plugins) = (&context.session, &context.shared.plugins);
    match plugins.new_user_conn(session, user).await {
        Ok(()) => true,
        Err(e) => {
            tracing::warn!(run_id = %session.run_id, proxy = %context.name, "the user conn [{user_addr}] was rejected, err:{e}");
            false
        }
    }
}

/// How long a user waits for a work connection.
fn user_conn_timeout(shared: &Shared) -> Duration {
    shared.now().settings.user_conn_timeout
}

/// A work connection of the proxy's client that has been told what it is for, with the proxy's layers on; it carries
/// payload. `None` when there is none in time, which has been logged.
pub(crate) async fn open(context: &Context, ends: Ends) -> Option<Conn> {
    open_within(context, ends, user_conn_timeout(&context.shared), false).await
}

/// As [`open`], but waits no longer than `limit`. `verdict`: the client is asked to say first how its dial went.
pub(crate) async fn open_within(
    context: &Context,
    ends: Ends,
    limit: Duration,
    verdict: bool,
) -> Option<Conn> {
    let work = work_conn(context, ends, limit, verdict).await?;
    let key = context
        .use_encryption
        .then_some(&context.session.credentials.payload_key);
    let conn = work.conn.layered(key, context.use_compression);
    Some(conn.limited(context.limiter.as_ref()))
}

/// Says something to the proxy's client over a work connection of its own. If there is none, which has been logged, it is not
/// said.
pub(crate) async fn announce(context: &Context, message: &Message) {
    let limit = user_conn_timeout(&context.shared);
    let Some(mut work) = work_conn(context, Ends::default(), limit, false).await else {
        return;
    };
    let said = async {
        io::write_message(&mut work.conn, work.version, message).await?;
        work.conn.shutdown().await?;
        Ok::<_, io::MsgError>(())
    };
    match tokio::time::timeout(START_LIMIT, said).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => {
            tracing::warn!(run_id = %context.session.run_id, proxy = %context.name, "write {} to work connection error: {e}", message.name());
        }
        Err(_) => {
            tracing::warn!(run_id = %context.session.run_id, proxy = %context.name, "write {} to work connection error: i/o timeout", message.name());
        }
    }
}

/// A work connection that has been told what it is for. Pooled ones that turn out dead are replaced.
async fn work_conn(
    context: &Context,
    ends: Ends,
    limit: Duration,
    verdict: bool,
) -> Option<WorkConn> {
    let (session, name) = (&context.session, &context.name);
    let began = Instant::now();
    let mut start = context.start();
    ends.tell(&mut start);
    start.dial_verdict = verdict;
    let start = Message::StartWorkConn(start);
    for attempt in 0..=session.pool_count {
        let mut work = match session.work_conn(limit).await {
            Ok(work) => work,
            Err(e) => {
                tracing::warn!(run_id = %session.run_id, proxy = %name, "failed to get work connection: {e}");
                return None;
            }
        };
        let sent = tokio::time::timeout(
            START_LIMIT,
            io::write_message(&mut work.conn, work.version, &start),
        )
        .await;
        match sent {
            Ok(Ok(())) => {
                context.metrics.waited(began.elapsed());
                return Some(work);
            }
            Ok(Err(e)) => tracing::warn!(
                run_id = %session.run_id, proxy = %name,
                "failed to send message to work connection from pool: {e}, times: {attempt}"
            ),
            Err(_) => tracing::warn!(
                run_id = %session.run_id, proxy = %name,
                "failed to send message to work connection from pool: write timeout, times: {attempt}"
            ),
        }
    }
    tracing::error!(run_id = %session.run_id, proxy = %name, "try to get work connection failed in the end");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a served user's future.
    const BUDGET: usize = 1_400;

    #[test]
    fn a_served_user_is_small() {
        fn size<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(serve_turn);
        assert!(size <= BUDGET, "{size} bytes");
    }
}
