use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::AgentReport;
use crate::config::{
    CheckConfig, CheckKind, HashConfig, HashKey, OutlierConfig, StickyConfig, Strategy,
};
use crate::lease::{Lease, Outcome};

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

#[test]
fn round_robins_of_the_specification() {
    let now = Instant::now();
    let (g, _m) = weighted(now, GroupConfig::default(), &[5, 1, 1]);
    assert_eq!(order(&g, now, 14), "aabacaaaabacaa");
    let (g, mut m) = weighted(now, GroupConfig::default(), &[1, 1, 1]);
    assert_eq!(order(&g, now, 6), "abcabc");
    // Upstream's http order: the second first, and the counter goes on when somebody leaves.
    let http = Group::new(
        now,
        Options {
            first: First::Second,
            ..Options::default()
        },
    );
    m.clear();
    m.extend(["a", "b", "c"].map(|id| join(&http, now, id, weight(1))));
    assert_eq!(order(&http, now, 12), "bcabcabcabca");
    drop(m.remove(0));
    assert_eq!(order(&http, now, 4), "cbcb");
}

#[test]
fn least_request_follows_weights_and_loads() {
    let now = Instant::now();
    let (g, _m) = weighted(now, strategy(Strategy::LeastRequest), &[2, 1, 1]);
    let (order, leases) = picks(&g, now, 12, &Request::default());
    let count = |id: char| order.chars().filter(|c| *c == id).count();
    assert_eq!((count('a'), count('b'), count('c')), (6, 3, 3));
    drop(leases);
    let views = g.members(now);
    assert!(
        views
            .iter()
            .all(|m| m.active == 0 && m.streams == 0 && m.waiting == 0)
    );
}

#[test]
fn ewma_prefers_the_quick_and_what_has_not_answered_is_slow() {
    let start = Instant::now();
    let (g, _m) = weighted(start, strategy(Strategy::Ewma), &[1, 1]);
    let mut random = Random::new(1);
    let answer = |at: Instant, after: u64, random: &mut Random| {
        let picked = g.pick(at, &Request::default(), random).unwrap();
        let slow = picked.lease.endpoint().as_str() == "a";
        let ms = if slow { after * 10 } else { after };
        picked
            .lease
            .finish(at + Duration::from_millis(ms), Outcome::Ok);
        slow
    };
    let mut now = start;
    let mut slow = 0;
    for _ in 0..100 {
        now += Duration::from_millis(50);
        slow += usize::from(answer(now, 10, &mut random));
    }
    assert!(slow <= 3, "{slow}");
    // Now b takes a request and says nothing.
    let hanging = g.pick(now, &Request::default(), &mut random).unwrap();
    assert_eq!(hanging.lease.endpoint().as_str(), "b");
    now += Duration::from_secs(2);
    assert_eq!(
        g.pick(now, &Request::default(), &mut random)
            .unwrap()
            .lease
            .endpoint()
            .as_str(),
        "a"
    );
}

#[test]
fn the_golden_costs_of_the_specification() {
    let start = Instant::now();
    let at = |s: f64| start + Duration::from_secs_f64(s);
    let (g, _m) = weighted(start, strategy(Strategy::Ewma), &[1]);
    let latency = |now| g.members(now)[0].latency_ms.unwrap();
    let near = |value: f32, expected: f32| {
        assert!(
            (value / expected - 1.0).abs() < 2e-3,
            "{value} != {expected}"
        );
    };
    let answered = |sent: f64, after_ms: f64, outcome| {
        let mut random = Random::new(1);
        let picked = g.pick(at(sent), &Request::default(), &mut random).unwrap();
        picked.lease.finish(at(sent + after_ms / 1e3), outcome);
    };
    answered(0.0, 100.0, Outcome::Ok);
    near(latency(at(0.1)), 100.0);
    answered(1.08, 20.0, Outcome::Ok);
    near(latency(at(1.1)), 92.387);
    answered(11.0, 3.0, Outcome::Local);
    near(latency(at(11.003)), 1_000.0);
}

#[test]
fn first_fills_one_after_the_other() {
    let now = Instant::now();
    let g = group(now, strategy(Strategy::First));
    let limited = |priority| MemberConfig {
        max_connections: 2,
        priority,
        ..MemberConfig::default()
    };
    let _m = [("a", 1), ("b", 0), ("c", 1)].map(|(id, p)| join(&g, now, id, limited(p)));
    let (order, leases) = picks(&g, now, 6, &Request::default());
    assert_eq!(order, "bbaacc");
    assert_eq!(refused(&g, now), NoMember::Full);
    drop(leases);
    assert_eq!(self::order(&g, now, 1), "b");
}

