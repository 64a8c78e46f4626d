//! The client inside this process that owns a tunnel's proxy (server.md §10.4): it logs in over a pipe as any client does,
//! so that plugins, limits and names treat it as one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::{Secret, token_key};
use frp_proto::host;
use frp_proto::msg::handshake::{self, ControlReader, ControlWriter, HelloInfo, Side};
use frp_proto::msg::{ClientSpec, Login, Message, NewProxy, NewWorkConn, Version, io};
use frp_proto::net::Conn;
use frp_proto::text::VERSION;
use tokio::io::{ReadHalf, WriteHalf, duplex};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::forward::Forward;
use crate::session::Origin;
use crate::{Shared, accept};

/// From the start to a running proxy.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Bytes that may wait in a pipe.
const PIPE: usize = 32 * 1024;
/// Work connections of one tunnel, with and without a user.
const MAX_WORK_CONNS: usize = 1_024;

/// What a tunnel's client says of itself.
pub(super) struct Identity {
    pub(super) peer: SocketAddr,
    pub(super) user: String,
    pub(super) client_id: String,
    pub(super) token: Secret,
    /// An SSH key has decided already.
    pub(super) always_auth_pass: bool,
}

/// A logged-in client whose proxy runs.
pub(super) struct Client {
    /// Where users connect to, as the server says it.
    pub(super) remote_addr: String,
    reader: ControlReader<ReadHalf<Conn>>,
    _writer: ControlWriter<WriteHalf<Conn>>,
    work: Arc<Work>,
}

impl Client {
    /// Logs in and registers the proxy; users go to `forward`. The error is for the user. Everything ends with `stop`.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        identity: Identity,
        proxy: NewProxy,
        forward: Forward,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        timeout(
            READY_LIMIT,
            Box::pin(ready(shared, identity, proxy, forward, stop)),
        )
        .await
        .unwrap_or_else(|_| Err("wait proxy status ready timeout".into()))
    }

    /// Answers the server's requests until the session ends.
    pub(super) async fn run(mut self) {
        while let Ok(Some(message)) = self.reader.read().await {
            if message == Message::ReqWorkConn {
                self.work.start();
            }
        }
    }
}

async fn ready(
    shared: &Arc<Shared>,
    identity: Identity,
    mut proxy: NewProxy,
    forward: Forward,
    stop: CancellationToken,
) -> Result<Client, String> {
    let closed = |_| "ssh tunnel server closed".to_owned();
    let origin = Origin::Ssh(identity.peer);
    if !identity.user.is_empty() {
        proxy.proxy_name = format!("{}.{}", identity.user, proxy.proxy_name);
    }
    let mut control = pipe(shared, origin);
    let run_id = log_in(&mut control, &identity).await?;
    let token = shared.now().credentials.token.clone();
    let (mut reader, mut writer) =
        handshake::control(control, Side::Client, Version::V1, None, &token).map_err(closed)?;
    let work = Arc::new(Work {
        shared: shared.clone(),
        origin,
        run_id,
        token: identity.token,
        forward,
        places: Arc::new(Semaphore::new(MAX_WORK_CONNS)),
        stop,
    });
    writer
        .write(&Message::NewProxy(Box::new(proxy)))
        .await
        .map_err(closed)?;
    loop {
        match reader.read().await {
            Ok(Some(Message::ReqWorkConn)) => work.start(),
            Ok(Some(Message::NewProxyResp(resp))) if resp.error.is_empty() => {
                return Ok(Client {
                    remote_addr: resp.remote_addr,
                    reader,
                    _writer: writer,
                    work,
                });
            }
            Ok(Some(Message::NewProxyResp(resp))) => return Err(resp.error),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err("ssh tunnel server closed".into()),
        }
    }
}

/// A connection to this very server.
fn pipe(shared: &Arc<Shared>, origin: Origin) -> Conn {
    let (near, far) = duplex(PIPE);
    let shared = shared.clone();
    shared.tasks.clone().spawn(async move {
        let serve = accept::internal(&shared, Conn::Other(Box::new(far)), origin);
        shared.stop.run_until_cancelled(serve).await;
    });
    Conn::Other(Box::new(near))
}

/// The id of the session.
async fn log_in(control: &mut Conn, identity: &Identity) -> Result<String, String> {
    let timestamp = host::unix_time();
    let login = Login {
        version: VERSION.into(),
        hostname: host::hostname(),
        os: host::os().into(),
        arch: host::arch().into(),
        user: identity.user.clone(),
        privilege_key: token_key(&identity.token, timestamp),
        timestamp,
        client_id: identity.client_id.clone(),
        client_spec: ClientSpec {
            type_: "ssh-tunnel".into(),
            always_auth_pass: identity.always_auth_pass,
        },
        pool_count: 1,
        ..Login::default()
    };
    // Only v2 sends it.
    let hello = HelloInfo {
        transport: String::new(),
        tls: false,
        tcp_mux: false,
    };
    let error = match handshake::login(control, Version::V1, hello, login).await {
        Ok((resp, _)) if resp.error.is_empty() => return Ok(resp.run_id),
        Ok((resp, _)) => resp.error,
        Err(e) => e.to_string(),
    };
    tracing::warn!("[sshVirtualClient] connect to server error: {error}");
    Err(format!(
        "login to the server failed: {error}. With loginFailExit enabled, no additional retries will be attempted"
    ))
}

/// What the work connections of a tunnel share.
struct Work {
    shared: Arc<Shared>,
    origin: Origin,
    run_id: String,
    token: Secret,
    forward: Forward,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Work {
    /// Brings one work connection.
    fn start(self: &Arc<Self>) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!(run_id = %self.run_id, "[sshVirtualClient] {MAX_WORK_CONNS} work connections are open, request for one more ignored");
            return;
        };
        let work = self.clone();
        self.shared.tasks.spawn(async move {
            let _place = place;
            work.stop.run_until_cancelled(work.serve()).await;
        });
    }

    /// Waits for a user, who goes to the SSH client.
    async fn serve(&self) {
        let mut conn = pipe(&self.shared, self.origin);
        let timestamp = host::unix_time();
        let hello = NewWorkConn {
            run_id: self.run_id.clone(),
            privilege_key: token_key(&self.token, timestamp),
            timestamp,
        };
        let hello = Message::NewWorkConn(hello);
        if handshake::open(&mut conn, Version::V1, &hello)
            .await
            .is_err()
        {
            return;
        }
        match io::read_message(&mut conn, Version::V1).await {
            Ok(Some(Message::StartWorkConn(start))) if start.error.is_empty() => {
                self.forward.join(conn).await;
            }
            Ok(Some(Message::StartWorkConn(start))) => {
                tracing::error!(run_id = %self.run_id, "[sshVirtualClient] StartWorkConn contains error: {}", start.error);
            }
            Ok(_) | Err(_) => {
                tracing::trace!(run_id = %self.run_id, "[sshVirtualClient] work connection closed before response StartWorkConn message");
            }
        }
    }
}
