//! Who does what in an attempt to make a hole (nathole.md §7.5, §7.6, §8), and what has worked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::classify::{Behavior, Feature, NatType};
use crate::msg::{DetectBehavior, PortsRange};

/// Milliseconds that a peer waits for the other, beyond the delays of both.
const WAIT_MS: i64 = 5_000;
/// Beyond that if one of them listens on random ports.
const RANDOM_WAIT_MS: i64 = 30_000;
/// Ports around the range that a NAT has been seen to use.
const MARGIN: i64 = 5;
/// Best score.
const MAX_SCORE: i64 = 10;
/// What a success is worth.
const REWARD: i64 = 2;
/// Pairs of peers that are remembered; the one that was used longest ago makes room.
const MAX_RECORDS: usize = 4_096;
/// Time between two looks for records that have not been used.
const SWEEP: Duration = Duration::from_hours(1);

/// What one peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Sends to all addresses; else it opens its NAT and waits.
    pub sender: bool,
    /// TTL of what it sends; 0 = the usual one.
    pub ttl: u8,
    /// Milliseconds before it sends.
    pub delay: u16,
    /// Ports on both sides of the peer's that it sends to.
    pub range: u16,
    /// Random ports of the peer that it sends to.
    pub random: u16,
    /// Random ports of its own that it sends from.
    pub listen: u16,
}

impl Part {
    const fn new(sender: bool) -> Self {
        Self {
            sender,
            ttl: 0,
            delay: 0,
            range: 0,
            random: 0,
            listen: 0,
        }
    }

    const fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    const fn delay(self, delay: u16) -> Self {
        Self { delay, ..self }
    }

    const fn range(self, range: u16) -> Self {
        Self { range, ..self }
    }

    const fn random(self, random: u16) -> Self {
        Self { random, ..self }
    }

    const fn listen(self, listen: u16) -> Self {
        Self { listen, ..self }
    }
}

const SEND: Part = Part::new(true);
const RECEIVE: Part = Part::new(false);
/// Sends to many ports, after the peer has opened many.
const SPRAY: Part = SEND.delay(3_000).random(1_000);

/// All attempts by mode and index.
static MODES: [&[(Part, Part)]; 5] = [
    &[
        (SEND, RECEIVE.ttl(7)),
        (RECEIVE.ttl(7), SEND),
        (SEND, RECEIVE.ttl(4)),
        (RECEIVE.ttl(4), SEND),
        (SEND, RECEIVE),
        (RECEIVE, SEND),
        (SEND.delay(5_000), RECEIVE),
        (SEND.delay(10_000), RECEIVE),
        (RECEIVE, SEND.delay(5_000)),
        (RECEIVE, SEND.delay(10_000)),
    ],
    &[
        (SEND, RECEIVE.ttl(7).range(10)),
        (SEND.delay(2_000), RECEIVE.ttl(7).range(10)),
        (SEND, RECEIVE.ttl(4).range(10)),
        (SEND.delay(2_000), RECEIVE.ttl(4).range(10)),
        (SEND, RECEIVE.range(10)),
        (SEND.delay(2_000), RECEIVE.range(10)),
    ],
    &[
        (SPRAY, RECEIVE.ttl(7).listen(256)),
        (SPRAY, RECEIVE.ttl(4).listen(256)),
        (SPRAY, RECEIVE.listen(256)),
    ],
    &[
        (SEND.range(10), RECEIVE.ttl(7).range(10)),
        (SEND.range(10), RECEIVE.ttl(4).range(10)),
        (SEND.range(10), RECEIVE.range(10)),
        (RECEIVE.ttl(7).range(10), SEND.range(10)),
        (RECEIVE.ttl(4).range(10), SEND.range(10)),
        (RECEIVE.range(10), SEND.range(10)),
    ],
    &[
        (SPRAY, RECEIVE.ttl(7).range(2).listen(256)),
        (SPRAY, RECEIVE.ttl(4).range(2).listen(256)),
        (SPRAY, RECEIVE.range(2).listen(256)),
    ],
];

/// One peer as the server knows it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Addresses seen by STUN, at least two.
    pub mapped: Vec<SocketAddr>,
    /// What they tell.
    pub feature: Feature,
}

impl Peer {
    fn is_hard(&self) -> bool {
        self.feature.nat_type == NatType::Hard
    }
}

