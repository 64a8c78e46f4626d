//! What a peer finds out about itself (nathole.md §2.4, §3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::classify::{Feature, classify};
use super::stun::{Query, Response, StunError};
use crate::net::resolve::lookup;
use crate::text::system_error;

/// For an answer of a STUN server; there is one request, which is not repeated.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// For the server's address.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer that is looked at; what is longer counts as malformed.
const MAX_ANSWER: usize = 1_500;
/// Addresses of interfaces that are offered.
const MAX_LOCAL: usize = 10;

/// Why nothing was found out. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum DiscoverError {
    #[error("address {0}: missing port in address")]
    NoPort(String),
    #[error("lookup udp/{0}: unknown port")]
    Port(String),
    #[error("address {0}: invalid port")]
    PortRange(String),
    #[error("address {0}: no suitable address found")]
    NotV4(String),
    #[error("listen udp4 {0}: bind: {1}")]
    Bind(SocketAddr, String),
    #[error("lookup {0}: i/o timeout")]
    Lookup(String),
    #[error("wait response from stun server timeout")]
    Timeout,
    #[error("no external address found")]
    NoAddress,
    #[error(transparent)]
    Stun(#[from] StunError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A socket, and the addresses it has outside.
#[derive(Debug)]
pub struct Discovery {
    /// Open; nothing else may receive from it.
    pub socket: UdpSocket,
    /// One address for each address of the server, so one or two.
    pub mapped: Vec<SocketAddr>,
}

/// Asks a STUN server (`host:port`) from a new socket bound to `local`; then its other address, if it has one.
pub async fn discover(server: &str, local: SocketAddr) -> Result<Discovery, DiscoverError> {
    let server = resolve(server, Ipv4Addr::LOCALHOST).await?;
    let socket = UdpSocket::bind(local)
        .await
        .map_err(|e| DiscoverError::Bind(local, system_error(&e)))?;
    let first = ask(&socket, server).await?;
    let mut mapped = vec![first.mapped.ok_or(DiscoverError::NoAddress)?];
    if let Some(other) = first.other {
        mapped.extend(ask(&socket, other).await?.mapped);
    }
    Ok(Discovery { socket, mapped })
}

/// An address to be bound, `host:port` with both parts optional; empty = any.
pub async fn resolve_local(text: &str) -> Result<SocketAddr, DiscoverError> {
    let any = Ipv4Addr::UNSPECIFIED;
    match text {
        "" => Ok((any, 0).into()),
        text => resolve(text, any).await,
    }
}

/// The IPv4 address of `host:port`; without a host it is `own`.
async fn resolve(text: &str, own: Ipv4Addr) -> Result<SocketAddr, DiscoverError> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| DiscoverError::NoPort(text.into()))?;
    let host = host.trim_matches(['[', ']']);
    let port = match port.parse::<u32>() {
        Ok(number) => u16::try_from(number).map_err(|_| DiscoverError::PortRange(port.into()))?,
        Err(_) if port.is_empty() => 0,
        Err(_) => return Err(DiscoverError::Port(port.into())),
    };
    if host.is_empty() {
        return Ok((own, port).into());
    }
    let found = timeout(LOOKUP_LIMIT, lookup(host, port)).await;
    let found = found.map_err(|_| DiscoverError::Lookup(host.into()))??;
    let v4 = found.into_iter().find(SocketAddr::is_ipv4);
    v4.ok_or_else(|| DiscoverError::NotV4(host.into()))
}

async fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<Response, DiscoverError> {
    let query = Query::new(server)?;
    socket.send_to(&query.request(), server).await?;
    let deadline = Instant::now() + ANSWER_LIMIT;
    let mut buffer = [0; MAX_ANSWER];
    loop {
        let received = timeout_at(deadline, socket.recv_from(&mut buffer)).await;
        // An error tells of a datagram that found nobody: as good as silence.
        if let Ok((n, from)) = received.map_err(|_| DiscoverError::Timeout)?
            && let Some(answer) = query.answer(from, &buffer[..n])
        {
            return Ok(answer?);
        }
    }
}

/// This host's IPv4 addresses that others may reach, in the order of the interfaces.
pub fn local_ips() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let reachable = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| {
        matches!(ip, IpAddr::V4(ip)
            if !(ip.is_loopback() || ip.is_link_local() || is_link_local_multicast(*ip)))
    });
    reachable.take(MAX_LOCAL).collect()
}

fn is_link_local_multicast(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [224, 0, 0, _])
}

/// A peer that is ready to punch.
#[derive(Debug)]
pub struct Prepared {
    /// The socket that the addresses belong to.
    pub socket: UdpSocket,
    /// Seen by the STUN server.
    pub mapped: Vec<String>,
    /// Of the interfaces.
    pub assisted: Vec<String>,
    /// What the addresses tell.
    pub feature: Feature,
}

/// Finds out what a peer needs to know of itself; `assisted` = offer local addresses. The error is the text of the log.
pub async fn prepare(server: &str, assisted: bool) -> Result<Prepared, String> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let found = discover(server, any).await;
    let Discovery { socket, mapped } = found.map_err(|e| format!("discover error: {e}"))?;
    let local = local_ips();
    let feature = classify(&mapped, &local).map_err(|e| format!("discover error: {e}"))?;
    let port = socket.local_addr().map_err(|e| e.to_string())?.port();
    let assisted = assisted.then(|| local.iter().map(|ip| format!("{ip}:{port}")));
    Ok(Prepared {
        socket,
        mapped: mapped.iter().map(ToString::to_string).collect(),
        assisted: assisted.into_iter().flatten().collect(),
        feature,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn error(server: &str) -> String {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        discover(server, local).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn bad_servers_are_named() {
        assert_eq!(error("nope").await, "address nope: missing port in address");
        assert_eq!(error("host:x").await, "lookup udp/x: unknown port");
        assert_eq!(error("host:70000").await, "address 70000: invalid port");
        assert_eq!(
            error("[::1]:1").await,
            "address ::1: no suitable address found"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let start = Instant::now();
        let server = silent.local_addr().unwrap().to_string();
        assert_eq!(
            error(&server).await,
            "wait response from stun server timeout"
        );
        assert_eq!(start.elapsed(), ANSWER_LIMIT);
    }
}
