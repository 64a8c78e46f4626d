//! Who is picked, by strategy.

use super::*;

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
