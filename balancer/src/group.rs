//! A group: who belongs to it, who is picked, and what becomes known of them (balancing.md §1).
//!
//! Picks read a snapshot and take no lock. One writer puts a new snapshot in its place when somebody joins or leaves, or
//! when a weight, a state or the configuration changes.

#[cfg(test)]
mod tests;
mod tick;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::Random;
use crate::clock::{Clock, millis, ticks};
use crate::config::{GroupConfig, MemberConfig, Overflow};
use crate::health::{Cause, Health, State, outlier};
use crate::hedge::Latencies;
use crate::lease::{Lease, Outcome};
use crate::member::{Control, Member, MemberKey, Overrides};
use crate::pick::ewma::Estimate;
use crate::pick::{Choice, Slot};
use crate::retry::Budget;
use crate::snapshot::{Snapshot, View};
use crate::sticky::{Keys, Tag};

pub use tick::Event;

/// Members a group may have (balancing.md §1): joining copies the list, and a peer decides how often that happens.
pub const MAX_MEMBERS: usize = 10_000;
/// Choices after one that turned out to have left or to be full meanwhile.
const TRIES: usize = 3;
/// How long what was known of a member is kept after it left.
const REJOIN_GRACE: Duration = Duration::from_secs(30);
/// Members that left and are remembered.
const MAX_REMEMBERED: usize = 1_024;
/// Events kept for the next tick; older ones are dropped.
const MAX_EVENTS: usize = 1_024;
/// A `Retry-After` counts for no more.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Members that serve the same. Cheap to clone: all clones are the same group.
///
/// `E` is the endpoint; picks hand out `Arc<E>`, so one that leaves lives on for those who still use it. Time is passed
/// in; it may stand still, and what lies before the group's start counts as the start.
pub struct Group<E> {
    shared: Arc<Shared<E>>,
}

pub(crate) struct Shared<E> {
    pub(crate) clock: Clock,
    snapshot: ArcSwap<Snapshot<E>>,
    turns: AtomicUsize,
    shift: usize,
    budget: Budget,
    /// Of groups that hedge: most do not.
    latencies: OnceLock<Box<Latencies>>,
    /// The latest tick that anybody told, for what happens without a clock at hand.
    latest: AtomicU64,
    writer: Mutex<Writer<E>>,
}

struct Writer<E> {
    entries: Vec<Entry<E>>,
    base: Arc<GroupConfig>,
    zone: String,
    keys: Keys,
    next_key: u64,
    remembered: HashMap<Arc<str>, Remembered>,
    overrides: HashMap<Arc<str>, Overrides>,
    events: Vec<Event>,
    random: Random,
    schedule: tick::Schedule,
}

struct Entry<E> {
    member: Arc<Member<E>>,
    /// What it says about the group.
    group: Option<Arc<GroupConfig>>,
}

struct Remembered {
    left: u64,
    ewma: Estimate,
    health: Health,
}

/// The group has [`MAX_MEMBERS`] members already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group has {MAX_MEMBERS} members already")]
pub struct Full;

/// Which member the very first pick returns, when there are several of equal weight that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    /// The one that joined first: A B C A B C, upstream's order for connections.
    #[default]
    Oldest,
    /// The one after it: B C A B C A, upstream's order for HTTP requests.
    Second,
}

/// What a group is created with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Settings while no member says otherwise.
    pub config: Arc<GroupConfig>,
    /// Who has the first turn of a round robin with equal weights.
    pub first: First,
    /// Members in this zone are preferred; empty = no preference.
    pub zone: String,
    /// Secrets of the sticky cookie.
    pub keys: Keys,
    /// Seed of what happens by chance without a request: jitter of time-outs.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            first: First::Oldest,
            zone: String::new(),
            keys: Keys::new([], "", ""),
            seed: 0,
        }
    }
}

/// What a pick goes by.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The key of [`Strategy::Hash`](crate::Strategy::Hash).
    pub key: Option<&'a [u8]>,
    /// The member a valid cookie names.
    pub sticky: Option<Tag>,
    /// Members that have been tried for this request, at most 8.
    pub tried: &'a [MemberKey],
    /// Whether nothing is lost if the member turns out not to work.
    pub safe: bool,
    /// Whether the time to the first byte says something of the member: not for long polls.
    pub measured: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            key: None,
            sticky: None,
            tried: &[],
            safe: false,
            measured: true,
        }
    }
}

