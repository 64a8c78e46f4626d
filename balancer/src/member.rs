//! One member: its counters on a cache line of their own, its estimates, and what its owner decided about it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::agent::AgentReport;
use crate::clock::millis;
use crate::config::MemberConfig;
use crate::health::window::Window;
use crate::health::{Cause, Health, State};
use crate::pick::ewma::Estimate;
use crate::report::Reports;

/// Tells apart members whose ids are equal, and one that came back from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberKey(pub(crate) u64);

/// What requests change, kept apart from other members' so that cores do not share lines.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Hot {
    /// Picked and not finished, streams not counted.
    pub(crate) active: AtomicU32,
    /// Upgraded, or past the first byte with no end in sight.
    pub(crate) streams: AtomicU32,
    /// Requests before their first byte, and the sum of the ticks at which they began.
    pub(crate) waiting: AtomicU32,
    pub(crate) start_sum: AtomicU64,
    pub(crate) ewma: Estimate,
    /// Failures in a row that count for ejection.
    pub(crate) consecutive: AtomicU32,
    /// A half-open member has its one request.
    pub(crate) probing: AtomicBool,
    /// Has left.
    pub(crate) gone: AtomicBool,
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member<E> {
    pub(crate) key: MemberKey,
    pub(crate) id: Arc<str>,
    pub(crate) endpoint: Arc<E>,
    pub(crate) hot: Hot,
    pub(crate) window: Window,
    pub(crate) reports: Reports,
    control: Mutex<Control>,
}

/// What few people change: its owner, an administrator, health.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) config: MemberConfig,
    pub(crate) overrides: Overrides,
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

impl Control {
    pub(crate) fn new(config: MemberConfig, joined: u64, warms: bool) -> Self {
        Self {
            draining_since: config.drain.then_some(joined),
            config,
            overrides: Overrides::default(),
            agent: AgentReport::default(),
            reported_weight: None,
            health: Health::new(joined),
            joined,
            warms,
        }
    }

    pub(crate) fn weight(&self) -> f32 {
        // An administrator's word is the last one.
        if let Some(weight) = self.overrides.weight {
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
        self.overrides.priority.unwrap_or(self.config.priority)
    }

    pub(crate) fn max_connections(&self) -> u32 {
        let agent = self.agent.max_connections.filter(|max| *max > 0);
        let said = self.overrides.max_connections.or(agent);
        said.unwrap_or(self.config.max_connections)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.overrides
            .drain_timeout
            .unwrap_or(self.config.drain_timeout)
    }

    pub(crate) fn drains(&self) -> bool {
        let said = self.overrides.drain.or(self.agent.drain);
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
        if self.overrides.disabled {
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
    pub(crate) fn new(key: MemberKey, id: Arc<str>, endpoint: Arc<E>, control: Control) -> Self {
        Self {
            key,
            id,
            endpoint,
            hot: Hot {
                active: AtomicU32::new(0),
                streams: AtomicU32::new(0),
                waiting: AtomicU32::new(0),
                start_sum: AtomicU64::new(0),
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

    /// Everything that is open.
    pub(crate) fn open(&self) -> u64 {
        self.load(1_000) / 1_000
    }

    /// Milliseconds that those who wait for a first byte have waited in the mean.
    pub(crate) fn mean_age(&self, tick: u64) -> f32 {
        let waiting = self.hot.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            return 0.0;
        }
        // The two are not read at one moment: a request too many makes the mean lower for an instant.
        let mean_start = self.hot.start_sum.load(Ordering::Relaxed) / u64::from(waiting);
        millis(tick.saturating_sub(mean_start) as f64) as f32
    }
}
