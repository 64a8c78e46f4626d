//! The users' side of a datagram tunnel: one socket for all of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Inbox, Incoming, Outbox, Socket};
use crate::msg::io::MsgError;
use crate::msg::packet::{parse_address, write_address};

/// Pause after an error of the socket, which concerns a single datagram or passes.
const PAUSE: Duration = Duration::from_millis(10);

/// Queues what users send, for ever; `count` is told how many bytes that is. Cancel safe.
pub async fn collect(socket: &Socket, packet_size: usize, outbox: &Outbox, count: impl Fn(u64)) {
    let mut remote = Remote::default();
    loop {
        outbox.room().await;
        if socket.readable().await.is_err() {
            sleep(PAUSE).await;
            continue;
        }
        let mut bytes = 0;
        let received = {
            let mut batch = outbox.batch();
            socket.receive(packet_size, |content, user| {
                if batch.push(content, remote.text(user)) {
                    bytes += content.len() as u64;
                }
                batch.has_room()
            })
        };
        if bytes > 0 {
            count(bytes);
        }
        match received {
            Ok(false) => {}
            // Who sends has its turn even if users never pause.
            Ok(true) => yield_now().await,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Gives users what arrives for them, until the stream fails; `count` is told the bytes of each. A datagram that cannot be
/// sent is lost.
pub async fn deliver<R: AsyncRead + Unpin>(
    inbox: &mut Inbox<R>,
    socket: &Socket,
    count: impl Fn(u64),
) -> Result<Infallible, MsgError> {
    let mut remote = Remote::default();
    loop {
        if let Incoming::Packet(packet) = inbox.next().await?
            && let Some(user) = remote.address(packet.remote)
        {
            // The system's buffer being full is waited for; what else goes wrong is this user's affair.
            let _ = socket.send_to(packet.content, user).await;
            count(packet.content.len() as u64);
        }
    }
}

/// The address of the last datagram in both forms: the next one often has the same.
#[derive(Default)]
struct Remote {
    address: Option<SocketAddr>,
    text: Vec<u8>,
}

impl Remote {
    fn text(&mut self, address: SocketAddr) -> &[u8] {
        if self.address != Some(address) {
            self.address = Some(address);
            self.text.clear();
            write_address(address, &mut self.text);
        }
        &self.text
    }

    fn address(&mut self, text: &[u8]) -> Option<SocketAddr> {
        if self.text != text {
            self.address = parse_address(text);
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Version;

    #[tokio::test]
    async fn users_talk_through_a_stream_and_get_their_own_answers() {
        for addr in ["127.0.0.1", ""] {
            let socket = Socket::bind(addr, 0).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let (near, mut far) = tokio::io::duplex(10_000);
            let (reader, mut writer) = tokio::io::split(near);
            let outbox = Outbox::new(Version::V1);
            let mut inbox = Inbox::new(reader, Version::V1, None);
            let echo = async {
                let (mut r, mut w) = tokio::io::split(&mut far);
                tokio::io::copy(&mut r, &mut w).await
            };
            let users = async {
                let mut users = Vec::new();
                for n in 0..3 {
                    let peer = SocketAddr::from(([127, 0, 0, 1], port));
                    let user = Socket::connect(peer).await.unwrap();
                    user.send(&[n; 100]).await.unwrap();
                    users.push(user);
                }
                for (n, user) in (0..).zip(users) {
                    user.readable().await.unwrap();
                    let each = |content: &[u8], _| content == [n; 80];
                    assert!(!user.receive(1_000, each).unwrap());
                }
            };
            tokio::select! {
                () = users => {}
                () = collect(&socket, 80, &outbox, |_| {}) => unreachable!(),
                e = outbox.send(&mut writer) => panic!("{e:?}"),
                e = deliver(&mut inbox, &socket, |_| {}) => panic!("{e:?}"),
                e = echo => panic!("{e:?}"),
            }
        }
    }
}