/// Why a member was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// By the strategy.
    Strategy,
    /// By the user's cookie.
    Sticky,
    /// To see whether it works again.
    Probe,
    /// Nobody better was there.
    FailOpen,
}

/// A member that is to be used, and the use.
#[derive(Debug)]
pub struct Picked<E> {
    /// What to connect to.
    pub endpoint: Arc<E>,
    /// Held as long as the member is in use.
    pub lease: Lease<E>,
    /// Why this one.
    pub reason: Reason,
    /// Whether the user's cookie, if there was one, names a member that will not come back.
    pub reissue: bool,
}

/// Why nobody can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMember {
    /// The group has no members.
    #[error("the group has no members")]
    Empty,
    /// All have a weight of 0, or are draining or switched off.
    #[error("all members are drained")]
    Drained,
    /// All have failed, and the group does not fail open.
    #[error("no member is available")]
    Unavailable,
    /// All have as much to do as they may.
    #[error("all members are at their limit")]
    Full,
    /// Those that were chosen had just left.
    #[error("the members have just left")]
    Left,
    /// All have been tried.
    #[error("all members have been tried")]
    Tried,
    /// The member of the user's cookie cannot serve, and no other may.
    #[error("the user's member is not available")]
    Sticky,
}

/// Membership of one endpoint; dropping it makes the endpoint leave at once.
#[must_use = "dropping it makes the endpoint leave at once"]
pub struct Membership<E> {
    shared: Arc<Shared<E>>,
    member: Arc<Member<E>>,
}

impl<E> Group<E> {
    /// An empty group that starts at `now`.
    pub fn new(now: Instant, options: Options) -> Self {
        let config = options.config;
        Self {
            shared: Arc::new(Shared {
                clock: Clock::new(now),
                snapshot: ArcSwap::from_pointee(Snapshot::empty(config.clone())),
                turns: AtomicUsize::new(0),
                shift: match options.first {
                    First::Oldest => 0,
                    First::Second => 1,
                },
                budget: Budget::default(),
                latencies: OnceLock::new(),
                latest: AtomicU64::new(0),
                writer: Mutex::new(Writer {
                    entries: Vec::new(),
                    base: config,
                    zone: options.zone,
                    keys: options.keys,
                    next_key: 0,
                    remembered: HashMap::new(),
                    overrides: HashMap::new(),
                    events: Vec::new(),
                    random: Random::new(options.seed),
                    schedule: tick::Schedule::default(),
                }),
            }),
        }
    }

    /// Adds a member at the end. `group` is what it says about the whole group; of several that say something the one
    /// with the highest revision counts, then the one that joined first.
    pub fn join(
        &self,
        now: Instant,
        id: &str,
        endpoint: Arc<E>,
        member: MemberConfig,
        group: Option<GroupConfig>,
    ) -> Result<Membership<E>, Full> {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        if writer.entries.len() >= MAX_MEMBERS {
            return Err(Full);
        }
        let id: Arc<str> = id.into();
        let remembered = writer.remembered.remove(&id);
        let warms = !writer.entries.is_empty() && remembered.is_none();
        let mut control = Control::new(member, tick, warms);
        if let Some(overrides) = writer.overrides.get(&id) {
            control.overrides = overrides.clone();
            control.draining_since = control.drains().then_some(tick);
        }
        if let Some(remembered) = &remembered {
            control.health.remember(&remembered.health);
        }
        let key = MemberKey(writer.next_key);
        writer.next_key += 1;
        let member = Arc::new(Member::new(key, id, endpoint, control));
        if let Some(remembered) = &remembered {
            member.hot.ewma.copy(&remembered.ewma);
        }
        writer.entries.push(Entry {
            member: member.clone(),
            group: group.map(Arc::new),
        });
        self.shared.rebuild(&mut writer, tick);
        Ok(Membership {
            shared: self.shared.clone(),
            member,
        })
    }

