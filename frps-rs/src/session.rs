//! One logged-in client (server.md §2): a task that owns the session's state; everything the session holds ends with it.

pub(crate) mod pool;
mod proxies;
pub(crate) mod pushes;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use balancer::AgentReport;
use frp_proto::msg::handshake::{self, ControlReader, ControlWriter, Negotiated, Side};
use frp_proto::msg::{
    AgentState, CloseProxy, Login, LoginResp, Message, NewProxy, NewProxyResp, Ping, Pong, Version,
    io,
};
use frp_proto::net::Conn;
use frp_proto::text::VERSION;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::Event;
use crate::metrics::{self, Depths};
use crate::proxy;
use crate::records::{self, LoginAttempt};
use crate::reload::Credentials;
use crate::sessions::Ticket;
use crate::{Shared, id, nathole, plugin, pushed};
use pool::{PoolError, WorkConn, WorkPool};
use proxies::Proxies;
use pushes::Pushes;

/// Messages that may wait for the client; a full queue blocks who sends.
const OUTBOX: usize = 100;
/// Limit for writing an answer to a client that is not a session yet.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Told to a drained client that wants a proxy.
const DRAINED: &str = "the client is drained by the administrator of the server";

/// Where a client's connections come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The network.
    Network(SocketAddr),
    /// This process, on behalf of an SSH client (server.md §10.4).
    Ssh(SocketAddr),
}

impl From<SocketAddr> for Origin {
    fn from(peer: SocketAddr) -> Self {
        Self::Network(peer)
    }
}

/// As logs and plugins see it.
impl Origin {
    /// The address of who came, whichever way.
    pub(crate) fn peer(self) -> SocketAddr {
        match self {
            Self::Network(peer) | Self::Ssh(peer) => peer,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(peer) => peer.fmt(f),
            Self::Ssh(_) => f.write_str("pipe"),
        }
    }
}

/// What the rest of the server knows of a session.
pub(crate) struct Handle {
    pub(crate) run_id: Arc<str>,
    /// What the client said of itself; the authentication key is blanked.
    pub(crate) login: Login,
    /// The machine that the client, or the SSH client behind it, is on.
    pub(crate) peer: SocketAddr,
    pub(crate) version: Version,
    /// What it has logged in with.
    pub(crate) credentials: Arc<Credentials>,
    /// An SSH key has proved already who this is.
    pub(crate) auth_exempt: bool,
    /// Whom the identity provider has vouched for.
    pub(crate) subject: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) pushes: Pushes,
    pub(crate) pool: WorkPool,
    pub(crate) pool_count: usize,
    pub(crate) metrics: Arc<metrics::Client>,
    outbox: mpsc::Sender<Message>,
    running: AtomicBool,
    /// Places for exchanges of its visitors that make holes.
    pub(crate) exchanges: Arc<Semaphore>,
    /// Tells the session to end.
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the session has ended and given back all it held.
    pub(crate) done: CancellationToken,
}

impl Handle {
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn set_running(&self) {
        self.running.store(true, Ordering::Release);
    }

    /// A work connection for one user: a pooled one, else one the client is asked for. Asks for its replacement unless
    /// enough are on their way.
    pub(crate) async fn work_conn(&self, limit: Duration) -> Result<WorkConn, PoolError> {
        let pooled = self.pool.take()?;
        self.metrics.wanted(pooled.is_some());
        let work = if let Some(work) = pooled {
            work
        } else {
            self.pool.asked(1);
            self.send(Message::ReqWorkConn).await;
            self.pool.wait(limit).await?
        };
        if self.pool.asked_for_more() {
            self.send(Message::ReqWorkConn).await;
        }
        Ok(work)
    }

