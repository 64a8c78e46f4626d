mod disorder;
mod health;
mod strategies;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::AgentReport;
use crate::config::{
    CheckConfig, CheckKind, HashConfig, HashKey, OutlierConfig, StickyConfig, Strategy,
};
use crate::lease::{Lease, Outcome};
use crate::snapshot::Ranked;

type Letters = Group<String>;

fn group(now: Instant, config: GroupConfig) -> Letters {
    Group::new(
        now,
        Options {
            config: config.into(),
            keys: Keys::new([b"secret".as_slice()], "http", "web"),
            ..Options::default()
        },
    )
}

fn join(group: &Letters, now: Instant, id: &str, member: MemberConfig) -> Membership<String> {
    group
        .join(now, id, Arc::new(id.to_owned()), member, None)
        .unwrap()
}

fn weight(weight: u32) -> MemberConfig {
    MemberConfig {
        weight,
        ..MemberConfig::default()
    }
}

fn strategy(strategy: Strategy) -> GroupConfig {
    GroupConfig {
        strategy,
        ..GroupConfig::default()
    }
}

/// A group of members `a`, `b`, … with these weights.
fn weighted(
    now: Instant,
    config: GroupConfig,
    weights: &[u32],
) -> (Letters, Vec<Membership<String>>) {
    let group = group(now, config);
    let members = ["a", "b", "c", "d", "e"];
    let memberships = members
        .iter()
        .zip(weights)
        .map(|(id, w)| join(&group, now, id, weight(*w)))
        .collect();
    (group, memberships)
}

/// Ids picked one after the other; the leases are kept.
fn picks(
    group: &Letters,
    now: Instant,
    n: usize,
    request: &Request<'_>,
) -> (String, Vec<Lease<String>>) {
    let mut random = Random::new(5);
    (0..n)
        .map(|_| group.pick(now, request, &mut random).unwrap())
        .map(|picked| (picked.lease.endpoint().to_string(), picked.lease))
        .unzip()
}

fn order(group: &Letters, now: Instant, n: usize) -> String {
    picks(group, now, n, &Request::default()).0
}

fn refused(group: &Letters, now: Instant) -> NoMember {
    group
        .pick(now, &Request::default(), &mut Random::new(0))
        .unwrap_err()
}

/// Makes the member that is next picked fail `n` times in a row, wherever the picks go.
fn fail(group: &Letters, now: Instant, id: &str, n: usize) {
    let mut random = Random::new(9);
    let mut left = n;
    while left > 0 {
        let picked = group.pick(now, &Request::default(), &mut random).unwrap();
        if picked.lease.endpoint().as_str() == id {
            picked.lease.finish(now, Outcome::Local);
            left -= 1;
        } else {
            picked.lease.finish(now, Outcome::Ok);
        }
    }
}

fn state(group: &Letters, now: Instant, id: &str) -> State {
    let members = group.members(now);
    members.iter().find(|m| *m.id == *id).unwrap().state
}

fn ejecting() -> GroupConfig {
    GroupConfig {
        outlier: OutlierConfig {
            enabled: true,
            ..OutlierConfig::default()
        },
        ..GroupConfig::default()
    }
}

#[test]
fn sticky_users_stay_through_a_drain_and_move_when_their_member_is_gone() {
    let start = Instant::now();
    let config = GroupConfig {
        sticky: Some(StickyConfig::default()),
        ..GroupConfig::default()
    };
    let (g, mut m) = weighted(start, config, &[1, 1]);
    let keys = Keys::new([b"secret".as_slice()], "http", "web");
    let cookie = keys.issue("b", 1_700_000_000).unwrap();
    let tag = keys.verify(&cookie, 1_700_000_000, None).unwrap().tag;
    let kept = Request {
        sticky: Some(tag),
        ..Request::default()
    };
    assert_eq!(picks(&g, start, 4, &kept).0, "bbbb");
    let drain = Overrides {
        drain: Some(true),
        ..Overrides::default()
    };
    assert!(g.set_overrides(start, "b", &drain));
    assert_eq!(order(&g, start, 3), "aaa");
    assert_eq!(picks(&g, start, 2, &kept).0, "bb");
    let mut random = Random::new(1);
    let later = start + Duration::from_secs(301);
    g.set_overrides(later, "b", &drain);
    let moved = g.pick(later, &kept, &mut random).unwrap();
    assert_eq!(
        (moved.lease.endpoint().as_str(), moved.reissue),
        ("a", true)
    );
    g.set_overrides(later, "b", &Overrides::default());
    assert_eq!(picks(&g, later, 2, &kept).0, "bb");
    m.pop();
    let moved = g.pick(later, &kept, &mut random).unwrap();
    assert_eq!(
        (moved.lease.endpoint().as_str(), moved.reissue),
        ("a", true)
    );
}