    /// Chooses a member and counts the use. Takes no lock and allocates nothing.
    pub fn pick(
        &self,
        now: Instant,
        request: &Request<'_>,
        random: &mut Random,
    ) -> Result<Picked<E>, NoMember> {
        let shared = &self.shared;
        let tick = shared.at(now);
        let mut reissue = false;
        // Those that have left or filled up since the snapshot was made; empty nearly always.
        let mut late_ones: Vec<MemberKey> = Vec::new();
        // Who was late last had left, rather than too much to do.
        let mut left = false;
        for _ in 0..=TRIES {
            let snapshot = shared.snapshot.load();
            let config = &snapshot.config;
            if config.max_requests > 0 && snapshot.active() >= u64::from(config.max_requests) {
                return Err(NoMember::Full);
            }
            let attempt = Request {
                tried: if late_ones.is_empty() {
                    request.tried
                } else {
                    &late_ones
                },
                ..*request
            };
            let (slot, reason) = match shared.choose(&snapshot, tick, &attempt, random) {
                Ok((slot, reason, stale)) => {
                    reissue |= stale;
                    (slot, reason)
                }
                Err(cause) if late_ones.is_empty() => return Err(cause),
                Err(_) => break,
            };
            let member = &slot.member;
            if reason == Reason::Probe && member.hot.probing.swap(true, Ordering::AcqRel) {
                continue;
            }
            let before = member.hot.active.fetch_add(1, Ordering::Relaxed);
            let gone = member.is_gone();
            if gone || (slot.max > 0 && before >= slot.max) {
                left = gone;
                member.hot.active.fetch_sub(1, Ordering::Relaxed);
                if reason == Reason::Probe {
                    member.hot.probing.store(false, Ordering::Release);
                }
                if late_ones.is_empty() {
                    late_ones.extend(request.tried);
                }
                late_ones.push(member.key);
                continue;
            }
            return Ok(Picked {
                endpoint: member.endpoint.clone(),
                lease: Lease::new(
                    member.clone(),
                    Arc::downgrade(shared),
                    now,
                    tick,
                    reason == Reason::Probe,
                    request.measured,
                ),
                reason,
                reissue,
            });
        }
        Err(if left { NoMember::Left } else { NoMember::Full })
    }

    /// Counts a request, for the retry budget.
    pub fn first_attempt(&self, now: Instant) {
        self.shared.budget.first_attempt(self.shared.at(now));
    }