    /// Queues a message for the client. After the session's end it goes nowhere.
    pub(crate) async fn send(&self, message: Message) {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            // An error means that the writer has ended, and the session with it.
            _ = self.outbox.send(message) => {}
        }
    }

    /// How full its queues are.
    pub(crate) fn depths(&self) -> Depths {
        let (ready, waiting) = self.pool.depths();
        Depths {
            ready,
            waiting,
            outbox: OUTBOX.saturating_sub(self.outbox.capacity()),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(run_id: &str) -> Arc<Self> {
        Self::with_outbox(run_id, mpsc::channel(1).0)
    }

    /// With what it sends.
    #[cfg(test)]
    pub(crate) fn for_push_test() -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (outbox, sent) = mpsc::channel(OUTBOX);
        (Self::with_outbox("r", outbox), sent)
    }

    #[cfg(test)]
    fn with_outbox(run_id: &str, outbox: mpsc::Sender<Message>) -> Arc<Self> {
        use crate::auth::Auth;
        use crate::settings::Scopes;
        Arc::new(Self {
            run_id: run_id.into(),
            login: Login::default(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            version: Version::V1,
            credentials: Arc::new(Credentials::new(
                Auth::Token("".into()),
                "".into(),
                Scopes::default(),
            )),
            auth_exempt: false,
            subject: None,
            proxies: Proxies::default(),
            pushes: Pushes::default(),
            pool: WorkPool::new(0),
            pool_count: 0,
            metrics: metrics::Metrics::default().client(&Login::default(), run_id),
            outbox,
            running: AtomicBool::new(false),
            exchanges: Arc::new(Semaphore::new(nathole::MAX_EXCHANGES)),
            cancel: CancellationToken::new(),
            done: CancellationToken::new(),
        })
    }
}

/// What a login brought, once it is accepted as a session.
struct Admitted {
    handle: Arc<Handle>,
    outbox: mpsc::Receiver<Message>,
    /// Fields drop in this order: the place in the map first, then waiters are told.
    _ticket: Ticket,
    _done: DoneGuard,
}

/// Tells who waits for the end of a session.
struct DoneGuard(Arc<Handle>);

impl Drop for DoneGuard {
    fn drop(&mut self) {
        // After an orderly end there is nothing left of these.
        self.0.cancel.cancel();
        drop(self.0.proxies.drain());
        self.0.done.cancel();
    }
}

/// Tells a client why it cannot log in.
pub(crate) async fn refuse(shared: &Shared, mut conn: Conn, version: Version, error: String) {
    tracing::warn!("register control error: {error}");
    let error = if shared.now().settings.detailed_errors {
        error
    } else {
        "register control error".into()
    };
    let resp = LoginResp {
        version: VERSION.into(),
        error,
        ..LoginResp::default()
    };
    answer(&mut conn, version, &Message::LoginResp(resp)).await;
}

/// Runs a client from its Login, as plugins have left it, to the end of its session; cancels `trusted` when the login is accepted.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut conn: Conn,
    origin: Origin,
    version: Version,
    negotiated: Option<Negotiated>,
    login: Box<Login>,
    trusted: CancellationToken,
) {
    let attempt = LoginAttempt::new(&shared, origin, version, &login);
    let admitted = match admit(&shared, origin, version, negotiated.is_some(), &login).await {
        Ok(admitted) => admitted,
        Err(error) => {
            attempt.refused(&error);
            return refuse(&shared, conn, version, error).await;
        }
    };
    attempt.accepted(&login, &admitted.handle.run_id);
    admitted.handle.metrics.logged_in();
    trusted.cancel();
    let handle = admitted.handle.clone();
    let resp = LoginResp {
        version: VERSION.into(),
        run_id: handle.run_id.to_string(),
        ..LoginResp::default()
    };
    // A client that has the answer may use its run id at once.
    handle.set_running();
    if !answer_open(&mut conn, version, &Message::LoginResp(resp)).await {
        return;
    }
    let token = &handle.credentials.token;
    match handshake::control(conn, Side::Server, version, negotiated, token) {
        Ok((reader, writer)) => {
            // A client inside this process cannot be lost without notice.
            let heartbeat = match origin {
                Origin::Network(_) => shared.now().settings.heartbeat_timeout,
                Origin::Ssh(_) => None,
            };
            serve(&shared, admitted, reader, writer, heartbeat).await;
        }
        Err(e) => tracing::warn!(run_id = %handle.run_id, "create new controller error: {e}"),
    }
}

