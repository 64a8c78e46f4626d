//! From an accepted socket to the first frp message (server.md §1.3, §1.4), and who gets the connection then.
//!
//! Everything a stranger can hold here is bounded: how many connections, how long, how many streams of one mux session.

mod quic;
mod tls;
pub(crate) mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::verify_token_key;
use frp_proto::kcp;
use frp_proto::msg::handshake::{self, Accepted};
use frp_proto::msg::{Message, NewVisitorConnResp, NewWorkConn, StartWorkConn, Version};
use frp_proto::mux::{self, Role};
use frp_proto::net::replay::{MAX_PREFIX, Replay};
use frp_proto::net::{Conn, Io, listen};
use frp_proto::ws;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::session::{self, pool::WorkConn};

/// For the first bytes, and for the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// For the request of a WebSocket.
const WEBSOCKET_LIMIT: Duration = Duration::from_mins(1);
/// For protocol detection and the first message.
const FIRST_MESSAGE_LIMIT: Duration = Duration::from_secs(10);
/// A mux session on which nobody logged in or brought a work connection within this time is closed.
const IDLE_SESSION_LIMIT: Duration = Duration::from_secs(30);
/// Streams of one mux session that may be before their first message; more wait in the mux's backlog.
const PENDING_STREAMS: usize = 1_024;

/// Accepts clients until the listener fails for good.
pub(crate) async fn serve(shared: &Arc<Shared>, listener: TcpListener) {
    loop {
        match listen::accept(&listener).await {
            Ok((stream, peer)) => {
                let shared = shared.clone();
                let stop = shared.stop.clone();
                shared.tasks.clone().spawn(async move {
                    stop.run_until_cancelled(greet(shared, stream, peer)).await;
                });
            }
            Err(e) => {
                tracing::warn!("listener for incoming connections from client closed: {e}");
                return;
            }
        }
    }
}

/// Takes one TCP connection in.
async fn greet(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let Ok(pending) = shared.pending.try_acquire() else {
        tracing::debug!("too many connections without a first message, [{peer}] closed");
        return;
    };
    if let Err(e) = listen::set_options(&stream, shared.settings.tcp_keepalive) {
        tracing::debug!("socket options of [{peer}]: {e}");
    }
    match Box::pin(transport(&shared, stream)).await {
        Ok(conn) => Box::pin(carry(&shared, conn, peer, pending)).await,
        Err(e) => tracing::debug!("client connection [{peer}]: {e}"),
    }
}

/// Accepts KCP sessions until the socket fails for good.
async fn serve_kcp(shared: &Arc<Shared>, listener: &kcp::Listener) {
    while let Some(stream) = listener.accept().await {
        let shared = shared.clone();
        let stop = shared.stop.clone();
        shared.tasks.clone().spawn(async move {
            stop.run_until_cancelled(greet_kcp(shared, stream)).await;
        });
    }
}

/// Takes one KCP session in.
async fn greet_kcp(shared: Arc<Shared>, stream: kcp::Stream) {
    let peer = stream.peer();
    let Ok(pending) = shared.pending.try_acquire() else {
        tracing::debug!("too many connections without a first message, [{peer}] closed");
        return;
    };
    match Box::pin(limited(TLS_LIMIT, tls::detect(&shared, stream))).await {
        Ok(conn) => Box::pin(carry(&shared, conn, peer, pending)).await,
        Err(e) => tracing::debug!("client connection [{peer}]: {e}"),
    }
}

/// What a transport connection carries: a mux session, or one connection.
async fn carry(shared: &Arc<Shared>, conn: Conn, peer: SocketAddr, pending: SemaphorePermit<'_>) {
    if !shared.settings.tcp_mux {
        let trusted = CancellationToken::new();
        return Box::pin(first_message(shared, conn, peer, pending, &trusted)).await;
    }
    match conn {
        Conn::Tcp(stream) => Box::pin(streams(shared, stream, peer, pending)).await,
        other => Box::pin(streams(shared, other, peer, pending)).await,
    }
}

/// From the first bytes to what carries messages, with the time limits of each stage.
async fn transport(shared: &Shared, stream: TcpStream) -> io::Result<Conn> {
    let mut first = [0];
    let peeked = limited(TLS_LIMIT, stream.peek(&mut first)).await?;
    match first[0] {
        _ if peeked == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        // Nothing else that a client may say begins like that.
        first if first == ws::PREFIX[0] => {
            let stream = limited(TLS_LIMIT, Replay::peek(stream, MAX_PREFIX)).await?;
            if stream.prefix() != ws::PREFIX {
                return Err(io::Error::other("unknown protocol"));
            }
            let stream = limited(WEBSOCKET_LIMIT, ws::accept(stream)).await?;
            limited(TLS_LIMIT, tls::detect(shared, stream)).await
        }
        first => limited(TLS_LIMIT, tls::stage(shared, stream, first)).await,
    }
}

