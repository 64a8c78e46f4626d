//! The port manager (server.md §3.3): which ports proxies may have, who had which, and the bound sockets.
//!
//! A port is acquired by binding it: there is no moment between a trial bind and the real one.

use std::collections::{HashMap, HashSet};
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use frp_proto::net::listen;
use frp_proto::udp::Socket;
use tokio::net::TcpListener;

/// How long a name's last port is remembered after its proxy closed.
const RESERVATION: Duration = Duration::from_hours(24);
/// Reservations kept at most; the oldest closed ones go first.
const MAX_RESERVATIONS: usize = 65_536;
/// Ports tried for a proxy that leaves the choice to the server.
const MAX_TRIES: usize = 512;

/// A set of ports as sorted, disjoint, inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// From `allowPorts` entries `(start, end, single)` (config-frps.md §6.4); no entry at all means 1..=65535.
    pub fn new(entries: impl IntoIterator<Item = (i64, i64, i64)>) -> Self {
        let mut any = false;
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (start, end, single) in entries {
            any = true;
            let (start, end) = if single > 0 {
                (single, single)
            } else {
                (start, end)
            };
            let (start, end) = (start.max(1), end.min(65_535));
            if let (Ok(start), Ok(end)) = (u16::try_from(start), u16::try_from(end))
                && start <= end
            {
                ranges.push((start, end));
            }
        }
        if !any {
            ranges.push((1, 65_535));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(start) <= u32::from(last.1) + 1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|(start, end)| (*start..=*end).contains(&port))
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.0
            .iter()
            .map(|(start, end)| usize::from(end - start) + 1)
            .sum()
    }

    /// Whether no port is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `n`-th port in rising order.
    fn nth(&self, mut n: usize) -> Option<u16> {
        for (start, end) in &self.0 {
            let len = usize::from(end - start) + 1;
            if n < len {
                return u16::try_from(usize::from(*start) + n).ok();
            }
            n -= len;
        }
        None
    }
}

/// Why a port was not given; `Display` is the text peers and panels match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port already used")]
    Used,
    #[error("port not allowed")]
    NotAllowed,
    #[error("port unavailable")]
    Unavailable,
    #[error("no available port")]
    NoneAvailable,
}

struct Reservation {
    port: u16,
    /// When its proxy closed; `None` while it is open.
    closed: Option<Instant>,
}

#[derive(Default)]
struct State {
    used: HashSet<u16>,
    reservations: HashMap<String, Reservation>,
}

/// A socket that holds a port.
pub(crate) trait Bind: Sized {
    fn bind(addr: &str, port: u16) -> impl Future<Output = io::Result<Self>> + Send;
}

impl Bind for TcpListener {
    fn bind(addr: &str, port: u16) -> impl Future<Output = io::Result<Self>> + Send {
        listen::bind(addr, port)
    }
}

impl Bind for Socket {
    fn bind(addr: &str, port: u16) -> impl Future<Output = io::Result<Self>> + Send {
        Self::bind(addr, port)
    }
}

/// Who has which port.
#[derive(Clone)]
struct Ledger {
    allowed: Arc<ArcSwap<PortSet>>,
    state: Arc<Mutex<State>>,
}

/// The ports of one protocol, whose sockets are `S`.
pub(crate) struct PortManager<S> {
    addr: String,
    ledger: Ledger,
    sockets: PhantomData<fn() -> S>,
}

/// A port in use; dropping it gives the port back and starts the reservation's clock.
pub(crate) struct PortClaim {
    ledger: Ledger,
    name: String,
    port: u16,
}

impl<S: Bind> PortManager<S> {
    pub(crate) fn new(addr: String, allowed: PortSet) -> Self {
        Self {
            addr,
            ledger: Ledger {
                allowed: Arc::new(ArcSwap::from_pointee(allowed)),
                state: Arc::default(),
            },
            sockets: PhantomData,
        }
    }

    /// Replaces the ports that proxies may have from now on.
    pub(crate) fn allow(&self, allowed: PortSet) {
        self.ledger.allowed.store(Arc::new(allowed));
    }

    /// Binds `port` for the proxy `name`; 0 = its reserved port, else any free one.
    pub(crate) async fn acquire(&self, name: &str, port: i64) -> Result<(S, PortClaim), PortError> {
        let allowed = self.ledger.allowed.load_full();
        if port != 0 {
            let port = u16::try_from(port)
                .ok()
                .filter(|p| allowed.contains(*p))
                .ok_or(PortError::NotAllowed)?;
            let claim = self.ledger.claim(name, port).ok_or(PortError::Used)?;
            return self.bind(claim).await.ok_or(PortError::Unavailable);
        }
        let reserved = self
            .ledger
            .lock()
            .reservations
            .get(name)
            .map(|r| r.port)
            .filter(|p| allowed.contains(*p));
        if let Some(port) = reserved
            && let Some(claim) = self.ledger.claim(name, port)
            && let Some(got) = self.bind(claim).await
        {
            return Ok(got);
        }
        let len = allowed.len();
        if len == 0 {
            return Err(PortError::NoneAvailable);
        }
        let first = random() % len;
        for i in 0..len.min(MAX_TRIES) {
            if let Some(port) = allowed.nth((first + i) % len)
                && let Some(claim) = self.ledger.claim(name, port)
                && let Some(got) = self.bind(claim).await
            {
                return Ok(got);
            }
        }
        Err(PortError::NoneAvailable)
    }

