//! QUIC (transports.md §8): one connection a login, one bidirectional stream an frp connection.
//!
//! # What a peer can make us hold
//!
//! * A stranger: one of `MAX_HANDSHAKES` handshakes for 10 s; addresses must be proved once many are under way. Then 768 KiB
//!   of data and 128 streams until [`Connection::trust`].
//! * A client: 15 MiB of data that nobody reads, [`Options::max_incoming_streams`] streams. The limit that is announced grows
//!   with use, since every stream that a peer might open costs memory already.

mod any_name;
mod peer;
mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::dial::{self, DialOptions};
use crate::net::listen;
use crate::tls::{ClientTls, ServerTls};

pub use peer::{accept_peer, connect_peer};
pub use stream::Stream;

const ALPN: &[u8] = b"frp";
/// For a whole handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// For the first sign of a server.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// Handshakes of a server at a time; each costs some 50 KiB.
const MAX_HANDSHAKES: usize = 1_024;
/// When so many are under way, a client must prove that it receives what is sent to its address.
const HANDSHAKES_ON_TRUST: usize = 64;
/// Most bytes kept of clients whose handshake has not begun.
const INCOMING_BUFFER: u64 = 4 << 20;

/// Bytes a datagram may have.
const MAX_DATAGRAM: u16 = 1_452;
/// Bytes of datagrams before the path is known.
const FIRST_DATAGRAM: u16 = 1_280;
/// Bytes that a stream may have received and not read.
const STREAM_WINDOW: u32 = 6 << 20;
/// The same for a connection, before and after its peer is trusted.
const STRANGERS_WINDOW: u32 = 768 << 10;
const WINDOW: u32 = 15 << 20;
/// What is left of the congestion window after a loss, upstream's value.
const RENO_FACTOR: f32 = 0.7;
/// Bytes that a connection may have sent or queued and that are not acknowledged.
const SEND_WINDOW: u64 = 15 << 20;
/// Streams that a peer may open, before it is trusted and at first after.
const STRANGERS_STREAMS: u32 = 128;
const FIRST_STREAMS: u32 = 1_024;

/// How a sender finds out what the way can take. Each side decides for what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// By losses (RFC 9002 §7), giving way by three tenths as upstream's does, and coming back faster.
    #[default]
    Reno,
    /// By losses (RFC 9438): faster than [`Congestion::Reno`] on fast and long ways, slower where packets get lost by chance.
    Cubic,
    /// By the rate of what arrives: losses by chance hardly matter. Not as well tried, and not fair to others in a full queue.
    Bbr,
}

impl Congestion {
    /// Names in configurations.
    pub const NAMES: [(&str, Self); 3] = [
        ("reno", Self::Reno),
        ("cubic", Self::Cubic),
        ("bbr", Self::Bbr),
    ];

    /// By its name; empty = the default.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::default());
        }
        let mut names = Self::NAMES.into_iter();
        names.find_map(|(known, congestion)| (known == name).then_some(congestion))
    }

    fn controllers(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Reno => {
                let mut reno = NewRenoConfig::default();
                reno.loss_reduction_factor(RENO_FACTOR);
                Arc::new(reno)
            }
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

/// Knobs; `Default` is what upstream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Silence after which a PING is sent (default 10 s, at most half of the idle time-out). Shorter notices a dead path no
    /// sooner, but keeps mappings of impatient NATs alive.
    pub keepalive_period: Duration,
    /// Silence after which the connection is dead (default 30 s); the smaller one of both sides counts.
    pub max_idle_timeout: Duration,
    /// Streams that a client may have open (default 100,000). A server opens none.
    pub max_incoming_streams: u32,
    /// How fast this side sends.
    pub congestion: Congestion,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keepalive_period: Duration::from_secs(10),
            max_idle_timeout: Duration::from_secs(30),
            max_incoming_streams: 100_000,
            congestion: Congestion::default(),
        }
    }
}

