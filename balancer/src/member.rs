//! One member: the counters that requests change, its estimates, and what its owner decided about it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::agent::AgentReport;
use crate::clock::millis;
use crate::config::MemberConfig;
use crate::group::Shared;
use crate::health::window::Window;
use crate::health::{Cause, Health, State};
use crate::pick::ewma::Estimate;
use crate::report::Reports;

/// Tells apart members whose ids are equal, and one that came back from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberKey(pub(crate) u64);

/// What requests change. A member's count of references is changed by every request, too, and lies before it: the two
/// have a line or two of the cache to themselves, since no two members are nearer to each other than their sizes.
#[derive(Debug)]
pub(crate) struct Hot {
    /// Picked and not finished, streams not counted.
    pub(crate) active: AtomicU32,
    /// Upgraded, or past the first byte with no end in sight.
    pub(crate) streams: AtomicU32,
    /// Requests before their first byte.
    pub(crate) waiting: Waiting,
    pub(crate) ewma: Estimate,
    /// Failures in a row that count for ejection.
    pub(crate) consecutive: AtomicU32,
    /// A half-open member has its one request.
    pub(crate) probing: AtomicBool,
    /// Has left.
    pub(crate) gone: AtomicBool,
}

/// Requests that wait for their first byte, in one word: the sum of the ticks at which they began (40 bits, which wrap)
/// and how many there are (24 bits).
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicU64);

impl Waiting {
    const COUNT: u32 = 24;

    pub(crate) fn begin(&self, tick: u64) {
        self.0.fetch_add(tick << Self::COUNT | 1, Ordering::Relaxed);
    }

    /// The end of one that began at `tick`.
    pub(crate) fn end(&self, tick: u64) {
        self.0.fetch_sub(tick << Self::COUNT | 1, Ordering::Relaxed);
    }

    /// One that began at `before` counts from `after`.
    pub(crate) fn move_start(&self, before: u64, after: u64) {
        let later = after.wrapping_sub(before) << Self::COUNT;
        self.0.fetch_add(later, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) & ((1 << Self::COUNT) - 1)) as u32
    }

    /// Milliseconds that they have waited in the mean.
    pub(crate) fn mean_age(&self, tick: u64) -> f32 {
        let word = self.0.load(Ordering::Relaxed);
        let count = word & ((1 << Self::COUNT) - 1);
        if count == 0 {
            return 0.0;
        }
        // Both sums wrap, their difference does not: it is what all have waited. Another core's clock may be ahead.
        let ages = (tick.wrapping_mul(count) << Self::COUNT).wrapping_sub(word - count);
        let ages = (ages.cast_signed() >> Self::COUNT).max(0);
        (millis(ages as f64) / count as f64) as f32
    }
}

/// A member of a group.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Member<E> {
    pub(crate) hot: Hot,
    pub(crate) window: Window,
    /// Its group, which has no member that has left: so neither keeps the other for ever.
    pub(crate) group: Arc<Shared<E>>,
    pub(crate) endpoint: Arc<E>,
    pub(crate) key: MemberKey,
    pub(crate) id: Arc<str>,
    pub(crate) reports: Reports,
    control: Mutex<Control>,
}

/// What few people change: its owner, an administrator, health.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) config: Arc<MemberConfig>,
    /// `None`: nothing was set.
    overrides: Option<Box<Overrides>>,
    /// From its agent, if one speaks.
    pub(crate) agent: AgentReport,
    /// By load reports.
    pub(crate) reported_weight: Option<f32>,
    pub(crate) health: Health,
    /// Tick of joining; slow start and the order of joining count from it.
    pub(crate) joined: u64,
    /// Whether it starts slowly: not when everyone was new, nor after coming back.
    pub(crate) warms: bool,
    /// Tick at which a drain began.
    pub(crate) draining_since: Option<u64>,
}

/// What an administrator set at run time; `None` = as configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// Instead of the configured weight.
    pub weight: Option<u32>,
    /// Instead of the configured priority.
    pub priority: Option<u32>,
    /// Instead of the configured limit.
    pub max_connections: Option<u32>,
    /// Draining or not.
    pub drain: Option<bool>,
    /// Instead of the configured time that what is open may outlive a drain.
    pub drain_timeout: Option<Duration>,
    /// Takes no picks of any kind.
    pub disabled: bool,
}

impl Overrides {
    const NONE: Self = Self {
        weight: None,
        priority: None,
        max_connections: None,
        drain: None,
        drain_timeout: None,
        disabled: false,
    };
}

impl Control {
    pub(crate) fn new(config: Arc<MemberConfig>, joined: u64, warms: bool) -> Self {
        Self {
            draining_since: config.drain.then_some(joined),
            config,
            overrides: None,
            agent: AgentReport::default(),
            reported_weight: None,
            health: Health::new(joined),
            joined,
            warms,
        }
    }

