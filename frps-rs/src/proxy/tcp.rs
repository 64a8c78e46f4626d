//! The user side of `tcp` proxies (server.md §4, §5.1).

use std::sync::Arc;

use bytes::Bytes;
use frp_proto::msg::NewProxy;
use frp_proto::net::listen;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connect::{self, Ends};
use super::{Context, Started};
use crate::ports::PortClaim;

/// Takes a port and accepts users on it.
pub(super) async fn start(
    context: Arc<Context>,
    m: &NewProxy,
    cancel: CancellationToken,
) -> Result<Started, String> {
    let (listener, port) = context
        .shared
        .tcp_ports
        .acquire(&m.proxy_name, m.remote_port)
        .await
        .map_err(|e| e.to_string())?;
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "tcp proxy listen port [{}]", m.remote_port);
    Ok(Started {
        remote_addr: format!(":{}", port.port()),
        life: Box::pin(serve(context, listener, port, cancel)),
    })
}

/// Accepts users until the proxy is closed, then gives the port back.
async fn serve(
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
                    context.shared.tasks.clone().spawn(async move {
                        let ends = Ends::of(&user, peer);
                        connect::serve_tcp(&context, user, ends, Bytes::new()).await;
                    });
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
