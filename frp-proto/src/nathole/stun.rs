//! STUN Binding (RFC 8489 and 3489; nathole.md §2) without I/O.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGED_ADDRESS: u16 = 0x0005;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const OTHER_ADDRESS: u16 = 0x802c;

/// Longest reason of an error, in bytes and in characters.
const MAX_REASON: (usize, usize) = (763, 127);

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    id: [u8; 12],
    server: SocketAddr,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Response {
    /// The address it sees the request come from.
    pub mapped: Option<SocketAddr>,
    /// Another address of the server.
    pub other: Option<SocketAddr>,
}

/// Why an answer is none. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum StunError {
    #[error("malformed STUN response: {0}")]
    Malformed(&'static str),
    #[error("unsupported STUN address family: {0:#04x}")]
    Family(u8),
    #[error("STUN binding error {0}: {1}")]
    Binding(u16, String),
}

use StunError::Malformed;

impl Query {
    /// A query of the server at this address. Fails only when the system has no random bytes.
    pub fn new(server: SocketAddr) -> io::Result<Self> {
        let mut id = [0; 12];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        Ok(Self { id, server })
    }

    /// The datagram to send.
    pub fn request(&self) -> [u8; HEADER] {
        let mut request = [0; HEADER];
        request[..2].copy_from_slice(&REQUEST.to_be_bytes());
        request[4..8].copy_from_slice(&COOKIE);
        request[8..].copy_from_slice(&self.id);
        request
    }

    /// Looks at a datagram; `None` if it does not answer this query.
    pub fn answer(&self, from: SocketAddr, datagram: &[u8]) -> Option<Result<Response, StunError>> {
        let (header, body) = datagram.split_first_chunk::<HEADER>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let ours = from == self.server && header[4..8] == COOKIE && header[8..] == self.id;
        if !ours || !matches!(kind, SUCCESS | ERROR) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length % 4 != 0 || length != body.len() {
            return Some(Err(Malformed("invalid length")));
        }
        Some(if kind == SUCCESS {
            self.success(body)
        } else {
            Err(failure(body))
        })
    }

    fn success(&self, body: &[u8]) -> Result<Response, StunError> {
        let attributes = Attributes::parse(body)?;
        let mapped = match attributes.xor_mapped {
            Some(value) => Some(self.unmask(address(value)?)),
            None => attributes.mapped.map(address).transpose()?,
        };
        let other = attributes.other.or(attributes.changed);
        Ok(Response {
            mapped,
            other: other.map(address).transpose()?,
        })
    }

    /// The address behind an XOR-MAPPED-ADDRESS.
    fn unmask(&self, masked: SocketAddr) -> SocketAddr {
        let cookie = u32::from_be_bytes(COOKIE);
        let ip: IpAddr = match masked.ip() {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ cookie).into(),
            IpAddr::V6(ip) => {
                let mut mask = [0; 16];
                mask[..4].copy_from_slice(&COOKIE);
                mask[4..].copy_from_slice(&self.id);
                Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(mask)).into()
            }
        };
        SocketAddr::new(ip, masked.port() ^ (cookie >> 16) as u16)
    }
}

/// The values that count: the first of each type.
#[derive(Default)]
struct Attributes<'a> {
    mapped: Option<&'a [u8]>,
    xor_mapped: Option<&'a [u8]>,
    changed: Option<&'a [u8]>,
    other: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    fn parse(mut body: &'a [u8]) -> Result<Self, StunError> {
        let mut attributes = Self::default();
        while !body.is_empty() {
            let truncated = Malformed("truncated attribute");
            let Some((header, rest)) = body.split_first_chunk::<4>() else {
                return Err(truncated);
            };
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let (Some(value), Some(rest)) =
                (rest.get(..length), rest.get(length.next_multiple_of(4)..))
            else {
                return Err(truncated);
            };
            let slot = match u16::from_be_bytes([header[0], header[1]]) {
                MAPPED_ADDRESS => Some(&mut attributes.mapped),
                XOR_MAPPED_ADDRESS => Some(&mut attributes.xor_mapped),
                CHANGED_ADDRESS => Some(&mut attributes.changed),
                OTHER_ADDRESS => Some(&mut attributes.other),
                ERROR_CODE => Some(&mut attributes.error),
                _ => None,
            };
            if let Some(slot) = slot {
                slot.get_or_insert(value);
            }
            body = rest;
        }
        Ok(attributes)
    }
}

