//! [`Socket`]: a UDP socket that gives and takes datagrams in batches.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::SockRef;
use tokio::net::UdpSocket;

use crate::net::listen;

/// No datagram is longer.
pub(super) const MAX_DATAGRAM: usize = 65_535;
/// Datagrams taken at once; more wait in the socket.
const BATCH: usize = 64;
/// What a socket shall hold in either direction while this program is busy: a tenth of a second of 100,000 datagrams a second.
/// Systems cut it to their own maximum, unless this program may exceed that.
const BUFFER: usize = 8 * 1024 * 1024;

thread_local! {
    /// Where a datagram is between the system and its message.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_DATAGRAM].into());
}

/// A UDP socket with large buffers.
pub struct Socket {
    socket: UdpSocket,
    /// IPv4 peers have mapped addresses.
    is_ipv6: bool,
}

impl Socket {
    /// Binds as [`listen::bind_udp`] does.
    pub async fn bind(addr: &str, port: u16) -> io::Result<Self> {
        Self::new(listen::bind_udp(addr, port).await?)
    }

    /// A socket of its own for one peer.
    pub async fn connect(peer: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if peer.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(peer).await?;
        Self::new(socket)
    }

    fn new(socket: UdpSocket) -> io::Result<Self> {
        let buffers = SockRef::from(&socket);
        // A system that refuses gives what it has: the buffers are a matter of loss under load only.
        let _ = buffers.set_send_buffer_size(BUFFER);
        if !force_receive_buffer(&socket) {
            let _ = buffers.set_recv_buffer_size(BUFFER);
        }
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, is_ipv6 })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits until [`Socket::receive`] has something. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Calls `each` for the datagrams that are there, each cut to `size` bytes, with their senders; at most a batch, and
    /// none after `each` has said that there is no room for more. Whether there may be more.
    pub fn receive(
        &self,
        size: usize,
        mut each: impl FnMut(&[u8], SocketAddr) -> bool,
    ) -> io::Result<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            for _ in 0..BATCH {
                match self.socket.try_recv_from(scratch) {
                    Ok((n, peer)) if each(&scratch[..n.min(size)], peer) => {}
                    Ok(_) => return Ok(true),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(e) => return Err(e),
                }
            }
            Ok(true)
        })
    }

    /// Sends to the peer of a connected socket.
    pub async fn send(&self, content: &[u8]) -> io::Result<()> {
        self.socket.send(content).await.map(drop)
    }

    /// Sends to `peer`.
    pub async fn send_to(&self, content: &[u8], peer: SocketAddr) -> io::Result<()> {
        let peer = match peer {
            SocketAddr::V4(v4) if self.is_ipv6 => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            other => other,
        };
        self.socket.send_to(content, peer).await.map(drop)
    }
}

/// Sets the buffer above the system's maximum, which takes `CAP_NET_ADMIN`; whether it did.
#[cfg(target_os = "linux")]
fn force_receive_buffer(socket: &UdpSocket) -> bool {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn force_receive_buffer(_: &UdpSocket) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(socket: &Socket, size: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut got = Vec::new();
        while got.is_empty() {
            socket.readable().await.unwrap();
            let each = |content: &[u8], peer| {
                got.push((content.to_vec(), peer));
                true
            };
            socket.receive(size, each).unwrap();
        }
        got
    }

    #[tokio::test]
    async fn datagrams_of_every_size_come_through_and_long_ones_are_cut() {
        let near = Socket::bind("127.0.0.1", 0).await.unwrap();
        let far = Socket::connect(near.local_addr().unwrap()).await.unwrap();
        for length in [0, 1, 1_500, 1_501, 60_000] {
            let content = vec![7; length];
            far.send(&content).await.unwrap();
            let got = received(&near, 1_500).await;
            let expected = (
                content[..length.min(1_500)].to_vec(),
                far.local_addr().unwrap(),
            );
            assert_eq!(got, [expected]);
        }
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_says_so() {
        let near = Socket::bind("127.0.0.1", 0).await.unwrap();
        let far = Socket::connect(near.local_addr().unwrap()).await.unwrap();
        for _ in 0..BATCH + 3 {
            far.send(b"x").await.unwrap();
        }
        near.readable().await.unwrap();
        let mut count = 0;
        let mut receive_up_to = |limit| {
            let each = |_: &[u8], _| {
                count += 1;
                count < limit
            };
            let more = near.receive(10, each).unwrap();
            (more, count)
        };
        assert_eq!(receive_up_to(2), (true, 2));
        assert_eq!(receive_up_to(usize::MAX), (true, 2 + BATCH));
        near.readable().await.unwrap();
        assert_eq!(receive_up_to(usize::MAX), (false, 3 + BATCH));
    }

    #[tokio::test]
    async fn a_socket_of_both_families_answers_ipv4() {
        let both = Socket::bind("", 0).await.unwrap();
        let port = both.local_addr().unwrap().port();
        let user = Socket::connect((Ipv4Addr::LOCALHOST, port).into())
            .await
            .unwrap();
        user.send(b"question").await.unwrap();
        let peer = received(&both, 100).await[0].1;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        both.send_to(b"answer", peer).await.unwrap();
        assert_eq!(received(&user, 100).await[0].0, b"answer");
    }
}
