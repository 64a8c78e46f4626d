//! One SSH connection (server.md §10.2): log in, say what is wanted, then carry users until one side ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::net::listen;
use russh::server::{self, Handle};
use russh::{ChannelId, Disconnect};
use tokio::net::TcpStream;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::client::{Client, Identity};
use super::command::{self, Parsed};
use super::forward::Forward;
use super::handler::{self, Login, Request};
use super::stream::Revocable;
use crate::id;

/// From the connection to a login: long enough for a person to type the passphrase of a key.
const LOGIN_LIMIT: Duration = Duration::from_mins(1);
/// For both parts of the request.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// For the last text to reach the client, and for the client to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Hexadecimal digits of a name that is made up.
const NAME_DIGITS: usize = 8;

/// Serves one SSH client to its end.
pub(super) async fn run(context: Arc<Context>, stream: TcpStream, peer: SocketAddr) {
    let Ok(pending) = context.pending.try_acquire() else {
        tracing::debug!("too many ssh connections without a tunnel, [{peer}] closed");
        return;
    };
    if let Err(e) = listen::set_options(&stream, context.shared.now().settings.tcp_keepalive) {
        tracing::debug!("socket options of [{peer}]: {e}");
    }
    let stop = context.shared.stop.child_token();
    let _end = stop.clone().drop_guard();
    let stream = Revocable::new(stream, stop.clone());
    let (login, logged_in) = oneshot::channel();
    let (request, requested) = oneshot::channel();
    let client = handler::Client::new(peer, context.authorized_keys.clone(), login, request);
    let greeted = server::run_stream(context.config.clone(), stream, client);
    let mut session = match timeout(LOGIN_LIMIT, greeted).await {
        Ok(Ok(session)) => session,
        Ok(Err(e)) => return tracing::error!("ssh tunnel server run error: {e}"),
        Err(_) => return,
    };
    let tunnel = Tunnel {
        context: &context,
        handle: session.handle(),
        peer,
        stop,
    };
    let serve = async {
        let terminal = Box::pin(tunnel.serve(pending, logged_in, requested)).await;
        // It closes when it has written out what it was told.
        let _ = timeout(CLOSE_LIMIT, async {
            tunnel.take_leave(terminal).await;
            std::future::pending::<()>().await;
        })
        .await;
    };
    tokio::select! {
        ended = &mut session => {
            if let Err(e) = ended {
                tracing::debug!("ssh connection of [{peer}]: {e}");
            }
        }
        () = serve => {}
    }
    tracing::trace!("ssh tunnel connection from {peer} closed");
}

struct Tunnel<'a> {
    context: &'a Context,
    handle: Handle,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Tunnel<'_> {
    /// From the greeting to the end of the tunnel; gives the terminal, if there is one. `pending` is held until the proxy
    /// runs.
    async fn serve(
        &self,
        pending: SemaphorePermit<'_>,
        logged_in: oneshot::Receiver<Login>,
        requested: oneshot::Receiver<Request>,
    ) -> Option<ChannelId> {
        // An error means that the connection has ended, which the caller sees.
        let login = timeout(LOGIN_LIMIT, logged_in).await.ok()?.ok()?;
        let Ok(Ok(request)) = timeout(REQUEST_LIMIT, requested).await else {
            tracing::error!("ssh tunnel server run error: get addr and extra payload timeout");
            return None;
        };
        let terminal = request.terminal;
        match self.open(login, request).await {
            Ok((client, greeting)) => {
                drop(pending);
                self.print(terminal, greeting).await;
                client.run().await;
            }
            Err(text) => self.print(terminal, text).await,
        }
        Some(terminal)
    }

    /// Ends the connection from this side. A client that is told so by a message drops what it has not written out yet, so
    /// one with a terminal is left to end by itself when that is closed.
    async fn take_leave(&self, terminal: Option<ChannelId>) {
        // All of it fails only for a connection that has ended.
        if let Some(terminal) = terminal {
            let _ = self.handle.eof(terminal).await;
            let _ = self.handle.close(terminal).await;
        } else {
            let (reason, nothing) = (Disconnect::ByApplication, String::new);
            let _ = self.handle.disconnect(reason, nothing(), nothing()).await;
        }
    }

    /// Starts what is asked for; gives the client and what to tell about it, or the text to end with.
    async fn open(&self, login: Login, request: Request) -> Result<(Client, String), String> {
        let mut options = match command::parse(&request.command) {
            Ok(Parsed::Tunnel(options)) => options,
            Ok(Parsed::Help(text)) => return Err(text),
            Err(e) => {
                tracing::error!(
                    "ssh tunnel server run error: parse flags from ssh client error: {e}"
                );
                return Err(e);
            }
        };
        let token = options.token();
        let mut proxy = std::mem::take(&mut options.proxy);
        if proxy.proxy_name.is_empty() {
            let digits = id::random()?;
            proxy.proxy_name = format!(
                "sshtunnel-{}-{}",
                proxy.proxy_type,
                &digits[..NAME_DIGITS.min(digits.len())]
            );
        }
        let user = if login.user.is_empty() {
            options.user
        } else {
            login.user
        };
        let (name, kind) = (proxy.proxy_name.clone(), proxy.proxy_type.clone());
        let identity = Identity {
            peer: self.peer,
            user: user.clone(),
            client_id: options.client_id,
            token,
            always_auth_pass: self.context.authorized_keys.is_some(),
        };
        let forward = Forward::new(self.handle.clone(), request.address, request.port);
        let shared = &self.context.shared;
        let stop = self.stop.child_token();
        match Client::start(shared, identity, proxy, forward, stop).await {
            Ok(client) => {
                let greeting = format!(
                    "\nfrp (via SSH) (Ctrl+C to quit)\n\nUser: {user}\nProxyName: {name}\nType: {kind}\nRemoteAddress: {}\n",
                    client.remote_addr
                );
                Ok((client, greeting))
            }
            Err(e) => {
                tracing::warn!("wait proxy status ready error: {e}");
                Err(e)
            }
        }
    }

    /// Writes a text to the client's terminal.
    async fn print(&self, terminal: ChannelId, mut text: String) {
        text.push('\n');
        // It fails only when the connection has ended.
        let _ = timeout(CLOSE_LIMIT, self.handle.data(terminal, text)).await;
    }
}