    /// Binds a claimed port and writes the name's reservation.
    async fn bind(&self, claim: PortClaim) -> Option<(S, PortClaim)> {
        let socket = S::bind(&self.addr, claim.port).await.ok()?;
        self.ledger.reserve(&claim);
        Some((socket, claim))
    }
}

impl Ledger {
    /// Marks `port` as used, if it is free.
    fn claim(&self, name: &str, port: u16) -> Option<PortClaim> {
        self.lock().used.insert(port).then(|| PortClaim {
            ledger: self.clone(),
            name: name.to_owned(),
            port,
        })
    }

    /// Remembers whose port this is.
    fn reserve(&self, claim: &PortClaim) {
        let mut state = self.lock();
        if state.reservations.len() >= MAX_RESERVATIONS {
            state.forget_old();
        }
        state.reservations.insert(
            claim.name.clone(),
            Reservation {
                port: claim.port,
                closed: None,
            },
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or remove: a panic elsewhere leaves the maps whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops expired reservations, and if that is not enough the older half of the closed ones.
    fn forget_old(&mut self) {
        self.reservations
            .retain(|_, r| r.closed.is_none_or(|at| at.elapsed() < RESERVATION));
        if self.reservations.len() < MAX_RESERVATIONS {
            return;
        }
        let mut closed: Vec<Instant> = self
            .reservations
            .values()
            .filter_map(|r| r.closed)
            .collect();
        closed.sort_unstable();
        if let Some(middle) = closed.get(closed.len() / 2).copied() {
            self.reservations
                .retain(|_, r| r.closed.is_none_or(|at| at > middle));
        }
    }
}

impl PortClaim {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortClaim {
    fn drop(&mut self) {
        let mut state = self.ledger.lock();
        state.used.remove(&self.port);
        if let Some(r) = state.reservations.get_mut(&self.name)
            && r.port == self.port
        {
            r.closed = Some(Instant::now());
        }
    }
}

/// Spreads automatic ports; needs no quality beyond that.
fn random() -> usize {
    let mut bytes = [0; 4];
    // Without entropy the search starts at the first port, which is as good.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_ports_entries() {
        assert_eq!(PortSet::new([]).len(), 65_535);
        let set = PortSet::new([
            (1, 2, 0),
            (0, 0, 5),
            (0, 9, 0),
            (7, 0, 0),
            (65_530, 70_000, 0),
        ]);
        assert_eq!(set.0, vec![(1, 9), (65_530, 65_535)]);
        assert_eq!(
            (set.nth(0), set.nth(8), set.nth(9), set.nth(15)),
            (Some(1), Some(9), Some(65_530), None)
        );
        assert!(PortSet::new([(5, 2, 0)]).is_empty());
    }

    fn tcp(allowed: PortSet) -> PortManager<TcpListener> {
        PortManager::new("127.0.0.1".into(), allowed)
    }

    #[tokio::test]
    async fn ports_are_given_once_and_come_back_to_their_name() {
        let any = tcp(PortSet::new([]));
        let (socket, claim) = any.acquire("a", 0).await.unwrap();
        let port = claim.port();
        assert_eq!(socket.local_addr().unwrap().port(), port);
        assert_eq!(
            any.acquire("b", i64::from(port)).await.err(),
            Some(PortError::Used)
        );
        drop((socket, claim));
        let (_socket, again) = any.acquire("a", 0).await.unwrap();
        assert_eq!(again.port(), port);
    }

    #[tokio::test]
    async fn protocols_do_not_share_ports() {
        let (_listener, tcp) = tcp(PortSet::new([])).acquire("a", 0).await.unwrap();
        let udp = PortManager::<Socket>::new("127.0.0.1".into(), PortSet::new([]));
        let port = i64::from(tcp.port());
        let (socket, claim) = udp.acquire("a", port).await.unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), tcp.port());
        assert_eq!(udp.acquire("b", port).await.err(), Some(PortError::Used));
        drop((socket, claim));
        assert!(udp.acquire("b", port).await.is_ok());
    }

    #[tokio::test]
    async fn refusals_say_why() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let one = tcp(PortSet::new([(0, 0, i64::from(port))]));
        assert_eq!(
            one.acquire("a", i64::from(port)).await.err(),
            Some(PortError::Unavailable)
        );
        assert_eq!(
            one.acquire("a", 0).await.err(),
            Some(PortError::NoneAvailable)
        );
        for port in [-1, 65_536, i64::MAX, if port == 9 { 10 } else { 9 }] {
            assert_eq!(
                one.acquire("a", port).await.err(),
                Some(PortError::NotAllowed)
            );
        }
    }
}
