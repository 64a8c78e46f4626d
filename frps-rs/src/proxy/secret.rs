//! The server side of `stcp` and `sudp` proxies (server.md §5.6): no port, only visitors who know the secret.

use std::sync::Arc;

use bytes::Bytes;
use frp_proto::msg::NewProxy;
use tokio_util::sync::CancellationToken;

use super::connect;
use super::{Begun, Context, Started, bridge};
use crate::visitors::{Listener, Visitor};

/// What travels between visitor and client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes.
    Stcp,
    /// Datagrams in messages, each side's in its own wire version.
    Sudp,
}

/// Opens the proxy to visitors.
pub(super) fn start(kind: Kind, context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
    let owner = &context.session.login.user;
    let listener = context.shared.visitors.listen(m, owner)?;
    let name = match kind {
        Kind::Stcp => "stcp",
        Kind::Sudp => "sudp",
    };
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "{name} proxy custom listen success");
    let cancel = context.session.cancel.child_token();
    Ok(Started {
        remote_addr: String::new(),
        life: Begun::runs(cancel.clone(), serve(kind, context, listener, cancel)),
    })
}

/// Serves visitors until the proxy is closed, then gives the name back.
async fn serve(
    kind: Kind,
    context: Arc<Context>,
    mut listener: Listener,
    cancel: CancellationToken,
) {
    while let Some(Some(visitor)) = cancel.run_until_cancelled(listener.accept()).await {
        let context = context.clone();
        context
            .shared
            .tasks
            .clone()
            .spawn(async move { visit(kind, &context, visitor).await });
    }
    drop(listener);
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
}

/// Serves one visitor as a user.
async fn visit(kind: Kind, context: &Context, visitor: Visitor) {
    let Visitor {
        conn,
        version,
        ends,
    } = visitor;
    let of_client = context.session.version;
    if kind == Kind::Stcp || version == of_client {
        return connect::serve(context, conn, ends, Bytes::new()).await;
    }
    let (of_proxy, of_visitor) = (of_client.name(), version.name());
    tracing::info!(
        run_id = %context.session.run_id, proxy = %context.name,
        "bridge mixed SUDP payload codecs, proxy wireProtocol [{of_proxy}], visitor wireProtocol [{of_visitor}]"
    );
    let (conn, bridge) = bridge::bridge(conn, version, of_client);
    tokio::join!(bridge, connect::serve(context, conn, ends, Bytes::new()));
}
