//! The acceptance figures of balancing.md §10, by a simulation with a virtual clock: `cargo test -p balancer --release
//! --test simulator -- --nocapture` prints the table.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "small positive numbers, and a test ends when something is wrong"
)]

mod model;

use std::time::Duration;

use balancer::{GroupConfig, OutlierConfig, Strategy};
use model::{Answer, Result, Scenario};

fn ms(n: f64) -> Duration {
    Duration::from_secs_f64(n / 1e3)
}

fn config(strategy: Strategy) -> GroupConfig {
    GroupConfig {
        strategy,
        outlier: OutlierConfig {
            enabled: false,
            ..OutlierConfig::default()
        },
        ..GroupConfig::default()
    }
}

/// Runs a scenario under a strategy and prints its line of the table.
fn run(name: &str, scenario: &Scenario, strategy: Strategy) -> Result {
    let result = scenario.run(&config(strategy), 1);
    println!(
        "{name:<34} {strategy:<13?} p50 {:>7.1} p99 {:>8.1} p99.9 {:>8.1} ms  share of last {:>6.2} %",
        result.percentile(50.0),
        result.percentile(99.0),
        result.percentile(99.9),
        result.share_of_last()
    );
    result
}

#[test]
fn one_of_eleven_is_slow_for_half_a_minute() {
    let scenario = Scenario {
        workers: 1_000,
        rate: 1_000.0,
        length: Duration::from_mins(1),
        ..Scenario::new(11, |random, at, member| {
            let slow = member == 10 && (10.0..40.0).contains(&at);
            let base = if slow {
                2_000.0
            } else {
                162.0 + 10.0 * random.unit()
            };
            Answer::After(ms(base))
        })
    };
    let quick = |strategy| {
        let result = run("11 members, one at 2 s", &scenario, strategy);
        100.0 * result.within(1_000.0)
    };
    let round_robin = quick(Strategy::RoundRobin);
    assert!((94.0..97.0).contains(&round_robin), "{round_robin}");
    let least = quick(Strategy::LeastRequest);
    assert!(least >= 99.4, "{least}");
    let ewma = quick(Strategy::Ewma);
    assert!(ewma >= 99.92, "{ewma}");
}

/// Exponential service times; the last member takes five times as long.
fn one_slow(members: usize, load: f64) -> Scenario {
    let capacity = 8.0 * (members as f64 - 1.0 + 0.2) / 0.02;
    Scenario {
        workers: 8,
        rate: load * capacity,
        length: Duration::from_mins(2),
        ..Scenario::new(members, move |random, _, member| {
            let mean = if member + 1 == members { 100.0 } else { 20.0 };
            Answer::After(ms(model::exponential(random, mean)))
        })
    }
}

#[test]
fn one_of_three_is_five_times_slower() {
    let scenario = one_slow(3, 0.6);
    run(
        "3 x 8, one 5 x slower, 60 %",
        &scenario,
        Strategy::LeastRequest,
    );
    let ewma = run("3 x 8, one 5 x slower, 60 %", &scenario, Strategy::Ewma);
    assert!(ewma.percentile(99.0) <= 150.0, "{}", ewma.percentile(99.0));
}

#[test]
fn one_of_ten_is_five_times_slower() {
    let scenario = one_slow(10, 0.7);
    run(
        "10 x 8, one 5 x slower, 70 %",
        &scenario,
        Strategy::LeastRequest,
    );
    let ewma = run("10 x 8, one 5 x slower, 70 %", &scenario, Strategy::Ewma);
    assert!(ewma.percentile(99.0) <= 105.0, "{}", ewma.percentile(99.0));
    assert!(ewma.percentile(99.9) <= 240.0, "{}", ewma.percentile(99.9));
}

#[test]
fn a_hundred_equal_members_with_one_worker_each() {
    let scenario = Scenario {
        workers: 1,
        rate: 0.8 * 100.0 / 0.02,
        length: Duration::from_mins(1),
        ..Scenario::new(100, |random, _, _| {
            Answer::After(ms(model::exponential(random, 20.0)))
        })
    };
    for strategy in [Strategy::Random, Strategy::RoundRobin] {
        run("100 x 1, 80 %", &scenario, strategy);
    }
    for strategy in [Strategy::LeastRequest, Strategy::Ewma] {
        let p99 = run("100 x 1, 80 %", &scenario, strategy).percentile(99.0);
        assert!(p99 <= 110.0, "{strategy:?} {p99}");
    }
}

#[test]
fn a_member_that_fails_fast_attracts_nobody() {
    let scenario = Scenario {
        workers: 100,
        rate: 200.0,
        length: Duration::from_mins(2),
        ..Scenario::new(4, |random, at, member| {
            if member == 3 && at >= 60.0 {
                Answer::Fails(ms(1.0))
            } else {
                Answer::After(ms(model::exponential(random, 20.0)))
            }
        })
    };
    for strategy in [Strategy::RoundRobin, Strategy::LeastRequest] {
        run("one of 4 fails in 1 ms, half the run", &scenario, strategy);
    }
    let share = run(
        "one of 4 fails in 1 ms, half the run",
        &scenario,
        Strategy::Ewma,
    )
    .failed();
    println!("  failures with ewma: {:.3} %", 100.0 * share);
    assert!(share <= 0.002, "{share}");
}

#[test]
fn a_member_that_hangs_attracts_nobody() {
    let scenario = Scenario {
        workers: 100,
        rate: 1_000.0,
        length: Duration::from_secs(90),
        ..Scenario::new(4, |random, at, member| {
            if member == 3 && (30.0..60.0).contains(&at) {
                Answer::After(Duration::from_secs_f64(60.0 - at))
            } else {
                Answer::After(ms(model::exponential(random, 20.0)))
            }
        })
    };
    run("one of 4 hangs for 30 s", &scenario, Strategy::LeastRequest);
    let result = run("one of 4 hangs for 30 s", &scenario, Strategy::Ewma);
    let late = 1.0 - result.within(1_000.0);
    println!(
        "  answered after more than 1 s with ewma: {:.3} %",
        100.0 * late
    );
    assert!(late <= 0.000_5, "{late}");
}

#[test]
fn members_that_join_under_load_share_it() {
    let scenario = Scenario {
        workers: 8,
        rate: 500.0,
        length: Duration::from_mins(1),
        joins: vec![(2, 20.0), (3, 20.0)],
        leaves: vec![(2, 40.0), (3, 40.0)],
        ..Scenario::new(4, |random, _, _| {
            Answer::After(ms(model::exponential(random, 10.0)))
        })
    };
    for strategy in [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::Ewma] {
        let result = run("2 -> 4 -> 2 members", &scenario, strategy);
        let joined = result.share(2) + result.share(3);
        // Half of the load in a third of the time.
        assert!((14.0..19.0).contains(&joined), "{strategy:?} {joined}");
        assert_eq!(result.unserved, 0);
    }
}
