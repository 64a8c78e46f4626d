//! Who has shown wrong credentials, and how often: guessing must be slow, however many connections it uses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong credentials that an address may show in a [`WINDOW`].
const MAX_FAILURES: u32 = 20;
/// How long they count, from the first on.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered; of more, the one that is free again soonest makes room.
const MAX_ADDRESSES: usize = 4096;

/// All addresses with failures.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<IpAddr, Entry>>);

struct Entry {
    count: u32,
    ends: Instant,
}

impl Failures {
    /// How long this address has to wait before it is listened to; `None` = not at all.
    pub(crate) fn wait(&self, peer: IpAddr) -> Option<Duration> {
        let failures = self.lock();
        let entry = failures.get(&network(peer))?;
        let left = entry.ends.saturating_duration_since(Instant::now());
        (entry.count >= MAX_FAILURES && !left.is_zero()).then_some(left)
    }

    /// This address has shown wrong credentials.
    pub(crate) fn add(&self, peer: IpAddr) {
        let (peer, now) = (network(peer), Instant::now());
        let mut failures = self.lock();
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&peer) {
            failures.retain(|_, entry| entry.ends > now);
            let first = failures.iter().min_by_key(|(_, entry)| entry.ends);
            if let Some(first) = first.map(|(peer, _)| *peer)
                && failures.len() >= MAX_ADDRESSES
            {
                failures.remove(&first);
            }
        }
        let fresh = || Entry {
            count: 0,
            ends: now + WINDOW,
        };
        let entry = failures.entry(peer).or_insert_with(fresh);
        if entry.ends <= now {
            *entry = fresh();
        }
        entry.count += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        // A half-made change costs one address its count.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host has all addresses of a /64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_after_too_many_failures() {
        let failures = Failures::default();
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        for _ in 0..MAX_FAILURES {
            assert_eq!(failures.wait(one), None);
            failures.add(one);
        }
        assert_eq!(failures.wait(same), Some(WINDOW));
        assert_eq!(failures.wait(other), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(failures.wait(one), None);
        failures.add(one);
        assert_eq!(failures.wait(one), None);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_bounded() {
        let failures = Failures::default();
        for n in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 10 {
            failures.add(std::net::Ipv4Addr::from_bits(n).into());
        }
        assert_eq!(failures.lock().len(), MAX_ADDRESSES);
    }
}
