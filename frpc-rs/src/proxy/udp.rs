//! The local side of `udp` and `sudp` proxies (client.md §11): every user has a socket of its own towards the service.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frp_proto::config::raw::client::ProxyBase;
use frp_proto::msg::io::MsgError;
use frp_proto::msg::packet::{Packet, parse_address};
use frp_proto::net::Conn;
use frp_proto::net::listen::join_host_port;
use frp_proto::udp::{Inbox, Incoming, Outbox, Socket};
use tokio::io::AsyncRead;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, interval_at, timeout_at};
use tokio_util::sync::CancellationToken;

use super::local;
use crate::proxy_protocol::ProxyProtocol;
use crate::{Error, Shared};

/// A user to and from whom nothing came for this time is forgotten.
const IDLE: Duration = Duration::from_secs(30);
/// Time between Pings, which keep the other side from giving up a silent connection after 60 s.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Users of one work connection at a time, each with a socket; datagrams of further ones are dropped.
const MAX_USERS: usize = 16_384;

/// A service that is reached over UDP.
#[derive(Debug)]
pub(super) struct Backend {
    /// Type of the proxy, for logs.
    kind: &'static str,
    host: String,
    port: u16,
    proxy_protocol: Option<ProxyProtocol>,
    /// `udp` proxies have one work connection at a time: this ends the last one.
    latest: Option<Mutex<CancellationToken>>,
}

impl Backend {
    /// Of a `udp` proxy.
    pub(super) fn udp(base: &ProxyBase) -> Result<Self, Error> {
        Ok(Self {
            latest: Some(Mutex::default()),
            ..Self::new("udp", base)?
        })
    }

    /// Of a `sudp` proxy, which has a work connection for every visitor.
    pub(super) fn sudp(base: &ProxyBase) -> Result<Self, Error> {
        Self::new("sudp", base)
    }

    fn new(kind: &'static str, base: &ProxyBase) -> Result<Self, Error> {
        Ok(Self {
            kind,
            host: base.local_ip.clone(),
            port: local::port(base)?,
            proxy_protocol: local::proxy_protocol(base)?,
            latest: None,
        })
    }

    /// Carries datagrams until the work connection ends or has a successor.
    pub(super) async fn serve(&self, shared: &Shared, run_id: &str, name: &str, work: Conn) {
        let (kind, dial) = (self.kind, &shared.settings.dial);
        let server = join_host_port(&dial.host, dial.port);
        tracing::info!(run_id = %run_id, proxy = %name, "incoming a new work connection for {kind} proxy, {server}");
        let superseded = self.supersede();
        let service = match self.resolve().await {
            Ok(service) => service,
            Err(e) => {
                let address = join_host_port(&self.host, self.port);
                tracing::error!(run_id = %run_id, proxy = %name, "connect to local service [{address}] error: {e}");
                return;
            }
        };
        let version = shared.settings.wire_version;
        let outbox = Arc::new(Outbox::new(version));
        let (reader, mut writer) = tokio::io::split(work);
        let mut inbox = Inbox::new(reader, version, None);
        let mut users = Users {
            service,
            packet_size: shared.settings.udp_packet_size,
            proxy_protocol: self.proxy_protocol,
            outbox: outbox.clone(),
            table: Arc::default(),
            tasks: JoinSet::new(),
        };
        tokio::select! {
            Err(e) = outbox.send(&mut writer) => {
                tracing::error!(run_id = %run_id, proxy = %name, "{kind} work write error: {e}");
            }
            Err(e) = users.serve(&mut inbox) => {
                tracing::warn!(run_id = %run_id, proxy = %name, "read from workConn for {kind} error: {e}");
            }
            () = ping(&outbox) => {}
            () = superseded.cancelled() => {}
        }
        tracing::info!(run_id = %run_id, proxy = %name, "writer goroutine for {kind} work connection closed");
    }

    /// Ends the predecessor, if there may be only one; gives what ends this one.
    fn supersede(&self) -> CancellationToken {
        let token = CancellationToken::new();
        if let Some(latest) = &self.latest {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *latest, token.clone()).cancel();
        }
        token
    }

    async fn resolve(&self) -> io::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "no such host");
        found.next().ok_or_else(none)
    }
}

/// Queues a Ping in every interval, for ever.
async fn ping(outbox: &Outbox) {
    let mut due = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    loop {
        due.tick().await;
        outbox.batch().push_ping();
    }
}

/// The users of one work connection; dropping it closes their sockets.
struct Users {
    service: SocketAddr,
    packet_size: usize,
    proxy_protocol: Option<ProxyProtocol>,
    outbox: Arc<Outbox>,
    table: Arc<Table>,
    tasks: JoinSet<()>,
}

/// Users by their address as it stands in messages.
#[derive(Default)]
struct Table(Mutex<HashMap<Box<[u8]>, User>>);

struct User {
    socket: Arc<Socket>,
    active: Instant,
    answers: AbortHandle,
}

