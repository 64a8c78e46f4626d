//! The PROXY protocol header for local services (wire.md §6, client.md §9).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use frp_proto::msg::StartWorkConn;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// First bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
const IPV4: u8 = 0x10;
const IPV6: u8 = 0x20;
const STREAM: u8 = 0x01;
const DATAGRAM: u8 = 0x02;

/// `transport.proxyProtocolVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Why there is no header for a connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("invalid address [{0}]")]
    Address(String),
    #[error("source [{0}] is IPv4, destination [{1}] is IPv6")]
    Families(IpAddr, IpAddr),
}

/// Tells a local service who the user is, if it wants to know.
pub(crate) async fn introduce<W: AsyncWrite + Unpin>(
    version: Option<ProxyProtocol>,
    local: &mut W,
    start: &StartWorkConn,
) -> std::io::Result<()> {
    let Some(version) = version else {
        return Ok(());
    };
    let header = version.header(start).map_err(std::io::Error::other)?;
    local.write_all(&header).await
}

impl ProxyProtocol {
    /// The header for a user's connection; empty when the server does not say who the user is.
    pub(crate) fn header(self, start: &StartWorkConn) -> Result<Vec<u8>, HeaderError> {
        if start.src_addr.is_empty() || start.src_port == 0 {
            return Ok(Vec::new());
        }
        let source = parse(&start.src_addr)?;
        let destination = match start.dst_addr.as_str() {
            "" => IpAddr::from([127, 0, 0, 1]),
            text => parse(text)?,
        };
        check_families(source, destination)?;
        let ports = (start.src_port, start.dst_port);
        Ok(match self {
            Self::V1 => v1(source, destination, ports),
            Self::V2 => v2(STREAM, source, destination, ports),
        })
    }

    /// What precedes the first datagram of a user. Version 1 has no word for UDP.
    pub(crate) fn datagram_header(
        self,
        user: SocketAddr,
        service: SocketAddr,
    ) -> Result<Vec<u8>, HeaderError> {
        let (source, destination) = (user.ip().to_canonical(), service.ip().to_canonical());
        check_families(source, destination)?;
        Ok(match self {
            Self::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::V2 => v2(DATAGRAM, source, destination, (user.port(), service.port())),
        })
    }
}

fn check_families(source: IpAddr, destination: IpAddr) -> Result<(), HeaderError> {
    if source.is_ipv4() && destination.is_ipv6() {
        return Err(HeaderError::Families(source, destination));
    }
    Ok(())
}

/// An address as frps sends it; a mapped one is the IPv4 address it stands for.
fn parse(text: &str) -> Result<IpAddr, HeaderError> {
    let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
    address
        .parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| HeaderError::Address(text.into()))
}

fn v1(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {source} {destination} {} {}\r\n",
        ports.0, ports.1
    )
    .into_bytes()
}

fn v2(transport: u8, source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    let family = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            addresses.extend(source.octets());
            addresses.extend(destination.octets());
            IPV4
        }
        (source, destination) => {
            addresses.extend(to_ipv6(source).octets());
            addresses.extend(to_ipv6(destination).octets());
            IPV6
        }
    };
    addresses.extend(ports.0.to_be_bytes());
    addresses.extend(ports.1.to_be_bytes());
    let mut header = SIGNATURE.to_vec();
    header.extend([V2_PROXY, family | transport]);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

fn to_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(src: (&str, u16), dst: (&str, u16)) -> StartWorkConn {
        StartWorkConn {
            src_addr: src.0.into(),
            src_port: src.1,
            dst_addr: dst.0.into(),
            dst_port: dst.1,
            ..StartWorkConn::default()
        }
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, b| {
            write!(text, "{b:02x}").unwrap();
            text
        })
    }

    fn v1_text(src: (&str, u16), dst: (&str, u16)) -> String {
        String::from_utf8(ProxyProtocol::V1.header(&start(src, dst)).unwrap()).unwrap()
    }

    fn v2_hex(src: (&str, u16), dst: (&str, u16)) -> String {
        hex(&ProxyProtocol::V2.header(&start(src, dst)).unwrap())
    }

    #[test]
    fn headers_of_the_specification() {
        let (src, dst) = (("127.0.0.1", 54321), ("127.0.0.1", 6000));
        assert_eq!(
            hex(&ProxyProtocol::V1.header(&start(src, dst)).unwrap()),
            "50524f58592054435034203132372e302e302e31203132372e302e302e3120353433323120363030300d0a"
        );
        assert_eq!(
            v2_hex(src, dst),
            "0d0a0d0a000d0a515549540a2111000c7f0000017f000001d4311770"
        );
        assert_eq!(
            v2_hex(("::1", 1111), ("::1", 2222)),
            "0d0a0d0a000d0a515549540a21210024\
             0000000000000000000000000000000100000000000000000000000000000001045708ae"
        );
    }

    #[test]
    fn headers_of_datagrams() {
        let service = "127.0.0.1:6000".parse().unwrap();
        let of = |version: ProxyProtocol, user: &str| {
            let header = version.datagram_header(user.parse().unwrap(), service);
            hex(&header.unwrap())
        };
        assert_eq!(
            of(ProxyProtocol::V2, "127.0.0.1:54321"),
            "0d0a0d0a000d0a515549540a2112000c7f0000017f000001d4311770"
        );
        assert_eq!(
            of(ProxyProtocol::V2, "[::1]:5"),
            "0d0a0d0a000d0a515549540a21220024\
             0000000000000000000000000000000100000000000000000000ffff7f00000100051770"
        );
        assert_eq!(
            of(ProxyProtocol::V1, "127.0.0.1:54321"),
            "50524f585920554e4b4e4f574e0d0a"
        );
        let user = "127.0.0.1:1".parse().unwrap();
        let to_ipv6 = ProxyProtocol::V2.datagram_header(user, "[::1]:2".parse().unwrap());
        assert!(matches!(to_ipv6, Err(HeaderError::Families(..))));
    }

    #[test]
    fn families_follow_the_source() {
        assert_eq!(
            v1_text(("127.0.0.1", 41312), ("", 0)),
            "PROXY TCP4 127.0.0.1 127.0.0.1 41312 0\r\n"
        );
        assert_eq!(
            v1_text(("::ffff:10.0.0.1", 7), ("::ffff:10.0.0.2", 8)),
            "PROXY TCP4 10.0.0.1 10.0.0.2 7 8\r\n"
        );
        assert_eq!(
            v1_text(("::1", 5), ("", 0)),
            "PROXY TCP6 ::1 127.0.0.1 5 0\r\n"
        );
        assert_eq!(
            v1_text(("fe80::1%eth0", 5), ("fe80::2%eth0", 6)),
            "PROXY TCP6 fe80::1 fe80::2 5 6\r\n"
        );
        assert_eq!(
            v2_hex(("::1", 5), ("127.0.0.1", 6)),
            "0d0a0d0a000d0a515549540a21210024\
             0000000000000000000000000000000100000000000000000000ffff7f00000100050006"
        );
    }

    #[test]
    fn what_has_no_header() {
        let of = |src, dst| ProxyProtocol::V1.header(&start(src, dst));
        assert_eq!(of(("", 1), ("127.0.0.1", 1)), Ok(Vec::new()));
        assert_eq!(of(("127.0.0.1", 0), ("127.0.0.1", 1)), Ok(Vec::new()));
        assert!(matches!(
            of(("127.0.0.1", 1), ("::1", 1)),
            Err(HeaderError::Families(..))
        ));
        assert!(matches!(
            of(("user", 1), ("::1", 1)),
            Err(HeaderError::Address(_))
        ));
    }
}