/// Writes an answer within its limit; whether that worked.
pub(crate) async fn answer_open(conn: &mut Conn, version: Version, message: &Message) -> bool {
    matches!(
        tokio::time::timeout(ANSWER_LIMIT, io::write_message(conn, version, message)).await,
        Ok(Ok(()))
    )
}

/// Writes a last answer within its limit and ends the connection's write side, so that the answer arrives.
pub(crate) async fn answer(conn: &mut Conn, version: Version, message: &Message) {
    if answer_open(conn, version, message).await {
        // The peer may be gone already, and then there is nobody to tell.
        let _ = tokio::time::timeout(ANSWER_LIMIT, conn.shutdown()).await;
    }
}

/// Steps 2 to 8 of server.md §2.1: checks the login and makes it the current session of its run id.
async fn admit(
    shared: &Arc<Shared>,
    origin: Origin,
    version: Version,
    negotiated: bool,
    login: &Login,
) -> Result<Admitted, String> {
    if version == Version::V2 && !negotiated {
        return Err("missing v2 crypto negotiation".into());
    }
    let run_id: Arc<str> = if login.run_id.is_empty() {
        id::random()?.into()
    } else {
        login.run_id.as_str().into()
    };
    tracing::info!(
        run_id = %run_id,
        "client login info: ip [{origin}] version [{}] hostname [{}] os [{}] arch [{}]",
        login.version, login.hostname, login.os, login.arch
    );
    let (peer, auth_exempt) = match origin {
        Origin::Network(peer) => (peer, false),
        Origin::Ssh(peer) => (peer, login.client_spec.always_auth_pass),
    };
    let credentials = shared.now().credentials.clone();
    let subject = if auth_exempt {
        None
    } else {
        credentials.auth.login(login).await?
    };
    let pool_count = usize::try_from(login.pool_count)
        .unwrap_or(0)
        .min(shared.now().settings.max_pool_count);
    let (sender, outbox) = mpsc::channel(OUTBOX);
    let handle = Arc::new(Handle {
        run_id: run_id.clone(),
        login: Login {
            privilege_key: String::new(),
            ..login.clone()
        },
        peer,
        version,
        credentials,
        auth_exempt,
        subject,
        proxies: Proxies::default(),
        pushes: Pushes::default(),
        pool: WorkPool::new(pool_count),
        pool_count,
        metrics: shared.metrics.client(login, &run_id),
        outbox: sender,
        running: AtomicBool::new(false),
        exchanges: Arc::new(Semaphore::new(nathole::MAX_EXCHANGES)),
        cancel: shared.stop.child_token(),
        done: CancellationToken::new(),
    });
    let done = DoneGuard(handle.clone());
    let (ticket, predecessor) = shared.sessions.install(&handle);
    if let Some(predecessor) = predecessor {
        // Waited for even when this login is replaced in turn: its successor may then rely on `done` alone.
        predecessor.done.cancelled().await;
    }
    if handle.cancel.is_cancelled() {
        return Err("control was replaced during login".into());
    }
    let clients = shared.sessions.clients();
    clients.register(&handle.login, &run_id, handle.peer, version)?;
    Ok(Admitted {
        handle,
        outbox,
        _ticket: ticket,
        _done: done,
    })
}

