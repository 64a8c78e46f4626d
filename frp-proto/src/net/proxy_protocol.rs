//! Reading the header of the PROXY protocol, versions 1 and 2 (its specification of 2020): what a balancer in front
//! says about the connection that it passes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header taken. Version 1 ends far below; version 2 could go to 64 KiB, of which only TLVs nobody reads would
/// make use.
pub const MAX_LEN: usize = 4096;

/// The longest line of version 1, with its end.
const V1_MAX_LEN: usize = 107;
const V1_START: &[u8] = b"PROXY ";

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const V2_FIXED: usize = 16;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
/// TLV of the checksum over the whole header.
const CRC32C: u8 = 0x03;

/// Both ends of a connection as its user has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The user's.
    pub source: SocketAddr,
    /// Where the user connected to.
    pub destination: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A whole header, which ends after `len` bytes.
    Header {
        /// Bytes of the header; payload follows.
        len: usize,
        /// `None` when the connection stands for itself: a balancer's own check, or a family without ports.
        addresses: Option<Addresses>,
    },
    /// The beginning of a header; all bytes so far belong to it.
    Incomplete,
}

/// Why the first bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin like something else.
    #[error("no PROXY protocol header")]
    Absent,
    /// They begin as version 1 and go on otherwise.
    #[error("malformed PROXY protocol v1 header")]
    V1,
    /// They begin as version 2 and go on otherwise.
    #[error("malformed PROXY protocol v2 header")]
    V2,
    /// Longer than [`MAX_LEN`].
    #[error("PROXY protocol header is longer than {MAX_LEN} bytes")]
    TooLong,
    /// The checksum of version 2 is another.
    #[error("wrong checksum of the PROXY protocol header")]
    Checksum,
}

/// Decodes the header at the front of `bytes`, which may be any beginning of a connection.
pub fn decode(bytes: &[u8]) -> Result<Decoded, HeaderError> {
    if begins(bytes, V1_START) {
        return v1(bytes);
    }
    if begins(bytes, V2_SIGNATURE) {
        return v2(bytes);
    }
    Err(HeaderError::Absent)
}

/// Whether `bytes` begin with `start`, as far as there are any.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let n = bytes.len().min(start.len());
    bytes[..n] == start[..n]
}

fn v1(bytes: &[u8]) -> Result<Decoded, HeaderError> {
    let window = &bytes[..bytes.len().min(V1_MAX_LEN)];
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        return if window.len() == V1_MAX_LEN {
            Err(HeaderError::V1)
        } else {
            Ok(Decoded::Incomplete)
        };
    };
    let line = window[..end]
        .strip_suffix(b"\r")
        .and_then(|line| line.strip_prefix(V1_START))
        .and_then(|line| str::from_utf8(line).ok())
        .ok_or(HeaderError::V1)?;
    let mut fields = line.split(' ');
    let addresses = match fields.next() {
        Some("TCP4") => Some(v1_addresses::<Ipv4Addr>(fields).ok_or(HeaderError::V1)?),
        Some("TCP6") => Some(v1_addresses::<Ipv6Addr>(fields).ok_or(HeaderError::V1)?),
        // Whatever follows means nothing.
        Some("UNKNOWN") => None,
        _ => return Err(HeaderError::V1),
    };
    Ok(Decoded::Header {
        len: end + 1,
        addresses,
    })
}

