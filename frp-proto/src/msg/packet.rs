//! The payload of `udp` and `sudp` proxies (wire.md §7) without an allocation a datagram.
//!
//! `UDPPacket` has one shape when upstream or this crate writes it, and that shape is written and read by hand here. What
//! is valid but looks different goes through the general codec. An address travels as the JSON it has in the message:
//! whoever only has to give it back need not understand it.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::json::{Json, Record};
use super::{Message, Ping, UdpPacket, Version, WireError, v1, v2};

const PACKET_ID: u16 = 13;
const PING_ID: u16 = 11;

const OPEN: &[u8] = b"{";
const CONTENT: &[u8] = b"\"c\":\"";
const NEXT: &[u8] = b"\",";
const REMOTE: &[u8] = b"\"r\":";
const CLOSE: &[u8] = b"}";

/// What a message is to a datagram proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A datagram.
    Packet,
    /// Keeps the connection.
    Ping,
    /// Known, and of no use here.
    Other,
}

/// What the front of a buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// One message: what it is, where its JSON is, and how many bytes it took.
    Whole(Kind, Range<usize>, usize),
    /// At least this many bytes in all are needed to know more.
    Need(usize),
}

/// Finds the message at the front of `data`.
pub fn front(version: Version, data: &[u8]) -> Result<Front, WireError> {
    let (id, json, taken) = match version {
        Version::V1 => match v1::decode_frame(data)? {
            v1::Frame::Whole(id, json, taken) => (id, json, taken),
            v1::Frame::Need(n) => return Ok(Front::Need(n)),
        },
        Version::V2 => match v2::decode_frame(data)? {
            v2::Frame::Whole(kind, payload, taken) => {
                let (id, json) = v2::split_message(kind, payload)?;
                (id, json, taken)
            }
            v2::Frame::Need(n) => return Ok(Front::Need(n)),
        },
    };
    let kind = match id {
        PACKET_ID => Kind::Packet,
        PING_ID => Kind::Ping,
        _ => Kind::Other,
    };
    Ok(Front::Whole(kind, taken - json.len()..taken, taken))
}

/// Appends a datagram of `remote`, an address as [`write_address`] or a [`Decoder`] gave it; whole or not at all.
pub fn encode(
    version: Version,
    content: &[u8],
    remote: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let text = content.len().div_ceil(3) * 4;
    let mut length = OPEN.len() + REMOTE.len() + remote.len() + CLOSE.len();
    if text > 0 {
        length += CONTENT.len() + text + NEXT.len();
    }
    header(version, PACKET_ID, length, out)?;
    out.extend_from_slice(OPEN);
    if text > 0 {
        out.extend_from_slice(CONTENT);
        let start = out.len();
        out.resize(start + text, 0);
        STANDARD
            .encode_slice(content, &mut out[start..])
            .expect("the slice has the exact encoded length");
        out.extend_from_slice(NEXT);
    }
    out.extend_from_slice(REMOTE);
    out.extend_from_slice(remote);
    out.extend_from_slice(CLOSE);
    Ok(())
}

/// Appends a Ping.
pub fn encode_ping(version: Version, out: &mut Vec<u8>) -> Result<(), WireError> {
    super::encode(version, &Message::Ping(Ping::default()), out)
}

/// Appends a datagram or Ping whose JSON another peer has written; whole or not at all.
pub fn encode_json(
    version: Version,
    kind: Kind,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let id = match kind {
        Kind::Packet => PACKET_ID,
        Kind::Ping => PING_ID,
        Kind::Other => return Err(WireError::Type),
    };
    header(version, id, json.len(), out)?;
    out.extend_from_slice(json);
    Ok(())
}

/// Appends what precedes `length` bytes of JSON.
fn header(version: Version, id: u16, length: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    match version {
        Version::V1 => {
            if length > v1::MAX_PAYLOAD {
                return Err(WireError::TooLong);
            }
            out.push(if id == PING_ID { b'h' } else { b'u' });
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
        Version::V2 => {
            let id = id.to_be_bytes();
            out.extend_from_slice(&v2::header(v2::MESSAGE, id.len() + length)?);
            out.extend_from_slice(&id);
        }
    }
    Ok(())
}

/// A received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Payload.
    pub content: &'a [u8],
    /// The end user's address, as JSON.
    pub remote: &'a [u8],
}

/// Decodes datagrams, one at a time, into buffers of its own.
#[derive(Debug, Default)]
pub struct Decoder {
    content: Vec<u8>,
    remote: Vec<u8>,
}

