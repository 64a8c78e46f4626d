//! [`Nat`]: a network address translator in the terms of RFC 4787, without sockets and clock.
//!
//! It has one address outside and gives hosts inside ports of it. It does not loop packets from inside back inside.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::packet::{End, Flow, Packet, Protocol};
use crate::service::Pattern;

/// Mappings, and remote ends that each admits, at a time: four times what upstream's ways to punch need.
const MAX_MAPPINGS: usize = 4_096;
const MAX_ADMITTED: usize = 4_096;
/// Ports that hosts inside are given.
const PORTS: std::ops::RangeInclusive<u16> = 1_024..=65_535;
/// Tries to find a port that is free.
const PORT_TRIES: usize = 64;
/// Spreads the bits of an address over a seed (Knuth's multiplicative hashing).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// How much of a remote end makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// Nothing.
    EndpointIndependent,
    /// Its address.
    AddressDependent,
    /// Its address and port.
    AddressAndPortDependent,
}

impl Dependence {
    /// What is left of a remote end.
    fn of(self, remote: SocketAddrV4) -> SocketAddrV4 {
        match self {
            Self::EndpointIndependent => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            Self::AddressDependent => SocketAddrV4::new(*remote.ip(), 0),
            Self::AddressAndPortDependent => remote,
        }
    }
}

/// Which port a new mapping gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Any, drawn from a sequence that is the same for the same address outside.
    Random,
    /// The one after the last.
    Sequential,
}

/// What a NAT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// For which remote ends a host inside gets a port of its own.
    pub mapping: Dependence,
    /// Which remote ends may send to a port: those that the host inside has sent to, seen like this.
    pub filtering: Dependence,
    /// Which port that is.
    pub allocation: Allocation,
}

impl Behaviour {
    /// Who knows the port may send to it.
    pub const FULL_CONE: Self = Self::cone(Dependence::EndpointIndependent);
    /// Only addresses that have been sent to may.
    pub const RESTRICTED: Self = Self::cone(Dependence::AddressDependent);
    /// Only ends that have been sent to may.
    pub const PORT_RESTRICTED: Self = Self::cone(Dependence::AddressAndPortDependent);
    /// Every remote end sees another port, and only it may send there.
    pub const SYMMETRIC: Self = Self {
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressAndPortDependent,
        allocation: Allocation::Random,
    };
    /// As [`Behaviour::SYMMETRIC`], with ports that can be guessed.
    pub const PREDICTABLE: Self = Self {
        allocation: Allocation::Sequential,
        ..Self::SYMMETRIC
    };

    const fn cone(filtering: Dependence) -> Self {
        Self {
            mapping: Dependence::EndpointIndependent,
            filtering,
            allocation: Allocation::Random,
        }
    }
}

/// What has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inside {
    protocol: Protocol,
    host: SocketAddrV4,
    /// What the mapping depends on.
    remote: SocketAddrV4,
}

#[derive(Debug)]
struct Mapping {
    inside: Inside,
    /// What filtering looks at.
    admitted: HashSet<SocketAddrV4>,
    /// When a packet last left.
    used: Instant,
}

impl Mapping {
    fn has_expired(&self, now: Instant) -> bool {
        let lifetime = match self.inside.protocol {
            // RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2.
            Protocol::Tcp => Duration::from_mins(124),
            Protocol::Udp => Duration::from_mins(2),
            Protocol::Echo => Duration::from_mins(1),
        };
        now.duration_since(self.used) > lifetime
    }
}

/// A NAT.
#[derive(Debug)]
pub struct Nat {
    address: Ipv4Addr,
    behaviour: Behaviour,
    /// By port.
    mappings: HashMap<(Protocol, u16), Mapping>,
    ports: HashMap<Inside, u16>,
    random: Pattern,
    last: u16,
}

impl Nat {
    /// A NAT with this address outside.
    pub fn new(address: Ipv4Addr, behaviour: Behaviour) -> Self {
        let mut nat = Self {
            address,
            behaviour,
            mappings: HashMap::new(),
            ports: HashMap::new(),
            random: Pattern::new(u64::from(u32::from(address)).wrapping_mul(SPREAD)),
            last: 0,
        };
        nat.last = nat.draw();
        nat
    }

