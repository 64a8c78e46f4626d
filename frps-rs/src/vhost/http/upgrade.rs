//! From HTTP to a plain byte stream (server.md §7.6, §7.7): WebSocket, any other protocol, and CONNECT.

use std::sync::Arc;

use frp_proto::net::{Conn, relay};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::io::{Prefixed, UserIo};
use crate::Shared;

/// Joins the connections of both ends when the heads of the exchange have been sent. What either end has sent ahead is not lost.
pub(super) fn join(shared: &Arc<Shared>, user: OnUpgrade, backend: OnUpgrade) {
    let stop = shared.stop.clone();
    let joined = async move {
        let Ok((user, backend)) = tokio::try_join!(user, backend) else {
            return;
        };
        let (Some(user), Some(backend)) = (user_conn(user), backend_conn(backend)) else {
            return;
        };
        let outcome = relay::relay(user, backend).await;
        tracing::debug!(
            "join connections closed, in {} bytes, out {} bytes",
            outcome.a_to_b,
            outcome.b_to_a
        );
    };
    shared.tasks.spawn(async move {
        stop.run_until_cancelled(joined).await;
    });
}

fn user_conn(upgraded: Upgraded) -> Option<Conn> {
    let parts = upgraded.downcast::<TokioIo<UserIo>>().ok()?;
    let io = parts.io.into_inner().into_inner();
    Some(io.into_conn(parts.read_buf))
}

fn backend_conn(upgraded: Upgraded) -> Option<Conn> {
    let parts = upgraded.downcast::<TokioIo<Conn>>().ok()?;
    Some(Prefixed::new(parts.read_buf, parts.io.into_inner()).into_conn(bytes::Bytes::new()))
}
