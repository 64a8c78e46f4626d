//! The user side of `tcp` proxies (server.md §4): accept, get a work connection, relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::msg::{Message, io};
use frp_proto::net::{Conn, listen, relay};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::ports::PortClaim;
use crate::session::pool::WorkConn;

/// For handing `StartWorkConn` to a work connection; one that takes longer is dead.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Accepts users until the proxy is closed, then gives the port back.
pub(super) async fn serve(
    context: Arc<Context>,
    listener: TcpListener,
    port: PortClaim,
    cancel: CancellationToken,
) {
    let accept = async {
        loop {
            match listen::accept(&listener).await {
                Ok((user, peer)) => {
                    let context = context.clone();
                    context
                        .shared
                        .tasks
                        .clone()
                        .spawn(connect(context, user, peer));
                }
                Err(e) => {
                    tracing::warn!(run_id = %context.session.run_id, proxy = %context.name, "listener is closed: {e}");
                    return;
                }
            }
        }
    };
    cancel.run_until_cancelled(accept).await;
    drop(listener);
    drop(port);
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
}

/// Finds a work connection for one user and joins the two.
async fn connect(context: Arc<Context>, user: TcpStream, peer: SocketAddr) {
    let (run_id, name) = (&context.session.run_id, &context.name);
    tracing::info!(run_id = %run_id, proxy = %name, "get a user connection [{peer}]");
    let Some(work) = Box::pin(work_conn(&context, &user, peer)).await else {
        return;
    };
    let settings = &context.shared.settings;
    if let Err(e) = listen::set_options(&user, settings.tcp_keepalive) {
        tracing::debug!(run_id = %run_id, proxy = %name, "socket options of user connection [{peer}]: {e}");
    }
    let key = context
        .use_encryption
        .then_some(&context.shared.payload_key);
    let work = work.conn.layered(key, context.use_compression);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections, userConn([{peer}])");
    let stop = context.shared.stop.clone();
    let joined = relay::relay(Conn::Tcp(user), work);
    if let Some(outcome) = stop.run_until_cancelled(joined).await {
        tracing::debug!(
            run_id = %run_id, proxy = %name,
            "join connections closed, in {} bytes, out {} bytes", outcome.a_to_b, outcome.b_to_a
        );
    }
}

/// A work connection that has been told what it is for. Pooled ones that turn out dead are replaced.
async fn work_conn(context: &Context, user: &TcpStream, peer: SocketAddr) -> Option<WorkConn> {
    let (session, name) = (&context.session, &context.name);
    let mut start = context.start();
    (start.src_addr, start.src_port) = (peer.ip().to_string(), peer.port());
    if let Ok(local) = user.local_addr() {
        (start.dst_addr, start.dst_port) = (local.ip().to_canonical().to_string(), local.port());
    }
    let start = Message::StartWorkConn(start);
    for attempt in 0..=session.pool_count {
        let mut work = match session
            .work_conn(context.shared.settings.user_conn_timeout)
            .await
        {
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
            Ok(Ok(())) => return Some(work),
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
