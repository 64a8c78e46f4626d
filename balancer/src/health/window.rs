//! Exact counts of successes and failures in the last ten seconds, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::ticks;

const BUCKETS: usize = 10;
/// Largest count of a bucket; more stay at it.
const MAX: u64 = (1 << 24) - 1;

/// Buckets of one second. A bucket is one word: its second (16 bits), successes and failures (24 bits each).
#[derive(Debug, Default)]
pub(crate) struct Window([AtomicU64; BUCKETS]);

impl Window {
    pub(crate) fn count(&self, tick: u64, ok: bool) {
        let second = second(tick);
        let bucket = &self.0[second as usize % BUCKETS];
        let one = |before: u64| {
            let (of, good, bad) = unpack(before);
            let (good, bad) = if of == stamp(second) {
                (good, bad)
            } else {
                (0, 0)
            };
            Some(if ok {
                pack(second, (good + 1).min(MAX), bad)
            } else {
                pack(second, good, (bad + 1).min(MAX))
            })
        };
        // The closure never gives None.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one);
    }

    /// Successes and failures of the last ten seconds.
    pub(crate) fn sums(&self, tick: u64) -> (u64, u64) {
        let now = second(tick);
        let oldest = now.saturating_sub(BUCKETS as u64 - 1);
        (oldest..=now).fold((0, 0), |(ok, failed), second| {
            let (of, good, bad) = unpack(self.0[second as usize % BUCKETS].load(Ordering::Relaxed));
            if of == stamp(second) {
                (ok + good, failed + bad)
            } else {
                (ok, failed)
            }
        })
    }
}

fn second(tick: u64) -> u64 {
    tick / ticks(Duration::from_secs(1))
}

/// A second's mark, never 0, so that an unused bucket belongs to none. It comes again after 18 hours; a bucket that was
/// not used in between would count then, once, with what it had.
fn stamp(second: u64) -> u64 {
    second % 0xffff + 1
}

fn pack(second: u64, ok: u64, failed: u64) -> u64 {
    stamp(second) << 48 | ok << 24 | failed
}

fn unpack(bucket: u64) -> (u64, u64, u64) {
    (bucket >> 48, bucket >> 24 & MAX, bucket & MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_count() {
        let window = Window::default();
        let at = |s: u64| ticks(Duration::from_secs(1)) * s;
        assert_eq!(window.sums(at(5)), (0, 0));
        for s in 0..25 {
            window.count(at(s), true);
            window.count(at(s), s % 2 == 0);
        }
        assert_eq!(window.sums(at(24)), (15, 5));
        assert_eq!(window.sums(at(30)), (6, 2));
        assert_eq!(window.sums(at(100)), (0, 0));
    }
}
