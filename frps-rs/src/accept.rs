//! From an accepted socket to the first frp message (server.md §1.3, §1.4), and who gets the connection then.
//!
//! Everything a stranger can hold here is bounded: how many connections, how long, how many streams of one mux session.

pub(crate) mod detect;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::msg::handshake::{self, Accepted};
use frp_proto::msg::{
    Message, NewVisitorConn, NewVisitorConnResp, NewWorkConn, StartWorkConn, Version,
};
use frp_proto::mux::{self, Role};
use frp_proto::net::{Conn, Io, listen};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::proxy::connect::Ends;
use crate::proxy_protocol::Listener;
use crate::session::{self, Handle, Origin, pool::WorkConn};
use crate::vhost;

/// For the first bytes, including the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
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

/// Detects TLS, then hands the connection to the mux or reads its first message.
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
    if let Err(e) = listen::set_options(&stream, shared.settings.tcp_keepalive) {
        tracing::debug!("socket options of [{peer}]: {e}");
    }
    let conn = match timeout(TLS_LIMIT, transport(&shared, stream)).await {
        Ok(Ok(conn)) => conn,
        Ok(Err(e)) => {
            tracing::debug!("client connection [{peer}]: {e}");
            return;
        }
        Err(_) => return,
    };
    if !shared.settings.tcp_mux {
        let trusted = CancellationToken::new();
        return Box::pin(first_message(&shared, conn, peer, ends, pending, &trusted)).await;
    }
    match conn {
        Conn::Tcp(stream) => Box::pin(streams(&shared, stream, peer, ends, pending)).await,
        other => Box::pin(streams(&shared, other, peer, ends, pending)).await,
    }
}

/// The TLS stage: first byte 0x17 is dropped, 0x16 belongs to the hello, anything else is plain.
async fn transport(shared: &Shared, mut stream: TcpStream) -> std::io::Result<Conn> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    match first[0] {
        0x17 => {
            stream.read_exact(&mut first).await?;
        }
        0x16 => {}
        _ if shared.settings.tls_force => {
            tracing::warn!(
                "checkAndEnableTLSServerConnWithTimeout error: non-TLS connection received on a TlsOnly server"
            );
            return Err(std::io::Error::other("plain connection refused"));
        }
        _ => return Ok(Conn::Tcp(stream)),
    }
    // Most strangers come no further than to here: what a handshake needs is taken when there is one.
    let stream = Box::pin(shared.tls.accept(stream)).await?;
    Ok(Conn::Other(Box::new(stream)))
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
            let login = shared.plugins.login(login, origin.to_string()).await;
            drop(pending);
            let login = match login {
                Ok(login) => login,
                Err(error) => return session::refuse(shared, conn, version, error).await,
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
        if shared.settings.scopes.new_work_conns && !handle.auth_exempt {
            let subject = handle.subject.as_deref();
            shared.auth.new_work_conn(&m, subject).await?;
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
            resp.error = if shared.settings.detailed_errors {
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
