//! Dialling TCP: resolve, race the addresses, set options.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::listen::{join_host_port, set_options};
use super::resolve::lookup;
use crate::text::system_error;

/// Head start of an address over the next one (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Name or IP literal; IPv6 without brackets. Empty: this machine.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// For all of it: names, and every address.
    pub timeout: Duration,
    /// Idle seconds before keepalive probes; negative: none.
    pub keepalive_secs: i64,
    /// Source address; only addresses of its family are dialled.
    pub local_ip: Option<IpAddr>,
}

/// Resolves afresh, tries every address (happy eyeballs, RFC 8305), sets options. Cancel safe.
///
/// Of several failures the first is returned, in Go's words: `dial tcp IP:PORT: connect: connection refused`.
pub async fn dial(o: &DialOptions) -> io::Result<TcpStream> {
    let deadline = Instant::now() + o.timeout;
    let addresses = timeout_at(deadline, resolve(o, "tcp"))
        .await
        .unwrap_or_else(|_| {
            let text = format!("dial tcp: lookup {}: i/o timeout", o.host);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })?;
    let local = o.local_ip;
    let stream = race(addresses, deadline, |address| connect(address, local))
        .await
        .map_err(|(address, e)| dial_error(address, local, &e))?;
    set_options(&stream, o.keepalive_secs)?;
    Ok(stream)
}

/// The addresses in the order to try them. Never empty.
pub(crate) async fn resolve(o: &DialOptions, network: &str) -> io::Result<VecDeque<SocketAddr>> {
    let host = if o.host.is_empty() {
        "localhost"
    } else {
        &o.host
    };
    let found = lookup(host, o.port)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("dial {network}: {e}")))?;
    let found = found.into_iter().map(reachable);
    let matching = found
        .filter(|a| o.local_ip.is_none_or(|ip| ip.is_ipv4() == a.is_ipv4()))
        .collect();
    let addresses = interleave(matching);
    if addresses.is_empty() {
        let text = format!("dial {network}: address {host}: no suitable address found");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    Ok(addresses)
}

/// Where connecting to the unspecified address does not mean this machine, the loopback address is dialled.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if cfg!(any(windows, target_os = "openbsd")) && address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Families in turn, beginning with that of the first (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first);
    let mut ordered = VecDeque::with_capacity(one.len() + other.len());
    while let Some(address) = one.pop_front() {
        ordered.push_back(address);
        ordered.extend(other.pop_front());
    }
    ordered.extend(other);
    ordered
}

/// Connects to whichever address answers first. Each gets a head start over the next one, which is also tried as soon as
/// nothing else is under way. Fails with the first failure and its address.
pub(crate) async fn race<T, F>(
    mut addresses: VecDeque<SocketAddr>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, (SocketAddr, io::Error)>
where
    F: Future<Output = io::Result<T>>,
{
    let start = |address| {
        let attempt = connect(address);
        async move { attempt.await.map_err(|e| (address, e)) }
    };
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    let mut latest = None;
    let mut next_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(ended) = attempts.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(e) => {
                    failure.get_or_insert(e);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if !addresses.is_empty() => {
                if let Some(address) = addresses.pop_front() {
                    attempts.push(start(address));
                    latest = Some(address);
                    next_at = Instant::now() + STAGGER;
                }
            }
            () = sleep_until(deadline), if !attempts.is_empty() => {
                let address = latest.expect("an attempt is under way");
                return Err(failure.unwrap_or((address, io::ErrorKind::TimedOut.into())));
            }
            else => return Err(failure.expect("there was an address, and all attempts failed")),
        }
    }
}

async fn connect(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(|e| at("socket", &e))?;
    if let Some(ip) = local {
        socket.bind((ip, 0).into()).map_err(|e| at("bind", &e))?;
    }
    socket.connect(address).await.map_err(|e| at("connect", &e))
}

/// A failed system call, as Go names it.
fn at(call: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{call}: {}", system_error(e)))
}