/// An attempt: which, and what both do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Table.
    pub mode: usize,
    /// Row.
    pub index: usize,
    /// What the side of the proxy does.
    pub client: Part,
    /// What the visitor does.
    pub visitor: Part,
}

impl Plan {
    fn new(mode: usize, index: usize, client: &Peer) -> Self {
        let (first, second) = MODES[mode][index];
        let swapped = match mode {
            1 => !client.is_hard(),
            2 => client.is_hard(),
            4 => !client.feature.regular,
            _ => false,
        };
        let (client, visitor) = if swapped {
            (second, first)
        } else {
            (first, second)
        };
        Self {
            mode,
            index,
            client,
            visitor,
        }
    }

    /// What the side of the proxy is told.
    pub fn for_client(&self, visitor: &Peer) -> DetectBehavior {
        self.behavior(self.client, visitor)
    }

    /// What the visitor is told.
    pub fn for_visitor(&self, client: &Peer) -> DetectBehavior {
        self.behavior(self.visitor, client)
    }

    fn behavior(&self, part: Part, peer: &Peer) -> DetectBehavior {
        let parts = [self.client, self.visitor];
        let delay = parts.map(|p| p.delay).into_iter().max().unwrap_or(0);
        let mut timeout = i64::from(delay) + WAIT_MS;
        if parts.iter().any(|p| p.listen > 0) {
            timeout += RANDOM_WAIT_MS;
        }
        DetectBehavior {
            role: if part.sender { "sender" } else { "receiver" }.into(),
            mode: i64::try_from(self.mode).unwrap_or_default(),
            ttl: part.ttl.into(),
            send_delay_ms: part.delay.into(),
            read_timeout: timeout - i64::from(part.delay),
            candidate_ports: ports(part.range.into(), peer).into_iter().collect(),
            send_random_ports: part.random.into(),
            listen_random_ports: part.listen.into(),
        }
    }
}

/// The ports that a peer's NAT may use next.
fn ports(range: i64, peer: &Peer) -> Option<PortsRange> {
    let port = i64::from(peer.mapped.last()?.port());
    let around = i64::from(peer.feature.ports_difference) + MARGIN;
    (range > 0).then(|| PortsRange {
        from: (port - around).max(port - range).max(1),
        to: (port + around).min(port + range).min(65_535),
    })
}

/// A pair of peers, as far as it matters for what works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair([(IpAddr, NatType, Behavior, bool); 2]);

impl Pair {
    fn new(visitor: &Peer, client: &Peer) -> Option<Self> {
        let side = |peer: &Peer| {
            let (ip, f) = (peer.mapped.first()?.ip(), &peer.feature);
            Some((ip, f.nat_type, f.behavior, f.regular))
        };
        Some(Self([side(visitor)?, side(client)?]))
    }
}

struct Attempt {
    mode: usize,
    index: usize,
    score: i64,
}

struct Record {
    /// In the order in which they are tried while the scores are equal.
    attempts: Vec<Attempt>,
    used: Instant,
}

/// What has worked between which peers.
pub struct Records {
    max_age: Duration,
    pairs: HashMap<Pair, Record>,
    swept: Option<Instant>,
}

impl Records {
    /// Keeps records that are not used for `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            pairs: HashMap::new(),
            swept: None,
        }
    }

    /// The attempt to make next between two peers, and under which name to report on it; `None` if one has no address.
    pub fn next(&mut self, now: Instant, client: &Peer, visitor: &Peer) -> Option<(Plan, Pair)> {
        self.sweep(now);
        let pair = Pair::new(visitor, client)?;
        if self.pairs.len() >= MAX_RECORDS && !self.pairs.contains_key(&pair) {
            let oldest = self.pairs.iter().min_by_key(|(_, r)| r.used);
            if let Some(oldest) = oldest.map(|(pair, _)| *pair) {
                self.pairs.remove(&oldest);
            }
        }
        let record = self.pairs.entry(pair).or_insert_with(|| Record {
            attempts: attempts(client, visitor),
            used: now,
        });
        record.used = now;
        // The first of equals: `max_by_key` would take the last.
        let attempts = record.attempts.iter_mut().rev();
        let best = attempts.max_by_key(|attempt| attempt.score)?;
        best.score -= 1;
        Some((Plan::new(best.mode, best.index, client), pair))
    }

    /// An attempt has made a hole.
    pub fn reward(&mut self, pair: &Pair, plan: &Plan) {
        let record = self.pairs.get_mut(pair);
        let attempt = record.and_then(|record| {
            let mut attempts = record.attempts.iter_mut();
            attempts.find(|a| (a.mode, a.index) == (plan.mode, plan.index))
        });
        if let Some(attempt) = attempt {
            attempt.score = (attempt.score + REWARD).min(MAX_SCORE);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) >= SWEEP {
            self.swept = Some(now);
            let max_age = self.max_age;
            self.pairs
                .retain(|_, record| now.saturating_duration_since(record.used) < max_age);
        }
    }
}