impl Decoder {
    /// The datagram in the JSON of a [`Kind::Packet`]; `None` if it says nothing of a user.
    pub fn decode<'a>(&'a mut self, json: &'a [u8]) -> Result<Option<Packet<'a>>, WireError> {
        if let Some(remote) = usual(json, &mut self.content) {
            return Ok(Some(Packet {
                content: &self.content,
                remote,
            }));
        }
        let mut packet = UdpPacket::default();
        packet.read(&Json::parse(json)?)?;
        let Some(remote) = packet.remote else {
            return Ok(None);
        };
        self.content.clear();
        self.content.extend_from_slice(&packet.content);
        self.remote.clear();
        remote.write(&mut self.remote);
        Ok(Some(Packet {
            content: &self.content,
            remote: &self.remote,
        }))
    }
}

/// Reads the usual shape: fills `content` and returns the address. `None` for any other shape, valid or not.
fn usual<'a>(json: &'a [u8], content: &mut Vec<u8>) -> Option<&'a [u8]> {
    let members = json.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    // No brace can be inside the address.
    let brace = members.iter().rposition(|b| *b == b'{')?;
    let (before, remote) = members.split_at(brace);
    split_address(remote)?;
    let before = before.strip_suffix(REMOTE)?;
    if before.is_empty() {
        content.clear();
        return Some(remote);
    }
    let text = before.strip_prefix(CONTENT)?.strip_suffix(NEXT)?;
    content.resize(text.len() / 4 * 3, 0);
    let length = STANDARD.decode_slice(text, content).ok()?;
    content.truncate(length);
    Some(remote)
}

/// Appends an address as it stands in messages. IPv4 over an IPv6 socket is IPv4; a scope is told by its number.
pub fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let written = match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let zone = v6.scope_id();
            write!(out, r#"{{"IP":"{ip}","Port":{port},"Zone":"{zone}"}}"#)
        }
        _ => write!(out, r#"{{"IP":"{ip}","Port":{port},"Zone":""}}"#),
    };
    written.expect("a vector takes everything");
}

/// Reads an address that [`write_address`] wrote, here or at upstream.
///
/// A zone that is a name counts as none: the number is what this program's own addresses have.
pub fn parse_address(text: &[u8]) -> Option<SocketAddr> {
    let (ip, port, zone) = split_address(text)?;
    Some(match ip.parse().ok()? {
        IpAddr::V4(ip) => (ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, zone.parse().unwrap_or(0)).into(),
    })
}

