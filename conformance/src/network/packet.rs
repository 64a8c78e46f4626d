//! [`Packet`]: what a router and a NAT see and change of an IPv4 packet (RFC 791, 768, 792, 9293).

use std::net::{Ipv4Addr, SocketAddrV4};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Smallest header.
const MIN_HEADER: usize = 20;
/// What an ICMP error quotes of a packet after its header, at least.
const MIN_TRANSPORT: usize = 8;

/// Places in a header.
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const HEADER_SUM: usize = 10;
const ADDRESSES: [usize; 2] = [12, 16];

/// ICMP's types of echoes, and those that quote the packet that they are about.
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ERRORS: [u8; 3] = [3, 11, 12];
/// Where a message of ICMP has its checksum and an echo its identifier.
const ICMP_SUM: usize = 2;
const ECHO_ID: usize = 4;

/// What has ports of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Echoes of ICMP: the port of who asks is the identifier, that of who answers is 0.
    Echo,
}

/// Which end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who sends.
    Source,
    /// Who receives.
    Destination,
}

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whose the ports are.
    pub protocol: Protocol,
    /// Who sends.
    pub source: SocketAddrV4,
    /// Who receives.
    pub destination: SocketAddrV4,
}

/// A packet that is changed in place; its checksums stay as right as they were.
#[derive(Debug)]
pub struct Packet<'a>(&'a mut [u8]);

impl<'a> Packet<'a> {
    /// A whole packet. Fragments, which need not have ports, are none; nobody here sends any.
    pub fn parse(bytes: &'a mut [u8]) -> Option<Self> {
        let len = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        let packet = Self::begin(bytes.get_mut(..len)?)?;
        let is_fragment = packet.u16(6) & 0x3fff != 0;
        (!is_fragment).then_some(packet)
    }

    /// A packet of which the end may be missing.
    fn begin(bytes: &'a mut [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0f) * 4;
        let complete = header >= MIN_HEADER && bytes.len() >= header + MIN_TRANSPORT;
        (first >> 4 == 4 && complete).then_some(Self(bytes))
    }

