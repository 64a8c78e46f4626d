//! What time alone brings: ends of ejections, sweeps, checks that are due, weights that grow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::ticks;
use crate::config::GroupConfig;
use crate::health::{Cause, State, outlier};
use crate::member::{Member, MemberKey};
use crate::pick::ewma::Decay;
use crate::report;

use super::{Group, REJOIN_GRACE, Writer};

/// How often members are compared.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a member without failures is forgiven an ejection.
const FORGIVE: Duration = Duration::from_secs(10);
/// Estimates older than this are rewritten, long before their ticks wrap.
const STALE: Duration = Duration::from_hours(7 * 24);

/// Something that happened to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It gets no more picks for a while.
    Ejected(Arc<str>, Cause),
    /// It would be ejected, but too many are out.
    EjectionSuppressed(Arc<str>, Cause),
    /// It may show that it works again.
    HalfOpen(Arc<str>),
    /// It is back.
    Restored(Arc<str>),
    /// Its active checks failed.
    Down(Arc<str>),
    /// It is to be checked now; [`Group::checked`] takes the result.
    CheckDue(Arc<str>, MemberKey),
    /// What it has open has outlived the drain and may be closed.
    DrainEnded(Arc<str>, MemberKey),
}

/// When what is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    sweep: u64,
    forgive: u64,
    warm: u64,
    /// When an agent's word may count at once.
    pub(super) agents: u64,
    /// Something has changed that no snapshot has yet.
    pub(super) rebuild: bool,
    /// Somebody's weight was still growing the last time.
    warming: bool,
}

impl<E> Group<E> {
    /// Does what is due at `now`, and tells what happened since the last call. To be called every 100 ms or so; picks need
    /// it only for what time alone brings.
    pub fn tick(&self, now: Instant) -> Vec<Event> {
        let shared = &self.shared;
        let tick = shared.at(now);
        let mut writer = shared.writer();
        let config = writer.spokesman();
        let mut changed = writer.expire(tick);
        changed |= std::mem::take(&mut writer.schedule.rebuild);
        if tick >= writer.schedule.sweep {
            writer.schedule.sweep = tick + ticks(SWEEP);
            changed |= writer.sweep(tick, &config);
            changed |= writer.weigh(tick, &config);
        }
        if tick >= writer.schedule.forgive {
            writer.schedule.forgive = tick + ticks(FORGIVE);
            writer.forgive(tick, &config);
        }
        if !config.slow_start.is_zero() && tick >= writer.schedule.warm {
            let step = (config.slow_start / 20).max(Duration::from_secs(1));
            writer.schedule.warm = tick + ticks(step);
            let warming = writer.any_warming(tick, &config);
            // Once more after the end, for the full weight.
            changed |= warming || writer.schedule.warming;
            writer.schedule.warming = warming;
        }
        if config.check.is_some() {
            writer.due_checks(tick);
        }
        if changed {
            shared.rebuild(&mut writer, tick);
        }
        std::mem::take(&mut writer.events)
    }

    /// Takes the result of an active check.
    pub fn checked(&self, now: Instant, key: MemberKey, passed: bool) {
        let shared = &self.shared;
        let tick = shared.at(now);
        let mut writer = shared.writer();
        let config = writer.spokesman();
        let Some(check) = &config.check else { return };
        let Some(member) = writer.find(key) else {
            return;
        };
        let jitter = writer.random.unit();
        let keep = config.outlier.keep_on_check;
        let mut control = member.control();
        let changed = control.health.checked(passed, tick, check, keep, jitter);
        let state = control.health.state;
        drop(control);
        if !changed {
            return;
        }
        let id = member.id.clone();
        match state {
            State::Down => writer.tell(Event::Down(id)),
            State::HalfOpen => writer.tell(Event::HalfOpen(id)),
            _ => writer.tell(Event::Restored(id)),
        }
        shared.rebuild(&mut writer, tick);
    }
}

