//! What administrators see of members, and decide about them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Group, MAX_MEMBERS};
use crate::agent::AgentReport;
use crate::clock::{millis, ticks};
use crate::health::{Cause, State};
use crate::member::{MemberKey, Overrides};
use crate::sticky::Tag;

/// A snapshot for the word of an agent is made no more often: it takes time by the size of the group, and who sends words
/// decides how many there are.
const AGENTS_PAUSE: Duration = Duration::from_millis(20);

impl<E> Group<E> {
    /// The members now, in the order in which they joined.
    pub fn members(&self, now: Instant) -> Vec<MemberView> {
        let tick = self.shared.at(now);
        let snapshot = self.shared.snapshot.load();
        let decay = snapshot.learning.decay;
        let keys = self.shared.writer().keys.clone();
        snapshot
            .members
            .iter()
            .map(|member| {
                let control = member.control();
                let (ok, failed) = member.window.sums(tick);
                MemberView {
                    key: member.key,
                    id: member.id.clone(),
                    tag: keys.all().first().map(|key| key.tag(&member.id)),
                    state: control.state(),
                    cause: control.cause(),
                    for_secs: secs(tick.saturating_sub(control.health.since)),
                    weight: control.config.weight,
                    effective_weight: control.weight(),
                    priority: control.priority(),
                    active: member.hot.active.load(Ordering::Relaxed),
                    streams: member.hot.streams.load(Ordering::Relaxed),
                    waiting: member.hot.waiting.count(),
                    latency_ms: member.hot.ewma.read(tick, decay),
                    window_ok: ok,
                    window_failed: failed,
                    ejections: control.health.ejections,
                    next_probe_secs: control
                        .health
                        .next_probe()
                        .map(|at| secs(at.saturating_sub(tick))),
                    last_check: control.health.last_check,
                    overrides: control.overrides().clone(),
                }
            })
            .collect()
    }

    /// Sets what an administrator decides about member `id`; it holds after the member comes back, too. False when no
    /// member has this id.
    pub fn set_overrides(&self, now: Instant, id: &str, overrides: &Overrides) -> bool {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        let mut any = false;
        for entry in writer.entries.iter().filter(|e| *e.member.id == *id) {
            any = true;
            let mut control = entry.member.control();
            control.set_overrides(overrides);
            control.settle_drain(tick);
        }
        if any {
            let absent = writer.absent.get_or_insert_default();
            if *overrides == Overrides::default() {
                absent.overrides.remove(id);
            } else if absent.overrides.len() < MAX_MEMBERS {
                absent.overrides.insert(id.into(), overrides.clone());
            }
            self.shared.rebuild(&mut writer, tick);
        }
        any
    }

    /// Takes what the agents of the members that `whose` names say, for as long as they stay; false when there are none. When
    /// agents speak very often, it counts from the next [`Group::tick`] on.
    pub fn agent_says(
        &self,
        now: Instant,
        whose: impl Fn(&E) -> bool,
        report: &AgentReport,
    ) -> bool {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        let mut any = false;
        for entry in writer.entries.iter().filter(|e| whose(&e.member.endpoint)) {
            any = true;
            let mut control = entry.member.control();
            control.agent = control.agent.and(*report);
            control.settle_drain(tick);
        }
        if any && tick >= writer.schedule.agents {
            writer.schedule.agents = tick + ticks(AGENTS_PAUSE);
            self.shared.rebuild(&mut writer, tick);
        } else {
            writer.schedule.rebuild |= any;
        }
        any
    }

    /// Ends the ejection of member `id`. False when it is not ejected.
    pub fn restore(&self, now: Instant, id: &str) -> bool {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        let mut any = false;
        for entry in writer.entries.iter().filter(|e| *e.member.id == *id) {
            let mut control = entry.member.control();
            if matches!(control.health.state, State::Ejected | State::HalfOpen) {
                control.health.restore(tick);
                any = true;
            }
        }
        if any {
            self.shared.rebuild(&mut writer, tick);
        }
        any
    }
}

fn secs(ticks: u64) -> u64 {
    (millis(ticks as f64) / 1e3) as u64
}

/// A member as administrators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberView {
    /// Tells it apart from others of the same id.
    pub key: MemberKey,
    /// Its id.
    pub id: Arc<str>,
    /// What a cookie for it says; `None` without a secret.
    pub tag: Option<Tag>,
    /// Where it stands.
    pub state: State,
    /// Why, unless it is up.
    pub cause: Option<Cause>,
    /// Seconds in this state.
    pub for_secs: u64,
    /// As configured.
    pub weight: u32,
    /// After overrides and reported load.
    pub effective_weight: f32,
    /// Tier; lower ones are used first.
    pub priority: u32,
    /// Requests in flight.
    pub active: u32,
    /// Streams open.
    pub streams: u32,
    /// Requests before their first byte.
    pub waiting: u32,
    /// Peak latency, decayed; `None` without a sample.
    pub latency_ms: Option<f32>,
    /// Successes in the last ten seconds.
    pub window_ok: u64,
    /// Failures in the last ten seconds.
    pub window_failed: u64,
    /// Ejections in a row.
    pub ejections: u32,
    /// Seconds until the next probe or check of one that is out.
    pub next_probe_secs: Option<u64>,
    /// Result of the last active check.
    pub last_check: Option<bool>,
    /// What an administrator decided.
    pub overrides: Overrides,
}
