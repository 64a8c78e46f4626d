//! The user side of `tcp` proxies (server.md §4, §5.1, §6).

use std::sync::Arc;

use bytes::Bytes;
use frp_proto::msg::NewProxy;
use frp_proto::net::listen;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::connect;
use super::{Begun, Context, Started};
use crate::balance::{Asked, Turn};
use crate::group::{Groups, Member, Newcomer};
use crate::ports::PortClaim;
use crate::proxy_protocol::Listener;

/// Members agree on the port they ask for; 0 is a request like any other.
pub(crate) type TcpGroups = Groups<i64, Port>;

/// A port and who waits for users on it.
pub(crate) struct Port {
    /// Locked by the member that accepts for all. When it leaves, the next one has the lock.
    listener: Mutex<TcpListener>,
    claim: PortClaim,
}

/// Takes a port, or a place in the group that has it, and accepts users.
pub(super) async fn start(context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
    let shared = &context.shared;
    let bind = |_| async {
        let (listener, claim) = shared
            .tcp_ports
            .acquire(&m.proxy_name, m.remote_port)
            .await
            .map_err(|e| e.to_string())?;
        Ok(Port {
            listener: Mutex::new(listener),
            claim,
        })
    };
    let member = shared
        .tcp_groups
        .join(Newcomer::new(&context, m), m.remote_port, bind)
        .await?;
    let in_group = if m.group.is_empty() {
        String::new()
    } else {
        format!(" in group [{}]", m.group)
    };
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "tcp proxy listen port [{}]{in_group}", m.remote_port);
    let cancel = context.session.cancel.child_token();
    Ok(Started {
        remote_addr: format!(":{}", member.shared().claim.port()),
        life: Begun::runs(cancel.clone(), serve(context, member, cancel)),
    })
}

/// Serves users until the proxy is closed, then leaves the group.
async fn serve(context: Arc<Context>, member: Member<i64, Port>, cancel: CancellationToken) {
    cancel.run_until_cancelled(accept(&context, &member)).await;
    drop(member);
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
}

/// Waits for the turn to accept, then accepts for the whole group.
async fn accept(context: &Context, member: &Member<i64, Port>) {
    let listener = member.shared().listener.lock().await;
    loop {
        match listen::accept(&listener).await {
            Ok((mut user, peer)) => {
                let (shared, group) = (context.shared.clone(), member.members().clone());
                context.shared.tasks.spawn(async move {
                    let Some(ends) = shared.ends(Listener::Proxy, &mut user, peer).await else {
                        return;
                    };
                    let asked = Asked::of_stream(&group.config(), ends.src, "", "");
                    match Turn::begin(&group, asked) {
                        Ok(turn) => {
                            connect::serve_turn(&shared, turn, user, ends, Bytes::new()).await;
                        }
                        Err(why) => tracing::debug!("user connection [{peer}] closed: {why}"),
                    }
                });
            }
            Err(e) => {
                tracing::warn!(run_id = %context.session.run_id, proxy = %context.name, "listener is closed: {e}");
                return;
            }
        }
    }
}