/// The result of a stage, unless it takes too long.
async fn limited<T>(limit: Duration, stage: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, stage).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Serves the streams of one mux session; every stream is a connection of its own. `pending` is held until somebody has
/// proved himself on one of them.
async fn streams<T: Io>(
    shared: &Arc<Shared>,
    io: T,
    peer: SocketAddr,
    pending: SemaphorePermit<'_>,
) {
    let (session, mut incoming, driver) =
        mux::session(io, Role::Server, shared.settings.mux.clone());
    let trusted = CancellationToken::new();
    let slots = Arc::new(Semaphore::new(PENDING_STREAMS));
    shared.tasks.spawn(driver);
    let accept = async {
        while let Some(stream) = incoming.accept().await {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let (shared, trusted) = (shared.clone(), trusted.clone());
            let stop = shared.stop.clone();
            shared.tasks.clone().spawn(async move {
                stop.run_until_cancelled(first_message(
                    &shared,
                    Conn::Mux(stream),
                    peer,
                    slot,
                    &trusted,
                ))
                .await;
            });
        }
    };
    let useless = async {
        if timeout(IDLE_SESSION_LIMIT, trusted.cancelled())
            .await
            .is_ok()
        {
            drop(pending);
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = accept => {}
        () = useless => tracing::debug!("mux session of [{peer}] without a login closed"),
        () = shared.stop.cancelled() => {}
    }
    session.close();
}

/// Reads the first message and gives the connection to whom it concerns; cancels `trusted` once a client has proved
/// itself on it.
///
/// `pending` is held until the first message is there.
async fn first_message<P>(
    shared: &Arc<Shared>,
    mut conn: Conn,
    peer: SocketAddr,
    pending: P,
    trusted: &CancellationToken,
) {
    let accepted = timeout(FIRST_MESSAGE_LIMIT, handshake::accept(&mut conn)).await;
    drop(pending);
    let Accepted {
        version,
        message,
        negotiated,
    } = match accepted {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(e)) => {
            tracing::trace!("failed to accept frp connection: {e}");
            return;
        }
        Err(_) => return,
    };
    match message {
        Message::Login(login) => {
            // A task of its own, so that this one's state does not live as long as the session.
            let session = session::run(
                shared.clone(),
                conn,
                peer,
                version,
                negotiated,
                login,
                trusted.clone(),
            );
            shared.tasks.spawn(session);
        }
        Message::NewWorkConn(m) => {
            if work_conn(shared, conn, version, &m).await {
                trusted.cancel();
            }
        }
        Message::NewVisitorConn(m) => {
            let error = format!("custom listener for [{}] doesn't exist", m.proxy_name);
            tracing::warn!("register visitor conn error: {error}");
            let error = if shared.settings.detailed_errors {
                error
            } else {
                "register visitor conn error".into()
            };
            let resp = NewVisitorConnResp {
                proxy_name: m.proxy_name,
                error,
            };
            session::answer(&mut conn, version, &Message::NewVisitorConnResp(resp)).await;
        }
        _ => {
            tracing::warn!("error message type for the new connection [{peer}]");
        }
    }
}

/// Puts a work connection into its session's pool, or tells the client why not (server.md §2.6).
async fn work_conn(shared: &Shared, conn: Conn, version: Version, m: &NewWorkConn) -> bool {
    let (mut conn, error) = match shared.sessions.find(&m.run_id) {
        None => {
            let error = format!("no client control found for run id [{}]", m.run_id);
            tracing::warn!("{error}");
            (conn, error)
        }
        Some(_)
            if shared.settings.scopes.new_work_conns
                && !verify_token_key(&shared.token, m.timestamp, &m.privilege_key) =>
        {
            tracing::warn!("invalid NewWorkConn with run id [{}]", m.run_id);
            (
                conn,
                "token in NewWorkConn doesn't match token from configuration".to_owned(),
            )
        }
        Some(handle) => match handle.pool.offer(WorkConn { conn, version }) {
            Ok(()) => {
                tracing::debug!(run_id = %handle.run_id, "new work connection registered");
                return true;
            }
            Err((work, e)) => {
                tracing::debug!(run_id = %handle.run_id, "{e}");
                (work.conn, e.to_string())
            }
        },
    };
    let error = if shared.settings.detailed_errors {
        error
    } else {
        "invalid NewWorkConn".into()
    };
    let start = StartWorkConn {
        error,
        ..StartWorkConn::default()
    };
    session::answer(&mut conn, version, &Message::StartWorkConn(start)).await;
    false
}
