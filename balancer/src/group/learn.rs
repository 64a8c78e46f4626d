//! What becomes known of members by the uses of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Event, Shared};
use crate::clock::millis;
use crate::config::GroupConfig;
use crate::health::{Cause, State};
use crate::lease::Outcome;
use crate::member::Member;
use crate::pick::ewma::Decay;

/// A `Retry-After` counts for no more.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How uses of a member change its estimate. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Learning {
    pub(crate) decay: Decay,
    cap: f32,
    failure_penalty: f32,
    hedge: bool,
}

impl Learning {
    pub(crate) fn new(config: &GroupConfig) -> Self {
        let c = &config.ewma;
        Self {
            decay: Decay::new(c.decay),
            cap: ms(c.cap),
            failure_penalty: ms(c.failure_penalty),
            hedge: config.hedge,
        }
    }
}

fn ms(d: Duration) -> f32 {
    d.as_secs_f32() * 1e3
}

impl<E> Member<E> {
    pub(crate) fn sample(
        &self,
        learning: &Learning,
        tick: u64,
        elapsed: Duration,
        outcome: Outcome,
    ) {
        let past = || self.hot.ewma.read(tick, learning.decay).unwrap_or(0.0);
        if learning.hedge && outcome == Outcome::Ok {
            let latencies = self.group.latencies.get_or_init(Box::default);
            latencies.record(tick, elapsed);
        }
        let least = match outcome {
            Outcome::Ok => 0.0,
            // A failure, however quick, never makes a member look better.
            Outcome::Error => past(),
            Outcome::Local | Outcome::Gateway(None) | Outcome::Busy(None) => {
                past().max(learning.failure_penalty)
            }
            Outcome::Gateway(Some(wait)) | Outcome::Busy(Some(wait)) => {
                past().max(ms(wait.min(MAX_RETRY_AFTER)))
            }
        };
        let sample = ms(elapsed).max(least).min(learning.cap);
        self.hot.ewma.sample(tick, sample, learning.decay);
    }

    pub(crate) fn succeeded(&self, tick: u64) {
        self.window.count(tick, true);
        // Read first, since it is 0 nearly always.
        if self.hot.consecutive.load(Ordering::Relaxed) > 0 {
            self.hot.consecutive.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, tick: u64, outcome: Outcome) {
        match outcome {
            Outcome::Ok | Outcome::Busy(_) => return,
            Outcome::Error => {
                self.window.count(tick, false);
                return;
            }
            Outcome::Local | Outcome::Gateway(_) => self.window.count(tick, false),
        }
        let failures = self.hot.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        let c = self.group.snapshot.load().config.outlier.clone();
        if c.enabled && c.consecutive > 0 && failures >= c.consecutive {
            self.group.eject(self, tick, Cause::Consecutive);
        }
    }

    /// A half-open member has had its one request.
    pub(crate) fn probed(&self, tick: u64, outcome: Outcome) {
        if outcome == Outcome::Ok {
            let mut writer = self.group.writer();
            let mut control = self.control();
            if control.health.state != State::HalfOpen {
                return;
            }
            control.health.restore(tick);
            drop(control);
            self.hot.consecutive.store(0, Ordering::Relaxed);
            writer.tell(Event::Restored(self.id.clone()));
            self.group.rebuild(&mut writer, tick);
        } else {
            self.group.eject(self, tick, Cause::Probe);
        }
    }

    pub(crate) fn abandoned(&self, learning: &Learning, start: u64) {
        let tick = self.group.latest.load(Ordering::Relaxed);
        let elapsed = millis(tick.saturating_sub(start) as f64) as f32;
        let elapsed = elapsed.min(learning.cap);
        let past = self.hot.ewma.read(tick, learning.decay);
        if past.is_some_and(|past| elapsed > past) {
            self.hot.ewma.sample(tick, elapsed, learning.decay);
        }
    }
}

impl<E> Shared<E> {
    /// Ejects a member, unless too many are out already.
    fn eject(&self, member: &Member<E>, tick: u64, cause: Cause) {
        let mut writer = self.writer();
        if writer.eject(member, tick, cause) {
            self.rebuild(&mut writer, tick);
        }
    }
}
