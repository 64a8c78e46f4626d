//! Which tunnel a packet belongs to: that of a visitor for its destination, else that of a proxy out of which the destination
//! has spoken last.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Role;

/// Sources that one tunnel makes us remember: a host behind it, or a small network.
const MAX_SOURCES: usize = 1_024;
/// The same for all tunnels together.
const MAX_ALL_SOURCES: usize = 65_536;

/// Names a tunnel.
pub(super) type Id = u64;

/// Packets for a tunnel, framed.
pub(super) type Queue = mpsc::Sender<Bytes>;

#[derive(Default)]
pub(super) struct Routes {
    last: Id,
    tunnels: HashMap<Id, Tunnel>,
    /// Destinations of visitors; of several with the same one the oldest is used.
    visited: BTreeSet<(IpAddr, Id)>,
    /// Who has spoken out of which proxy's tunnel.
    learned: HashMap<IpAddr, Id>,
}

struct Tunnel {
    role: Role,
    queue: Queue,
    /// What is its in [`Routes::learned`].
    sources: HashSet<IpAddr>,
}

impl Routes {
    pub(super) fn attach(&mut self, role: Role, queue: Queue) -> Id {
        self.last += 1;
        let id = self.last;
        if let Role::Visitor(destination) = role {
            self.visited.insert((destination, id));
        }
        let tunnel = Tunnel {
            role,
            queue,
            sources: HashSet::new(),
        };
        self.tunnels.insert(id, tunnel);
        id
    }

    pub(super) fn detach(&mut self, id: Id) {
        let Some(tunnel) = self.tunnels.remove(&id) else {
            return;
        };
        if let Role::Visitor(destination) = tunnel.role {
            self.visited.remove(&(destination, id));
        }
        for source in tunnel.sources {
            self.learned.remove(&source);
        }
    }

    /// A packet from this source has come out of a tunnel. The last one wins; when there are too many, new ones are not
    /// remembered.
    pub(super) fn learn(&mut self, source: IpAddr, id: Id) {
        let before = self.learned.get(&source).copied();
        if before == Some(id) || (before.is_none() && self.learned.len() >= MAX_ALL_SOURCES) {
            return;
        }
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        if tunnel.sources.len() >= MAX_SOURCES {
            return;
        }
        tunnel.sources.insert(source);
        self.learned.insert(source, id);
        if let Some(loser) = before.and_then(|id| self.tunnels.get_mut(&id)) {
            loser.sources.remove(&source);
        }
    }

    /// The tunnel for a destination.
    pub(super) fn find(&self, to: IpAddr) -> Option<Queue> {
        let visited = self.visited.range((to, Id::MIN)..=(to, Id::MAX)).next();
        let id = visited.map(|(_, id)| id).or_else(|| self.learned.get(&to));
        Some(self.tunnels.get(id?)?.queue.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    struct Table(Routes, Vec<Queue>);

    impl Table {
        fn attach(&mut self, role: Role) -> Id {
            let (queue, _) = mpsc::channel(1);
            self.1.push(queue.clone());
            self.0.attach(role, queue)
        }

        /// The tunnel for a destination, by its id.
        fn find(&self, to: IpAddr) -> Option<Id> {
            let found = self.0.find(to)?;
            let place = self.1.iter().position(|queue| queue.same_channel(&found));
            place.map(|place| place as Id + 1)
        }
    }

    fn table() -> Table {
        Table(Routes::default(), Vec::new())
    }

    #[test]
    fn visitors_come_before_what_was_learned_and_the_last_speaker_wins() {
        let mut table = table();
        let [one, two] = [0; 2].map(|_| table.attach(Role::Proxy));
        assert_eq!(table.find(ip(9)), None);
        table.0.learn(ip(9), one);
        assert_eq!(table.find(ip(9)), Some(one));
        table.0.learn(ip(9), two);
        assert_eq!(table.find(ip(9)), Some(two));
        // Who has lost a source does not take it along.
        table.0.detach(one);
        assert_eq!(table.find(ip(9)), Some(two));

        let [old, new] = [0; 2].map(|_| table.attach(Role::Visitor(ip(9))));
        assert_eq!(table.find(ip(9)), Some(old));
        table.0.detach(old);
        assert_eq!(table.find(ip(9)), Some(new));
        table.0.detach(new);
        assert_eq!(table.find(ip(9)), Some(two));
        table.0.detach(two);
        assert_eq!(table.find(ip(9)), None);
        assert!(table.0.learned.is_empty() && table.0.visited.is_empty());
    }

    #[test]
    fn sources_are_limited() {
        let mut table = table();
        let greedy = table.attach(Role::Proxy);
        for n in 0..=MAX_SOURCES as u32 {
            table.0.learn(ip(n), greedy);
        }
        assert_eq!(table.0.learned.len(), MAX_SOURCES);
        let modest = table.attach(Role::Proxy);
        table.0.learn(ip(MAX_SOURCES as u32), modest);
        assert_eq!(table.find(ip(MAX_SOURCES as u32)), Some(modest));
        for round in 1..80 {
            let id = table.attach(Role::Proxy);
            for n in 0..MAX_SOURCES as u32 {
                table.0.learn(ip(round << 16 | n), id);
            }
        }
        assert_eq!(table.0.learned.len(), MAX_ALL_SOURCES);
        // What is known can still move.
        table.0.learn(ip(0), modest);
        assert_eq!(table.find(ip(0)), Some(modest));
    }
}