fn v1_addresses<'a, T>(mut fields: impl Iterator<Item = &'a str>) -> Option<Addresses>
where
    T: std::str::FromStr + Into<IpAddr>,
{
    let mut ip = || fields.next()?.parse::<T>().ok().map(Into::into);
    let (source, destination): (IpAddr, IpAddr) = (ip()?, ip()?);
    let mut port = || {
        let text = fields.next()?;
        // `parse` would take a sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (source_port, destination_port): (u16, u16) = (port()?, port()?);
    fields.next().is_none().then(|| Addresses {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
    })
}

fn v2(bytes: &[u8]) -> Result<Decoded, HeaderError> {
    let Some(&[command, family, high, low]) = bytes.get(V2_SIGNATURE.len()..V2_FIXED) else {
        return Ok(Decoded::Incomplete);
    };
    if !matches!(command, V2_LOCAL | V2_PROXY) {
        return Err(HeaderError::V2);
    }
    let len = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_LEN {
        return Err(HeaderError::TooLong);
    }
    let Some(header) = bytes.get(..len) else {
        return Ok(Decoded::Incomplete);
    };
    let addresses = match command {
        V2_PROXY => v2_addresses(family, header)?,
        _ => None,
    };
    Ok(Decoded::Header { len, addresses })
}

/// The addresses of a whole header, and a look at what follows them.
fn v2_addresses(family: u8, header: &[u8]) -> Result<Option<Addresses>, HeaderError> {
    let block = &header[V2_FIXED..];
    let (addresses, tlvs) = match family {
        // Unspecified: what is in the block is not known.
        0x00 => return Ok(None),
        0x11 => {
            let (ends, tlvs) = block.split_first_chunk::<12>().ok_or(HeaderError::V2)?;
            (Some(v2_ends::<4>(ends)), tlvs)
        }
        0x21 => {
            let (ends, tlvs) = block.split_first_chunk::<36>().ok_or(HeaderError::V2)?;
            (Some(v2_ends::<16>(ends)), tlvs)
        }
        // Datagrams and Unix sockets: nothing that a TCP connection could stand for.
        0x12 => (None, block.get(12..).ok_or(HeaderError::V2)?),
        0x22 => (None, block.get(36..).ok_or(HeaderError::V2)?),
        0x31 | 0x32 => (None, block.get(216..).ok_or(HeaderError::V2)?),
        _ => return Err(HeaderError::V2),
    };
    check_tlvs(header, tlvs)?;
    Ok(addresses.flatten())
}

/// Source, destination (`N` bytes each) and their ports.
fn v2_ends<const N: usize>(ends: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = ends.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, destination_port) = rest.split_first_chunk::<2>()?;
    let address = |ip: [u8; N], port: [u8; 2]| {
        SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_be_bytes(port))
    };
    Some(Addresses {
        source: address(*source, *source_port),
        destination: address(*destination, destination_port.try_into().ok()?),
    })
}

