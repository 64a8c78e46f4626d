//! Listening sockets and accepted sockets' options.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::text::system_error;

/// Connections that may wait to be accepted; every system cuts this to its own maximum.
const BACKLOG: i32 = u16::MAX as i32;

/// Probing of a connection that has been idle for its keepalive time, as upstream does it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 9;

/// Bytes that a UDP socket of a transport may hold for us in each direction.
const TRANSPORT_BUFFER: usize = 4 << 20;

/// Pause after a temporary error of accept: from the first, doubling up to the second.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Binds `addr:port`; empty, `0.0.0.0` and `::` are dual-stack where IPv6 is available (wire.md §0), IPv4 only otherwise.
///
/// A host name stands for its first address, IPv4 before IPv6. The error text is Go's:
/// `listen tcp A:P: bind: address already in use`.
pub async fn bind(addr: &str, port: u16) -> io::Result<TcpListener> {
    bind_as("tcp", addr, port, |at| {
        TcpListener::from_std(listen(at)?.into()).map_err(|e| ("listen", e))
    })
    .await
}

/// As [`bind`], for datagrams.
pub async fn bind_udp(addr: &str, port: u16) -> io::Result<UdpSocket> {
    bind_as("udp", addr, port, |at| {
        let socket = open(at, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&at.into()).map_err(|e| ("bind", e))?;
        UdpSocket::from_std(socket.into()).map_err(|e| ("listen", e))
    })
    .await
}

/// As [`bind_udp`], with large buffers, for the one socket of many clients.
pub async fn bind_transport(addr: &str, port: u16) -> io::Result<std::net::UdpSocket> {
    bind_as("udp", addr, port, |at| transport_socket(at).map(Into::into)).await
}

/// A bound UDP socket with large buffers; an error comes with the call that failed.
pub(crate) fn transport_socket(at: SocketAddr) -> Result<Socket, (&'static str, io::Error)> {
    let socket = open(at, Type::DGRAM, Protocol::UDP)?;
    // What the system does not allow is not needed.
    let _ = socket.set_recv_buffer_size(TRANSPORT_BUFFER);
    let _ = socket.set_send_buffer_size(TRANSPORT_BUFFER);
    socket.bind(&at.into()).map_err(|e| ("bind", e))?;
    Ok(socket)
}

