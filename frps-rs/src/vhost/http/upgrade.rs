//! From HTTP to a plain byte stream (server.md §7.6, §7.7): WebSocket, any other protocol, and CONNECT.

use balancer::Outcome;
use frp_proto::net::replay::Replay;
use frp_proto::net::{Conn, relay};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::io::UserIo;
use super::pool::Pool;
use crate::Shared;
use crate::balance::Usage;
use crate::proxy::Lifeline;
use crate::records::Exchange;
use crate::stats::{Counted, Tally};

/// Joins the connections of both ends when the heads of the exchange have been sent. What either end has sent ahead is not lost.
///
/// The exchange is over when they are.
pub(super) fn join(
    shared: &Shared,
    line: Lifeline,
    usage: Usage<Pool>,
    mut exchange: Option<Exchange>,
    user: OnUpgrade,
    backend: OnUpgrade,
) {
    let joined = async move {
        let Ok((user, backend)) = tokio::try_join!(user, backend) else {
            return;
        };
        let (Some(user), Some(backend)) = (user_conn(user), backend_conn(backend)) else {
            return;
        };
        let mut tally = backend.tally;
        let outcome = relay::relay(user, backend.conn).await;
        let behind = outcome.b_to_a.saturating_sub(backend.ahead);
        tally.add(outcome.a_to_b, behind);
        if let Some(exchange) = &mut exchange {
            exchange.add(outcome.a_to_b, outcome.b_to_a);
            exchange.complete();
        }
        tracing::debug!(
            "join connections closed, in {} bytes, out {} bytes",
            outcome.a_to_b,
            outcome.b_to_a
        );
    };
    let usage = usage.into_stream();
    shared.tasks.spawn(async move {
        line.token().run_until_cancelled(joined).await;
        usage.finish(Outcome::Ok);
    });
}

fn user_conn(upgraded: Upgraded) -> Option<Conn> {
    let parts = upgraded.downcast::<TokioIo<UserIo>>().ok()?;
    let io = parts.io.into_inner().into_inner();
    Some(io.unread(parts.read_buf).into_conn())
}

/// A backend's connection that no longer speaks HTTP.
struct Backend {
    conn: Conn,
    tally: Tally,
    /// Bytes that have been read already and count as that, though `conn` gives them again.
    ahead: u64,
}

fn backend_conn(upgraded: Upgraded) -> Option<Backend> {
    let parts = upgraded.downcast::<TokioIo<Counted>>().ok()?;
    let (conn, tally) = parts.io.into_inner().into_parts();
    let ahead = parts.read_buf.len() as u64;
    let conn = Replay::new(parts.read_buf, conn).into_conn();
    Some(Backend { conn, tally, ahead })
}
