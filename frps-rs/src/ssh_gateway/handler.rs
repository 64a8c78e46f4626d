//! What the SSH protocol engine asks: who may come, and what a client wants.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, Error, Pty};
use tokio::sync::oneshot;

use super::authorized_keys;

/// Channels a client may open in all: one is of use, and a multiplexing client opens one for each command.
const MAX_CHANNELS: usize = 16;

/// A client that has proved itself, as far as it had to.
pub(super) struct Login {
    /// The comment of its key.
    pub(super) user: String,
}

/// What a client wants.
#[derive(Debug)]
pub(super) struct Request {
    /// Address and port of `ssh -R`, which come back with every connection.
    pub(super) address: String,
    pub(super) port: u32,
    /// The first channel, which texts are written to.
    pub(super) terminal: ChannelId,
    pub(super) command: String,
}

/// One SSH connection, as the engine sees it.
pub(super) struct Client {
    peer: SocketAddr,
    authorized_keys: Option<Arc<PathBuf>>,
    user: String,
    channels: usize,
    terminal: Option<ChannelId>,
    forward: Option<(String, u32)>,
    command: Option<String>,
    login: Option<oneshot::Sender<Login>>,
    request: Option<oneshot::Sender<Request>>,
}

impl Client {
    /// Tells `login` and `request` when they are there.
    pub(super) fn new(
        peer: SocketAddr,
        authorized_keys: Option<PathBuf>,
        login: oneshot::Sender<Login>,
        request: oneshot::Sender<Request>,
    ) -> Self {
        Self {
            peer,
            authorized_keys: authorized_keys.map(Arc::new),
            user: String::new(),
            channels: 0,
            terminal: None,
            forward: None,
            command: None,
            login: Some(login),
            request: Some(request),
        }
    }

    /// Looks the key up; what there is to say about a refusal has been logged.
    async fn comment_of(&self, key: &PublicKey) -> Option<String> {
        let (path, key) = (self.authorized_keys.clone()?, key.clone());
        let found =
            tokio::task::spawn_blocking(move || authorized_keys::comment_of(&path, &key)).await;
        let refusal = match found {
            Ok(Ok(Some(comment))) => return Some(comment),
            Ok(Ok(None)) => format!(
                "unknown public key for remoteAddr {:?}",
                self.peer.to_string()
            ),
            Ok(Err(e)) => {
                tracing::error!("load authorized keys file error: {e}");
                "internal error".into()
            }
            Err(_) => "internal error".into(),
        };
        tracing::error!("ssh tunnel server run error: [ssh: no auth passed yet, {refusal}]");
        None
    }

    /// Tells what the client wants once all of it is known.
    fn tell(&mut self) {
        if let (Some((address, port)), Some(terminal), Some(command)) =
            (&self.forward, self.terminal, &self.command)
            && let Some(sender) = self.request.take()
        {
            // Nobody waits any more when it comes too late.
            let _ = sender.send(Request {
                address: address.clone(),
                port: *port,
                terminal,
                command: command.clone(),
            });
        }
    }
}

fn verdict(admitted: bool) -> Auth {
    if admitted {
        Auth::Accept
    } else {
        Auth::reject()
    }
}

impl Handler for Client {
    type Error = Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Error> {
        Ok(verdict(self.authorized_keys.is_none()))
    }

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(verdict(self.comment_of(offer.public_key).await.is_some()))
    }

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        let comment = self.comment_of(key.public_key).await;
        let admitted = comment.is_some();
        self.user = comment.unwrap_or_default();
        Ok(verdict(admitted))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Error> {
        if let Some(sender) = self.login.take() {
            let user = std::mem::take(&mut self.user);
            let _ = sender.send(Login { user });
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        // One that is not accepted is refused.
        if self.channels < MAX_CHANNELS {
            self.channels += 1;
            self.terminal.get_or_insert(channel.id());
            reply.accept().await;
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        if !data.is_empty() && self.command.is_none() {
            self.command = Some(String::from_utf8_lossy(data).into_owned());
            self.tell();
        }
        session.channel_success(channel)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Error> {
        if self.forward.is_none() {
            self.forward = Some((address.to_owned(), *port));
            self.tell();
        }
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        _: &str,
        _: u32,
        _: &mut Session,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Error> {
        Ok(true)
    }
}
