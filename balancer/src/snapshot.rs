//! What picks see: the members at one moment, sorted into tiers. Never changed; a new one takes its place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::ticks;
use crate::config::{GroupConfig, Overflow};
use crate::group::Learning;
use crate::health::{State, slow_start};
use crate::member::{Control, Member};
use crate::pick::{Slot, Tier};
use crate::sticky::{Key, Tag};

/// Members of one moment.
#[derive(Debug)]
pub(crate) struct Snapshot<E> {
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) learning: Learning,
    /// All, in the order of joining.
    pub(crate) members: Box<[Arc<Member<E>>]>,
    /// The available ones, the preferred tier first.
    pub(crate) tiers: Box<[Ranked<E>]>,
    /// Used when no tier has anybody.
    pub(crate) unavailable: Tier<E>,
    /// Those that may show that they work again.
    pub(crate) half_open: Box<[Slot<E>]>,
    /// Members that a valid cookie may name, with their limit; `None`: there are none.
    #[expect(
        clippy::box_collection,
        reason = "most groups have no cookies, and there is a snapshot for each proxy"
    )]
    by_tag: Option<Box<HashMap<Tag, Slot<E>>>>,
}

/// A tier and its share of the picks, in percent.
#[derive(Debug)]
pub(crate) struct Ranked<E> {
    pub(crate) tier: Tier<E>,
    pub(crate) share: u32,
}

/// The available members of a priority and zone, and how many it has in all.
type Rank<E> = (Vec<Slot<E>>, usize);

/// What a snapshot depends on besides the members.
pub(crate) struct View<'a> {
    pub(crate) config: &'a Arc<GroupConfig>,
    pub(crate) zone: &'a str,
    pub(crate) keys: &'a [Key],
    pub(crate) tick: u64,
}

impl<E> Snapshot<E> {
    pub(crate) fn empty(config: Arc<GroupConfig>) -> Self {
        Self {
            members: Box::default(),
            tiers: Box::default(),
            unavailable: Tier::new(Vec::new(), &config),
            half_open: Box::default(),
            by_tag: None,
            learning: Learning::new(&config),
            config,
        }
    }

    pub(crate) fn build(members: Vec<Arc<Member<E>>>, view: &View<'_>) -> Self {
        let config = view.config;
        let mut ranks: BTreeMap<(u32, bool), Rank<E>> = BTreeMap::new();
        let (mut unavailable, mut half_open) = (Vec::new(), Vec::new());
        let mut by_tag = HashMap::new();
        let panic = is_panic(&members, config.panic_threshold);
        for member in &members {
            let control = member.control();
            let state = control.state();
            let slot = |weight: f32| Slot {
                member: member.clone(),
                weight: ((weight * 1_000.0) as u32).max(1),
                max: control.max_connections(),
            };
            let weight = effective_weight(&control, view);
            if config.sticky.is_some() && may_be_kept(&control, state, view.tick) {
                for key in view.keys {
                    by_tag.insert(key.tag(&member.id), slot(weight));
                }
            }
            if weight <= 0.0 {
                continue;
            }
            let far = !view.zone.is_empty() && control.config.zone != view.zone;
            let (available, all) = ranks.entry((control.priority(), far)).or_default();
            match state {
                State::Up => available.push(slot(weight)),
                State::Ejected | State::Down | State::HalfOpen if panic => {
                    available.push(slot(weight));
                }
                State::Ejected | State::Down => unavailable.push(slot(weight)),
                State::HalfOpen => {
                    half_open.push(slot(weight));
                    unavailable.push(slot(weight));
                }
                State::Draining | State::Disabled => continue,
            }
            *all += 1;
        }
        let tiers = shares(ranks.into_values().collect(), config);
        Self {
            tiers,
            unavailable: Tier::new(unavailable, config),
            half_open: half_open.into(),
            by_tag: (!by_tag.is_empty()).then(|| Box::new(by_tag)),
            learning: Learning::new(config),
            config: config.clone(),
            members: members.into(),
        }
    }