/// The attempts for a new pair.
fn attempts(client: &Peer, visitor: &Peer) -> Vec<Attempt> {
    let mode = |mode: usize, score: i64| {
        (0..MODES[mode].len()).map(move |index| Attempt { mode, index, score })
    };
    let easy = || {
        MODES[0].iter().enumerate().map(|(index, (first, _))| {
            // Who has no NAT before it receives.
            let score = match (client.feature.public, visitor.feature.public) {
                (true, _) => i64::from(!first.sender),
                (false, true) => i64::from(first.sender),
                (false, false) => 0,
            };
            Attempt {
                mode: 0,
                index,
                score,
            }
        })
    };
    let regular = [client, visitor].map(|peer| peer.feature.regular);
    match (client.is_hard(), visitor.is_hard(), regular) {
        (false, false, _) => easy().collect(),
        (true, true, [true, true]) => mode(3, 0).chain(mode(4, 0)).collect(),
        (true, true, [false, false]) => mode(0, 1).chain(mode(1, 1)).chain(mode(3, 1)).collect(),
        (true, true, _) => mode(4, 0).collect(),
        (_, _, [false, false]) => mode(2, 0).chain(mode(1, 0)).chain(easy()).collect(),
        (..) => mode(1, 0).chain(mode(2, 0)).chain(easy()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::classify;
    use super::*;

    fn peer(mapped: [&str; 2], local: &str) -> Peer {
        let mapped: Vec<SocketAddr> = mapped.map(|a| a.parse().unwrap()).into();
        let feature = classify(&mapped, &[local.parse().unwrap()]).unwrap();
        Peer { mapped, feature }
    }

    const EASY: [&str; 2] = ["1.1.1.1:1000", "1.1.1.1:1000"];
    const REGULAR: [&str; 2] = ["1.1.1.2:1000", "1.1.1.2:1003"];
    const IRREGULAR: [&str; 2] = ["1.1.1.3:1000", "1.1.1.3:3000"];

    fn records() -> Records {
        Records::new(Duration::from_hours(168))
    }

    /// What is tried, as `mode.index`, when nothing works.
    fn tried(client: &Peer, visitor: &Peer, n: usize) -> String {
        let mut records = records();
        let now = Instant::now();
        let tried = (0..n).map(|_| {
            let (plan, _) = records.next(now, client, visitor).unwrap();
            format!("{}.{}", plan.mode, plan.index)
        });
        tried.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn attempts_come_in_the_order_of_the_specification() {
        let easy = peer(EASY, "10.0.0.1");
        let public = peer(EASY, "1.1.1.1");
        let order = |indices: &str| {
            let order = indices.split(' ').map(|i| format!("0.{i}"));
            order.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(tried(&easy, &easy, 12), order("0 1 2 3 4 5 6 7 8 9 0 1"));
        assert_eq!(
            tried(&public, &easy, 15),
            order("1 3 5 8 9 0 1 2 3 4 5 6 7 8 9")
        );
        assert_eq!(
            tried(&easy, &public, 15),
            order("0 2 4 6 7 0 1 2 3 4 5 6 7 8 9")
        );
    }

    #[test]
    fn harder_nats_have_other_modes() {
        let [easy, regular, irregular] =
            [EASY, REGULAR, IRREGULAR].map(|mapped| peer(mapped, "10.0.0.1"));
        for (client, visitor, expected) in [
            (&easy, &regular, "1.0 1.1 1.2 1.3 1.4 1.5 2.0 2.1 2.2 0.0"),
            (&irregular, &easy, "2.0 2.1 2.2 1.0 1.1 1.2 1.3 1.4 1.5 0.0"),
            (
                &regular,
                &regular,
                "3.0 3.1 3.2 3.3 3.4 3.5 4.0 4.1 4.2 3.0",
            ),
            (&regular, &irregular, "4.0 4.1 4.2 4.0"),
            (&irregular, &irregular, "0.0 0.1 0.2 0.3"),
        ] {
            let n = expected.split(' ').count();
            assert_eq!(tried(client, visitor, n), expected);
        }
    }

    #[test]
    fn success_is_remembered_for_a_while() {
        let (client, visitor) = (peer(EASY, "10.0.0.1"), peer(REGULAR, "10.0.0.1"));
        let mut records = records();
        let start = Instant::now();
        records.next(start, &client, &visitor).unwrap();
        let (worked, pair) = records.next(start, &client, &visitor).unwrap();
        records.reward(&pair, &worked);
        for _ in 0..20 {
            let (plan, pair) = records.next(start, &client, &visitor).unwrap();
            assert_eq!(plan, worked);
            records.reward(&pair, &plan);
        }
        // Ten failures later it is as good as the others, of which it is the first.
        for _ in 0..11 {
            assert_eq!(records.next(start, &client, &visitor).unwrap().0, worked);
        }
        assert_ne!(records.next(start, &client, &visitor).unwrap().0, worked);
        let later = start + Duration::from_hours(169);
        assert_eq!(records.next(later, &client, &visitor).unwrap().0.index, 0);
        assert_eq!(records.pairs.len(), 1);
    }

    #[test]
    fn so_many_pairs_are_remembered() {
        let mut records = records();
        let visitor = peer(EASY, "10.0.0.1");
        let start = Instant::now();
        for n in 0..MAX_RECORDS as u32 + 10 {
            let ip = std::net::Ipv4Addr::from_bits(n);
            let mapped = vec![SocketAddr::from((ip, 1)); 2];
            let client = Peer {
                mapped,
                feature: visitor.feature,
            };
            let now = start + Duration::from_millis(n.into());
            records.next(now, &client, &visitor).unwrap();
        }
        assert_eq!(records.pairs.len(), MAX_RECORDS);
    }

    #[test]
    fn peers_are_told_what_the_specification_shows() {
        let visitor = peer(["127.0.0.1:36877", "127.0.0.1:36880"], "192.0.2.2");
        let client = peer(["127.0.0.1:47093", "127.0.0.1:47096"], "192.0.2.2");
        let (plan, _) = records().next(Instant::now(), &client, &visitor).unwrap();
        let range = |from, to| vec![PortsRange { from, to }];
        let expected = DetectBehavior {
            role: "receiver".into(),
            mode: 3,
            ttl: 7,
            read_timeout: 5_000,
            candidate_ports: range(47_088, 47_104),
            ..DetectBehavior::default()
        };
        assert_eq!(plan.for_visitor(&client), expected);
        let expected = DetectBehavior {
            role: "sender".into(),
            mode: 3,
            read_timeout: 5_000,
            candidate_ports: range(36_872, 36_888),
            ..DetectBehavior::default()
        };
        assert_eq!(plan.for_client(&visitor), expected);
    }

    #[test]
    fn the_harder_side_has_the_part_that_suits_it() {
        let [easy, regular, irregular] =
            [EASY, REGULAR, IRREGULAR].map(|mapped| peer(mapped, "10.0.0.1"));
        let plan = |mode, client| Plan::new(mode, 0, client);
        assert!(plan(1, &regular).client.sender);
        assert!(plan(1, &easy).visitor.sender);
        assert!(plan(2, &easy).client.sender);
        assert!(plan(2, &irregular).visitor.sender);
        assert!(plan(4, &regular).client.sender);
        let plan = plan(4, &irregular);
        assert!(plan.visitor.sender);
        let (client, visitor) = (plan.for_client(&regular), plan.for_visitor(&irregular));
        assert_eq!(
            (client.read_timeout, visitor.read_timeout),
            (38_000, 35_000)
        );
        assert_eq!(
            (client.listen_random_ports, visitor.send_random_ports),
            (256, 1_000)
        );
        assert_eq!(
            client.candidate_ports,
            [PortsRange {
                from: 1_001,
                to: 1_005
            }]
        );
    }
}
