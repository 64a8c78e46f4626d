//! `stcp` visitors (client.md §13.3): every user has a connection of its own to the proxy.

use std::sync::Arc;

use frp_proto::net::{Conn, listen, relay};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Visitor;
use crate::work::Context;

/// Idle seconds before keepalive probes to users.
const KEEPALIVE_SECS: i64 = 15;

/// Binds the visitor's port.
pub(super) async fn listen(visitor: &Visitor) -> Result<TcpListener, String> {
    let port = u16::try_from(visitor.bind_port)
        .map_err(|_| format!("listen tcp: address {}: invalid port", visitor.bind_port))?;
    let listener = listen::bind(&visitor.bind_addr, port).await;
    listener.map_err(|e| e.to_string())
}

/// Accepts users until the visitor is told to end. Those who are there stay.
pub(super) async fn serve(
    context: &Arc<Context>,
    visitor: &Arc<Visitor>,
    listener: TcpListener,
    cancel: &CancellationToken,
) {
    let (run_id, name) = (&context.run_id, &visitor.name);
    while let Some(Ok((user, _))) = cancel.run_until_cancelled(listen::accept(&listener)).await {
        if let Err(e) = listen::set_options(&user, KEEPALIVE_SECS) {
            tracing::debug!(run_id = %run_id, proxy = %name, "socket options of a user connection: {e}");
        }
        tracing::debug!(run_id = %run_id, proxy = %name, "get a new stcp user connection");
        let (context, visitor) = (context.clone(), visitor.clone());
        context.shared.tasks.clone().spawn(async move {
            let stop = context.shared.stop.clone();
            let visit = visit(context, &visitor, Conn::Tcp(user));
            stop.run_until_cancelled(visit).await;
        });
    }
    tracing::warn!(run_id = %run_id, proxy = %name, "stcp local listener closed");
}

/// Joins one user with the proxy. The connection may outlive the session.
async fn visit(context: Arc<Context>, visitor: &Visitor, user: Conn) {
    let (run_id, name) = (context.run_id.clone(), &visitor.name);
    let conn = match Box::pin(visitor.dial(&context)).await {
        Ok(conn) => conn,
        Err(e) => {
            tracing::warn!(run_id = %run_id, proxy = %name, "dialRawVisitorConn error: {e}");
            return;
        }
    };
    drop(context);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections");
    let outcome = relay::relay(user, conn).await;
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections closed");
    if let Some((_, e)) = outcome.error {
        tracing::trace!(run_id = %run_id, proxy = %name, "join connections errors: [{e}]");
    }
}