impl Options {
    fn transport(&self, streams: u32, window: u32) -> Arc<TransportConfig> {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(MAX_DATAGRAM);
        let mut transport = TransportConfig::default();
        let idle = u32::try_from(self.max_idle_timeout.as_millis()).unwrap_or(u32::MAX);
        transport
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
            .keep_alive_interval(Some(self.keepalive_period.min(self.max_idle_timeout / 2)))
            .max_concurrent_bidi_streams(streams.into())
            .max_concurrent_uni_streams(0_u32.into())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(window.into())
            .send_window(SEND_WINDOW)
            .datagram_receive_buffer_size(None)
            .congestion_controller_factory(self.congestion.controllers())
            .initial_mtu(FIRST_DATAGRAM)
            .mtu_discovery_config(Some(mtu));
        Arc::new(transport)
    }
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(MAX_DATAGRAM)
        .map_err(io::Error::other)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}

/// A server's socket.
pub struct Listener {
    endpoint: Endpoint,
    tls: ServerTls,
    options: Options,
    /// The configuration for the certificates it was made from.
    config: Mutex<(Arc<rustls::ServerConfig>, Arc<ServerConfig>)>,
    handshakes: Arc<Semaphore>,
}

impl Listener {
    /// Serves on a bound socket (see [`listen::bind_transport`]). Needs a tokio runtime.
    pub fn new(socket: UdpSocket, tls: ServerTls, options: Options) -> io::Result<Self> {
        let current = tls.current();
        let config = server_config(&current, &options)?;
        Ok(Self {
            endpoint: endpoint(socket, Some(config.clone()))?,
            tls,
            options,
            config: Mutex::new((current, Arc::new(config))),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        })
    }

    /// The address of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next client that wants to connect; `None` after [`close`](Self::close). Cancel safe.
    pub async fn accept(&self) -> Option<Handshake> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let busy = MAX_HANDSHAKES - self.handshakes.available_permits() > HANDSHAKES_ON_TRUST;
            if busy && !incoming.remote_address_validated() && incoming.may_retry() {
                // An error means that it may not, which was asked.
                let _ = incoming.retry();
                continue;
            }
            match self.config() {
                Ok(config) => {
                    return Some(Handshake {
                        incoming,
                        config,
                        max_streams: self.options.max_incoming_streams,
                        _permit: permit,
                    });
                }
                Err(e) => tracing::warn!("quic: {e}"),
            }
        }
    }

    /// The configuration with the certificates of now.
    fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let current = self.tls.current();
        let mut cached = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&cached.0, &current) {
            let config = Arc::new(server_config(&current, &self.options)?);
            *cached = (current, config);
        }
        Ok(cached.1.clone())
    }

    /// Closes all connections and waits until the peers have been told.
    pub async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}

fn server_config(tls: &rustls::ServerConfig, options: &Options) -> io::Result<ServerConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(options.transport(STRANGERS_STREAMS, STRANGERS_WINDOW))
        .max_incoming(MAX_HANDSHAKES)
        .incoming_buffer_size(INCOMING_BUFFER / 64)
        .incoming_buffer_size_total(INCOMING_BUFFER);
    Ok(config)
}

/// A client that wants to connect.
pub struct Handshake {
    incoming: quinn::Incoming,
    config: Arc<ServerConfig>,
    max_streams: u32,
    _permit: OwnedSemaphorePermit,
}

impl Handshake {
    /// Handshakes, within 10 s.
    pub async fn complete(self) -> io::Result<Connection> {
        let connecting = self
            .incoming
            .accept_with(self.config)
            .map_err(connection_error)?;
        let connection = timeout(HANDSHAKE_LIMIT, connecting)
            .await
            .unwrap_or(Err(ConnectionError::TimedOut))
            .map_err(connection_error)?;
        Ok(Connection {
            quic: connection,
            endpoint: None,
            streams: Arc::default(),
            limit: AtomicUsize::new(STRANGERS_STREAMS as usize),
            max_streams: self.max_streams as usize,
        })
    }
}