/// Finds out what `addr` means and makes a socket there.
async fn bind_as<S>(
    network: &str,
    addr: &str,
    port: u16,
    make: impl Fn(SocketAddr) -> Result<S, (&'static str, io::Error)>,
) -> io::Result<S> {
    let ip = if addr.is_empty() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        match addr.parse() {
            Ok(ip) => ip,
            Err(_) => lookup(network, addr, port).await?,
        }
    };
    let bound = if ip.is_unspecified() {
        match make(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err((_, e)) if no_ipv6(&e) => make(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            bound => bound,
        }
    } else {
        make(SocketAddr::from((ip, port)))
    };
    bound.map_err(|(call, e)| {
        let (at, text) = (join_host_port(addr, port), system_error(&e));
        io::Error::new(e.kind(), format!("listen {network} {at}: {call}: {text}"))
    })
}

async fn lookup(network: &str, host: &str, port: u16) -> io::Result<IpAddr> {
    let found = match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.min_by_key(SocketAddr::is_ipv6),
        Err(_) => None,
    };
    found.map(|a| a.ip()).ok_or_else(|| {
        let text = format!("listen {network}: lookup {host}: no such host");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// A listening socket; an error comes with the call that failed.
fn listen(addr: SocketAddr) -> Result<Socket, (&'static str, io::Error)> {
    let socket = open(addr, Type::STREAM, Protocol::TCP)?;
    // On Windows this would let two programs share a port.
    #[cfg(unix)]
    socket
        .set_reuse_address(true)
        .map_err(|e| ("setsockopt", e))?;
    socket.bind(&addr.into()).map_err(|e| ("bind", e))?;
    socket.listen(BACKLOG).map_err(|e| ("listen", e))?;
    Ok(socket)
}

/// A socket for `addr`'s family, or for both.
fn open(
    addr: SocketAddr,
    kind: Type,
    protocol: Protocol,
) -> Result<Socket, (&'static str, io::Error)> {
    let socket =
        Socket::new(Domain::for_address(addr), kind, Some(protocol)).map_err(|e| ("socket", e))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false).map_err(|e| ("setsockopt", e))?;
    }
    socket
        .set_nonblocking(true)
        .map_err(|e| ("setsockopt", e))?;
    Ok(socket)
}

/// Whether the error says that the system has no IPv6, rather than that the port is not to be had.
fn no_ipv6(e: &io::Error) -> bool {
    !matches!(
        e.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// Host and port as Go prints them: `[::1]:80`, `127.0.0.1:80`.
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Options of an accepted or dialled socket: `TCP_NODELAY`, keepalive idle `keepalive_secs` (negative: off; interval 15 s, 9 probes).
pub fn set_options(s: &TcpStream, keepalive_secs: i64) -> io::Result<()> {
    s.set_nodelay(true)?;
    let socket = SockRef::from(s);
    let Ok(idle) = u64::try_from(keepalive_secs) else {
        return socket.set_keepalive(false);
    };
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(idle.max(1)));
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = keepalive
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Accepts for ever: temporary errors back off 5 ms doubling to 1 s. IPv4-mapped peers come back as plain IPv4. Cancel safe.
pub async fn accept(l: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = retry(|| l.accept()).await?;
    Ok((
        stream,
        SocketAddr::new(peer.ip().to_canonical(), peer.port()),
    ))
}

async fn retry<T, F>(mut accept: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut pause = MIN_PAUSE;
    loop {
        match accept().await {
            Ok(accepted) => return Ok(accepted),
            // The peer has gone already; the next one waits.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) if is_permanent(&e) => return Err(e),
            Err(e) => {
                tracing::warn!("accept error: {e}; retrying in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Whether the listener itself is unusable. Everything else (no file descriptors, no memory, network trouble of the connection)
/// passes.
fn is_permanent(e: &io::Error) -> bool {
    #[cfg(unix)]
    if matches!(e.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK)) {
        return true;
    }
    e.kind() == io::ErrorKind::InvalidInput
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn wildcards_take_both_families() {
        for wildcard in ["", "0.0.0.0", "::"] {
            let listener = bind(wildcard, 0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (_, peer) = accept(&listener).await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            if let Ok(client) = TcpStream::connect(("::1", port)).await {
                let (_, peer) = accept(&listener).await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        }
    }

    #[tokio::test]
    async fn one_address_takes_its_own_family_only() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listener.local_addr().unwrap().is_ipv4());
        assert!(TcpStream::connect(("::1", port)).await.is_err());
        assert!(
            bind("localhost", 0)
                .await
                .unwrap()
                .local_addr()
                .unwrap()
                .is_ipv4()
        );
    }

    #[tokio::test]
    async fn errors_read_as_in_go() {
        let taken = bind("0.0.0.0", 0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let e = bind("0.0.0.0", port).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AddrInUse);
        #[cfg(unix)]
        assert_eq!(
            e.to_string(),
            format!("listen tcp 0.0.0.0:{port}: bind: address already in use")
        );
        #[cfg(target_os = "linux")]
        assert_eq!(
            bind("192.0.2.1", 1).await.unwrap_err().to_string(),
            "listen tcp 192.0.2.1:1: bind: cannot assign requested address"
        );
        assert_eq!(
            bind("no-such-host.invalid", 1)
                .await
                .unwrap_err()
                .to_string(),
            "listen tcp: lookup no-such-host.invalid: no such host"
        );
    }

    #[tokio::test]
    async fn a_port_can_be_bound_again_at_once() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // The listening side closes first and stays in TIME_WAIT.
        drop(accept(&listener).await.unwrap());
        drop((listener, client));
        bind("127.0.0.1", port).await.unwrap();
    }

    #[test]
    fn hosts_with_colons_are_bracketed() {
        assert_eq!(join_host_port("::1", 80), "[::1]:80");
        assert_eq!(join_host_port("127.0.0.1", 80), "127.0.0.1:80");
        assert_eq!(join_host_port("", 80), ":80");
    }

    #[tokio::test]
    async fn options_are_set() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        set_options(&client, 7200).unwrap();
        assert!(client.nodelay().unwrap());
        let socket = SockRef::from(&client);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 7200);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        }
        set_options(&client, -1).unwrap();
        assert!(!socket.keepalive().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn temporary_errors_back_off() {
        let start = Instant::now();
        let mut at = Vec::new();
        let accepted = retry(|| {
            at.push(start.elapsed().as_millis());
            let n = at.len();
            async move {
                match n {
                    1 => Err(io::ErrorKind::ConnectionAborted.into()),
                    2..=11 => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
                    _ => Ok(n),
                }
            }
        });
        assert_eq!(accepted.await.unwrap(), 12);
        assert_eq!(at, [0, 0, 5, 15, 35, 75, 155, 315, 635, 1275, 2275, 3275]);
    }

    #[tokio::test]
    async fn a_broken_listener_is_reported() {
        let accepted = retry(|| async { Err::<(), _>(io::ErrorKind::InvalidInput.into()) });
        assert_eq!(
            accepted.await.unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
