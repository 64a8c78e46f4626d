//! When a request is worth a second copy (balancing.md §4.4): once it has taken longer than 95 of 100 requests of late.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::ticks;

/// How long a window collects.
const WINDOW: Duration = Duration::from_secs(10);
/// Windows that count: the one that collects and those before it.
const RECENT: u64 = 3;
/// One more than count, so that what is written to is never read from as old.
const WINDOWS: usize = RECENT as usize + 1;
/// Bounds grow by a quarter of an octave from 1 ms: up to 65 s, which nobody hedges.
const BUCKETS: usize = 64;
/// Fewer samples say nothing.
const MIN_SAMPLES: u32 = 100;
/// A copy is not sent earlier.
const MIN_DELAY: Duration = Duration::from_millis(10);
/// The share of requests that answer within the delay, in percent.
const PERCENTILE: u64 = 95;

/// Times to the first byte of a group.
#[derive(Debug, Default)]
pub(crate) struct Latencies([Window; WINDOWS]);

#[derive(Debug)]
struct Window {
    /// Which window of time it holds.
    epoch: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }
}

fn epoch(tick: u64) -> u64 {
    tick / ticks(WINDOW)
}

impl Latencies {
    pub(crate) fn record(&self, tick: u64, elapsed: Duration) {
        let epoch = epoch(tick);
        let window = &self.0[epoch as usize % WINDOWS];
        let held = window.epoch.load(Ordering::Acquire);
        if held < epoch {
            let mine =
                (window.epoch).compare_exchange(held, epoch, Ordering::AcqRel, Ordering::Relaxed);
            // Samples that others add meanwhile may get lost: it is a statistic.
            if mine.is_ok() {
                window
                    .counts
                    .iter()
                    .for_each(|n| n.store(0, Ordering::Relaxed));
            }
        }
        window.counts[bucket(elapsed)].fetch_add(1, Ordering::Relaxed);
    }

    /// How long a request waits for its answer before a copy is worth it; `None` without enough samples.
    pub(crate) fn delay(&self, tick: u64) -> Option<Duration> {
        let now = epoch(tick);
        let mut counts = [0_u32; BUCKETS];
        let windows = self.0.iter().filter(|window| {
            let held = window.epoch.load(Ordering::Acquire);
            held <= now && held + RECENT > now
        });
        for window in windows {
            for (sum, n) in counts.iter_mut().zip(&window.counts) {
                *sum = sum.saturating_add(n.load(Ordering::Relaxed));
            }
        }
        let total: u32 = counts.iter().fold(0, |sum, n| sum.saturating_add(*n));
        if total < MIN_SAMPLES {
            return None;
        }
        let rank = (u64::from(total) * PERCENTILE).div_ceil(100);
        let mut below = 0;
        let at = counts.iter().position(|n| {
            below += u64::from(*n);
            below >= rank
        });
        Some(bound(at.unwrap_or(BUCKETS - 1)).max(MIN_DELAY))
    }
}

/// The upper end of a bucket.
fn bound(bucket: usize) -> Duration {
    Duration::from_secs_f64(1e-3 * (bucket as f64 / 4.0).exp2())
}

fn bucket(elapsed: Duration) -> usize {
    let quarters = (elapsed.as_secs_f64() * 1e3).max(1.0).log2() * 4.0;
    // A bound belongs to its bucket, though the logarithm may be a hair above.
    ((quarters - 1e-4).ceil().max(0.0) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn bounds_belong_to_their_buckets() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(bound(at)), at);
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_delay_is_the_95th_percentile() {
        let latencies = Latencies::default();
        for i in 0..99 {
            latencies.record(0, ms(if i < 95 { 30 } else { 900 }));
        }
        assert_eq!(latencies.delay(0), None);
        latencies.record(0, ms(900));
        let delay = latencies.delay(0).unwrap();
        assert!((ms(30)..ms(37)).contains(&delay), "{delay:?}");
        // One more above, and 95 of 100 are not below any more.
        latencies.record(0, ms(900));
        assert!(latencies.delay(0).unwrap() >= ms(900));
    }

    #[test]
    fn it_is_never_below_10_ms_and_forgets() {
        let latencies = Latencies::default();
        let window = ticks(WINDOW);
        (0..100).for_each(|_| latencies.record(0, ms(1)));
        assert_eq!(latencies.delay(2 * window), Some(MIN_DELAY));
        assert_eq!(latencies.delay(3 * window), None);
        // The same place, four windows later.
        (0..100).for_each(|_| latencies.record(4 * window, ms(50)));
        assert!(latencies.delay(4 * window).unwrap() >= ms(50));
    }
}
