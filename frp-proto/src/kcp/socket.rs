//! UDP sockets and the sessions on them.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Windows;
use super::session::look;
use super::stream::{Shared, Stream};
use crate::net::dial::{self, DialOptions};
use crate::net::listen;

/// Sessions of one listener; each costs a few KiB while it is idle.
pub const MAX_SESSIONS: usize = 16_384;
/// Sessions that may wait to be accepted.
const BACKLOG: usize = 128;
/// Longest datagram that is received.
const MAX_DATAGRAM: usize = 1_500;
/// Conversation of punched paths.
const PUNCHED_CONV: u32 = 1;
/// Datagrams received before other tasks get their turn.
const BURST: usize = 64;

/// A server's socket. Dropping it ends all sessions.
pub struct Listener {
    socket: Arc<UdpSocket>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
    _end: DropGuard,
}

impl Listener {
    /// Serves on a bound socket (see [`listen::bind_transport`]). Needs a tokio runtime.
    pub fn new(socket: std::net::UdpSocket, windows: Windows) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let (sender, incoming) = mpsc::channel(BACKLOG);
        let end = CancellationToken::new();
        let table = Table {
            socket: socket.clone(),
            windows,
            sessions: Arc::default(),
            slots: Arc::new(Semaphore::new(MAX_SESSIONS)),
            incoming: sender,
            end: end.clone(),
        };
        tokio::spawn(async move { table.end.clone().run_until_cancelled(table.run()).await });
        Ok(Self {
            socket,
            incoming: tokio::sync::Mutex::new(incoming),
            _end: end.drop_guard(),
        })
    }

    /// The address of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next session; `None` when the socket has failed for good. Cancel safe.
    pub async fn accept(&self) -> Option<Stream> {
        self.incoming.lock().await.recv().await
    }
}

type Sessions = Arc<Mutex<HashMap<SocketAddr, Arc<Shared>>>>;

/// Who receives all datagrams and knows where they belong.
struct Table {
    socket: Arc<UdpSocket>,
    windows: Windows,
    sessions: Sessions,
    slots: Arc<Semaphore>,
    incoming: mpsc::Sender<Stream>,
    end: CancellationToken,
}

impl Table {
    async fn run(&self) {
        let mut buffer = [0; MAX_DATAGRAM];
        while self.socket.readable().await.is_ok() {
            for _ in 0..BURST {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((n, from)) => self.receive(&buffer[..n], from),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // The echo of something sent to somebody who is gone.
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn receive(&self, datagram: &[u8], from: SocketAddr) {
        let Some(kind) = look(datagram) else {
            return;
        };
        let known = self.lock().get(&from).cloned();
        let beginning = kind.beginning(self.windows.receive);
        if let Some(session) = known.filter(|session| !session.is_over()) {
            match kind.conversation() {
                Some((conv, sn)) if conv != session.conv() => {
                    if sn != 0 || beginning.is_none() {
                        return;
                    }
                    session.end(io::ErrorKind::ConnectionReset);
                }
                _ => return session.input(&Bytes::copy_from_slice(datagram)),
            }
        }
        let Some(conv) = beginning else {
            return;
        };
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            tracing::debug!("kcp: too many sessions, datagram of [{from}] dropped");
            return;
        };
        let Ok(place) = self.incoming.try_reserve() else {
            return;
        };
        let session = Arc::new(Shared::new(conv, self.windows));
        session.input(&Bytes::copy_from_slice(datagram));
        self.lock().insert(from, session.clone());
        place.send(Stream::new(session.clone(), from));
        let (socket, sessions, end) =
            (self.socket.clone(), self.sessions.clone(), self.end.clone());
        tokio::spawn(async move {
            end.run_until_cancelled(session.drive(&socket, from)).await;
            session.end(io::ErrorKind::ConnectionAborted);
            let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
            // Its successor may have taken the place.
            if sessions
                .get(&from)
                .is_some_and(|s| Arc::ptr_eq(s, &session))
            {
                sessions.remove(&from);
            }
            drop(slot);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Shared>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a session with a server, from a port of its own. Nothing is sent before something is written.
pub async fn connect(o: &DialOptions, windows: Windows) -> io::Result<Stream> {
    let addresses = tokio::time::timeout(o.timeout, dial::resolve(o, "udp"));
    let addresses = addresses.await.map_err(|_| {
        let text = format!("dial udp: lookup {}: i/o timeout", o.host);
        io::Error::new(io::ErrorKind::TimedOut, text)
    })??;
    // Without a handshake there is no finding out which of several answers; upstream takes IPv4 too.
    let address = addresses.into_iter().min_by_key(SocketAddr::is_ipv6);
    let peer = address.ok_or(io::ErrorKind::NotFound)?;
    let any = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::from_std(listen::transport_socket(any).map_err(|(_, e)| e)?.into())?;
    let mut conv = [0; 4];
    getrandom::fill(&mut conv).map_err(io::Error::other)?;
    let session = Shared::new(u32::from_ne_bytes(conv), windows);
    Ok(start(session, socket, peer, None))
}

/// The session of two peers that have punched a path (nathole.md §10.2): there is no client and no server. Nothing is sent before
/// something is written, and what comes from others is ignored.
pub fn join(socket: UdpSocket, peer: SocketAddr) -> Stream {
    let session = Shared::new(PUNCHED_CONV, Windows::SERVER);
    start(session, socket, peer, Some(peer))
}

/// Runs a session on a socket of its own.
fn start(
    session: Shared,
    socket: UdpSocket,
    peer: SocketAddr,
    answers: Option<SocketAddr>,
) -> Stream {
    let session = Arc::new(session);
    let driven = session.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = driven.drive(&socket, peer) => {}
            () = receive(&driven, &socket, answers) => {}
        }
        driven.end(io::ErrorKind::ConnectionAborted);
    });
    Stream::new(session, peer)
}

/// Takes in what comes from the peer or, if that is not given, whoever answers first: a server with several addresses may answer
/// from another one.
async fn receive(session: &Shared, socket: &UdpSocket, mut server: Option<SocketAddr>) {
    let mut buffer = [0; MAX_DATAGRAM];
    while socket.readable().await.is_ok() {
        for _ in 0..BURST {
            match socket.try_recv_from(&mut buffer) {
                Ok((n, from)) => {
                    if look(&buffer[..n]).is_some() && *server.get_or_insert(from) == from {
                        session.input(&Bytes::copy_from_slice(&buffer[..n]));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // Nobody is there, yet.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}
