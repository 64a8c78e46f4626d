//! Everything at once: sequences by chance, threads, members that come and go.

use super::*;

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
        let absent = writer.absent.as_ref();
        let remembered = absent.map_or(0, |absent| absent.remembered.len());
        assert!(remembered <= MAX_REMEMBERED && writer.events.len() <= MAX_EVENTS);
        let overrides = absent.map_or(0, |absent| absent.overrides.len());
        assert!(writer.entries.len() <= 2 && overrides == 0);
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