/// Dials from a port of its own; of several addresses the first to finish its handshake wins. Cancel safe.
pub async fn connect(
    o: &DialOptions,
    tls: &ClientTls,
    server_name: &str,
    options: &Options,
) -> io::Result<Connection> {
    let mut config = (*tls.config().await?).clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    // A server opens no streams.
    config.transport_config(options.transport(0, WINDOW));
    let name = tls.server_name(server_name)?.to_str().into_owned();

    let deadline = Instant::now() + HANDSHAKE_LIMIT;
    let addresses = timeout_at(deadline, dial::resolve(o, "udp"))
        .await
        .map_err(|_| connection_error(ConnectionError::TimedOut))??;
    dial::race(addresses, deadline, |address| {
        let (config, name) = (config.clone(), &name);
        async move { handshake(client_endpoint(address)?, address, config, name).await }
    })
    .await
    .map_err(|(_, e)| match e.kind() {
        io::ErrorKind::TimedOut => connection_error(ConnectionError::TimedOut),
        _ => e,
    })
}

/// With a port of its own, for a server at this address.
fn client_endpoint(server: SocketAddr) -> io::Result<Endpoint> {
    let any = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    endpoint(
        listen::transport_socket(any).map_err(|(_, e)| e)?.into(),
        None,
    )
}

async fn handshake(
    endpoint: Endpoint,
    address: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> io::Result<Connection> {
    let mut connecting = endpoint
        .connect_with(config, address, name)
        .map_err(io::Error::other)?;
    timeout(SILENCE_LIMIT, connecting.handshake_data())
        .await
        .unwrap_or(Err(ConnectionError::TimedOut))
        .map_err(connection_error)?;
    Ok(Connection {
        quic: connecting.await.map_err(connection_error)?,
        endpoint: Some(endpoint),
        streams: Arc::default(),
        limit: AtomicUsize::new(0),
        max_streams: 0,
    })
}

/// An established connection. Dropping the last of it and its streams closes it.
pub struct Connection {
    quic: quinn::Connection,
    /// Unless others share it.
    endpoint: Option<Endpoint>,
    /// Streams accepted and not dropped.
    streams: Arc<AtomicUsize>,
    /// How many the peer may open at a time, as it knows.
    limit: AtomicUsize,
    max_streams: usize,
}

impl Connection {
    /// The peer's address now; it may change with the peer's network.
    pub fn peer(&self) -> SocketAddr {
        let peer = self.quic.remote_address();
        SocketAddr::new(peer.ip().to_canonical(), peer.port())
    }

    /// Opens a stream, as soon as the peer allows one more. The peer learns of it with the first bytes. Cancel safe.
    pub async fn open(&self) -> io::Result<Stream> {
        let (send, receive) = self.quic.open_bi().await.map_err(connection_error)?;
        Ok(Stream::new(send, receive, None))
    }

    /// The next stream that the peer has opened. Cancel safe.
    pub async fn accept(&self) -> io::Result<Stream> {
        let accepted = self.quic.accept_bi().await;
        let (send, receive) = accepted.map_err(connection_error)?;
        let open = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.limit.load(Ordering::Relaxed);
        if limit >= FIRST_STREAMS as usize && open > limit / 2 {
            self.allow(limit * 2);
        }
        Ok(Stream::new(send, receive, Some(self.streams.clone())))
    }

    /// The peer has proved who it is: it may open more streams and send more data.
    pub fn trust(&self) {
        self.quic.set_receive_window(WINDOW.into());
        self.allow(FIRST_STREAMS as usize);
    }

    fn allow(&self, streams: usize) {
        let streams = streams.min(self.max_streams);
        if streams > self.limit.load(Ordering::Relaxed) {
            self.limit.store(streams, Ordering::Relaxed);
            self.quic
                .set_max_concurrent_bi_streams(VarInt::from_u32(streams as u32));
        }
    }

    /// Closes the connection with all its streams. The future ends when the peer has been told.
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static {
        self.quic.close(VarInt::from_u32(0), b"");
        let endpoint = self.endpoint.clone();
        async move {
            if let Some(endpoint) = endpoint {
                endpoint.wait_idle().await;
            }
        }
    }
}

/// Why a connection failed, in upstream's words where users know them.
fn connection_error(e: ConnectionError) -> io::Error {
    match e {
        ConnectionError::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            "timeout: no recent network activity",
        ),
        e => e.into(),
    }
}
