//! What becomes known of members by the uses of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Event, Shared};
use crate::clock::millis;
use crate::health::{Cause, State};
use crate::lease::Outcome;
use crate::member::Member;

/// A `Retry-After` counts for no more.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

impl<E> Shared<E> {
    pub(crate) fn sample(
        &self,
        member: &Member<E>,
        now: Instant,
        elapsed: Duration,
        outcome: Outcome,
    ) {
        let snapshot = self.snapshot.load();
        let c = &snapshot.config.ewma;
        let (tick, decay) = (self.at(now), c.decay.as_secs_f32() * 1e3);
        let ms = |d: Duration| d.as_secs_f32() * 1e3;
        let past = || member.hot.ewma.read(tick, decay).unwrap_or(0.0);
        if snapshot.config.hedge && outcome == Outcome::Ok {
            self.latencies
                .get_or_init(Box::default)
                .record(tick, elapsed);
        }
        let sample = match outcome {
            Outcome::Ok => ms(elapsed),
            // A failure, however quick, never makes a member look better.
            Outcome::Error => ms(elapsed).max(past()),
            Outcome::Local | Outcome::Gateway(None) | Outcome::Busy(None) => {
                ms(elapsed).max(past()).max(ms(c.failure_penalty))
            }
            Outcome::Gateway(Some(wait)) | Outcome::Busy(Some(wait)) => {
                ms(elapsed).max(past()).max(ms(wait.min(MAX_RETRY_AFTER)))
            }
        };
        member.hot.ewma.sample(tick, sample.min(ms(c.cap)), decay);
    }

    pub(crate) fn succeeded(&self, member: &Member<E>, now: Instant) {
        member.window.count(self.at(now), true);
        // Read first, since it is 0 nearly always.
        if member.hot.consecutive.load(Ordering::Relaxed) > 0 {
            member.hot.consecutive.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, member: &Member<E>, now: Instant, outcome: Outcome) {
        let tick = self.at(now);
        match outcome {
            Outcome::Ok | Outcome::Busy(_) => return,
            Outcome::Error => {
                member.window.count(tick, false);
                return;
            }
            Outcome::Local | Outcome::Gateway(_) => member.window.count(tick, false),
        }
        let failures = member.hot.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        let c = self.snapshot.load().config.outlier.clone();
        if c.enabled && c.consecutive > 0 && failures >= c.consecutive {
            self.eject(member, tick, Cause::Consecutive);
        }
    }

    /// A half-open member has had its one request.
    pub(crate) fn probed(&self, member: &Member<E>, now: Instant, outcome: Outcome) {
        let tick = self.at(now);
        if outcome == Outcome::Ok {
            let mut writer = self.writer();
            let mut control = member.control();
            if control.health.state != State::HalfOpen {
                return;
            }
            control.health.restore(tick);
            drop(control);
            member.hot.consecutive.store(0, Ordering::Relaxed);
            writer.tell(Event::Restored(member.id.clone()));
            self.rebuild(&mut writer, tick);
        } else {
            self.eject(member, tick, Cause::Probe);
        }
    }

    pub(crate) fn abandoned(&self, member: &Member<E>, start: u64) {
        let tick = self.latest.load(Ordering::Relaxed);
        let snapshot = self.snapshot.load();
        let c = &snapshot.config.ewma;
        let decay = c.decay.as_secs_f32() * 1e3;
        let elapsed = millis(tick.saturating_sub(start) as f64) as f32;
        let elapsed = elapsed.min(c.cap.as_secs_f32() * 1e3);
        if member
            .hot
            .ewma
            .read(tick, decay)
            .is_some_and(|past| elapsed > past)
        {
            member.hot.ewma.sample(tick, elapsed, decay);
        }
    }

    /// Ejects a member, unless too many are out already.
    fn eject(&self, member: &Member<E>, tick: u64, cause: Cause) {
        let mut writer = self.writer();
        if writer.eject(member, tick, cause) {
            self.rebuild(&mut writer, tick);
        }
    }
}