fn address(value: &[u8]) -> Result<SocketAddr, StunError> {
    let Some(([_, family, port @ ..], ip)) = value.split_first_chunk::<4>() else {
        return Err(Malformed("short address"));
    };
    let ip = match (family, ip) {
        (1, ip) => <[u8; 4]>::try_from(ip).map(IpAddr::from),
        (2, ip) => <[u8; 16]>::try_from(ip).map(IpAddr::from),
        (&family, _) => return Err(StunError::Family(family)),
    };
    let ip = ip.map_err(|_| Malformed("address length"))?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// What an error response means.
fn failure(body: &[u8]) -> StunError {
    let value = match Attributes::parse(body) {
        Ok(attributes) => attributes.error,
        Err(e) => return e,
    };
    let Some((&[_, _, class, number], reason)) = value.and_then(|v| v.split_first_chunk()) else {
        return Malformed("missing error code");
    };
    let class = class & 7;
    if !(3..=6).contains(&class) || number > 99 {
        return Malformed("invalid error code");
    }
    match std::str::from_utf8(reason) {
        Ok(text) if reason.len() <= MAX_REASON.0 && text.chars().count() <= MAX_REASON.1 => {
            StunError::Binding(u16::from(class) * 100 + u16::from(number), text.to_owned())
        }
        _ => Malformed("invalid error reason"),
    }
}

/// Decodes `data` as the answer to a query that has the transaction id found in it. For fuzzing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let server = SocketAddr::from(([127, 0, 0, 1], 3478));
    let mut id = [0; 12];
    if let Some(found) = data.get(8..HEADER) {
        id.copy_from_slice(found);
    }
    let query = Query { id, server };
    if let Some(Err(e)) = query.answer(server, data) {
        assert!(e.to_string().len() < 1_024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::unhex;

    const SERVER: &str = "127.0.0.1:63150";

    fn query(request: &str) -> Query {
        Query {
            id: unhex(request)[8..].try_into().unwrap(),
            server: SERVER.parse().unwrap(),
        }
    }

    fn answer(query: Query, datagram: &str) -> Option<Result<Response, StunError>> {
        query.answer(query.server, &unhex(datagram))
    }

    /// An answer to a query with an id of zeros.
    fn decode(kind: &str, attributes: &str) -> Result<Response, StunError> {
        let length = attributes.len() / 2;
        let datagram = format!("{kind}{length:04x}2112a442{:024}{attributes}", 0);
        let id = format!("000100002112a442{:024}", 0);
        answer(query(&id), &datagram).unwrap()
    }

    #[test]
    fn vectors_of_the_specification() {
        let request = "000100002112a44208f982eb189aa3881257069a";
        let response = "010100182112a44208f982eb189aa3881257069a002000080001f5935e12a443802c00080001f6af7f000001";
        let first = query(request);
        assert_eq!(first.request()[..], unhex(request));
        let expected = Response {
            mapped: Some("127.0.0.1:54401".parse().unwrap()),
            other: Some("127.0.0.1:63151".parse().unwrap()),
        };
        assert_eq!(answer(first, response), Some(Ok(expected)));
        let second = query("000100002112a44224aa07f1cedee9e84d76001d");
        let response = "0101000c2112a44224aa07f1cedee9e84d76001d002000080001f5935e12a443";
        let expected = Response {
            other: None,
            ..expected
        };
        assert_eq!(answer(second, response), Some(Ok(expected)));
        // Answers to other requests, from elsewhere, and requests.
        assert_eq!(answer(first, response), None);
        let elsewhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(second.answer(elsewhere, &unhex(response)), None);
        assert_eq!(answer(first, request), None);
        assert_eq!(answer(first, &request[..30]), None);
    }

    #[test]
    fn preferred_attributes_count_and_do_not_fall_back() {
        let old = "00010008000100507f00000100050008000100517f000002";
        let response = decode("0101", old).unwrap();
        assert_eq!(response.mapped, Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(response.other, Some("127.0.0.2:81".parse().unwrap()));
        let bad = format!("00200004000100ff{old}");
        assert!(matches!(decode("0101", &bad), Err(Malformed(_))));
        let v6 = "0001001400020050000000000000000000000000000000010001000800010050ffffffff";
        let response = decode("0101", v6).unwrap();
        assert_eq!(response.mapped, Some("[::1]:80".parse().unwrap()));
        let masked = "00200014000221122112a442000000000000000000000001";
        let response = decode("0101", masked).unwrap();
        assert_eq!(response.mapped, Some("[::1]:0".parse().unwrap()));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |kind, attributes| decode(kind, attributes).unwrap_err().to_string();
        assert_eq!(
            error("0111", "0009000b00000414556e6b6e6f776e00"),
            "STUN binding error 420: Unknown"
        );
        assert_eq!(
            error("0101", "00010008000300507f000001"),
            "unsupported STUN address family: 0x03"
        );
        for malformed in [
            "00090004000002ff",
            "0009000400000763",
            "",
            "0009000500000414ff000000",
        ] {
            assert!(error("0111", malformed).starts_with("malformed STUN response: "));
        }
        // A value, and padding, that are not there.
        for malformed in ["00010008000100507f", "0006000161", "000600"] {
            let body = unhex(malformed);
            assert!(Attributes::parse(&body).is_err(), "{malformed}");
        }
    }
}