/// Walks through the TLVs at the end of `header`. Only the checksum means anything here.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), HeaderError> {
    while !tlvs.is_empty() {
        let (&[kind, high, low], rest) = tlvs.split_first_chunk().ok_or(HeaderError::V2)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(HeaderError::V2)?;
        if kind == CRC32C {
            let expected = value.try_into().map_err(|_| HeaderError::V2)?;
            let after = rest.len();
            let (before, after) = (
                &header[..header.len() - after - len],
                &header[header.len() - after..],
            );
            // The sum was made while its own place was zero.
            let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
            if crc32c::crc32c_append(sum, after) != u32::from_be_bytes(expected) {
                return Err(HeaderError::Checksum);
            }
        }
        tlvs = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "compared with what `decode` returns"
    )]
    fn header(source: &str, destination: &str, len: usize) -> Result<Decoded, HeaderError> {
        Ok(Decoded::Header {
            len,
            addresses: Some(Addresses {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
            }),
        })
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "compared with what `decode` returns"
    )]
    fn without(len: usize) -> Result<Decoded, HeaderError> {
        Ok(Decoded::Header {
            len,
            addresses: None,
        })
    }

    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((block.len() as u16).to_be_bytes());
        header.extend(block);
        header
    }

    /// 10.1.2.3:4660 to 10.0.0.1:443.
    const V4: [u8; 12] = [10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x34, 1, 187];

    #[test]
    fn lines() {
        assert_eq!(
            decode(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET /"),
            header("192.0.2.1:56324", "198.51.100.2:443", 45)
        );
        assert_eq!(
            decode(b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 65535\r\n"),
            header("[2001:db8::1]:1", "10.0.0.1:65535", 48)
        );
        assert_eq!(decode(b"PROXY UNKNOWN\r\nx"), without(15));
        assert_eq!(decode(b"PROXY UNKNOWN a b c\r\n"), without(21));
    }

    #[test]
    fn malformed_lines() {
        for line in [
            "PROXY \r\n",
            "PROXY UNKNOWN\n",
            "PROXY TCP5 1.1.1.1 1.1.1.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.2 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.2 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.2 1 \r\n",
            "PROXY TCP4 1.1.1.1  1.1.1.2 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 1.1.1.1 1.1.1.2 1 2\r\n",
            "PROXY UNKNOWN \u{fffd}\n",
        ] {
            assert_eq!(decode(line.as_bytes()), Err(HeaderError::V1), "{line:?}");
        }
        let mut long = b"PROXY UNKNOWN ".to_vec();
        long.resize(V1_MAX_LEN - 1, b'x');
        assert_eq!(decode(&long), Ok(Decoded::Incomplete));
        long.push(b'\r');
        assert_eq!(decode(&long), Err(HeaderError::V1));
    }

    #[test]
    fn binary_headers() {
        assert_eq!(
            decode(&binary(V2_PROXY, 0x11, &V4)),
            header("10.1.2.3:4660", "10.0.0.1:443", 28)
        );
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[31], v6[33], v6[35]) = (0x20, 1, 2, 3, 4);
        assert_eq!(
            decode(&binary(V2_PROXY, 0x21, &v6)),
            header("[2000::1]:3", "[::2]:4", 52)
        );
        for (family, len) in [(0x00, 0), (0x00, 5), (0x12, 12), (0x22, 36), (0x31, 216)] {
            let bytes = binary(V2_PROXY, family, &vec![0; len]);
            assert_eq!(decode(&bytes), without(bytes.len()), "{family:#x}");
        }
        // A check of the balancer's own: whatever is in it means nothing.
        assert_eq!(decode(&binary(V2_LOCAL, 0xff, &[1, 2, 3])), without(19));
    }

    #[test]
    fn malformed_binary_headers() {
        for (command, family, block) in [
            (0x11, 0x11, &V4[..]),
            (0x22, 0x11, &V4),
            (V2_PROXY, 0x11, &V4[..11]),
            (V2_PROXY, 0x21, &V4),
            (V2_PROXY, 0x13, &V4),
            (V2_PROXY, 0x41, &V4),
        ] {
            let bytes = binary(command, family, block);
            assert_eq!(decode(&bytes), Err(HeaderError::V2), "{command} {family}");
        }
        let long = binary(V2_PROXY, 0x11, &[0; MAX_LEN - V2_FIXED + 1]);
        assert_eq!(decode(&long[..V2_FIXED]), Err(HeaderError::TooLong));
    }

    #[test]
    fn what_follows_the_addresses() {
        let with = |tlvs: &[u8]| decode(&binary(V2_PROXY, 0x11, &[&V4[..], tlvs].concat()));
        // ALPN and an empty no-op.
        let skipped = with(&[1, 0, 2, b'h', b'2', 4, 0, 0]);
        assert_eq!(skipped, header("10.1.2.3:4660", "10.0.0.1:443", 36));
        for cut in [&[1][..], &[1, 0], &[1, 0, 3, b'h', b'2'], &[3, 0, 1, 0]] {
            assert_eq!(with(cut), Err(HeaderError::V2), "{cut:?}");
        }
        let mut block = [&V4[..], &[3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 9]].concat();
        let sum = crc32c::crc32c(&binary(V2_PROXY, 0x11, &block));
        block[15..19].copy_from_slice(&sum.to_be_bytes());
        let bytes = binary(V2_PROXY, 0x11, &block);
        assert_eq!(decode(&bytes), header("10.1.2.3:4660", "10.0.0.1:443", 39));
        block[22] = 8;
        let bytes = binary(V2_PROXY, 0x11, &block);
        assert_eq!(decode(&bytes), Err(HeaderError::Checksum));
    }

    #[test]
    fn every_beginning_is_incomplete_and_others_are_no_header() {
        let whole = [
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n".to_vec(),
            binary(V2_PROXY, 0x11, &V4),
        ];
        for bytes in whole {
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), Ok(Decoded::Incomplete), "{end}");
            }
        }
        for other in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x03\x01",
            b"PROXZ",
            b"\r\n\r\n\r",
        ] {
            assert_eq!(decode(other), Err(HeaderError::Absent));
        }
    }
}