fn dial_error(address: SocketAddr, local: Option<IpAddr>, e: &io::Error) -> io::Error {
    let from = local.map_or_else(String::new, |ip| {
        format!("{}->", join_host_port(&ip.to_string(), 0))
    });
    let text = if e.kind() == io::ErrorKind::TimedOut {
        "i/o timeout".to_owned()
    } else {
        e.to_string()
    };
    io::Error::new(e.kind(), format!("dial tcp {from}{address}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen::{accept, bind};

    fn options(host: &str, port: u16) -> DialOptions {
        DialOptions {
            host: host.into(),
            port,
            timeout: Duration::from_secs(10),
            keepalive_secs: 7200,
            local_ip: None,
        }
    }

    /// A port on which nobody listens as long as the socket lives.
    fn closed_port() -> (socket2::Socket, u16) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    }

    #[tokio::test]
    async fn connects_by_name_and_by_address() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", ""] {
            let stream = dial(&options(host, port)).await.unwrap();
            let (_, peer) = accept(&listener).await.unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
            assert!(stream.nodelay().unwrap());
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn dials_from_the_local_address() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut o = options("localhost", port);
        o.local_ip = Some([127, 0, 0, 9].into());
        dial(&o).await.unwrap();
        let (_, peer) = accept(&listener).await.unwrap();
        assert_eq!(peer.ip(), o.local_ip.unwrap());

        o.local_ip = Some([192, 0, 2, 1].into());
        assert_eq!(
            dial(&o).await.unwrap_err().to_string(),
            format!(
                "dial tcp 192.0.2.1:0->127.0.0.1:{port}: bind: cannot assign requested address"
            )
        );
        o.host = "::1".into();
        assert_eq!(
            dial(&o).await.unwrap_err().to_string(),
            "dial tcp: address ::1: no suitable address found"
        );
    }

    #[tokio::test]
    async fn errors_read_as_in_go() {
        let (_held, port) = closed_port();
        let e = dial(&options("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
        #[cfg(unix)]
        assert_eq!(
            e.to_string(),
            format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
        let e = dial(&options("no-such-host.invalid", 1)).await.unwrap_err();
        let text = e.to_string();
        assert!(
            text.starts_with("dial tcp: lookup no-such-host.invalid: "),
            "{text}"
        );
    }

    fn address(n: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], port))
    }

    #[test]
    fn families_take_turns() {
        let four: Vec<SocketAddr> = (1..=3).map(|n| address(n, 1)).collect();
        let six: SocketAddr = "[::1]:1".parse().unwrap();
        assert_eq!(
            interleave(vec![six, four[0], four[1], four[2]]),
            [six, four[0], four[1], four[2]]
        );
        assert_eq!(
            interleave(vec![four[0], four[1], four[2], six]),
            [four[0], six, four[1], four[2]]
        );
    }

    /// Connects after `port` milliseconds, except to hosts above 100, which refuse then.
    async fn pretend(address: SocketAddr) -> io::Result<SocketAddr> {
        tokio::time::sleep(Duration::from_millis(address.port().into())).await;
        match address.ip() {
            IpAddr::V4(ip) if ip.octets()[3] > 100 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(address),
        }
    }

    async fn raced(
        addresses: &[SocketAddr],
    ) -> (Result<SocketAddr, (SocketAddr, io::ErrorKind)>, u128) {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(10);
        let result = race(addresses.iter().copied().collect(), deadline, pretend).await;
        (
            result.map_err(|(a, e)| (a, e.kind())),
            start.elapsed().as_millis(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_does_not_hold_up_the_next() {
        let (silent, good, late) = (address(1, 60_000), address(2, 30), address(3, 0));
        assert_eq!(raced(&[silent, good, late]).await, (Ok(good), 280));
        // The first wins when it answers within its head start.
        assert_eq!(
            raced(&[address(1, 200), late]).await,
            (Ok(address(1, 200)), 200)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_at_once() {
        let (refused, good) = (address(101, 10), address(2, 30));
        assert_eq!(raced(&[refused, good]).await, (Ok(good), 40));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_told() {
        let (slow, fast) = (address(101, 300), address(102, 10));
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(raced(&[slow, fast]).await, (Err((fast, refused)), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_limited() {
        let silent = address(1, 60_000);
        assert_eq!(
            raced(&[silent]).await,
            (Err((silent, io::ErrorKind::TimedOut)), 10_000)
        );
        let e = dial_error(silent, None, &io::ErrorKind::TimedOut.into());
        assert_eq!(e.to_string(), "dial tcp 10.0.0.1:60000: i/o timeout");
    }
}