#[test]
fn keys_keep_their_member_and_bounded_loads_move_some() {
    let now = Instant::now();
    let mut config = strategy(Strategy::Hash);
    config.hash = HashConfig {
        key: Some(HashKey::SourceIp),
        ..HashConfig::default()
    };
    let (g, _m) = weighted(now, config.clone(), &[1, 1, 1]);
    let with_key = |key: &'static str| Request {
        key: Some(key.as_bytes()),
        ..Request::default()
    };
    assert_eq!(picks(&g, now, 3, &with_key("user-1")).0, "ccc");
    assert_eq!(picks(&g, now, 3, &with_key("user-2")).0, "aaa");
    config.hash.bounded_load = 1.25;
    let (g, _m) = weighted(now, config, &[1, 1, 1]);
    let (order, _leases) = picks(&g, now, 9, &with_key("user-1"));
    assert!(
        order.starts_with('c') && order.chars().any(|m| m != 'c'),
        "{order}"
    );
    let most = g.members(now).iter().map(|m| m.active).max();
    assert!(most <= Some(4), "{most:?}");
}

#[test]
fn a_large_group_is_used_up_to_its_last_member() {
    let now = Instant::now();
    for s in [Strategy::Random, Strategy::LeastRequest, Strategy::Ewma] {
        for (choices, weights) in [(1, [1, 1]), (1, [1, 3]), (64, [1, 3])] {
            let mut config = strategy(s);
            config.choices = choices;
            let g = group(now, config);
            let _members: Vec<_> = (0..200)
                .map(|n| {
                    let member = MemberConfig {
                        max_connections: 1,
                        ..weight(weights[n % 2])
                    };
                    join(&g, now, &n.to_string(), member)
                })
                .collect();
            let (_, leases) = picks(&g, now, 200, &Request::default());
            let keys: HashSet<_> = leases.iter().map(Lease::key).collect();
            assert_eq!(keys.len(), 200, "{s:?}, {choices} choices");
            assert_eq!(refused(&g, now), NoMember::Full);
        }
    }
}

#[test]
fn tried_members_are_not_picked_again() {
    let now = Instant::now();
    for s in [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::LeastRequest,
        Strategy::Ewma,
        Strategy::Hash,
    ] {
        let (g, _m) = weighted(now, strategy(s), &[1, 2, 3]);
        let mut random = Random::new(2);
        let mut tried = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let request = Request {
                tried: &tried,
                ..Request::default()
            };
            let picked = g.pick(now, &request, &mut random).unwrap();
            ids.push(picked.lease.endpoint().to_string());
            tried.push(picked.lease.key());
        }
        ids.sort();
        assert_eq!(ids, ["a", "b", "c"], "{s:?}");
        let request = Request {
            tried: &tried,
            ..Request::default()
        };
        assert_eq!(
            g.pick(now, &request, &mut random).unwrap_err(),
            NoMember::Tried
        );
    }
}