impl<E> Writer<E> {
    fn find(&self, key: MemberKey) -> Option<Arc<Member<E>>> {
        self.entries
            .iter()
            .find(|e| e.member.key == key)
            .map(|e| e.member.clone())
    }

    /// Ends of ejections and of drains; forgets who left long ago.
    fn expire(&mut self, tick: u64) -> bool {
        if let Some(absent) = &mut self.absent {
            let recent = |left: u64| tick.saturating_sub(left) < ticks(REJOIN_GRACE);
            absent.remembered.retain(|_, r| recent(r.left));
        }
        let mut events = Vec::new();
        for member in self.entries.iter().map(|e| &e.member) {
            let mut control = member.control();
            if control.health.expire(tick) {
                events.push(Event::HalfOpen(member.id.clone()));
            }
            let ended = control
                .draining_since
                .is_some_and(|since| tick >= since + ticks(control.drain_timeout()));
            // Told once a second at most: only while there is something to close.
            if ended && tick >= self.schedule.sweep && member.open() > 0 {
                events.push(Event::DrainEnded(member.id.clone(), member.key));
            }
        }
        let changed = !events.is_empty();
        for event in events {
            self.tell(event);
        }
        changed
    }

    fn sweep(&mut self, tick: u64, config: &GroupConfig) -> bool {
        let decay = Decay::new(config.ewma.decay);
        let members: Vec<Arc<Member<E>>> = self.entries.iter().map(|e| e.member.clone()).collect();
        for member in &members {
            member.hot.ewma.refresh(tick, decay, ticks(STALE));
        }
        if !config.outlier.enabled {
            return false;
        }
        let fit: Vec<&Arc<Member<E>>> = members
            .iter()
            .filter(|m| m.control().health.state == State::Up)
            .collect();
        let windows: Vec<(u64, u64)> = fit.iter().map(|m| m.window.sums(tick)).collect();
        // `|`, not `any`: every one found is to be ejected.
        outlier::sweep(&windows, &config.outlier)
            .into_iter()
            .fold(false, |changed, (i, cause)| {
                changed | self.eject(fit[i], tick, cause)
            })
    }

    /// Brings members to the weights that their load reports give them; whether any has changed.
    fn weigh(&self, tick: u64, config: &GroupConfig) -> bool {
        let said: Vec<(f32, Option<f32>)> = self
            .entries
            .iter()
            .map(|e| {
                let configured = e.member.control().config.weight as f32;
                (configured, e.member.reports.capacity(tick))
            })
            .collect();
        let weights = report::weights(&said).filter(|_| config.load_report);
        let mut changed = false;
        for (at, entry) in self.entries.iter().enumerate() {
            let weight = weights.as_ref().map(|weights| weights[at]);
            let mut control = entry.member.control();
            changed |= control.reported_weight != weight;
            control.reported_weight = weight;
        }
        changed
    }

    fn forgive(&self, tick: u64, config: &GroupConfig) {
        if !config.outlier.enabled {
            return;
        }
        for member in self.entries.iter().map(|e| &e.member) {
            let mut control = member.control();
            if control.health.state == State::Up && member.window.sums(tick).1 == 0 {
                control.health.clean();
            }
        }
    }

    fn any_warming(&self, tick: u64, config: &GroupConfig) -> bool {
        let window = ticks(config.slow_start);
        self.entries.iter().any(|e| {
            let control = e.member.control();
            let since = control.joined.max(control.health.since);
            control.warms && tick.saturating_sub(since) < window
        })
    }

    fn due_checks(&mut self, tick: u64) {
        let due: Vec<Event> = self
            .entries
            .iter()
            .filter(|e| e.member.control().health.check_due(tick))
            .map(|e| Event::CheckDue(e.member.id.clone(), e.member.key))
            .collect();
        for event in due {
            self.tell(event);
        }
    }
}
