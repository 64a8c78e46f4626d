//! Whether a member is fit for picks (balancing.md §3): states, ejection, probes, checks. Time is passed in as ticks.

pub(crate) mod outlier;
pub(crate) mod window;

use std::time::Duration;

use crate::clock::ticks;
use crate::config::{CheckConfig, OutlierConfig};

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes picks.
    Up,
    /// Failed too often; waits for its time.
    Ejected,
    /// May show with one request at a time that it works again.
    HalfOpen,
    /// Failed its active checks.
    Down,
    /// Takes no picks but those of users that belong to it.
    Draining,
    /// Switched off by an administrator.
    Disabled,
}

impl State {
    /// Name for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::HalfOpen => "half-open",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// Why a member was ejected or taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Failures in a row.
    Consecutive,
    /// The share of failures in the window.
    FailureRate,
    /// Far worse than the others.
    Deviation,
    /// The probe after an ejection failed.
    Probe,
    /// Active checks failed.
    Check,
    /// Its agent says so.
    Agent,
}

impl Cause {
    /// Name for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure-rate",
            Self::Deviation => "deviation",
            Self::Probe => "probe",
            Self::Check => "check",
            Self::Agent => "agent",
        }
    }
}

/// The health of one member.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) state: State,
    pub(crate) cause: Option<Cause>,
    /// Tick at which the state began.
    pub(crate) since: u64,
    /// Ejections in a row; clean sweeps take them back.
    pub(crate) ejections: u32,
    /// Tick at which an ejection ends.
    until: u64,
    /// Tick at which the next active check is due, while none runs.
    next_check: Option<u64>,
    passes: u32,
    failures: u32,
    pub(crate) last_check: Option<bool>,
}

impl Health {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            state: State::Up,
            cause: None,
            since: now,
            ejections: 0,
            until: 0,
            next_check: Some(now),
            passes: 0,
            failures: 0,
            last_check: None,
        }
    }

    fn enter(&mut self, state: State, cause: Option<Cause>, now: u64) {
        (self.state, self.cause, self.since) = (state, cause, now);
    }

    /// Ejects for a time that grows with every ejection in a row; `jitter` in 0..1 adds up to a tenth.
    pub(crate) fn eject(&mut self, cause: Cause, now: u64, c: &OutlierConfig, jitter: f64) {
        self.ejections = self.ejections.saturating_add(1);
        let time = c
            .base_time
            .saturating_mul(self.ejections)
            .min(c.max_time)
            .mul_f64(1.0 + 0.1 * jitter);
        self.until = now + ticks(time);
        self.enter(State::Ejected, Some(cause), now);
    }

    /// The end of an ejection's time; whether it changed the state.
    pub(crate) fn expire(&mut self, now: u64) -> bool {
        let due = self.state == State::Ejected && now >= self.until;
        if due {
            self.enter(State::HalfOpen, self.cause, now);
        }
        due
    }

    /// Back to picks.
    pub(crate) fn restore(&mut self, now: u64) {
        self.enter(State::Up, None, now);
    }

    /// A sweep without a failure.
    pub(crate) fn clean(&mut self) {
        self.ejections = self.ejections.saturating_sub(1);
    }

    /// Whether an active check is to be made now; it counts as running then.
    pub(crate) fn check_due(&mut self, now: u64) -> bool {
        let due = self.next_check.is_some_and(|at| now >= at);
        if due {
            self.next_check = None;
        }
        due
    }

    /// Takes the result of an active check; whether it changed the state. Near a change checks come every second; `jitter`
    /// in 0..1 spreads the others by a tenth to both sides.
    pub(crate) fn checked(
        &mut self,
        passed: bool,
        now: u64,
        c: &CheckConfig,
        keep_ejection: bool,
        jitter: f64,
    ) -> bool {
        self.last_check = Some(passed);
        if passed {
            (self.passes, self.failures) = (self.passes.saturating_add(1), 0);
        } else {
            (self.passes, self.failures) = (0, self.failures.saturating_add(1));
        }
        let before = self.state;
        match self.state {
            State::Down if self.passes >= c.rise => self.enter(State::HalfOpen, self.cause, now),
            State::Ejected if passed && !keep_ejection => self.restore(now),
            state if state != State::Down && self.failures >= c.fall => {
                self.enter(State::Down, Some(Cause::Check), now);
            }
            _ => {}
        }
        let changing = match self.state {
            State::Down => self.passes > 0,
            _ => self.failures > 0,
        };
        let pause = if changing {
            c.interval.min(Duration::from_secs(1))
        } else {
            c.interval.mul_f64(0.9 + 0.2 * jitter)
        };
        self.next_check = Some(now + ticks(pause));
        self.state != before
    }

    /// Tick at which something happens by itself.
    pub(crate) fn next_probe(&self) -> Option<u64> {
        match self.state {
            State::Ejected => Some(self.until),
            State::Down => self.next_check,
            _ => None,
        }
    }

    /// Takes over what was known of a member that left and came back.
    pub(crate) fn remember(&mut self, before: &Self) {
        self.ejections = before.ejections;
        if matches!(before.state, State::Ejected | State::HalfOpen) {
            (self.state, self.cause) = (before.state, before.cause);
            (self.since, self.until) = (before.since, before.until);
        }
    }
}

