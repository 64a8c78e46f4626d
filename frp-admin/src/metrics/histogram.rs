//! [`Histogram`] and [`Counter`]: what hot paths write and a scrape reads, without a lock between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many durations were how long. An observation is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// How many were longer than the bound before and not longer than this one; the last is for those above all bounds.
    buckets: Box<[Counter]>,
    micros: Counter,
}

impl Histogram {
    /// `bounds` are the upper ends of the buckets, ascending.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            micros: Counter::default(),
        }
    }

    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let at = self.bounds.partition_point(|bound| *bound < duration);
        self.buckets[at].inc();
        self.micros
            .add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many have been counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// Each bound in seconds with how many were not longer, and how many there are in all.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64) {
        let mut total = 0;
        let mut up_to = |counter: &Counter| {
            total += counter.get();
            total
        };
        let bounds = self.bounds.iter().zip(&self.buckets);
        let below = bounds
            .map(|(bound, counter)| (bound.as_secs_f64(), up_to(counter)))
            .collect();
        let total = self.buckets.last().map_or(0, up_to);
        (below, total)
    }

    /// The sum in seconds.
    pub(super) fn sum(&self) -> f64 {
        Duration::from_micros(self.micros.get()).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_secs(1)];

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(BOUNDS);
        for micros in [0, 1_000, 1_001, 1_000_000, 1_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        assert_eq!(histogram.cumulative(), (vec![(0.001, 2), (1.0, 4)], 5));
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 2.002_002).abs() < 1e-9);
    }
}
