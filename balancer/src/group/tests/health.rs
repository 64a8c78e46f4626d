//! Failures: ejection, probes, and when all fail.

use super::*;

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
