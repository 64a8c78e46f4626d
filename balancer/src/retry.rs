//! How many retries a group may make (balancing.md §4.1): a share of what was asked, so that retries cannot multiply load.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::ticks;
use crate::config::RetryConfig;

const BUCKETS: u64 = 10;
/// Retries at a time that need no share of the requests in flight.
const MIN_CONCURRENT: u64 = 3;

/// Counts of the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Second, first attempts, retries; the oldest first.
    buckets: VecDeque<(u64, u64, u64)>,
    running: u64,
}

impl Budget {
    pub(crate) fn first_attempt(&self, tick: u64) {
        self.with(|counts| counts.bucket(tick).1 += 1);
    }

    /// Takes one retry from the budget if it has one, while `active` requests are in flight.
    pub(crate) fn take(&self, tick: u64, active: u64, c: &RetryConfig) -> bool {
        self.with(|counts| {
            let allowed =
                counts.running < MIN_CONCURRENT.max(active / 5) && (counts.left(tick, c)) >= 1.0;
            if allowed {
                counts.bucket(tick).2 += 1;
                counts.running += 1;
            }
            allowed
        })
    }

    /// A retry has ended.
    pub(crate) fn give_back(&self) {
        self.with(|counts| counts.running = counts.running.saturating_sub(1));
    }

    fn with<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        // Counters: a panic elsewhere leaves nothing half done.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counts {
    fn bucket(&mut self, tick: u64) -> &mut (u64, u64, u64) {
        let second = tick / ticks(Duration::from_secs(1));
        while self
            .buckets
            .front()
            .is_some_and(|b| b.0 + BUCKETS <= second)
        {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|b| b.0 < second) {
            self.buckets.push_back((second, 0, 0));
        }
        let last = self.buckets.len() - 1;
        &mut self.buckets[last]
    }

    fn left(&mut self, tick: u64, c: &RetryConfig) -> f64 {
        self.bucket(tick);
        let (first, retries) = self
            .buckets
            .iter()
            .fold((0, 0), |(f, r), b| (f + b.1, r + b.2));
        let base = u64::from(c.min_per_sec) * BUCKETS;
        base as f64 + c.budget * first as f64 - retries as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(budget: &Budget, tick: u64) -> u32 {
        let c = RetryConfig::default();
        let mut n = 0;
        while budget.take(tick, u64::MAX, &c) {
            budget.give_back();
            n += 1;
        }
        n
    }

    #[test]
    fn the_golden_budgets_of_the_specification() {
        let budget = Budget::default();
        let second = ticks(Duration::from_secs(1));
        for i in 0..1_000 {
            budget.first_attempt(i % 10 * second / 10);
        }
        assert_eq!(available(&budget, second), 300);
        assert_eq!(available(&budget, second), 0);
        assert_eq!(available(&Budget::default(), second), 100);
        // Eleven seconds later all is forgotten.
        assert_eq!(available(&budget, 12 * second), 100);
    }

    #[test]
    fn concurrent_retries_are_few() {
        let (budget, c) = (Budget::default(), RetryConfig::default());
        assert_eq!((0..10).filter(|_| budget.take(0, 0, &c)).count(), 3);
        assert_eq!((0..10).filter(|_| budget.take(0, 30, &c)).count(), 3);
        budget.give_back();
        assert!(budget.take(0, 30, &c));
    }
}