    /// Permission for one retry, given back by dropping it; `None` when the budget is used up.
    pub fn retry(&self, now: Instant) -> Option<RetryPermit<E>> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let allowed = shared
            .budget
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
        let allowed = (shared.budget).take_hedge(shared.at(now), snapshot.active(), retry);
        allowed.then(|| RetryPermit(shared.clone()))
    }

    /// The settings that hold now.
    pub fn config(&self) -> Arc<GroupConfig> {
        self.shared.snapshot.load().config.clone()
    }

    /// What member `key` stands for, as long as it is one.
    pub fn endpoint(&self, key: MemberKey) -> Option<Arc<E>> {
        let snapshot = self.shared.snapshot.load();
        let member = snapshot.members.iter().find(|m| m.key == key)?;
        Some(member.endpoint.clone())
    }

    /// Whether there is a member besides `current` and those that have been tried.
    pub fn has_others(&self, current: MemberKey, tried: &[MemberKey]) -> bool {
        let snapshot = self.shared.snapshot.load();
        let mut keys = snapshot.members.iter().map(|m| m.key);
        keys.any(|key| key != current && !tried.contains(&key))
    }

    /// How many members there are now.
    pub fn len(&self) -> usize {
        self.shared.snapshot.load().members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members now, in the order in which they joined.
    pub fn members(&self, now: Instant) -> Vec<MemberView> {
        let tick = self.shared.at(now);
        let snapshot = self.shared.snapshot.load();
        let decay = snapshot.config.ewma.decay.as_secs_f32() * 1e3;
        let keys = self.shared.writer().keys.clone();
        snapshot
            .members
            .iter()
            .map(|member| {
                let control = member.control();
                let (ok, failed) = member.window.sums(tick);
                MemberView {
                    id: member.id.clone(),
                    tag: keys.all().first().map(|key| key.tag(&member.id)),
                    state: control.state(),
                    cause: control.health.cause,
                    for_secs: secs(tick.saturating_sub(control.health.since)),
                    weight: control.config.weight,
                    effective_weight: control.weight(),
                    priority: control.priority(),
                    active: member.hot.active.load(Ordering::Relaxed),
                    streams: member.hot.streams.load(Ordering::Relaxed),
                    waiting: member.hot.waiting.load(Ordering::Relaxed),
                    latency_ms: member.hot.ewma.read(tick, decay),
                    window_ok: ok,
                    window_failed: failed,
                    ejections: control.health.ejections,
                    next_probe_secs: control
                        .health
                        .next_probe()
                        .map(|at| secs(at.saturating_sub(tick))),
                    last_check: control.health.last_check,
                    overrides: control.overrides.clone(),
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
            control.overrides = overrides.clone();
            let drains = control.drains();
            if drains != control.draining_since.is_some() {
                control.draining_since = drains.then_some(tick);
            }
        }
        if any {
            if *overrides == Overrides::default() {
                writer.overrides.remove(id);
            } else if writer.overrides.len() < MAX_MEMBERS {
                writer.overrides.insert(id.into(), overrides.clone());
            }
            self.shared.rebuild(&mut writer, tick);
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

/// Permission for one retry.
#[must_use = "dropping it gives it back"]
pub struct RetryPermit<E>(Arc<Shared<E>>);

impl<E> Drop for RetryPermit<E> {
    fn drop(&mut self) {
        self.0.budget.give_back();
    }
}

impl<E> Shared<E> {
    /// The tick of `now`, remembered as the latest.
    fn at(&self, now: Instant) -> u64 {
        let tick = self.clock.tick(now);
        // Read first: many picks share a tick, and a line that is only read stays in every core's cache.
        if self.latest.load(Ordering::Relaxed) < tick {
            self.latest.fetch_max(tick, Ordering::Relaxed);
        }
        tick
    }

    fn writer(&self) -> MutexGuard<'_, Writer<E>> {
        // A panic leaves the entries whole; the next change builds a snapshot of them.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(&self, writer: &mut Writer<E>, tick: u64) {
        let config = writer.spokesman();
        let view = View {
            config: &config,
            zone: &writer.zone,
            keys: writer.keys.all(),
            tick,
        };
        let members = writer.entries.iter().map(|e| e.member.clone()).collect();
        self.snapshot
            .store(Arc::new(Snapshot::build(members, &view)));
    }

    /// The member for a request, why, and whether the cookie's one is gone for good.
    fn choose<'s>(
        &self,
        snapshot: &'s Snapshot<E>,
        tick: u64,
        request: &Request<'_>,
        random: &mut Random,
    ) -> Result<(&'s Slot<E>, Reason, bool), NoMember> {
        let config = &snapshot.config;
        let mut stale = false;
        if let (Some(tag), Some(sticky)) = (request.sticky, &config.sticky) {
            match snapshot.by_tag.get(&tag) {
                Some(slot) if !slot.is_full() && !request.tried.contains(&slot.member.key) => {
                    return Ok((slot, Reason::Sticky, false));
                }
                _ if sticky.strict => return Err(NoMember::Sticky),
                Some(_) => {}
                None => stale = sticky.rewrite_always || !self.may_return(snapshot, tag),
            }
        }
        if let Some(slot) = probe(snapshot, tick, request) {
            return Ok((slot, Reason::Probe, stale));
        }
        let choice = Choice {
            config,
            tick,
            turns: &self.turns,
            shift: self.shift,
            key: request.key,
            tried: request.tried,
        };
        let start = match config.overflow {
            Overflow::Share if snapshot.tiers.len() > 1 => {
                let mut left = random.below(100) as u32;
                let found = snapshot.tiers.iter().position(|t| {
                    let here = left < t.share;
                    left = left.saturating_sub(t.share);
                    here
                });
                found.unwrap_or(0)
            }
            _ => 0,
        };
        let (before, after) = snapshot.tiers.split_at(start);
        for ranked in after.iter().chain(before) {
            if let Some(slot) = ranked.tier.choose(&choice, random) {
                return Ok((slot, Reason::Strategy, stale));
            }
        }
        if config.fail_open
            && let Some(slot) = snapshot.unavailable.choose(&choice, random)
        {
            return Ok((slot, Reason::FailOpen, stale));
        }
        Err(snapshot.nobody(request))
    }

    /// Whether the member of a cookie is only out for now.
    fn may_return(&self, snapshot: &Snapshot<E>, tag: Tag) -> bool {
        let writer = self.writer();
        snapshot.members.iter().any(|member| {
            matches!(member.control().state(), State::Ejected | State::Down)
                && writer
                    .keys
                    .all()
                    .iter()
                    .any(|key| key.tag(&member.id) == tag)
        })
    }

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

    fn leave(&self, member: &Member<E>) {
        member.hot.gone.store(true, Ordering::Release);
        let tick = self.latest.load(Ordering::Relaxed);
        let mut writer = self.writer();
        writer.entries.retain(|e| e.member.key != member.key);
        if writer.remembered.len() < MAX_REMEMBERED {
            let ewma = Estimate::new();
            ewma.copy(&member.hot.ewma);
            let health = member.control().health.clone();
            let remembered = Remembered {
                left: tick,
                ewma,
                health,
            };
            writer.remembered.insert(member.id.clone(), remembered);
        }
        self.rebuild(&mut writer, tick);
    }
}

/// A half-open member whose one request this may be. After five seconds any request will do.
fn probe<'s, E>(
    snapshot: &'s Snapshot<E>,
    tick: u64,
    request: &Request<'_>,
) -> Option<&'s Slot<E>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    snapshot.half_open.iter().find(|slot| {
        let member = &slot.member;
        !member.hot.probing.load(Ordering::Acquire)
            && !request.tried.contains(&member.key)
            && !slot.is_full()
            && (request.safe
                || tick.saturating_sub(member.control().health.since) >= ticks(PATIENCE))
    })
}