/// The share of its weight that a member has `age` after it joined.
pub(crate) fn slow_start(age: Duration, window: Duration, aggression: f32) -> f32 {
    if age >= window {
        return 1.0;
    }
    let share = age.as_secs_f32() / window.as_secs_f32();
    share.powf(1.0 / aggression).max(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CheckKind;

    fn secs(s: u64) -> u64 {
        ticks(Duration::from_secs(s)) + 1
    }

    #[test]
    fn slow_starts_of_the_specification() {
        let window = Duration::from_mins(1);
        for (age, aggression, expected) in [
            (3, 1.0, 0.1),
            (15, 2.0, 0.5),
            (30, 1.0, 0.5),
            (30, 0.5, 0.25),
            (60, 1.0, 1.0),
        ] {
            let share = slow_start(Duration::from_secs(age), window, aggression);
            assert!(
                (share - expected).abs() < 1e-6,
                "{age} {aggression}: {share}"
            );
        }
        assert!((slow_start(Duration::ZERO, Duration::ZERO, 1.0) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn ejections_grow_and_end_half_open() {
        let c = OutlierConfig::default();
        let mut h = Health::new(0);
        for (time, start) in [(30, 0), (60, 1_000), (90, 2_000)] {
            h.eject(Cause::Consecutive, secs(start), &c, 0.0);
            assert!(!h.expire(secs(start + time - 1)));
            assert!(h.expire(secs(start + time)));
            assert_eq!(h.state, State::HalfOpen);
        }
        for _ in 0..20 {
            h.eject(Cause::Probe, secs(3_000), &c, 0.0);
        }
        assert!(h.expire(secs(3_300)));
        h.restore(secs(3_301));
        h.clean();
        assert_eq!((h.state, h.ejections), (State::Up, 22));
    }

    #[test]
    fn checks_fall_and_rise_and_hurry_near_a_change() {
        let c = CheckConfig::new(CheckKind::Tcp);
        let mut h = Health::new(0);
        assert!(h.check_due(0) && !h.check_due(secs(100)));
        assert!(!h.checked(false, secs(0), &c, false, 0.5));
        assert!(!h.check_due(secs(0)));
        assert!(h.check_due(secs(1)));
        assert!(!h.checked(false, secs(1), &c, false, 0.5));
        assert!(h.checked(false, secs(2), &c, false, 0.5));
        assert_eq!((h.state, h.cause), (State::Down, Some(Cause::Check)));
        assert!(!h.check_due(secs(11)) && h.check_due(secs(12)));
        assert!(!h.checked(true, secs(12), &c, false, 0.5));
        assert!(h.checked(true, secs(13), &c, false, 0.5));
        assert_eq!(h.state, State::HalfOpen);
    }

    #[test]
    fn a_passed_check_ends_an_ejection_unless_told_otherwise() {
        let c = CheckConfig::new(CheckKind::Tcp);
        let mut h = Health::new(0);
        h.eject(Cause::Consecutive, 0, &OutlierConfig::default(), 0.0);
        assert!(!h.checked(true, 1, &c, true, 0.0));
        assert!(h.checked(true, 2, &c, false, 0.0));
        assert_eq!(h.state, State::Up);
    }
}