impl Drop for User {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, User>> {
        // Every change is one insert or remove: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket of a user, who counts as active from now on.
    fn touch(&self, remote: &[u8]) -> Option<Arc<Socket>> {
        let mut users = self.lock();
        let user = users.get_mut(remote)?;
        user.active = Instant::now();
        Some(user.socket.clone())
    }

    /// When a user will have been idle for long enough.
    fn deadline(&self, remote: &[u8]) -> Option<Instant> {
        Some(self.lock().get(remote)?.active + IDLE)
    }

    /// Forgets the user of this socket.
    fn forget(&self, remote: &[u8], socket: &Arc<Socket>) {
        let mut users = self.lock();
        if users
            .get(remote)
            .is_some_and(|user| Arc::ptr_eq(&user.socket, socket))
        {
            users.remove(remote);
        }
    }

    /// Forgets a user who has been idle for long enough; false if he has not.
    fn forget_idle(&self, remote: &[u8]) -> bool {
        let mut users = self.lock();
        let idle = users
            .get(remote)
            .is_none_or(|user| user.active.elapsed() >= IDLE);
        if idle {
            users.remove(remote);
        }
        idle
    }
}

impl Users {
    /// Gives the service what arrives for it, until the stream fails.
    async fn serve<R: AsyncRead + Unpin>(
        &mut self,
        inbox: &mut Inbox<R>,
    ) -> Result<Infallible, MsgError> {
        loop {
            if let Incoming::Packet(packet) = inbox.next().await? {
                self.send(packet).await;
            }
        }
    }

    /// Sends one datagram to the service. What goes wrong is this user's affair: his next one finds a new socket.
    async fn send(&mut self, packet: Packet<'_>) {
        let Packet { content, remote } = packet;
        let (socket, sent) = if let Some(socket) = self.table.touch(remote) {
            let sent = socket.send(content).await;
            (socket, sent)
        } else {
            match self.admit(remote).await {
                Ok((socket, header)) if header.is_empty() => {
                    let sent = socket.send(content).await;
                    (socket, sent)
                }
                Ok((socket, header)) => {
                    let sent = socket.send(&[&header, content].concat()).await;
                    (socket, sent)
                }
                Err(e) => {
                    tracing::debug!("datagram of a new user dropped: {e}");
                    return;
                }
            }
        };
        if sent.is_err() {
            self.table.forget(remote, &socket);
        }
    }

    /// Opens a socket for a new user, and takes the answers that come there. Also says what the service is to be told of the
    /// user.
    async fn admit(&mut self, remote: &[u8]) -> io::Result<(Arc<Socket>, Vec<u8>)> {
        if self.table.lock().len() >= MAX_USERS {
            return Err(io::Error::other("too many users"));
        }
        let header = self.header(remote)?;
        let socket = Arc::new(Socket::connect(self.service).await?);
        // Those that have ended are taken out before there can be many.
        while self.tasks.try_join_next().is_some() {}
        let remote: Box<[u8]> = remote.into();
        // Locked first, as the task looks for its user.
        let mut users = self.table.lock();
        let answers = self.tasks.spawn(answers(
            socket.clone(),
            remote.clone(),
            self.packet_size,
            self.outbox.clone(),
            self.table.clone(),
        ));
        let user = User {
            socket: socket.clone(),
            active: Instant::now(),
            answers,
        };
        users.insert(remote, user);
        Ok((socket, header))
    }

