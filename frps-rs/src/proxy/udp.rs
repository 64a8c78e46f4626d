//! The user side of `udp` proxies (server.md §5.2): one socket for all users, one work connection for all datagrams.

use std::sync::Arc;
use std::time::Duration;

use frp_proto::msg::NewProxy;
use frp_proto::net::Conn;
use frp_proto::udp::{Inbox, Outbox, Socket, collect, deliver};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connect::{self, Ends};
use super::{Begun, Context, Started};
use crate::ports::PortClaim;

/// From the registration to the first request for a work connection: the client must have read the answer by then.
const START_DELAY: Duration = Duration::from_millis(500);
/// At least this much lies between two attempts to have a work connection.
const RETRY: Duration = Duration::from_secs(1);
/// Silence after which a work connection is given up; the client pings every 30 s.
const READ_LIMIT: Duration = Duration::from_mins(1);

/// Takes a port and carries its datagrams.
pub(super) async fn start(context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
    let requested = m.remote_port;
    let (socket, port) = context
        .shared
        .udp_ports
        .acquire(&m.proxy_name, requested)
        .await
        .map_err(|e| format!("acquire port {requested} error: {e}"))?;
    let number = port.port();
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "udp proxy listen port [{number}]");
    let cancel = context.session.cancel.child_token();
    Ok(Started {
        remote_addr: format!(":{number}"),
        life: Begun::runs(cancel.clone(), serve(context, socket, port, cancel)),
    })
}

/// Carries datagrams until the proxy is closed, then gives the port back.
async fn serve(context: Arc<Context>, socket: Socket, port: PortClaim, cancel: CancellationToken) {
    let outbox = Outbox::new(context.session.version);
    let packet_size = context.shared.now().settings.udp_packet_size;
    let count = |bytes| context.traffic_in(bytes);
    let carry = async {
        tokio::select! {
            () = collect(&socket, packet_size, &outbox, count) => {}
            () = work(&context, &socket, &outbox) => {}
        }
    };
    cancel.run_until_cancelled(carry).await;
    drop(socket);
    drop(port);
    tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
}

/// Keeps one work connection, for ever.
async fn work(context: &Context, socket: &Socket, outbox: &Outbox) {
    sleep(START_DELAY).await;
    loop {
        let next = Instant::now() + RETRY;
        if let Some(conn) = Box::pin(connect::open(context, Ends::default())).await {
            let error = Box::pin(join(context, conn, socket, outbox)).await;
            tracing::warn!(run_id = %context.session.run_id, proxy = %context.name, "{error}");
        }
        sleep_until(next).await;
    }
}

/// Carries datagrams both ways until the work connection fails; says how.
async fn join(context: &Context, conn: Conn, socket: &Socket, outbox: &Outbox) -> String {
    let (reader, mut writer) = tokio::io::split(conn);
    let mut inbox = Inbox::new(reader, context.session.version, Some(READ_LIMIT));
    let count = |bytes| context.traffic_out(bytes);
    tokio::select! {
        Err(e) = outbox.send(&mut writer) => format!("sender goroutine for udp work connection closed: {e}"),
        Err(e) = deliver(&mut inbox, socket, count) => format!("read from workConn for udp error: {e}"),
    }
}
