//! `sudp` visitors (client.md §13.4): all users share one connection to the proxy, which is opened when there is something
//! to send.

use std::time::Duration;

use frp_proto::net::Conn;
use frp_proto::net::listen::join_host_port;
use frp_proto::udp::{Inbox, Outbox, Socket, collect, deliver};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Visitor;
use crate::work::Context;

/// Silence after which a connection is given up; the proxy's side pings every 30 s.
const READ_LIMIT: Duration = Duration::from_mins(1);
/// At least this much lies between two attempts to have a connection, however many datagrams come.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the visitor's port.
pub(super) async fn listen(visitor: &Visitor) -> Result<Socket, String> {
    let port = u16::try_from(visitor.bind_port).map_err(|_| {
        format!(
            "sudp ResolveUDPAddr error: address {}: invalid port",
            visitor.bind_port
        )
    })?;
    let socket = Socket::bind(&visitor.bind_addr, port).await;
    socket.map_err(|e| {
        let at = join_host_port(&visitor.bind_addr, port);
        format!("listen udp port {at} error: {e}")
    })
}

/// Carries datagrams until the visitor is told to end.
pub(super) async fn serve(
    context: &Context,
    visitor: &Visitor,
    socket: Socket,
    cancel: &CancellationToken,
) {
    let settings = &context.shared.settings;
    let outbox = Outbox::new(settings.wire_version);
    let carry = async {
        tokio::select! {
            () = collect(&socket, settings.udp_packet_size, &outbox, |_| {}) => {}
            () = connections(context, visitor, &socket, &outbox) => {}
        }
    };
    cancel.run_until_cancelled(carry).await;
    tracing::info!(run_id = %context.run_id, proxy = %visitor.name, "frpc sudp visitor proxy is closed");
}

/// Opens a connection whenever there is something to send and none to send it with, for ever.
async fn connections(context: &Context, visitor: &Visitor, socket: &Socket, outbox: &Outbox) {
    let (run_id, name) = (&context.run_id, &visitor.name);
    loop {
        outbox.filled().await;
        let next = Instant::now() + PAUSE;
        tracing::debug!(run_id = %run_id, proxy = %name, "starting sudp proxy worker");
        match Box::pin(visitor.dial(context)).await {
            Ok(conn) => {
                let error = Box::pin(join(context, conn, socket, outbox)).await;
                tracing::debug!(run_id = %run_id, proxy = %name, "{error}");
                tracing::info!(run_id = %run_id, proxy = %name, "sudp worker is closed");
            }
            Err(e) => {
                tracing::warn!(run_id = %run_id, proxy = %name, "newVisitorConn to frps error: {e}, try to reconnect");
                outbox.clear();
            }
        }
        sleep_until(next).await;
    }
}

/// Carries datagrams both ways until the connection fails; says how.
async fn join(context: &Context, conn: Conn, socket: &Socket, outbox: &Outbox) -> String {
    let (reader, mut writer) = tokio::io::split(conn);
    let version = context.shared.settings.wire_version;
    let mut inbox = Inbox::new(reader, version, Some(READ_LIMIT));
    tokio::select! {
        Err(e) = outbox.send(&mut writer) => format!("sender goroutine for udp work connection closed: {e}"),
        Err(e) = deliver(&mut inbox, socket, |_| {}) => format!("read from workconn for user udp conn error: {e}"),
    }
}