/// A running session, until its connection, its heartbeats or the server ends it.
async fn serve(
    shared: &Arc<Shared>,
    mut admitted: Admitted,
    reader: ControlReader<ReadHalf<Conn>>,
    writer: ControlWriter<WriteHalf<Conn>>,
    heartbeat: Option<Duration>,
) {
    let handle = admitted.handle.clone();
    let mut session = Session {
        shared,
        handle: handle.clone(),
        last_ping: Arc::new(Mutex::new(Instant::now())),
    };
    let last_ping = session.last_ping.clone();
    let counted = shared.stats.client();
    shared.events.tell(|| logged_in(&handle));
    let requests = vec![Message::ReqWorkConn; handle.pool_count];
    handle.pool.asked(requests.len());
    tokio::select! {
        () = session.read(reader) => {}
        () = write(&mut admitted.outbox, writer, requests) => {}
        () = pushed::again(shared, &handle) => {}
        () = heartbeat_timeout(heartbeat, &last_ping) => {
            tracing::warn!(run_id = %handle.run_id, "heartbeat timeout");
        }
        () = handle.cancel.cancelled() => {}
    }
    // Reader and writer are gone here, so the connection is closed; what follows is local and quick.
    handle.cancel.cancel();
    handle.pool.close();
    for (name, proxy) in handle.proxies.drain() {
        proxy.close().await;
        plugin::proxy_closed(shared, &handle, &name);
    }
    tracing::info!(run_id = %handle.run_id, "client exit success");
    records::logout(shared, &handle.login.user, &handle.run_id, handle.peer);
    shared.events.tell(|| Event::Logout {
        run_id: &handle.run_id,
        user: &handle.login.user,
        client_id: &handle.login.client_id,
    });
    drop(counted);
    drop(admitted);
}

/// The event of a login.
fn logged_in(handle: &Handle) -> Event<'_> {
    let login = &handle.login;
    Event::Login {
        run_id: &handle.run_id,
        user: &login.user,
        client_id: &login.client_id,
        version: &login.version,
        hostname: &login.hostname,
        client_ip: handle.peer.ip().to_canonical().to_string(),
    }
}

/// Sends what is queued for the client, several messages with one write when they have gathered.
async fn write(
    outbox: &mut mpsc::Receiver<Message>,
    mut writer: ControlWriter<WriteHalf<Conn>>,
    first: Vec<Message>,
) {
    let mut batch = first;
    loop {
        if !batch.is_empty() && writer.write_all(&batch).await.is_err() {
            return;
        }
        batch.clear();
        if outbox.recv_many(&mut batch, OUTBOX).await == 0 {
            return;
        }
    }
}

/// Ends when the last valid Ping is older than `limit`; never without a limit.
async fn heartbeat_timeout(limit: Option<Duration>, last_ping: &Mutex<Instant>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let deadline = *last_ping.lock().unwrap_or_else(PoisonError::into_inner) + limit;
        if deadline <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// State of the message loop.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    handle: Arc<Handle>,
    last_ping: Arc<Mutex<Instant>>,
}

