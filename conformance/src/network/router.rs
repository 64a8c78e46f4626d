//! [`Router`]: the internet between a few sites, without sockets and clock.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use super::nat::Nat;
use super::packet::{End, Packet};

/// Routers between any two sites. With the NATs at both ends a path has ten.
const ROUTERS: u8 = 8;

/// A host's place.
#[derive(Debug)]
pub struct Site {
    /// The host's own addresses.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The NAT that it is behind.
    nat: Option<usize>,
}

impl Site {
    /// A host with public addresses.
    pub fn public(addresses: impl Into<Vec<Ipv4Addr>>) -> Self {
        Self {
            addresses: addresses.into(),
            nat: None,
        }
    }

    /// A host behind the NAT of this number.
    pub fn behind(nat: usize, address: Ipv4Addr) -> Self {
        Self {
            addresses: vec![address],
            nat: Some(nat),
        }
    }
}

/// What has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Number of packets.
    pub packets: u64,
    /// Their length with headers.
    pub bytes: u64,
}

/// Connects sites. Those behind the same NAT are on the same LAN, and reach each other only there.
#[derive(Debug)]
pub struct Router {
    sites: Vec<Site>,
    nats: Vec<Nat>,
    /// By the sites from and to which packets went.
    traffic: HashMap<[usize; 2], Traffic>,
    expired: u64,
}

impl Router {
    /// Connects these sites, through these NATs.
    pub fn new(sites: Vec<Site>, nats: Vec<Nat>) -> Self {
        Self {
            sites,
            nats,
            traffic: HashMap::new(),
            expired: 0,
        }
    }

    /// Carries a packet that a site's host sends. Gives the site to whose host it comes, as it is then, and its length.
    pub fn forward(
        &mut self,
        from: usize,
        bytes: &mut [u8],
        now: Instant,
    ) -> Option<(usize, usize)> {
        let mut packet = Packet::parse(bytes)?;
        // Nobody lets out what cannot be answered.
        if !self.sites[from]
            .addresses
            .contains(&packet.address(End::Source))
        {
            return None;
        }
        let nat = self.sites[from].nat;
        let neighbour = nat.and_then(|_| self.find(nat, &packet));
        let to = match neighbour {
            Some(to) => to,
            None => self.cross(nat, &mut packet, now)?,
        };
        let traffic = self.traffic.entry([from, to]).or_default();
        traffic.packets += 1;
        traffic.bytes += packet.size() as u64;
        Some((to, packet.size()))
    }

    /// Carries a packet over the internet, from behind a NAT if there is one.
    fn cross(
        &mut self,
        from: Option<usize>,
        packet: &mut Packet<'_>,
        now: Instant,
    ) -> Option<usize> {
        if let Some(nat) = from {
            packet.hop(1).then_some(())?;
            self.nats[nat].outbound(packet, now)?;
        }
        if !packet.hop(ROUTERS) {
            self.expired += 1;
            return None;
        }
        let address = packet.address(End::Destination);
        let to = self.nats.iter().position(|nat| nat.has(address));
        if let Some(nat) = to {
            // There is no way back inside (RFC 4787 calls it hairpinning).
            (to != from && packet.hop(1)).then_some(())?;
            self.nats[nat].inbound(packet, now)?;
        }
        self.find(to, packet)
    }

    /// Whom a packet is for among the hosts behind a NAT, or those behind none.
    fn find(&self, nat: Option<usize>, packet: &Packet<'_>) -> Option<usize> {
        let address = packet.address(End::Destination);
        let is_meant = |site: &Site| site.nat == nat && site.addresses.contains(&address);
        self.sites.iter().position(is_meant)
    }

    /// What has come from a site's host to another's.
    pub fn traffic(&self, from: usize, to: usize) -> Traffic {
        self.traffic.get(&[from, to]).copied().unwrap_or_default()
    }

    /// Packets whose time to live was up between sites.
    pub fn expired(&self) -> u64 {
        self.expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::nat::Behaviour;
    use crate::network::packet::testing::{datagram, echo, sums_are_right, unreachable};
    use std::net::SocketAddrV4;
    use std::time::Duration;

    const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
    const HOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5_000);

    /// A host behind a NAT, and a server with two addresses.
    fn router(behaviour: Behaviour) -> Router {
        let sites = vec![Site::behind(0, *HOST.ip()), Site::public([SERVER, SECOND])];
        Router::new(sites, vec![Nat::new([OUTSIDE], behaviour)])
    }

    fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(address, port)
    }

    /// Sends a datagram; gives where it seems to come from, and where it goes.
    fn send(
        router: &mut Router,
        from: usize,
        source: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Option<[SocketAddrV4; 2]> {
        let mut bytes = datagram(false, source, to);
        router.forward(from, &mut bytes, Instant::now())?;
        assert!(sums_are_right(&bytes));
        let flow = Packet::parse(&mut bytes)?.flow()?;
        Some([flow.source, flow.destination])
    }

    #[test]
    fn nats_are_what_they_are_called() {
        // The same port for another port, and another address; who may send there.
        for (behaviour, maps_same, admits) in [
            (Behaviour::FULL_CONE, [true; 2], [true; 3]),
            (Behaviour::RESTRICTED, [true; 2], [true, true, false]),
            (Behaviour::PORT_RESTRICTED, [true; 2], [true, false, false]),
            (Behaviour::SYMMETRIC, [false; 2], [true, false, false]),
            (Behaviour::PREDICTABLE, [false; 2], [true, false, false]),
            (Behaviour::BY_ADDRESS, [true, false], [true, false, false]),
        ] {
            let mut r = router(behaviour);
            // The NAT of a host that has sent to nobody is shut.
            assert_eq!(send(&mut r, 1, at(SERVER, 1), at(OUTSIDE, 5_000)), None);
            let [mapped, _] = send(&mut r, 0, HOST, at(SERVER, 1)).unwrap();
            assert_eq!(*mapped.ip(), OUTSIDE);
            assert_eq!(send(&mut r, 0, HOST, at(SERVER, 1)).unwrap()[0], mapped);
            let peers = [at(SERVER, 1), at(SERVER, 2), at(SECOND, 1)];
            for (peer, admitted) in peers.into_iter().zip(admits) {
                let seen = send(&mut r, 1, peer, mapped);
                assert_eq!(seen, admitted.then_some([peer, HOST]), "{behaviour:?}");
            }
            let others = [at(SERVER, 2), at(SECOND, 1)];
            let others = others.map(|to| send(&mut r, 0, HOST, to).unwrap()[0]);
            assert_eq!(others.map(|end| end == mapped), maps_same, "{behaviour:?}");
            if behaviour == Behaviour::PREDICTABLE {
                let steps = [1, 2].map(|n| at(OUTSIDE, mapped.port() + n));
                assert_eq!(others, steps);
            }
        }
    }

    #[test]
    fn a_mapping_lives_while_it_is_used() {
        let mut r = router(Behaviour::PORT_RESTRICTED);
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let mut send = |from, source, to, after| {
            let mut bytes = datagram(false, source, to);
            r.forward(from, &mut bytes, start + after)?;
            Some(Packet::parse(&mut bytes)?.flow()?.source)
        };
        let server = at(SERVER, 1);
        let mapped = send(0, HOST, server, Duration::ZERO).unwrap();
        assert_eq!(send(0, HOST, server, 2 * minute), Some(mapped));
        assert!(send(1, server, mapped, 4 * minute).is_some());
        assert!(send(1, server, mapped, 5 * minute).is_none());
        assert_ne!(send(0, HOST, server, 5 * minute), Some(mapped));
    }

    #[test]
    fn tables_have_an_end() {
        let mut r = router(Behaviour::SYMMETRIC);
        let sent = |port| at(SERVER, port);
        let count = (1..=5_000).filter(|port| send(&mut r, 0, HOST, sent(*port)).is_some());
        assert_eq!(count.count(), 4_096);
        let mut r = router(Behaviour::PORT_RESTRICTED);
        let count = (1..=5_000).filter(|port| send(&mut r, 0, HOST, sent(*port)).is_some());
        assert_eq!(count.count(), 4_096);
        assert!(send(&mut r, 0, HOST, sent(1)).is_some());
    }

    #[test]
    fn errors_and_echoes_find_their_way() {
        for behaviour in [Behaviour::PORT_RESTRICTED, Behaviour::SYMMETRIC] {
            let mut r = router(behaviour);
            let (server, now) = (at(SERVER, 1), Instant::now());
            let mut sent = datagram(false, HOST, server);
            r.forward(0, &mut sent, now).unwrap();
            let [mapped, _] = send(&mut r, 0, HOST, server).unwrap();
            // The server says that nobody is there, and later the host.
            let mut error = unreachable(server, mapped, &sent);
            let len = error.len();
            assert_eq!(r.forward(1, &mut error, now), Some((0, len)));
            assert!(sums_are_right(&error));
            let mut packet = Packet::parse(&mut error).unwrap();
            assert_eq!(packet.address(End::Destination), *HOST.ip());
            let quoted = packet.change_quoted(|quoted| quoted.flow()).unwrap();
            assert_eq!((quoted.source, quoted.destination), (HOST, server));

            let mut answer = datagram(false, server, mapped);
            r.forward(1, &mut answer, now).unwrap();
            let mut error = unreachable(HOST, server, &answer);
            assert_eq!(r.forward(0, &mut error, now), Some((1, len)));
            assert!(sums_are_right(&error));
            let mut packet = Packet::parse(&mut error).unwrap();
            assert_eq!(packet.address(End::Source), OUTSIDE);
            let quoted = packet.change_quoted(|quoted| quoted.flow()).unwrap();
            assert_eq!((quoted.source, quoted.destination), (server, mapped));

            let mut ask = echo(8, 7, HOST, server);
            assert!(r.forward(0, &mut ask, now).is_some() && sums_are_right(&ask));
            let flow = Packet::parse(&mut ask).unwrap().flow().unwrap();
            let mut answer = echo(0, flow.source.port(), server, flow.source);
            assert!(r.forward(1, &mut answer, now).is_some() && sums_are_right(&answer));
            let flow = Packet::parse(&mut answer).unwrap().flow().unwrap();
            assert_eq!(flow.destination, at(*HOST.ip(), 7));
        }
    }

    #[test]
    fn ten_routers_between_two_hosts_behind_nats() {
        let other = at(Ipv4Addr::new(192, 168, 2, 2), 6_000);
        let sites = vec![
            Site::behind(0, *HOST.ip()),
            Site::public([SERVER]),
            Site::behind(1, *other.ip()),
        ];
        let nats = [OUTSIDE, SECOND].map(|address| Nat::new([address], Behaviour::FULL_CONE));
        let mut r = Router::new(sites, nats.into());
        let [mapped, _] = send(&mut r, 2, other, at(SERVER, 1)).unwrap();
        for (ttl, arrives, expired) in [(1, false, 0), (7, false, 1), (9, false, 2)]
            .into_iter()
            .chain([(10, false, 2), (11, true, 2), (64, true, 2)])
        {
            let mut bytes = datagram(false, HOST, mapped);
            bytes[8] = ttl;
            let to = r.forward(0, &mut bytes, Instant::now());
            assert_eq!((to.is_some(), r.expired()), (arrives, expired), "{ttl}");
        }
        assert_eq!((r.traffic(0, 2).packets, r.traffic(2, 0).packets), (2, 0));
        // Nobody has such an address, nor is it this host's.
        assert_eq!(send(&mut r, 0, HOST, other), None);
        assert_eq!(send(&mut r, 0, other, mapped), None);
    }

    #[test]
    fn neighbours_meet_on_their_lan_only() {
        let other = at(Ipv4Addr::new(192, 168, 1, 3), 6_000);
        let sites = vec![
            Site::behind(0, *HOST.ip()),
            Site::behind(0, *other.ip()),
            Site::public([SERVER]),
        ];
        let nat = Nat::new([OUTSIDE], Behaviour::FULL_CONE);
        let mut r = Router::new(sites, vec![nat]);
        assert_eq!(send(&mut r, 0, HOST, other), Some([HOST, other]));
        let [mapped, _] = send(&mut r, 1, other, at(SERVER, 1)).unwrap();
        assert_eq!(send(&mut r, 0, HOST, mapped), None);
        assert!(send(&mut r, 2, at(SERVER, 2), mapped).is_some());
    }

    #[test]
    fn a_nat_uses_all_its_addresses() {
        let pool = [OUTSIDE, Ipv4Addr::new(203, 0, 113, 10)];
        let sites = vec![Site::behind(0, *HOST.ip()), Site::public([SERVER])];
        let mut r = Router::new(sites, vec![Nat::new(pool, Behaviour::SYMMETRIC)]);
        let seen = (1..100).map(|port| {
            let [mapped, _] = send(&mut r, 0, HOST, at(SERVER, port)).unwrap();
            assert!(send(&mut r, 1, at(SERVER, port), mapped).is_some());
            *mapped.ip()
        });
        let seen: std::collections::HashSet<_> = seen.collect();
        assert_eq!(seen, pool.into());
    }
}
