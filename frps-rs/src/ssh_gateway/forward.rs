//! From a work connection to the SSH client: a `forwarded-tcpip` channel (RFC 4254 §7.2), joined with it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use frp_proto::net::Conn;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;

/// For the SSH client to accept a channel.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Users of one SSH connection share its receive path. One that takes nothing for this long, while the others wait behind
/// it, is let go.
const SLOW_USER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes read from a user at once: half of the largest packet of an SSH client.
const READ_SIZE: usize = 16 * 1024;

/// Where the users of a tunnel go.
pub(super) struct Forward {
    handle: Handle,
    address: String,
    port: u32,
}

impl Forward {
    /// `address` and `port` are those of the client's request.
    pub(super) fn new(handle: Handle, address: String, port: u32) -> Self {
        Self {
            handle,
            address,
            port,
        }
    }

    /// Joins a work connection that has its user with the SSH client, until both directions or the channel have ended.
    pub(super) async fn join(&self, work: Conn) {
        let (address, port) = (self.address.as_str(), self.port);
        let opened = self
            .handle
            .channel_open_forwarded_tcpip(address, port, address, port);
        match timeout(OPEN_LIMIT, opened).await {
            Ok(Ok(channel)) => relay(channel, work).await,
            Ok(Err(e)) => tracing::debug!("open ssh channel error: {e}"),
            Err(_) => tracing::debug!("open ssh channel error: i/o timeout"),
        }
    }
}

async fn relay(channel: Channel<Msg>, work: Conn) {
    let (mut from_client, to_client) = channel.split();
    let (from_user, to_user) = tokio::io::split(work);
    let client_is_done = Notify::new();
    let up = async {
        if send(from_user, &to_client).await.is_ok() {
            client_is_done.notified().await;
        }
    };
    tokio::select! {
        () = receive(&mut from_client, to_user, &client_is_done) => {}
        () = up => {}
    }
    // It fails only when the connection has ended, and the channel with it.
    let _ = to_client.close().await;
}

/// Writes what the client sends, until the channel is closed or the user does not take it.
async fn receive(client: &mut ChannelReadHalf, mut user: WriteHalf<Conn>, client_is_done: &Notify) {
    while let Some(message) = client.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let written = timeout(SLOW_USER_LIMIT, user.write_all(&data)).await;
                let Ok(Ok(())) = written else {
                    return;
                };
            }
            ChannelMsg::Eof => {
                // The other direction goes on in any case.
                let _ = user.shutdown().await;
                client_is_done.notify_one();
            }
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Sends what the user says, to its end.
async fn send(mut user: ReadHalf<Conn>, client: &ChannelWriteHalf<Msg>) -> Result<(), ()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_SIZE);
        if user.read_buf(&mut buffer).await.map_err(drop)? == 0 {
            return client.eof().await.map_err(drop);
        }
        let data: Bytes = buffer.split().freeze();
        client.data_bytes(data).await.map_err(drop)?;
    }
}
