//! Second tries and copies of requests, and how many there may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Group, Shared};

impl<E> Group<E> {
    /// Counts a request, for the retry budget.
    pub fn first_attempt(&self, now: Instant) {
        self.shared.budget().first_attempt(self.shared.at(now));
    }

    /// Permission for one retry, given back by dropping it; `None` when the budget is used up.
    pub fn retry(&self, now: Instant) -> Option<RetryPermit<E>> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let allowed =
            shared
                .budget()
                .take(shared.at(now), snapshot.active(), &snapshot.config.retry);
        allowed.then(|| RetryPermit(shared.clone()))
    }

    /// How long to wait for an answer before the request is worth a copy to another member; `None`: it is not to be sent.
    pub fn hedge_delay(&self, now: Instant) -> Option<Duration> {
        let shared = &self.shared;
        let hedges = shared.snapshot.load().config.hedge;
        let latencies = shared.latencies.get().filter(|_| hedges)?;
        latencies.delay(shared.at(now))
    }

    /// As [`Group::retry`], for such a copy.
    pub fn hedge(&self, now: Instant) -> Option<RetryPermit<E>> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let retry = &snapshot.config.retry;
        let allowed = (shared.budget()).take_hedge(shared.at(now), snapshot.active(), retry);
        allowed.then(|| RetryPermit(shared.clone()))
    }
}

/// Permission for one retry.
#[must_use = "dropping it gives it back"]
pub struct RetryPermit<E>(Arc<Shared<E>>);

impl<E> Drop for RetryPermit<E> {
    fn drop(&mut self) {
        self.0.budget().give_back();
    }
}
