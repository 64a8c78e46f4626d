//! From an accepted socket to the first frp message (server.md §1.3, §1.4), and who gets the connection then.
//!
//! Everything a stranger can hold here is bounded: how many connections, how long, how many streams of one mux session.

pub(crate) mod detect;
mod quic;
mod tls;
pub(crate) mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::kcp;
use frp_proto::msg::handshake::{self, Accepted};
use frp_proto::msg::{
    Message, NewVisitorConn, NewVisitorConnResp, NewWorkConn, StartWorkConn, Version,
};
use frp_proto::mux::{self, Role};
use frp_proto::net::replay::Replay;
use frp_proto::net::{Conn, Io, listen};
use frp_proto::ws;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::proxy::connect::Ends;
use crate::proxy_protocol::Listener;
use crate::records::LoginAttempt;
use crate::session::{self, Handle, Origin, pool::WorkConn};
use crate::vhost;

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
async fn greet(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) {
    let Ok(pending) = shared.pending.try_acquire() else {
        tracing::debug!("too many connections without a first message, [{peer}] closed");
        return;
    };
    let Some(ends) = shared.ends(Listener::Bind, &mut stream, peer).await else {
        return;
    };
    let detected = shared.settings.shared_port.user_protocol(&stream);
    match timeout(TLS_LIMIT, detected).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(protocol))) => {
            drop(pending);
            return vhost::greet(shared, protocol, stream, ends).await;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let peer = ends.src.unwrap_or(peer);
    if let Err(e) = listen::set_options(&stream, shared.now().settings.tcp_keepalive) {
        tracing::debug!("socket options of [{peer}]: {e}");
    }
    match Box::pin(transport(&shared, stream)).await {
        Ok(conn) => Box::pin(carry(&shared, conn, peer, ends, pending)).await,
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
        Ok(conn) => {
            let ends = Ends {
                src: Some(peer),
                dst: None,
            };
            Box::pin(carry(&shared, conn, peer, ends, pending)).await;
        }
        Err(e) => tracing::debug!("client connection [{peer}]: {e}"),
    }
}

