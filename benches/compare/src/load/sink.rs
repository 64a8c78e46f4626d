//! The local service behind the tunnel, for all loads.
//!
//! A connection begins with one byte that says what it wants:
//!
//! * [`OP_ECHO`]: this byte and everything after it is echoed;
//! * [`http::FIRST`]: this byte begins a request of HTTP;
//! * [`OP_UP`] or [`OP_DOWN`], then a verify flag and a 64-bit big-endian length: the service answers [`READY`], then
//!   *up* reads that many bytes and answers [`DONE`] (or [`DAMAGED`]), *down* waits for [`READY`] and sends them.
//!
//! Datagrams to the UDP port of the same number are counted. A second port answers requests of HTTP slowly.

use super::datagrams;
use super::http;
use super::payload::Payload;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Echo this byte and all that follow.
pub(super) const OP_ECHO: u8 = b'E';
/// The user sends.
pub(super) const OP_UP: u8 = b'U';
/// The service sends.
pub(super) const OP_DOWN: u8 = b'D';
/// The tunnel stands; the transfer may begin.
pub(super) const READY: u8 = b'R';
/// All bytes have arrived.
pub(super) const DONE: u8 = b'K';
/// They arrived, but were not those that were sent.
pub(super) const DAMAGED: u8 = b'X';

/// Bytes asked for in one receive call.
const RECEIVE: usize = 1 << 20;
/// Back-off after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What an answer of the slow port waits for.
const SLOW: Duration = Duration::from_millis(50);

/// Where the service listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// For everything.
    pub(crate) service: SocketAddr,
    /// Where HTTP is slow.
    pub(crate) slow: SocketAddr,
}

/// A running service; dropping it closes its listeners and lets open connections end by themselves.
pub(crate) struct Sink {
    addresses: Addresses,
    tasks: [JoinHandle<()>; 2],
    datagrams: datagrams::Service,
}

impl Sink {
    /// Listens on a free loopback port.
    pub(crate) async fn start(payload: Arc<Payload>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let slow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addresses = Addresses {
            service: listener.local_addr()?,
            slow: slow.local_addr()?,
        };
        let datagrams = datagrams::Service::start(addresses.service.port(), payload.clone())?;
        let fast = accept(listener, payload.clone(), Duration::ZERO);
        Ok(Self {
            addresses,
            tasks: [
                tokio::spawn(fast),
                tokio::spawn(accept(slow, payload, SLOW)),
            ],
            datagrams,
        })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Datagrams that have arrived.
    pub(super) fn arrived(&self) -> Arc<datagrams::Arrived> {
        self.datagrams.arrived()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, payload: Arc<Payload>, delay: Duration) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                let payload = Arc::clone(&payload);
                // The other end of the tunnel sees and reports a connection that broke.
                tokio::spawn(async move { serve(connection, &payload, delay).await.ok() });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(mut connection: TcpStream, payload: &Payload, delay: Duration) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let operation = connection.read_u8().await?;
    if operation == OP_ECHO {
        connection.write_all(&[operation]).await?;
        return echo(connection).await;
    }
    if operation == http::FIRST {
        return http::serve(connection, payload, delay).await;
    }
    let verify = connection.read_u8().await? != 0;
    let length = connection.read_u64().await?;
    connection.write_all(&[READY]).await?;
    if operation == OP_UP {
        let intact = receive(&mut connection, payload, 0, length, verify).await?;
        connection
            .write_all(&[if intact { DONE } else { DAMAGED }])
            .await?;
    } else {
        connection.read_u8().await?;
        send(&mut connection, payload, length).await?;
    }
    // The user closes first, so that no byte is lost to a reset.
    connection.read_u8().await.map(drop)
}

/// Echoes until the end. The buffer is small because thousands of these may be open and idle.
async fn echo(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            n => connection.write_all(&buffer[..n]).await?,
        }
    }
}

/// Sends the first `length` bytes of the payload.
pub(super) async fn send(
    connection: &mut TcpStream,
    payload: &Payload,
    length: u64,
) -> io::Result<()> {
    let mut sent = 0;
    while sent < length {
        let piece = payload.piece(sent, length - sent);
        connection.write_all(piece).await?;
        sent += piece.len() as u64;
    }
    Ok(())
}

/// Receives the bytes from `begun` to `length`. Returns whether they were the payload's, which is looked at only with `verify`.
pub(super) async fn receive(
    connection: &mut TcpStream,
    payload: &Payload,
    begun: u64,
    length: u64,
    verify: bool,
) -> io::Result<bool> {
    if !verify {
        discard(connection, length - begun).await?;
        return Ok(true);
    }
    let mut buffer = vec![0; RECEIVE];
    let mut received = begun;
    let mut intact = true;
    while received < length {
        let room = (length - received).min(RECEIVE as u64) as usize;
        let n = connection.read(&mut buffer[..room]).await?;
        if n == 0 {
            return Err(cut_short(received, length));
        }
        intact &= payload.matches(received, &buffer[..n]);
        received += n as u64;
    }
    Ok(intact)
}

/// Receives `length` bytes for nobody. On Linux `MSG_TRUNC` makes a TCP socket drop them inside the kernel (tcp(7)).
async fn discard(connection: &TcpStream, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    const FLAGS: i32 = libc::MSG_TRUNC;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: i32 = 0;
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); RECEIVE];
    let mut received = 0;
    while received < length {
        let room = (length - received).min(RECEIVE as u64) as usize;
        connection.readable().await?;
        let got = connection.try_io(Interest::READABLE, || {
            socket2::SockRef::from(connection).recv_with_flags(&mut buffer[..room], FLAGS)
        });
        match got {
            Ok(0) => return Err(cut_short(received, length)),
            Ok(n) => received += n as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn cut_short(received: u64, length: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the stream ended after {received} of {length} bytes"),
    )
}