impl Session<'_> {
    /// Handles the client's messages in their order, until the connection ends.
    async fn read(&mut self, mut reader: ControlReader<ReadHalf<Conn>>) {
        loop {
            match reader.read().await {
                Ok(Some(message)) => self.handle(message).await,
                Ok(None) => return,
                Err(e) => {
                    tracing::debug!(run_id = %self.handle.run_id, "control connection: {e}");
                    return;
                }
            }
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::NewProxy(m) => self.new_proxy(m).await,
            Message::CloseProxy(CloseProxy { proxy_name }) => self.close_proxy(&proxy_name).await,
            Message::Ping(m) => self.ping(m).await,
            Message::NatHoleVisitor(m) => nathole::visit(self.shared, &self.handle, m).await,
            Message::NatHoleClient(m) => self.shared.nat_holes.client(&self.handle, m),
            Message::NatHoleReport(m) => self.shared.nat_holes.report(&self.handle, &m),
            Message::PushResult(m) => self.handle.pushes.answer(m),
            Message::AgentState(m) => self.agent_says(&m),
            // Known messages that frps has no use for are ignored (wire.md §2.2).
            _ => {}
        }
    }

    async fn new_proxy(&mut self, m: Box<NewProxy>) {
        let (shared, run_id) = (self.shared, &self.handle.run_id);
        let title = |m: &NewProxy| (m.proxy_name.clone(), proxy::kind(m).to_owned());
        let (mut name, mut kind) = title(&m);
        let agent = m.agent;
        let registered = match shared.plugins.new_proxy(&self.handle, m).await {
            Ok(m) => {
                (name, kind) = title(&m);
                self.open_proxy(&m).await
            }
            Err(e) => Err(e),
        };
        let resp = match registered {
            Ok(remote_addr) => {
                tracing::info!(run_id = %run_id, "new proxy [{name}] type [{kind}] success");
                NewProxyResp {
                    proxy_name: name,
                    remote_addr,
                    agent,
                    ..NewProxyResp::default()
                }
            }
            Err(e) => {
                tracing::warn!(run_id = %run_id, "new proxy [{name}] type [{kind}] error: {e}");
                let error = if shared.now().settings.detailed_errors {
                    e
                } else {
                    format!("new proxy [{name}] error")
                };
                NewProxyResp {
                    proxy_name: name,
                    error,
                    ..NewProxyResp::default()
                }
            }
        };
        self.handle.send(Message::NewProxyResp(resp)).await;
    }

    /// Registers a proxy and puts it among those of the session; its `remote_addr` text.
    async fn open_proxy(&self, m: &NewProxy) -> Result<String, String> {
        let (shared, proxies) = (self.shared, &self.handle.proxies);
        if proxies.is_drained() {
            return Err(DRAINED.into());
        }
        let (proxy, remote_addr) =
            proxy::register(shared, &self.handle, proxies.ports(), m).await?;
        // An administrator may have come in between.
        let refused = match proxies.insert(Box::new(proxy)) {
            Err(proxy) => Some((proxy, DRAINED.to_owned())),
            Ok(()) => match shared.disabled.check(&m.proxy_name) {
                Ok(()) => None,
                Err(e) => proxies.remove(&m.proxy_name).map(|proxy| (proxy, e)),
            },
        };
        match refused {
            None => Ok(remote_addr),
            Some((proxy, e)) => {
                proxy.close().await;
                Err(e)
            }
        }
    }

    /// The agent of a service has said how it is.
    fn agent_says(&self, m: &AgentState) {
        let (run_id, name) = (&self.handle.run_id, &m.proxy_name);
        let report = match AgentReport::parse(&m.line) {
            Ok(report) => report,
            Err(e) => return tracing::debug!(run_id = %run_id, proxy = %name, "agent: {e}"),
        };
        // One that has just been closed is nobody's member.
        if let Some(context) = self.handle.proxies.context(name)
            && self.shared.balancing.agent_says(&context, &report)
        {
            tracing::info!(run_id = %run_id, proxy = %name, "agent says [{}]", m.line.trim());
        }
    }

    async fn close_proxy(&mut self, name: &str) {
        if let Some(proxy) = self.handle.proxies.remove(name) {
            proxy.close().await;
            plugin::proxy_closed(self.shared, &self.handle, name);
        }
        tracing::info!(run_id = %self.handle.run_id, "close proxy [{name}] success");
    }

    async fn ping(&mut self, m: Ping) {
        let run_id = &self.handle.run_id;
        let mut pong = Pong::default();
        if let Err(error) = self.check_ping(m).await {
            tracing::warn!(run_id = %run_id, "received invalid ping: {error}");
            pong.error = if self.shared.now().settings.detailed_errors {
                error
            } else {
                "invalid ping".into()
            };
        } else {
            *self
                .last_ping
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Instant::now();
            tracing::debug!(run_id = %run_id, "receive heartbeat");
        }
        self.handle.send(Message::Pong(pong)).await;
    }

    async fn check_ping(&self, m: Ping) -> Result<(), String> {
        let shared = self.shared;
        let m = shared.plugins.ping(&self.handle, m).await?;
        let handle = &self.handle;
        let credentials = &handle.credentials;
        if credentials.scopes.heartbeats && !handle.auth_exempt {
            let subject = handle.subject.as_deref();
            credentials.auth.ping(&m, subject).await?;
        }
        Ok(())
    }
}
