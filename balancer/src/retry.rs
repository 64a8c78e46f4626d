//! How many retries a group may make (balancing.md §4.1): a share of what was asked, so that retries cannot multiply load.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::ticks;
use crate::config::RetryConfig;

const BUCKETS: u64 = 10;
/// Retries at a time that need no share of the requests in flight.
const MIN_CONCURRENT: u64 = 3;

/// Hedges per first attempt, in percent.
const HEDGE_PERCENT: u64 = 5;

/// Counts of the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The oldest first.
    buckets: VecDeque<Bucket>,
    running: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    second: u64,
    first_attempts: u64,
    /// Hedges among them.
    retries: u64,
    hedges: u64,
}

impl Budget {
    pub(crate) fn first_attempt(&self, tick: u64) {
        self.with(|counts| counts.bucket(tick).first_attempts += 1);
    }

    /// Takes one retry from the budget if it has one, while `active` requests are in flight.
    pub(crate) fn take(&self, tick: u64, active: u64, c: &RetryConfig) -> bool {
        self.with(|counts| counts.take(tick, active, c))
    }

    /// Takes a retry for a copy of a request that is under way, of which there are few.
    pub(crate) fn take_hedge(&self, tick: u64, active: u64, c: &RetryConfig) -> bool {
        self.with(|counts| {
            let (first, hedges) = counts.sum(tick, |b| (b.first_attempts, b.hedges));
            let allowed =
                (hedges + 1) * 100 <= first * HEDGE_PERCENT && counts.take(tick, active, c);
            if allowed {
                counts.bucket(tick).hedges += 1;
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
    fn take(&mut self, tick: u64, active: u64, c: &RetryConfig) -> bool {
        let allowed = self.running < MIN_CONCURRENT.max(active / 5) && self.left(tick, c) >= 1.0;
        if allowed {
            self.bucket(tick).retries += 1;
            self.running += 1;
        }
        allowed
    }

    fn bucket(&mut self, tick: u64) -> &mut Bucket {
        let second = tick / ticks(Duration::from_secs(1));
        while self
            .buckets
            .front()
            .is_some_and(|b| b.second + BUCKETS <= second)
        {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|b| b.second < second) {
            self.buckets.push_back(Bucket {
                second,
                ..Bucket::default()
            });
        }
        let last = self.buckets.len() - 1;
        &mut self.buckets[last]
    }

    fn left(&mut self, tick: u64, c: &RetryConfig) -> f64 {
        let (first, retries) = self.sum(tick, |b| (b.first_attempts, b.retries));
        let base = u64::from(c.min_per_sec) * BUCKETS;
        base as f64 + c.budget * first as f64 - retries as f64
    }

    /// Two counts of the time that counts at `tick`.
    fn sum(&mut self, tick: u64, of: impl Fn(&Bucket) -> (u64, u64)) -> (u64, u64) {
        self.bucket(tick);
        let counts = self.buckets.iter().map(of);
        counts.fold((0, 0), |(a, b), (x, y)| (a + x, b + y))
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
    fn hedges_are_one_in_twenty_and_within_the_budget() {
        let (budget, c) = (Budget::default(), RetryConfig::default());
        let hedge = || {
            let taken = budget.take_hedge(0, u64::MAX, &c);
            taken.then(|| budget.give_back()).is_some()
        };
        (0..19).for_each(|_| budget.first_attempt(0));
        assert!(!hedge());
        (19..100).for_each(|_| budget.first_attempt(0));
        assert_eq!((0..10).filter(|_| hedge()).count(), 5);
        while budget.take(0, u64::MAX, &c) {
            budget.give_back();
        }
        (0..20).for_each(|_| budget.first_attempt(0));
        assert!(budget.take_hedge(0, u64::MAX, &c));
        assert!(!budget.take_hedge(0, u64::MAX, &c));
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