#[test]
fn the_highest_revision_speaks_for_the_group() {
    let now = Instant::now();
    let g = group(now, GroupConfig::default());
    let saying = |s, revision| {
        let member = MemberConfig {
            revision,
            ..MemberConfig::default()
        };
        (member, Some(strategy(s)))
    };
    let join = |id: &str, (member, config)| {
        g.join(now, id, Arc::new(id.to_owned()), member, config)
            .unwrap()
    };
    let _silent = join("a", (MemberConfig::default(), None));
    assert_eq!(g.config().strategy, Strategy::RoundRobin);
    let _first = join("b", saying(Strategy::Random, 1));
    let _later = join("c", saying(Strategy::Ewma, 1));
    assert_eq!(g.config().strategy, Strategy::Random);
    let newest = join("d", saying(Strategy::Hash, 2));
    assert_eq!(g.config().strategy, Strategy::Hash);
    drop(newest);
    assert_eq!(g.config().strategy, Strategy::Random);
}

#[test]
fn who_comes_back_is_remembered() {
    let start = Instant::now();
    let (g, mut m) = weighted(start, ejecting(), &[1, 1, 1]);
    fail(&g, start, "c", 5);
    m.pop();
    let c = join(&g, start + Duration::from_secs(5), "c", weight(1));
    assert_eq!(
        state(&g, start + Duration::from_secs(5), "c"),
        State::Ejected
    );
    drop(c);
    g.tick(start + Duration::from_secs(40));
    let _back = join(&g, start + Duration::from_secs(41), "c", weight(1));
    assert_eq!(state(&g, start + Duration::from_secs(41), "c"), State::Up);
}

#[test]
fn new_members_start_slowly_when_others_are_there() {
    let start = Instant::now();
    let config = GroupConfig {
        slow_start: Duration::from_mins(1),
        ..strategy(Strategy::Random)
    };
    let (g, _m) = weighted(start, config, &[1, 1]);
    let later = start + Duration::from_secs(100);
    let _new = join(&g, later, "n", weight(1));
    let share = |now: Instant| {
        g.tick(now);
        order(&g, now, 3_000).matches('n').count()
    };
    let (first, half, full) = (
        share(later),
        share(later + Duration::from_secs(30)),
        share(later + Duration::from_secs(70)),
    );
    assert!((90..200).contains(&first), "{first}");
    assert!((500..700).contains(&half), "{half}");
    assert!((900..1_100).contains(&full), "{full}");
}

#[test]
fn streams_are_told_from_requests_and_leases_outlive_members() {
    let now = Instant::now();
    let (g, mut m) = weighted(now, strategy(Strategy::LeastRequest), &[1]);
    let mut random = Random::new(0);
    let picked = g.pick(now, &Request::default(), &mut random).unwrap();
    let stream = picked.lease.into_stream();
    let view = &g.members(now)[0];
    assert_eq!((view.active, view.streams, view.waiting), (0, 1, 0));
    m.pop();
    assert_eq!(refused(&g, now), NoMember::Empty);
    stream.finish(now, Outcome::Ok);
    drop(g);
}

#[test]
fn agents_come_before_the_configuration_and_after_administrators() {
    let now = Instant::now();
    let g = group(now, GroupConfig::default());
    let _members = ["a", "b"].map(|id| join(&g, now, id, weight(4)));
    let says = |line: &str| {
        let report = AgentReport::parse(line).unwrap();
        assert!(g.agent_says(now, |id| id == "a", &report));
        let _ = g.tick(now);
        let view = g.members(now).remove(0);
        (view.state, view.cause, view.effective_weight)
    };
    assert_eq!(says("50%"), (State::Up, None, 2.0));
    assert_eq!(says("down"), (State::Down, Some(Cause::Agent), 2.0));
    assert_eq!(order(&g, now, 4), "bbbb");
    assert_eq!(says("up weight:9"), (State::Up, None, 9.0));
    assert_eq!(says("drain").0, State::Draining);
    let overrides = Overrides {
        weight: Some(7),
        drain: Some(false),
        ..Overrides::default()
    };
    assert!(g.set_overrides(now, "a", &overrides));
    assert_eq!(says("1%"), (State::Up, None, 7.0));
    assert!(!g.agent_says(now, |id| id == "c", &AgentReport::default()));
}

#[test]
fn nothing_is_kept_of_a_group_that_nobody_holds() {
    let now = Instant::now();
    let (g, members) = weighted(now, GroupConfig::default(), &[1, 1]);
    let shared = Arc::downgrade(&g.shared);
    let (ids, mut leases) = picks(&g, now, 2, &Request::default());
    assert_eq!(ids, "ab");
    let endpoints: Vec<_> = leases
        .iter()
        .map(|l| Arc::downgrade(l.endpoint()))
        .collect();
    drop(members);
    // One who has left lives on for its users, and no longer.
    leases.truncate(1);
    assert!(endpoints[0].upgrade().is_some() && endpoints[1].upgrade().is_none());
    drop((leases, g));
    assert!(endpoints[0].upgrade().is_none() && shared.upgrade().is_none());
}

/// Bytes that a group of one takes, without what it allocates when something happens: a server has one for each proxy.
#[test]
fn a_group_of_one_is_small() {
    let parts = [
        size_of::<Shared<()>>(),
        size_of::<Member<()>>(),
        size_of::<Snapshot<()>>(),
        size_of::<Ranked<()>>(),
    ];
    assert!(parts.iter().sum::<usize>() <= 800, "{parts:?}");
    // Two members share no line of the cache.
    assert!(size_of::<Member<()>>() >= 128);
}