/// The parts of an address in its usual spelling, which is the only one that needs no escapes.
fn split_address(text: &[u8]) -> Option<(&str, u16, &str)> {
    let text = std::str::from_utf8(text).ok()?;
    let rest = text.strip_prefix(r#"{"IP":""#)?;
    let (ip, rest) = rest.split_once(r#"","Port":"#)?;
    let (port, rest) = rest.split_once(r#","Zone":""#)?;
    let zone = rest.strip_suffix(r#""}"#)?;
    let plain = ip
        .bytes()
        .all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'))
        && zone
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && port.bytes().all(|b| b.is_ascii_digit())
        && (port.len() == 1 || !port.starts_with('0'));
    plain.then_some((ip, port.parse().ok()?, zone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{Decoded, UdpAddr, decode, encode as encode_message};
    use proptest::prelude::*;

    const BOTH: [Version; 2] = [Version::V1, Version::V2];

    fn general(version: Version, packet: UdpPacket) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::new();
        encode_message(version, &Message::UdpPacket(packet), &mut out).map(|()| out)
    }

    fn packet(content: Vec<u8>, address: SocketAddr) -> UdpPacket {
        let zone = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => v6.scope_id().to_string(),
            _ => String::new(),
        };
        UdpPacket {
            content: content.into(),
            local: None,
            remote: Some(UdpAddr {
                ip: address.ip().to_canonical().to_string(),
                port: address.port().into(),
                zone,
            }),
        }
    }

    fn text(address: SocketAddr) -> Vec<u8> {
        let mut out = Vec::new();
        write_address(address, &mut out);
        out
    }

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        let v6 = |(ip, port, scope): (std::net::Ipv6Addr, u16, u32)| {
            SocketAddrV6::new(ip, port, 0, scope).into()
        };
        prop_oneof![
            any::<(std::net::Ipv4Addr, u16)>().prop_map(SocketAddr::from),
            any::<(std::net::Ipv6Addr, u16, u32)>().prop_map(v6),
        ]
    }

    proptest! {
        #[test]
        fn written_as_the_general_codec_does(
            content in prop::collection::vec(any::<u8>(), 0..8_000),
            address in addresses(),
        ) {
            for version in BOTH {
                let mut out = b"before".to_vec();
                let done = encode(version, &content, &text(address), &mut out);
                match general(version, packet(content.clone(), address)) {
                    Ok(expected) => {
                        prop_assert_eq!(done, Ok(()));
                        prop_assert_eq!(&out[6..], &expected[..]);
                    }
                    Err(e) => {
                        prop_assert_eq!(done, Err(e));
                        prop_assert_eq!(out.len(), 6);
                    }
                }
            }
        }

        #[test]
        fn read_as_the_general_codec_does(
            content in prop::collection::vec(any::<u8>(), 0..40),
            address in addresses(),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut data = general(Version::V1, packet(content, address)).unwrap();
            if let Some((place, byte)) = damage {
                let place = v1::HEADER + place.index(data.len() - v1::HEADER);
                data[place] = byte;
            }
            let json = &data[v1::HEADER..];
            let mut decoder = Decoder::default();
            let fast = decoder.decode(json);
            match decode(Version::V1, &data) {
                Ok(Decoded::Message(Some(Message::UdpPacket(expected)), _)) => {
                    let fast = fast.unwrap();
                    prop_assert_eq!(fast.is_some(), expected.remote.is_some());
                    if let (Some(fast), Some(remote)) = (fast, expected.remote) {
                        prop_assert_eq!(fast.content, &expected.content[..]);
                        let mut text = Vec::new();
                        remote.write(&mut text);
                        prop_assert_eq!(fast.remote, &text[..]);
                    }
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(e) => prop_assert_eq!(fast, Err(e)),
            }
        }

        #[test]
        fn addresses_come_back(address in addresses()) {
            let back = parse_address(&text(address)).unwrap();
            prop_assert_eq!(back.ip(), address.ip().to_canonical());
            prop_assert_eq!(back.port(), address.port());
            if let (SocketAddr::V6(back), SocketAddr::V6(address)) = (back, address) {
                prop_assert_eq!(back.scope_id(), address.scope_id());
            }
        }

        #[test]
        fn any_bytes_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..100)) {
            for version in BOTH {
                let _ = front(version, &data);
            }
            let _ = Decoder::default().decode(&data);
            let _ = parse_address(&data);
        }
    }

    #[test]
    fn unusual_spellings_are_understood() {
        let mut decoder = Decoder::default();
        for json in [
            r#"{"r":{"IP":"1.2.3.4","Port":5,"Zone":""},"c":"aGk="}"#,
            r#"{ "C" : "aG\r\nk=", "R" : {"ip":"1.2.3.4","port":5} , "x" : {} }"#,
            r#"{"c":"aGk=","l":{"IP":"","Port":0,"Zone":""},"r":{"IP":"1.2.3.4","Port":5,"Zone":""}}"#,
        ] {
            let packet = decoder.decode(json.as_bytes()).unwrap().unwrap();
            assert_eq!(packet.content, b"hi", "{json}");
            assert_eq!(
                parse_address(packet.remote),
                Some("1.2.3.4:5".parse().unwrap()),
                "{json}"
            );
        }
        for nothing in [&b"{}"[..], b"null", br#"{"c":"aGk="}"#] {
            assert_eq!(decoder.decode(nothing), Ok(None));
        }
        assert!(decoder.decode(br#"{"c":"aGk"}"#).is_err());
    }

    #[test]
    fn messages_are_told_apart_and_reframed() {
        for (from, to) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
            let mut sent = Vec::new();
            encode(from, b"hi", &text("1.2.3.4:5".parse().unwrap()), &mut sent).unwrap();
            encode_ping(from, &mut sent).unwrap();
            encode_message(from, &Message::ReqWorkConn, &mut sent).unwrap();
            let (mut seen, mut reframed) = (Vec::new(), Vec::new());
            let mut data = &sent[..];
            while let Front::Whole(kind, json, taken) = front(from, data).unwrap() {
                seen.push(kind);
                if kind == Kind::Other {
                    assert!(encode_json(to, kind, &data[json], &mut reframed).is_err());
                } else {
                    encode_json(to, kind, &data[json], &mut reframed).unwrap();
                }
                data = &data[taken..];
            }
            assert_eq!(seen, [Kind::Packet, Kind::Ping, Kind::Other]);
            let mut expected = Vec::new();
            encode(
                to,
                b"hi",
                &text("1.2.3.4:5".parse().unwrap()),
                &mut expected,
            )
            .unwrap();
            encode_ping(to, &mut expected).unwrap();
            assert_eq!(reframed, expected);
        }
        assert_eq!(front(Version::V1, b"u"), Ok(Front::Need(v1::HEADER)));
        assert_eq!(front(Version::V1, b"?"), Err(WireError::Type));
        let long = vec![0; v1::MAX_PAYLOAD + 1];
        let refused = encode_json(Version::V1, Kind::Packet, &long, &mut Vec::new());
        assert_eq!(refused, Err(WireError::TooLong));
    }
}