    /// The member that a valid cookie names.
    pub(crate) fn tagged(&self, tag: Tag) -> Option<&Slot<E>> {
        self.by_tag.as_ref()?.get(&tag)
    }
}

/// Whether so few members are available that all are used.
fn is_panic<E>(members: &[Arc<Member<E>>], threshold: u32) -> bool {
    if threshold == 0 {
        return false;
    }
    let (mut up, mut all) = (0, 0);
    for member in members {
        match member.control().state() {
            State::Up => (up, all) = (up + 1, all + 1),
            State::Ejected | State::Down | State::HalfOpen => all += 1,
            State::Draining | State::Disabled => {}
        }
    }
    up * 100 < all * threshold
}

/// A user's cookie is honoured while the member can serve at all.
fn may_be_kept(control: &Control, state: State, tick: u64) -> bool {
    match state {
        State::Up | State::HalfOpen => true,
        State::Draining => control
            .draining_since
            .is_none_or(|since| tick < since + ticks(control.drain_timeout())),
        State::Ejected | State::Down | State::Disabled => false,
    }
}

fn effective_weight(control: &Control, view: &View<'_>) -> f32 {
    let weight = control.weight();
    let window = view.config.slow_start;
    if window.is_zero() || !control.warms {
        return weight;
    }
    let since = control.joined.max(control.health.since);
    let age = Duration::from_nanos(view.tick.saturating_sub(since) << 20);
    weight * slow_start(age, window, view.config.aggression)
}

/// Tiers with members, and what each takes (§2.7).
fn shares<E>(ranks: Vec<Rank<E>>, config: &GroupConfig) -> Box<[Ranked<E>]> {
    let mut left = 100;
    let mut tiers: Vec<Ranked<E>> = Vec::with_capacity(ranks.len());
    for (available, all) in ranks {
        if available.is_empty() {
            continue;
        }
        let healthy = (available.len() * 140 / all).min(100) as u32;
        let share = match config.overflow {
            Overflow::Strict => left,
            Overflow::Share => healthy.min(left),
        };
        left -= share;
        tiers.push(Ranked {
            tier: Tier::new(available, config),
            share,
        });
    }
    let sum: u32 = tiers.iter().map(|t| t.share).sum();
    for tier in &mut tiers {
        tier.share = tier.share * 100 / sum.max(1);
    }
    tiers.into()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::MemberConfig;
    use crate::group::{Group, Options};
    use crate::member::MemberKey;

    fn share_of_first(up: usize, all: usize, overflow: Overflow) -> u32 {
        let shared = Group::new(Instant::now(), Options::default()).shared;
        let config = Arc::new(GroupConfig {
            overflow,
            ..GroupConfig::default()
        });
        let member = |n: usize, priority: u32, down: bool| {
            let config = MemberConfig {
                priority,
                ..MemberConfig::default()
            };
            let mut control = Control::new(config.into(), 0, false);
            if down {
                control.health.state = State::Down;
            }
            let id = format!("{priority}-{n}").into();
            let key = MemberKey(n as u64);
            Arc::new(Member::new(shared.clone(), key, id, Arc::new(()), control))
        };
        let mut members: Vec<_> = (0..all).map(|n| member(n, 0, n >= up)).collect();
        members.extend((0..100).map(|n| member(n, 1, false)));
        let view = View {
            config: &config,
            zone: "",
            keys: &[],
            tick: 0,
        };
        let snapshot = Snapshot::build(members, &view);
        if snapshot.tiers.len() == 2 {
            snapshot.tiers[0].share
        } else {
            0
        }
    }

    #[test]
    fn shares_of_the_specification() {
        for (up, expected) in [(72, 100), (71, 99), (50, 70), (25, 35), (0, 0)] {
            assert_eq!(share_of_first(up, 100, Overflow::Share), expected, "{up}");
        }
        assert_eq!(share_of_first(1, 100, Overflow::Strict), 100);
        assert_eq!(share_of_first(0, 100, Overflow::Strict), 0);
    }
}
