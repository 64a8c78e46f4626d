//! `HOST:PORT` of options and requests, and dialling it.

use std::io;
use std::time::Duration;

use frp_proto::net::dial::{DialOptions, dial};
use tokio::net::TcpStream;

/// Limit for reaching a service, name resolution included.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// Idle seconds before keepalive probes to the service.
const KEEPALIVE_SECS: i64 = 15;

/// Dials `HOST:PORT`. Errors read as in Go.
pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let (host, port) = split(address).ok_or_else(|| malformed(address))?;
    connect_to(host, port).await
}

/// Dials a host, an IPv6 literal without brackets.
pub(super) async fn connect_to(host: &str, port: u16) -> io::Result<TcpStream> {
    dial(&DialOptions {
        host: host.into(),
        port,
        timeout: DIAL_LIMIT,
        keepalive_secs: KEEPALIVE_SECS,
        local_ip: None,
    })
    .await
}

/// Host without brackets, and port.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if bare.is_none() && host.contains([':', '[', ']']) {
        return None;
    }
    Some((bare.unwrap_or(host), port.parse().ok()?))
}

/// The host of an address that may have a port, without brackets.
pub(super) fn host(address: &str) -> &str {
    match split(address) {
        Some((host, _)) => host,
        None => address
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(address),
    }
}

fn malformed(address: &str) -> io::Error {
    let why = match address.rsplit_once(':') {
        None => "missing port in address",
        Some((_, port)) if port.parse::<u16>().is_err() => "invalid port",
        Some(_) => "too many colons in address",
    };
    let text = format!("dial tcp: address {address}: {why}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(split("a.test:80"), Some(("a.test", 80)));
        assert_eq!(split("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split(":80"), Some(("", 80)));
        for bad in ["", "a", "a:", "a:x", "a:70000", "::1:80", "[::1]", "[a:80"] {
            assert_eq!(split(bad), None, "{bad}");
        }
        for (address, expected) in [
            ("a:1", "a"),
            ("a", "a"),
            ("[::1]:2", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host(address), expected);
        }
    }

    #[tokio::test]
    async fn errors_say_what_is_wrong() {
        let error = async |address| connect(address).await.unwrap_err().to_string();
        assert_eq!(
            error("a").await,
            "dial tcp: address a: missing port in address"
        );
        assert_eq!(error("a:x").await, "dial tcp: address a:x: invalid port");
        assert_eq!(
            error("::1:8").await,
            "dial tcp: address ::1:8: too many colons in address"
        );
    }
}
