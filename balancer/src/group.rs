//! A group: who belongs to it, who is picked, and what becomes known of them (balancing.md §1).
//!
//! Picks read a snapshot and take no lock. One writer puts a new snapshot in its place when somebody joins or leaves, or
//! when a weight, a state or the configuration changes.

mod learn;
mod pick;
mod repeat;
#[cfg(test)]
mod tests;
mod tick;
mod view;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::Random;
use crate::clock::Clock;
use crate::config::{GroupConfig, MemberConfig};
use crate::health::{Cause, Health, State, outlier};
use crate::hedge::Latencies;
use crate::member::{Control, Member, MemberKey, Overrides};
use crate::pick::ewma::Estimate;
use crate::retry::Budget;
use crate::snapshot::{Snapshot, View};
use crate::sticky::Keys;

pub(crate) use learn::Learning;
pub use pick::{NoMember, Picked, Reason, Request};
pub use repeat::RetryPermit;
pub use tick::Event;
pub use view::MemberView;

/// Members a group may have (balancing.md §1): joining copies the list, and a peer decides how often that happens.
pub const MAX_MEMBERS: usize = 10_000;
/// How long what was known of a member is kept after it left.
const REJOIN_GRACE: Duration = Duration::from_secs(30);
/// Members that left and are remembered.
const MAX_REMEMBERED: usize = 1_024;
/// Events kept for the next tick; older ones are dropped.
const MAX_EVENTS: usize = 1_024;
/// Members that serve the same. Cheap to clone: all clones are the same group.
///
/// `E` is the endpoint; picks hand out `Arc<E>`, so one that leaves lives on for those who still use it. Time is passed
/// in; it may stand still, and what lies before the group's start counts as the start.
pub struct Group<E> {
    pub(crate) shared: Arc<Shared<E>>,
}

/// In this order: what each pick reads is not near what picks that take turns write.
#[repr(C)]
pub(crate) struct Shared<E> {
    pub(crate) clock: Clock,
    snapshot: ArcSwap<Snapshot<E>>,
    /// The latest tick that anybody told, for what happens without a clock at hand.
    latest: AtomicU64,
    shift: usize,
    /// From the first request that counts.
    budget: OnceLock<Box<Budget>>,
    /// Of groups that hedge: most do not.
    latencies: OnceLock<Box<Latencies>>,
    writer: Mutex<Writer<E>>,
    turns: AtomicUsize,
}

struct Writer<E> {
    entries: Vec<Entry<E>>,
    base: Arc<GroupConfig>,
    zone: Arc<str>,
    keys: Keys,
    next_key: u64,
    /// From the first of them on.
    absent: Option<Box<Absent>>,
    events: Vec<Event>,
    random: Random,
    schedule: tick::Schedule,
}

struct Entry<E> {
    member: Arc<Member<E>>,
    /// What it says about the group.
    group: Option<Arc<GroupConfig>>,
}

/// What is known of members whether they are there or not, by id.
#[derive(Default)]
struct Absent {
    /// Of those who left.
    remembered: HashMap<Arc<str>, Remembered>,
    overrides: HashMap<Arc<str>, Overrides>,
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
    pub zone: Arc<str>,
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
            zone: Arc::default(),
            keys: Keys::new([], "", ""),
            seed: 0,
        }
    }
}

/// Membership of one endpoint; dropping it makes the endpoint leave at once.
#[must_use = "dropping it makes the endpoint leave at once"]
pub struct Membership<E>(Arc<Member<E>>);

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
                budget: OnceLock::new(),
                latencies: OnceLock::new(),
                latest: AtomicU64::new(0),
                writer: Mutex::new(Writer {
                    entries: Vec::new(),
                    base: config,
                    zone: options.zone,
                    keys: options.keys,
                    next_key: 0,
                    absent: None,
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
        id: impl Into<Arc<str>>,
        endpoint: Arc<E>,
        member: impl Into<Arc<MemberConfig>>,
        group: Option<GroupConfig>,
    ) -> Result<Membership<E>, Full> {
        let tick = self.shared.at(now);
        let mut writer = self.shared.writer();
        if writer.entries.len() >= MAX_MEMBERS {
            return Err(Full);
        }
        let id: Arc<str> = id.into();
        let absent = writer.absent.as_mut();
        let remembered = absent.and_then(|absent| absent.remembered.remove(&id));
        let warms = !writer.entries.is_empty() && remembered.is_none();
        let mut control = Control::new(member.into(), tick, warms);
        let absent = writer.absent.as_ref();
        if let Some(overrides) = absent.and_then(|absent| absent.overrides.get(&id)) {
            control.set_overrides(overrides);
            control.draining_since = control.drains().then_some(tick);
        }
        if let Some(remembered) = &remembered {
            control.health.remember(&remembered.health);
        }
        let key = MemberKey(writer.next_key);
        writer.next_key += 1;
        let shared = self.shared.clone();
        let member = Arc::new(Member::new(shared, key, id, endpoint, control));
        if let Some(remembered) = &remembered {
            member.hot.ewma.copy(&remembered.ewma);
        }
        if writer.entries.is_empty() {
            // Most stay alone.
            writer.entries.reserve_exact(1);
        }
        writer.entries.push(Entry {
            member: member.clone(),
            group: group.map(Arc::new),
        });
        self.shared.rebuild(&mut writer, tick);
        Ok(Membership(member))
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
}

impl<E> Shared<E> {
    pub(crate) fn budget(&self) -> &Budget {
        self.budget.get_or_init(Box::default)
    }

    /// The tick of `now`, remembered as the latest.
    pub(crate) fn at(&self, now: Instant) -> u64 {
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

    fn leave(&self, member: &Member<E>) {
        member.hot.gone.store(true, Ordering::Release);
        let tick = self.latest.load(Ordering::Relaxed);
        let mut writer = self.writer();
        writer.entries.retain(|e| e.member.key != member.key);
        let absent = writer.absent.get_or_insert_default();
        if absent.remembered.len() < MAX_REMEMBERED {
            let ewma = Estimate::new();
            ewma.copy(&member.hot.ewma);
            let health = member.control().health.clone();
            let remembered = Remembered {
                left: tick,
                ewma,
                health,
            };
            absent.remembered.insert(member.id.clone(), remembered);
        }
        self.rebuild(&mut writer, tick);
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
        &self.0.endpoint
    }

    /// Tells members apart.
    pub fn key(&self) -> MemberKey {
        self.0.key
    }
}

impl<E> Drop for Membership<E> {
    fn drop(&mut self) {
        self.0.group.leave(&self.0);
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