/// What a transport connection carries: a mux session, or one connection.
async fn carry(
    shared: &Arc<Shared>,
    conn: Conn,
    peer: SocketAddr,
    ends: Ends,
    pending: SemaphorePermit<'_>,
) {
    if !shared.settings.tcp_mux {
        let trusted = CancellationToken::new();
        return Box::pin(first_message(shared, conn, peer, ends, pending, &trusted)).await;
    }
    match conn {
        Conn::Tcp(stream) => Box::pin(streams(shared, stream, peer, ends, pending)).await,
        other => Box::pin(streams(shared, other, peer, ends, pending)).await,
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
            let stream = limited(TLS_LIMIT, Replay::peek(stream, ws::PREFIX.len())).await?;
            if stream.prefix() != ws::PREFIX {
                tls::admit_plain(shared)?;
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
    ends: Ends,
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
                    ends,
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

/// Serves one connection of a client inside this process.
pub(crate) async fn internal(shared: &Arc<Shared>, conn: Conn, origin: Origin) {
    let ends = Ends::default();
    let trusted = CancellationToken::new();
    first_message(shared, conn, origin, ends, (), &trusted).await;
}

/// Reads the first message and gives the connection to whom it concerns; cancels `trusted` once a client has proved
/// itself on it.
///
/// `pending` is held until the first message is there, and plugins that are asked about it have answered.
async fn first_message<P>(
    shared: &Arc<Shared>,
    mut conn: Conn,
    origin: impl Into<Origin>,
    ends: Ends,
    pending: P,
    trusted: &CancellationToken,
) {
    let origin = origin.into();
    let accepted = timeout(FIRST_MESSAGE_LIMIT, handshake::accept(&mut conn)).await;
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
            let attempt = LoginAttempt::new(shared, origin, version, &login);
            let login = shared.plugins.login(login, origin.to_string()).await;
            drop(pending);
            let login = match login {
                Ok(login) => login,
                Err(error) => {
                    attempt.refused(&error);
                    return session::refuse(shared, conn, version, error).await;
                }
            };
            // A task of its own, so that this one's state does not live as long as the session.
            let session = session::run(
                shared.clone(),
                conn,
                origin,
                version,
                negotiated,
                login,
                trusted.clone(),
            );
            shared.tasks.spawn(session);
        }
        Message::NewWorkConn(m) => {
            let admitted = admit_work_conn(shared, m).await;
            drop(pending);
            if work_conn(shared, conn, version, admitted).await {
                trusted.cancel();
            }
        }
        Message::NewVisitorConn(m) => {
            drop(pending);
            if visitor_conn(shared, conn, version, ends, m).await {
                trusted.cancel();
            }
        }
        _ => {
            tracing::warn!("error message type for the new connection [{origin}]");
        }
    }
}

/// The session that a work connection is for, or why it is for none (server.md §2.6).
async fn admit_work_conn(shared: &Shared, m: NewWorkConn) -> Result<Arc<Handle>, String> {
    let run_id = m.run_id.clone();
    let Some(handle) = shared.sessions.find(&run_id) else {
        let error = format!("no client control found for run id [{run_id}]");
        tracing::warn!("{error}");
        return Err(error);
    };
    let check = async {
        let m = shared.plugins.new_work_conn(&handle, m).await?;
        let credentials = &handle.credentials;
        if credentials.scopes.new_work_conns && !handle.auth_exempt {
            let subject = handle.subject.as_deref();
            credentials.auth.new_work_conn(&m, subject).await?;
        }
        Ok(())
    };
    if let Err(error) = check.await {
        tracing::warn!("invalid NewWorkConn with run id [{run_id}]");
        return Err(error);
    }
    // Plugins may have taken their time.
    match shared.sessions.find(&run_id) {
        Some(current) if Arc::ptr_eq(&current, &handle) => Ok(handle),
        _ => Err(format!(
            "client control for run id [{run_id}] is no longer current"
        )),
    }
}

/// Puts a work connection into its session's pool, or tells the client why not; whether it is in the pool.
async fn work_conn(
    shared: &Shared,
    mut conn: Conn,
    version: Version,
    admitted: Result<Arc<Handle>, String>,
) -> bool {
    let error = match admitted {
        Err(error) => error,
        Ok(handle) => match handle.pool.offer(WorkConn { conn, version }) {
            Ok(()) => {
                tracing::debug!(run_id = %handle.run_id, "new work connection registered");
                return true;
            }
            Err((work, e)) => {
                tracing::debug!(run_id = %handle.run_id, "{e}");
                conn = work.conn;
                e.to_string()
            }
        },
    };
    let error = if shared.now().settings.detailed_errors {
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

/// Answers a visitor, and gives its connection to the proxy it may visit (server.md §5.6).
async fn visitor_conn(
    shared: &Shared,
    mut conn: Conn,
    version: Version,
    ends: Ends,
    m: NewVisitorConn,
) -> bool {
    let admitted = visitor_user(shared, &m.run_id)
        .and_then(|user| shared.visitors.admit(&user, &m).map_err(|e| e.to_string()));
    let mut resp = NewVisitorConnResp {
        proxy_name: m.proxy_name,
        ..NewVisitorConnResp::default()
    };
    match admitted {
        Ok(Some(admission)) => {
            // Before the proxy has the connection, so that no payload can precede the answer.
            let resp = Message::NewVisitorConnResp(resp);
            let answered = session::answer_open(&mut conn, version, &resp).await;
            if answered {
                admission.enter(conn, version, ends);
            }
            answered
        }
        Ok(None) => {
            tracing::debug!("too many visitors of [{}] wait", resp.proxy_name);
            false
        }
        Err(error) => {
            tracing::warn!("register visitor conn error: {error}");
            resp.error = if shared.now().settings.detailed_errors {
                error
            } else {
                "register visitor conn error".into()
            };
            session::answer(&mut conn, version, &Message::NewVisitorConnResp(resp)).await;
            false
        }
    }
}

/// Who visits: the user of a running session, or nobody in particular with old clients, which do not say.
fn visitor_user(shared: &Shared, run_id: &str) -> Result<String, String> {
    if run_id.is_empty() {
        return Ok(String::new());
    }
    match shared.sessions.find(run_id) {
        Some(session) => Ok(session.login.user.clone()),
        None => Err(format!("no client control found for run id [{run_id}]")),
    }
}