    /// What the service is told of a user; empty = nothing.
    fn header(&self, remote: &[u8]) -> io::Result<Vec<u8>> {
        let Some(version) = self.proxy_protocol else {
            return Ok(Vec::new());
        };
        let unknown = || io::Error::other("a user without an address");
        let user = parse_address(remote).ok_or_else(unknown)?;
        let header = version.datagram_header(user, self.service);
        header.map_err(io::Error::other)
    }
}

/// Queues what the service answers to one user, until both have been silent for long or the socket fails.
async fn answers(
    socket: Arc<Socket>,
    remote: Box<[u8]>,
    packet_size: usize,
    outbox: Arc<Outbox>,
    table: Arc<Table>,
) {
    while let Some(deadline) = table.deadline(&remote) {
        outbox.room().await;
        let readable = match timeout_at(deadline, socket.readable()).await {
            Ok(readable) => readable,
            Err(_) if table.forget_idle(&remote) => return,
            Err(_) => continue,
        };
        let received = readable.and_then(|()| {
            let mut batch = outbox.batch();
            socket.receive(packet_size, |content, _| {
                batch.push(content, &remote);
                batch.has_room()
            })
        });
        match received {
            Ok(more) => {
                table.touch(&remote);
                if more {
                    yield_now().await;
                }
            }
            Err(_) => break,
        }
    }
    table.forget(&remote, &socket);
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::msg::Version;
    use frp_proto::msg::packet;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    const ALICE: &[u8] = br#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#;
    const BOB: &[u8] = br#"{"IP":"fe80::1","Port":6,"Zone":"eth0"}"#;

    /// Users of a service, with the other end of their work connection.
    struct Tunnel {
        service: UdpSocket,
        near: DuplexStream,
        table: Arc<Table>,
        task: JoinHandle<()>,
    }

    impl Drop for Tunnel {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn tunnel(proxy_protocol: Option<ProxyProtocol>) -> Tunnel {
        let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = duplex(100_000);
        let (reader, mut writer) = tokio::io::split(far);
        let outbox = Arc::new(Outbox::new(Version::V1));
        let table = Arc::<Table>::default();
        let mut users = Users {
            service: service.local_addr().unwrap(),
            packet_size: 100,
            proxy_protocol,
            outbox: outbox.clone(),
            table: table.clone(),
            tasks: JoinSet::new(),
        };
        let task = tokio::spawn(async move {
            let mut inbox = Inbox::new(reader, Version::V1, None);
            tokio::select! {
                _ = users.serve(&mut inbox) => {}
                _ = outbox.send(&mut writer) => {}
                () = ping(&outbox) => {}
            }
        });
        Tunnel {
            service,
            near,
            table,
            task,
        }
    }

    impl Tunnel {
        async fn send(&mut self, content: &[u8], remote: &[u8]) {
            let mut out = Vec::new();
            packet::encode(Version::V1, content, remote, &mut out).unwrap();
            self.near.write_all(&out).await.unwrap();
        }

        /// What the service gets, and from where.
        async fn request(&mut self) -> (Vec<u8>, SocketAddr) {
            let mut buffer = [0; 1_000];
            let (n, user) = self.service.recv_from(&mut buffer).await.unwrap();
            (buffer[..n].to_vec(), user)
        }

        async fn expect(&mut self, content: &[u8], remote: &[u8]) {
            let mut expected = Vec::new();
            packet::encode(Version::V1, content, remote, &mut expected).unwrap();
            let mut got = vec![0; expected.len()];
            self.near.read_exact(&mut got).await.unwrap();
            assert_eq!(got, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_user_has_a_socket_and_gets_his_own_answers() {
        let mut tunnel = tunnel(None).await;
        tunnel.send(b"a", ALICE).await;
        let (content, alice) = tunnel.request().await;
        assert_eq!(content, b"a");
        tunnel.send(b"b", BOB).await;
        let (_, bob) = tunnel.request().await;
        assert_ne!(alice, bob);
        tunnel.send(b"again", ALICE).await;
        assert_eq!(tunnel.request().await, (b"again".to_vec(), alice));
        tunnel.service.send_to(b"for bob", bob).await.unwrap();
        tunnel.expect(b"for bob", BOB).await;
        tunnel.service.send_to(&[7; 101], alice).await.unwrap();
        tunnel.expect(&[7; 100], ALICE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn idle_users_are_forgotten_and_active_ones_are_not() {
        let mut tunnel = tunnel(None).await;
        tunnel.send(b"1", ALICE).await;
        let (_, first) = tunnel.request().await;
        tunnel.send(b"1", BOB).await;
        tunnel.request().await;
        // A Ping now and then does not count.
        let mut pings = [0; 11];
        for _ in 0..3 {
            sleep(IDLE * 3 / 5).await;
            tunnel.send(b"2", ALICE).await;
            assert_eq!(tunnel.request().await.1, first);
        }
        assert_eq!(tunnel.table.lock().len(), 1);
        sleep(IDLE * 6 / 5).await;
        assert_eq!(tunnel.table.lock().len(), 0);
        tunnel.near.read_exact(&mut pings).await.unwrap();
        assert_eq!(&pings, b"h\0\0\0\0\0\0\0\x02{}");
        tunnel.send(b"3", ALICE).await;
        assert_ne!(tunnel.request().await.1, first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_datagram_of_a_user_says_who_he_is() {
        let mut tunnel = tunnel(Some(ProxyProtocol::V1)).await;
        tunnel.send(b"1", ALICE).await;
        assert_eq!(tunnel.request().await.0, b"PROXY UNKNOWN\r\n1");
        tunnel.send(b"2", ALICE).await;
        assert_eq!(tunnel.request().await.0, b"2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_down_costs_no_sockets() {
        let mut tunnel = tunnel(None).await;
        let unused = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        tunnel.service = unused;
        for n in 0..50 {
            tunnel.send(&[n], ALICE).await;
            sleep(Duration::from_millis(10)).await;
        }
        assert!(tunnel.table.lock().len() <= 1);
    }

    #[test]
    fn a_work_connection_of_udp_ends_its_predecessor() {
        let base = ProxyBase::default();
        let udp = Backend::udp(&base).unwrap();
        let (first, second) = (udp.supersede(), udp.supersede());
        assert!(first.is_cancelled() && !second.is_cancelled());
        let sudp = Backend::sudp(&base).unwrap();
        let first = sudp.supersede();
        sudp.supersede();
        assert!(!first.is_cancelled());
    }
}
