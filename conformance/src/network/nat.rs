//! [`Nat`]: a network address translator in the terms of RFC 4787, without sockets and clock.
//!
//! It gives hosts inside ports of its addresses outside; each mapping gets any of these ("arbitrary pooling").

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
    /// Any, drawn from a sequence that is the same for the same first address.
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

    /// As [`Behaviour::PREDICTABLE`], with one port for all remote ends of the same address.
    pub const BY_ADDRESS: Self = Self {
        mapping: Dependence::AddressDependent,
        ..Self::PREDICTABLE
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
    addresses: Vec<Ipv4Addr>,
    behaviour: Behaviour,
    /// By end outside.
    mappings: HashMap<(Protocol, SocketAddrV4), Mapping>,
    ends: HashMap<Inside, SocketAddrV4>,
    random: Pattern,
    /// The port of the last mapping.
    last: u16,
}

impl Nat {
    /// A NAT with these addresses outside, at least one.
    pub fn new(addresses: impl Into<Vec<Ipv4Addr>>, behaviour: Behaviour) -> Self {
        let addresses = addresses.into();
        let seed = u64::from(u32::from(addresses[0])).wrapping_mul(SPREAD);
        let mut nat = Self {
            addresses,
            behaviour,
            mappings: HashMap::new(),
            ends: HashMap::new(),
            random: Pattern::new(seed),
            last: 0,
        };
        nat.last = nat.draw_port();
        nat
    }

    /// Whether an address is one of its own.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }

    /// Lets a packet out, as if it were the NAT's own. `None` stands for its end.
    pub fn outbound(&mut self, packet: &mut Packet<'_>, now: Instant) -> Option<()> {
        if let Some(flow) = packet.flow() {
            packet.readdress(End::Source, self.map(&flow, now)?);
            return Some(());
        }
        let end = packet.change_quoted(|quoted| {
            let Flow {
                protocol,
                source,
                destination,
            } = quoted.flow()?;
            let inside = self.inside(protocol, destination, source);
            let end = *self.ends.get(&inside)?;
            quoted.readdress(End::Destination, end);
            Some(end)
        })?;
        packet.readdress(End::Source, end);
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

    /// The end outside through which a flow leaves; from now on its remote end may send there.
    fn map(&mut self, flow: &Flow, now: Instant) -> Option<SocketAddrV4> {
        let inside = self.inside(flow.protocol, flow.source, flow.destination);
        let known = self.ends.get(&inside).copied();
        let alive = known.filter(|end| {
            let mapping = self.mappings.get(&(flow.protocol, *end));
            mapping.is_some_and(|mapping| !mapping.has_expired(now))
        });
        let end = match alive {
            Some(end) => end,
            None => self.allocate(inside, now)?,
        };
        let mapping = self.mappings.get_mut(&(flow.protocol, end))?;
        mapping.used = now;
        let remote = self.behaviour.filtering.of(flow.destination);
        if mapping.admitted.len() < MAX_ADMITTED {
            mapping.admitted.insert(remote);
        }
        mapping.admitted.contains(&remote).then_some(end)
    }

    /// A new mapping, unless there are too many.
    fn allocate(&mut self, inside: Inside, now: Instant) -> Option<SocketAddrV4> {
        if self.mappings.len() >= MAX_MAPPINGS {
            self.mappings.retain(|_, mapping| !mapping.has_expired(now));
            let mappings = &self.mappings;
            self.ends
                .retain(|inside, end| mappings.contains_key(&(inside.protocol, *end)));
        }
        if self.mappings.len() >= MAX_MAPPINGS {
            return None;
        }
        let end = (0..PORT_TRIES).find_map(|_| {
            let end = self.next_end();
            let free = !self.mappings.contains_key(&(inside.protocol, end));
            free.then_some(end)
        })?;
        let mapping = Mapping {
            inside,
            admitted: HashSet::new(),
            used: now,
        };
        self.mappings.insert((inside.protocol, end), mapping);
        self.ends.insert(inside, end);
        Some(end)
    }

    /// Who is inside behind an end of this NAT, if the remote end may send there.
    fn find(
        &self,
        protocol: Protocol,
        outside: SocketAddrV4,
        remote: SocketAddrV4,
        now: Instant,
    ) -> Option<SocketAddrV4> {
        let mapping = self.mappings.get(&(protocol, outside))?;
        let remote = self.behaviour.filtering.of(remote);
        let open = !mapping.has_expired(now) && mapping.admitted.contains(&remote);
        open.then_some(mapping.inside.host)
    }

    /// What the next mapping gets if it is free.
    fn next_end(&mut self) -> SocketAddrV4 {
        self.last = match self.behaviour.allocation {
            Allocation::Random => self.draw_port(),
            Allocation::Sequential => self.last.checked_add(1).unwrap_or(*PORTS.start()),
        };
        let address = self.draw(self.addresses.len() as u32) as usize;
        SocketAddrV4::new(self.addresses[address], self.last)
    }

    fn draw_port(&mut self) -> u16 {
        *PORTS.start() + self.draw(PORTS.len() as u32) as u16
    }

    /// A number below `end`.
    fn draw(&mut self, end: u32) -> u32 {
        let mut drawn = [0; 4];
        self.random.fill(&mut drawn);
        u32::from_le_bytes(drawn) % end
    }
}