    /// Its address outside.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Lets a packet out, as if it were the NAT's own. `None` stands for its end.
    pub fn outbound(&mut self, packet: &mut Packet<'_>, now: Instant) -> Option<()> {
        if let Some(flow) = packet.flow() {
            let port = self.map(&flow, now)?;
            packet.readdress(End::Source, SocketAddrV4::new(self.address, port));
            return Some(());
        }
        packet.change_quoted(|quoted| {
            let Flow {
                protocol,
                source,
                destination,
            } = quoted.flow()?;
            let inside = self.inside(protocol, destination, source);
            let port = *self.ports.get(&inside)?;
            quoted.readdress(End::Destination, SocketAddrV4::new(self.address, port));
            Some(())
        })?;
        packet.readdress(End::Source, SocketAddrV4::new(self.address, 0));
        Some(())
    }

    /// Lets a packet in, to whom it is for. `None` stands for its end.
    pub fn inbound(&mut self, packet: &mut Packet<'_>, now: Instant) -> Option<()> {
        if let Some(flow) = packet.flow() {
            let host = self.find(flow.protocol, flow.destination, flow.source, now)?;
            packet.readdress(End::Destination, host);
            return Some(());
        }
        let host = packet.change_quoted(|quoted| {
            let flow = quoted.flow()?;
            let host = self.find(flow.protocol, flow.source, flow.destination, now)?;
            quoted.readdress(End::Source, host);
            Some(host)
        })?;
        packet.readdress(End::Destination, host);
        Some(())
    }

    fn inside(&self, protocol: Protocol, host: SocketAddrV4, remote: SocketAddrV4) -> Inside {
        Inside {
            protocol,
            host,
            remote: self.behaviour.mapping.of(remote),
        }
    }

    /// The port through which a flow leaves; from now on its remote end may send there.
    fn map(&mut self, flow: &Flow, now: Instant) -> Option<u16> {
        let inside = self.inside(flow.protocol, flow.source, flow.destination);
        let known = self.ports.get(&inside).copied();
        let alive = known.filter(|port| {
            let mapping = self.mappings.get(&(flow.protocol, *port));
            mapping.is_some_and(|mapping| !mapping.has_expired(now))
        });
        let port = match alive {
            Some(port) => port,
            None => self.allocate(inside, now)?,
        };
        let mapping = self.mappings.get_mut(&(flow.protocol, port))?;
        mapping.used = now;
        let remote = self.behaviour.filtering.of(flow.destination);
        if mapping.admitted.len() < MAX_ADMITTED {
            mapping.admitted.insert(remote);
        }
        mapping.admitted.contains(&remote).then_some(port)
    }

    /// A new mapping, unless there are too many.
    fn allocate(&mut self, inside: Inside, now: Instant) -> Option<u16> {
        if self.mappings.len() >= MAX_MAPPINGS {
            self.mappings.retain(|_, mapping| !mapping.has_expired(now));
            let mappings = &self.mappings;
            self.ports
                .retain(|inside, port| mappings.contains_key(&(inside.protocol, *port)));
        }
        if self.mappings.len() >= MAX_MAPPINGS {
            return None;
        }
        for _ in 0..PORT_TRIES {
            let port = match self.behaviour.allocation {
                Allocation::Random => self.draw(),
                Allocation::Sequential => self.last.checked_add(1).unwrap_or(*PORTS.start()),
            };
            self.last = port;
            if !self.mappings.contains_key(&(inside.protocol, port)) {
                let mapping = Mapping {
                    inside,
                    admitted: HashSet::new(),
                    used: now,
                };
                self.mappings.insert((inside.protocol, port), mapping);
                self.ports.insert(inside, port);
                return Some(port);
            }
        }
        None
    }

    /// Who is inside behind an end of this NAT, if the remote end may send there.
    fn find(
        &self,
        protocol: Protocol,
        outside: SocketAddrV4,
        remote: SocketAddrV4,
        now: Instant,
    ) -> Option<SocketAddrV4> {
        let mapping = self.mappings.get(&(protocol, outside.port()))?;
        let remote = self.behaviour.filtering.of(remote);
        let open = !mapping.has_expired(now) && mapping.admitted.contains(&remote);
        open.then_some(mapping.inside.host)
    }

    fn draw(&mut self) -> u16 {
        let mut drawn = [0; 4];
        self.random.fill(&mut drawn);
        let (first, count) = (u32::from(*PORTS.start()), PORTS.len() as u32);
        (first + u32::from_le_bytes(drawn) % count) as u16
    }
}