#[test]
fn nobody_is_told_apart() {
    let now = Instant::now();
    let g = group(now, GroupConfig::default());
    assert_eq!(refused(&g, now), NoMember::Empty);
    let _drained = join(&g, now, "a", weight(0));
    assert_eq!(refused(&g, now), NoMember::Drained);
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
fn failures_in_a_row_eject_and_a_probe_restores() {
    let start = Instant::now();
    let (g, _m) = weighted(start, ejecting(), &[1, 1, 1]);
    fail(&g, start, "b", 5);
    assert_eq!(state(&g, start, "b"), State::Ejected);
    assert_eq!(order(&g, start, 4).matches('b').count(), 0);
    assert_eq!(
        g.tick(start),
        [Event::Ejected("b".into(), Cause::Consecutive)]
    );
    // Thirty seconds and up to a tenth more.
    let later = start + Duration::from_secs(34);
    assert_eq!(g.tick(later), [Event::HalfOpen("b".into())]);
    let safe = Request {
        safe: true,
        ..Request::default()
    };
    let mut random = Random::new(1);
    let probe = g.pick(later, &safe, &mut random).unwrap();
    assert_eq!(
        (probe.lease.endpoint().as_str(), probe.reason),
        ("b", Reason::Probe)
    );
    // One at a time.
    assert_ne!(
        g.pick(later, &safe, &mut random)
            .unwrap()
            .lease
            .endpoint()
            .as_str(),
        "b"
    );
    probe.lease.finish(later, Outcome::Local);
    assert_eq!(state(&g, later, "b"), State::Ejected);
    let again = later + Duration::from_secs(67);
    g.tick(again);
    let probe = g.pick(again, &safe, &mut random).unwrap();
    probe.lease.finish(again, Outcome::Ok);
    assert_eq!(state(&g, again, "b"), State::Up);
    assert!(order(&g, again, 3).contains('b'));
}

#[test]
fn a_probe_whose_user_went_away_is_made_again_and_unsafe_requests_wait() {
    let start = Instant::now();
    let (g, _m) = weighted(start, ejecting(), &[1, 1]);
    fail(&g, start, "a", 5);
    let later = start + Duration::from_secs(34);
    g.tick(later);
    let mut random = Random::new(1);
    let unsafe_pick = g.pick(later, &Request::default(), &mut random).unwrap();
    assert_eq!(unsafe_pick.lease.endpoint().as_str(), "b");
    let safe = Request {
        safe: true,
        ..Request::default()
    };
    let probe = g.pick(later, &safe, &mut random).unwrap();
    drop(probe.lease);
    let probe = g
        .pick(
            later + Duration::from_secs(6),
            &Request::default(),
            &mut random,
        )
        .unwrap();
    assert_eq!(probe.reason, Reason::Probe);
}

#[test]
fn never_all_are_ejected_and_failing_ones_serve_when_nobody_else_does() {
    let now = Instant::now();
    let (g, _m) = weighted(now, ejecting(), &[1, 1]);
    fail(&g, now, "a", 5);
    fail(&g, now, "b", 50);
    assert_eq!(state(&g, now, "b"), State::Up);
    assert!(
        g.tick(now)
            .iter()
            .any(|e| matches!(e, Event::EjectionSuppressed(id, _) if &**id == "b"))
    );
    // A lone member is never ejected.
    let (g, _m) = weighted(now, ejecting(), &[1]);
    fail(&g, now, "a", 100);
    assert_eq!(state(&g, now, "a"), State::Up);
    // Down by active checks: fails open.
    let mut config = ejecting();
    config.check = Some(CheckConfig::new(CheckKind::Tcp));
    let (g, _m) = weighted(now, config, &[1]);
    let Some(Event::CheckDue(_, key)) = g.tick(now).pop() else {
        panic!("no check is due");
    };
    for _ in 0..3 {
        g.checked(now, key, false);
    }
    assert_eq!(state(&g, now, "a"), State::Down);
    let picked = g
        .pick(now, &Request::default(), &mut Random::new(0))
        .unwrap();
    assert_eq!(picked.reason, Reason::FailOpen);
}

#[test]
fn failure_rates_are_swept() {
    let start = Instant::now();
    let (g, _m) = weighted(start, ejecting(), &[1, 1, 1]);
    let mut random = Random::new(4);
    for i in 0..90 {
        let picked = g.pick(start, &Request::default(), &mut random).unwrap();
        // Every second request of c fails: never five in a row.
        let bad = picked.lease.endpoint().as_str() == "c" && i % 2 == 0;
        let outcome = if bad {
            Outcome::Gateway(None)
        } else {
            Outcome::Ok
        };
        picked.lease.finish(start, outcome);
    }
    let events = g.tick(start + Duration::from_secs(1));
    assert_eq!(events, [Event::Ejected("c".into(), Cause::FailureRate)]);
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
fn anything_may_happen_in_any_order() {
    let start = Instant::now();
    let strategies = [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::LeastRequest,
        Strategy::Ewma,
        Strategy::First,
        Strategy::Hash,
    ];
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut config = ejecting();
        config.strategy = strategies[seed as usize % strategies.len()];
        config.check = Some(CheckConfig::new(CheckKind::Tcp));
        config.slow_start = Duration::from_secs(seed % 3 * 10);
        config.panic_threshold = (seed % 2 * 50) as u32;
        let g = group(start, config);
        let mut now = start;
        let mut members: Vec<Membership<String>> = Vec::new();
        let mut leases: Vec<Lease<String>> = Vec::new();
        for step in 0..600 {
            now += Duration::from_millis(random.below(2_000) as u64);
            match random.below(9) {
                0 if members.len() < 30 => {
                    let w = random.below(4) as u32;
                    members.push(join(&g, now, &format!("{step}"), weight(w)));
                }
                1 if !members.is_empty() => drop(members.swap_remove(random.below(members.len()))),
                2 => {
                    for event in g.tick(now) {
                        if let Event::CheckDue(_, key) = event {
                            g.checked(now, key, random.below(3) > 0);
                        }
                    }
                }
                3 if !leases.is_empty() => {
                    let lease = leases.swap_remove(random.below(leases.len()));
                    match random.below(6) {
                        0 => drop(lease),
                        1 => drop(lease.into_stream()),
                        2 => lease.finish(now, Outcome::Ok),
                        3 => lease.finish(now, Outcome::Busy(Some(Duration::MAX))),
                        4 => lease.finish(now, Outcome::Error),
                        _ => lease.finish(now, Outcome::Local),
                    }
                }
                4 if !members.is_empty() => {
                    let line = ["0%", "50% up", "weight:1000 down", "ready maxconn:1"];
                    let report = AgentReport::parse(line[random.below(4)]).unwrap();
                    g.agent_says(now, |id| id == members[0].endpoint().as_str(), &report);
                }
                _ => {
                    let request = Request {
                        key: Some(b"key"),
                        safe: step % 2 == 0,
                        ..Request::default()
                    };
                    if let Ok(picked) = g.pick(now, &request, &mut random) {
                        let views = g.members(now);
                        let view = views
                            .iter()
                            .find(|v| *v.id == **picked.lease.endpoint())
                            .unwrap();
                        assert!(!matches!(view.state, State::Draining | State::Disabled));
                        leases.push(picked.lease);
                    }
                }
            }
            for view in g.members(now) {
                assert!(
                    view.latency_ms
                        .is_none_or(|l| l.is_finite() && (0.0..=5_000.1).contains(&l))
                );
            }
            let out = g
                .members(now)
                .iter()
                .filter(|v| v.state == State::Ejected)
                .count();
            assert!(out <= members.len().max(1), "{out}");
        }
        drop(leases);
        let idle = |v: &MemberView| v.active == 0 && v.streams == 0 && v.waiting == 0;
        assert!(g.members(now).iter().all(idle));
    }
}

#[test]
fn a_group_that_flaps_100_times_a_second_stays_small_and_serves() {
    let start = Instant::now();
    let g = group(start, GroupConfig::default());
    let _stays = join(&g, start, "stays", weight(1));
    let mut random = Random::new(1);
    let mut flaps = None;
    for step in 0..60 * 100 {
        let now = start + Duration::from_millis(10) * step;
        // Each comes under another name, and leaves in the middle of a request.
        drop(flaps.take());
        let id = format!("flaps-{step}");
        flaps = Some(join(&g, now, &id, weight(1)));
        let leases: Vec<_> = (0..2)
            .map(|_| g.pick(now, &Request::default(), &mut random).unwrap())
            .collect();
        flaps = flaps.filter(|_| step % 2 == 0);
        for picked in leases {
            let outcome = if **picked.lease.endpoint() == "stays" {
                Outcome::Ok
            } else {
                Outcome::Local
            };
            picked.lease.finish(now, outcome);
        }
        if step % 10 == 0 {
            assert!(g.tick(now).len() <= MAX_EVENTS);
        }
        let writer = g.shared.writer();
        assert!(writer.remembered.len() <= MAX_REMEMBERED && writer.events.len() <= MAX_EVENTS);
        assert!(writer.entries.len() <= 2 && writer.overrides.is_empty());
    }
    drop(flaps);
    let picked = g.pick(
        start + Duration::from_mins(1),
        &Request::default(),
        &mut random,
    );
    assert_eq!(**picked.unwrap().lease.endpoint(), "stays");
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
fn threads_pick_while_members_come_and_go() {
    let now = Instant::now();
    let g = group(now, GroupConfig::default());
    let _stays = join(&g, now, "stays", weight(1));
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let g = &g;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..20_000 {
                    let picked = g.pick(now, &Request::default(), &mut random).unwrap();
                    picked.lease.finish(now, Outcome::Ok);
                }
            });
        }
        scope.spawn(|| {
            for i in 0..200 {
                let comes = join(&g, now, &i.to_string(), weight(3));
                let key = comes.key();
                drop(comes);
                assert!(g.members(now).len() <= 2);
                let _ = key;
            }
        });
    });
    assert_eq!(g.members(now)[0].active, 0);
    let _: Arc<GroupConfig> = g.config();
}