    /// What an administrator set.
    pub(crate) fn overrides(&self) -> &Overrides {
        self.overrides.as_deref().unwrap_or(&Overrides::NONE)
    }

    pub(crate) fn set_overrides(&mut self, overrides: &Overrides) {
        let some = Some(overrides).filter(|overrides| **overrides != Overrides::NONE);
        self.overrides = some.cloned().map(Box::new);
    }

    pub(crate) fn weight(&self) -> f32 {
        // An administrator's word is the last one.
        if let Some(weight) = self.overrides().weight {
            return weight as f32;
        }
        let configured = self.config.weight;
        let agent = self.agent.weight.map(|weight| weight.of(configured));
        match agent.or(self.reported_weight) {
            Some(dynamic) if configured > 0 => dynamic,
            _ => configured as f32,
        }
    }

    pub(crate) fn priority(&self) -> u32 {
        self.overrides().priority.unwrap_or(self.config.priority)
    }

    pub(crate) fn max_connections(&self) -> u32 {
        let agent = self.agent.max_connections.filter(|max| *max > 0);
        let said = self.overrides().max_connections.or(agent);
        said.unwrap_or(self.config.max_connections)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.overrides()
            .drain_timeout
            .unwrap_or(self.config.drain_timeout)
    }

    pub(crate) fn drains(&self) -> bool {
        let said = self.overrides().drain.or(self.agent.drain);
        said.unwrap_or(self.config.drain)
    }

    /// Follows from what has been said of drains at `tick`.
    pub(crate) fn settle_drain(&mut self, tick: u64) {
        let drains = self.drains();
        if drains != self.draining_since.is_some() {
            self.draining_since = drains.then_some(tick);
        }
    }

    /// Why it is in its state.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.agent.down {
            Some(true) if self.state() == State::Down => Some(Cause::Agent),
            _ => self.health.cause,
        }
    }

    /// The state that counts: a drain hides health.
    pub(crate) fn state(&self) -> State {
        if self.overrides().disabled {
            State::Disabled
        } else if self.drains() {
            State::Draining
        } else if self.agent.down == Some(true) {
            State::Down
        } else {
            self.health.state
        }
    }
}

impl<E> Member<E> {
    pub(crate) fn new(
        group: Arc<Shared<E>>,
        key: MemberKey,
        id: Arc<str>,
        endpoint: Arc<E>,
        control: Control,
    ) -> Self {
        Self {
            group,
            key,
            id,
            endpoint,
            hot: Hot {
                active: AtomicU32::new(0),
                streams: AtomicU32::new(0),
                waiting: Waiting::default(),
                ewma: Estimate::new(),
                consecutive: AtomicU32::new(0),
                probing: AtomicBool::new(false),
                gone: AtomicBool::new(false),
            },
            window: Window::default(),
            reports: Reports::default(),
            control: Mutex::new(control),
        }
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // Every change is a plain assignment; a panic elsewhere leaves nothing half done.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.hot.gone.load(Ordering::Acquire)
    }

    /// Requests and streams, streams by their weight, in thousandths.
    pub(crate) fn load(&self, stream_weight: u32) -> u64 {
        let active = u64::from(self.hot.active.load(Ordering::Relaxed));
        let streams = u64::from(self.hot.streams.load(Ordering::Relaxed));
        active * 1_000 + streams * u64::from(stream_weight)
    }

    /// The same as a number of requests, `stream_weight` for a stream. Not [`Member::load`] by a thousand: a pick by cost
    /// would take a fifth longer.
    pub(crate) fn weighed(&self, stream_weight: f32) -> f32 {
        let active = self.hot.active.load(Ordering::Relaxed) as f32;
        active + self.hot.streams.load(Ordering::Relaxed) as f32 * stream_weight
    }

    /// Everything that is open.
    pub(crate) fn open(&self) -> u64 {
        self.load(1_000) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_as_old_as_they_are() {
        let waiting = Waiting::default();
        let late = (1 << 40) - 3;
        let age = |tick: u64| (waiting.mean_age(tick) / 1.048_576).round() as u64;
        assert_eq!((waiting.count(), age(late)), (0, 0));
        waiting.begin(late);
        waiting.begin(late + 10);
        assert_eq!((waiting.count(), age(late + 20)), (2, 15));
        waiting.move_start(late, late + 14);
        assert_eq!((waiting.count(), age(late + 20)), (2, 8));
        assert_eq!(age(late), 0);
        waiting.end(late + 10);
        assert_eq!((waiting.count(), age(late + 20)), (1, 6));
        waiting.end(late + 14);
        assert_eq!((waiting.count(), age(late + 20)), (0, 0));
    }
}