impl<E> Snapshot<E> {
    /// Requests in flight in the group.
    fn active(&self) -> u64 {
        self.members
            .iter()
            .map(|m| u64::from(m.hot.active.load(Ordering::Relaxed)))
            .sum()
    }

    /// Why nobody could be chosen.
    fn nobody(&self, request: &Request<'_>) -> NoMember {
        if self.members.is_empty() {
            return NoMember::Empty;
        }
        let all = || self.tiers.iter().flat_map(|t| &t.tier.slots);
        if all().next().is_none() {
            return if self.unavailable.slots.is_empty() {
                NoMember::Drained
            } else if self
                .unavailable
                .slots
                .iter()
                .all(|s| request.tried.contains(&s.member.key))
            {
                NoMember::Tried
            } else {
                NoMember::Unavailable
            };
        }
        if all().any(|s| s.is_full() && !request.tried.contains(&s.member.key)) {
            NoMember::Full
        } else {
            NoMember::Tried
        }
    }
}

impl<E> Writer<E> {
    /// The settings of whom speaks for the group.
    fn spokesman(&self) -> Arc<GroupConfig> {
        let mut speaker: Option<(i64, &Arc<GroupConfig>)> = None;
        for entry in &self.entries {
            if let Some(config) = &entry.group {
                let revision = entry.member.control().config.revision;
                if speaker.is_none_or(|(highest, _)| revision > highest) {
                    speaker = Some((revision, config));
                }
            }
        }
        speaker.map_or(&self.base, |(_, config)| config).clone()
    }

    /// Whether the member is ejected now and was not before.
    fn eject(&mut self, member: &Member<E>, tick: u64, cause: Cause) -> bool {
        let config = self.spokesman();
        let out = self
            .entries
            .iter()
            .filter(|e| e.member.key != member.key)
            .filter(|e| {
                let state = e.member.control().health.state;
                matches!(state, State::Ejected | State::HalfOpen | State::Down)
            })
            .count();
        let mut control = member.control();
        if matches!(control.health.state, State::Ejected | State::Down) {
            return false;
        }
        let again = control.health.state == State::HalfOpen;
        if !again && out >= outlier::limit(self.entries.len(), config.outlier.max_percent) {
            drop(control);
            self.tell(Event::EjectionSuppressed(member.id.clone(), cause));
            return false;
        }
        let jitter = self.random.unit();
        control.health.eject(cause, tick, &config.outlier, jitter);
        drop(control);
        member.hot.consecutive.store(0, Ordering::Relaxed);
        self.tell(Event::Ejected(member.id.clone(), cause));
        true
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }
}

impl<E> Membership<E> {
    /// The endpoint that joined.
    pub fn endpoint(&self) -> &Arc<E> {
        &self.member.endpoint
    }

    /// Tells members apart.
    pub fn key(&self) -> MemberKey {
        self.member.key
    }

    /// Sets the weight that the member's agent asks for; `None` = it does not.
    pub fn set_dynamic_weight(&self, now: Instant, weight: Option<f32>) {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        self.member.control().dynamic_weight = weight
            .filter(|w| w.is_finite())
            .map(|w| w.clamp(0.0, 1_000.0));
        self.shared.rebuild(&mut writer, tick);
    }
}

impl<E> Drop for Membership<E> {
    fn drop(&mut self) {
        self.shared.leave(&self.member);
    }
}

impl<E> Clone for Group<E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("members", &self.len())
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Shared<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
