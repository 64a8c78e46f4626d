//! `stcp` visitors (client.md §13.3): every user has a connection of its own to the proxy.

use std::sync::Arc;

use frp_proto::net::relay;
use tokio_util::sync::CancellationToken;

use super::Visitor;
use super::users::{User, Users};
use crate::work::Context;

/// Accepts users until the visitor is told to end. Those who are there stay.
pub(super) async fn serve(
    context: &Arc<Context>,
    visitor: &Arc<Visitor>,
    mut users: Users,
    cancel: &CancellationToken,
) {
    let (run_id, name) = (&context.run_id, &visitor.name);
    while let Some(Some(user)) = cancel.run_until_cancelled(users.next()).await {
        tracing::debug!(run_id = %run_id, proxy = %name, "get a new stcp user connection");
        let (context, visitor) = (context.clone(), visitor.clone());
        context.shared.tasks.clone().spawn(async move {
            let stop = context.shared.stop.clone();
            let visit = visit(context, &visitor, user);
            stop.run_until_cancelled(visit).await;
        });
    }
    tracing::warn!(run_id = %run_id, proxy = %name, "stcp local listener closed");
}

/// Joins one user with the proxy. The connection may outlive the session.
async fn visit(context: Arc<Context>, visitor: &Visitor, user: User) {
    let (run_id, name) = (context.run_id.clone(), &visitor.name);
    let conn = match Box::pin(visitor.dial(&context)).await {
        Ok(conn) => conn,
        Err(e) => {
            tracing::warn!(run_id = %run_id, proxy = %name, "dialRawVisitorConn error: {e}");
            return user.refuse(&e);
        }
    };
    drop(context);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections");
    let outcome = relay::relay(user.conn, conn).await;
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections closed");
    if let Some((_, e)) = outcome.error {
        tracing::trace!(run_id = %run_id, proxy = %name, "join connections errors: [{e}]");
    }
}