    /// Length in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The address of an end.
    pub fn address(&self, end: End) -> Ipv4Addr {
        let at = ADDRESSES[end as usize];
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| self.0[at + n]);
        Ipv4Addr::new(a, b, c, d)
    }

    /// Both ends, of what has ports.
    pub fn flow(&self) -> Option<Flow> {
        let body = self.body();
        let (protocol, ports) = match self.0[PROTOCOL] {
            TCP => (Protocol::Tcp, [self.u16(body), self.u16(body + 2)]),
            UDP => (Protocol::Udp, [self.u16(body), self.u16(body + 2)]),
            ICMP => {
                let id = self.u16(body + ECHO_ID);
                let ports = match self.0[body] {
                    ECHO_REQUEST => [id, 0],
                    ECHO_REPLY => [0, id],
                    _ => return None,
                };
                (Protocol::Echo, ports)
            }
            _ => return None,
        };
        Some(Flow {
            protocol,
            source: SocketAddrV4::new(self.address(End::Source), ports[0]),
            destination: SocketAddrV4::new(self.address(End::Destination), ports[1]),
        })
    }

    /// Gives an end another address and, where there are ports, port.
    pub fn readdress(&mut self, end: End, to: SocketAddrV4) {
        let body = self.body();
        // A quoted packet may end before its checksum, and a datagram may have none.
        let (sum, port) = match self.0[PROTOCOL] {
            TCP => (Some(body + 16), Some(body + 2 * end as usize)),
            UDP => (Some(body + 6), Some(body + 2 * end as usize)),
            ICMP if self.flow().is_some() => (None, Some(body + ECHO_ID)),
            _ => (None, None),
        };
        let has_sum = |at: &usize| at + 2 <= self.0.len() && (!self.is_udp() || self.u16(*at) != 0);
        let sum = sum.filter(has_sum);
        let covers: Vec<usize> = sum.into_iter().chain([HEADER_SUM]).collect();
        self.put(ADDRESSES[end as usize], &to.ip().octets(), &covers);
        if let Some(port) = port {
            let sum = if self.0[PROTOCOL] == ICMP {
                Some(body + ICMP_SUM)
            } else {
                sum
            };
            let covers: Vec<usize> = sum.into_iter().collect();
            self.put(port, &to.port().to_be_bytes(), &covers);
        }
        if let Some(sum) = sum.filter(|at| self.is_udp() && self.u16(*at) == 0) {
            // Zero would say that there is none.
            self.0[sum..sum + 2].copy_from_slice(&[0xff; 2]);
        }
    }

    /// Crosses so many routers, unless its time to live is up before.
    #[must_use]
    pub fn hop(&mut self, routers: u8) -> bool {
        let ttl = self.0[TTL];
        let lives = ttl > routers;
        if lives {
            let protocol = self.0[PROTOCOL];
            self.put(TTL, &[ttl - routers, protocol], &[HEADER_SUM]);
        }
        lives
    }

    /// Changes the packet that this one, an ICMP error, is about. `None` if it is no such error or `change` gives that.
    pub fn change_quoted<T>(
        &mut self,
        change: impl FnOnce(&mut Packet<'_>) -> Option<T>,
    ) -> Option<T> {
        let body = self.body();
        if self.0[PROTOCOL] != ICMP || !ERRORS.contains(&self.0[body]) {
            return None;
        }
        let changed = change(&mut Packet::begin(&mut self.0[body + 8..])?)?;
        let message = &mut self.0[body..];
        message[ICMP_SUM..ICMP_SUM + 2].fill(0);
        let sum = checksum(message);
        message[ICMP_SUM..ICMP_SUM + 2].copy_from_slice(&sum.to_be_bytes());
        Some(changed)
    }

    /// Where the header ends.
    fn body(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    fn is_udp(&self) -> bool {
        self.0[PROTOCOL] == UDP
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Replaces whole words; `sums` are the places of the checksums over them (RFC 1624).
    fn put(&mut self, at: usize, new: &[u8], sums: &[usize]) {
        for n in (0..new.len()).step_by(2) {
            let (old, new) = (self.u16(at + n), [new[n], new[n + 1]]);
            for sum in sums {
                let before = u32::from(!self.u16(*sum));
                let after = before + u32::from(!old) + u32::from(u16::from_be_bytes(new));
                self.0[*sum..*sum + 2].copy_from_slice(&(!fold(after)).to_be_bytes());
            }
            self.0[at + n..at + n + 2].copy_from_slice(&new);
        }
    }
}

/// The checksum of the internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    !fold(words.sum())
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Packets to try things with.
#[cfg(test)]
pub(super) mod testing {
    use super::{ADDRESSES, HEADER_SUM, ICMP, MIN_HEADER, TCP, UDP, checksum};
    use std::net::SocketAddrV4;

    fn packet(protocol: u8, source: SocketAddrV4, to: SocketAddrV4, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol];
        packet.resize(MIN_HEADER, 0);
        packet[ADDRESSES[0]..][..4].copy_from_slice(&source.ip().octets());
        packet[ADDRESSES[1]..][..4].copy_from_slice(&to.ip().octets());
        packet.extend(body);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        sum(&mut packet, HEADER_SUM, 0..MIN_HEADER);
        packet
    }

    fn sum(packet: &mut [u8], at: usize, over: std::ops::Range<usize>) {
        let sum = checksum(&packet[over]);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// A datagram, or with `tcp` a segment, of an odd length.
    pub(crate) fn datagram(tcp: bool, source: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        let (protocol, header, at) = if tcp { (TCP, 20, 16) } else { (UDP, 8, 6) };
        let mut body = [source.port(), to.port()].map(u16::to_be_bytes).concat();
        body.resize(header, 0);
        body.extend(b"hello");
        let mut bytes = packet(protocol, source, to, &body);
        let sum = transport_sum(&bytes);
        let at = MIN_HEADER + at;
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The checksum over addresses and body; 0 if the right one is there already.
    fn transport_sum(packet: &[u8]) -> u16 {
        let len = (packet.len() as u16 - 20).to_be_bytes();
        checksum(&[&[0, packet[9]], &len[..], &packet[ADDRESSES[0]..]].concat())
    }

    /// An echo, or the answer to it.
    pub(crate) fn echo(kind: u8, id: u16, source: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 0];
        body.extend(id.to_be_bytes());
        body.extend(b"\0\x01echo?");
        icmp(source, to, &body)
    }

    /// An ICMP error about a packet.
    pub(crate) fn unreachable(source: SocketAddrV4, to: SocketAddrV4, about: &[u8]) -> Vec<u8> {
        let quoted = &about[..MIN_HEADER + 8];
        icmp(source, to, &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat())
    }

    fn icmp(source: SocketAddrV4, to: SocketAddrV4, body: &[u8]) -> Vec<u8> {
        let mut bytes = packet(ICMP, source, to, body);
        let len = bytes.len();
        sum(&mut bytes, MIN_HEADER + 2, MIN_HEADER..len);
        bytes
    }

    /// Whether all checksums are right, in a quoted packet those that can be known.
    pub(crate) fn sums_are_right(bytes: &[u8]) -> bool {
        let header = checksum(&bytes[..MIN_HEADER]) == 0;
        let body = &bytes[MIN_HEADER..];
        header
            && match bytes[9] {
                ICMP if body[0] == 3 => {
                    checksum(body) == 0 && checksum(&body[8..8 + MIN_HEADER]) == 0
                }
                ICMP => checksum(body) == 0,
                _ => transport_sum(bytes) == 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::{datagram, echo, sums_are_right, unreachable};

    const A: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5_000);
    const B: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 443);
    const C: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 255), 65_535);

    #[test]
    fn other_addresses_and_right_checksums() {
        for mut bytes in [datagram(false, A, B), datagram(true, A, B)] {
            assert!(sums_are_right(&bytes));
            let mut packet = Packet::parse(&mut bytes).unwrap();
            let flow = packet.flow().unwrap();
            assert_eq!((flow.source, flow.destination), (A, B));
            packet.readdress(End::Source, C);
            packet.readdress(End::Destination, A);
            let flow = packet.flow().unwrap();
            assert_eq!((flow.source, flow.destination), (C, A));
            assert!(sums_are_right(&bytes));
        }
        // Every port, and so every checksum, among them zero.
        let mut bytes = datagram(false, A, B);
        for port in 0..=u16::MAX {
            let mut packet = Packet::parse(&mut bytes).unwrap();
            packet.readdress(End::Source, SocketAddrV4::new(*A.ip(), port));
            assert!(bytes[26..28] != [0, 0]);
        }
        assert!(sums_are_right(&bytes));
    }

    #[test]
    fn a_datagram_without_checksum_gets_none() {
        let mut bytes = datagram(false, A, B);
        bytes[26..28].fill(0);
        let mut packet = Packet::parse(&mut bytes).unwrap();
        packet.readdress(End::Source, C);
        assert_eq!(bytes[26..28], [0, 0]);
    }

    #[test]
    fn echoes_have_one_port() {
        let mut bytes = echo(ECHO_REQUEST, 7, A, B);
        let mut packet = Packet::parse(&mut bytes).unwrap();
        let flow = packet.flow().unwrap();
        assert_eq!(flow.protocol, Protocol::Echo);
        assert_eq!((flow.source.port(), flow.destination.port()), (7, 0));
        packet.readdress(End::Source, C);
        assert_eq!(packet.flow().unwrap().source, C);
        assert!(sums_are_right(&bytes));
        let mut bytes = echo(ECHO_REPLY, 7, B, A);
        let flow = Packet::parse(&mut bytes).unwrap().flow().unwrap();
        assert_eq!((flow.source.port(), flow.destination.port()), (0, 7));
    }

    #[test]
    fn errors_quote_packets() {
        let mut bytes = unreachable(B, A, &datagram(false, A, B));
        let mut packet = Packet::parse(&mut bytes).unwrap();
        assert!(packet.flow().is_none());
        let flow = packet.change_quoted(|quoted| {
            quoted.readdress(End::Source, C);
            quoted.flow()
        });
        assert_eq!(flow.unwrap().source, C);
        packet.readdress(End::Destination, C);
        assert!(sums_are_right(&bytes));
        assert_eq!(bytes[16..20], C.ip().octets());
        let mut bytes = datagram(false, A, B);
        let mut packet = Packet::parse(&mut bytes).unwrap();
        assert_eq!(packet.change_quoted(|quoted| quoted.flow()), None);
    }

    #[test]
    fn lives_so_many_routers() {
        let mut bytes = datagram(false, A, B);
        let mut packet = Packet::parse(&mut bytes).unwrap();
        assert!(packet.hop(60) && packet.hop(3));
        assert!(!packet.hop(1));
        assert_eq!(bytes[TTL], 1);
        assert!(sums_are_right(&bytes));
    }

    #[test]
    fn what_is_no_packet() {
        let good = datagram(true, A, B);
        for n in 0..good.len() {
            assert!(Packet::parse(&mut good[..n].to_vec()).is_none());
        }
        for (at, value) in [(0, 0x65), (0, 0x44), (0, 0x4f), (2, 1), (6, 0x20), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Packet::parse(&mut bad).is_none(), "{at} {value}");
        }
        // More than the packet may come with it.
        let mut long = [good.clone(), vec![0; 9]].concat();
        assert_eq!(Packet::parse(&mut long).unwrap().size(), good.len());
    }
}
