//! A pick and the end of its use, for every strategy, alone and from two threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use balancer::{
    Group, GroupConfig, HashAlgorithm, Lease, MemberConfig, Membership, Options, Outcome, Random,
    Request, Strategy,
};
use divan::Bencher;

fn main() {
    divan::main();
}

const MEMBERS: [usize; 6] = [2, 10, 16, 100, 1_000, 10_000];

thread_local! {
    static RANDOM: RefCell<Random> = RefCell::new(Random::new(1));
}

/// A group whose members have answered before.
fn group(config: GroupConfig, members: usize) -> (Group<usize>, Vec<Membership<usize>>, Instant) {
    let start = Instant::now();
    let options = Options {
        config: config.into(),
        ..Options::default()
    };
    let group = Group::new(start, options);
    let memberships = (0..members)
        .map(|n| {
            let id = format!("member-{n}");
            group
                .join(start, id, Arc::new(n), MemberConfig::default(), None)
                .expect("within the bound")
        })
        .collect();
    let now = start + Duration::from_secs(1);
    let mut random = Random::new(7);
    for _ in 0..members * 8 {
        let picked = group
            .pick(start, &Request::default(), &mut random)
            .expect("there are members");
        picked
            .lease
            .finish(start + Duration::from_millis(20), Outcome::Ok);
    }
    (group, memberships, now)
}

/// Between picks: a member that is used a million times a second.
const PAUSE: Duration = Duration::from_micros(1);

fn bench(
    bencher: Bencher<'_, '_>,
    config: GroupConfig,
    members: usize,
    end: impl Fn(Lease<usize>, Instant) + Sync,
) {
    let (group, _memberships, start) = group(config, members);
    let request = Request {
        key: Some(b"198.51.100.7"),
        ..Request::default()
    };
    let picks = AtomicU32::new(0);
    bencher
        .with_inputs(|| start + PAUSE * picks.fetch_add(1, Ordering::Relaxed))
        .bench_values(|now| {
            RANDOM.with_borrow_mut(|random| {
                let picked = group
                    .pick(now, &request, random)
                    .expect("there are members");
                end(picked.lease, now);
            });
        });
}

fn with(strategy: Strategy) -> GroupConfig {
    GroupConfig {
        strategy,
        ..GroupConfig::default()
    }
}

fn maglev() -> GroupConfig {
    let mut config = with(Strategy::Hash);
    config.hash.algorithm = HashAlgorithm::Maglev;
    config
}

macro_rules! strategies {
    ($($name:ident: $config:expr, $members:expr;)*) => {$(
        mod $name {
            use super::*;

            /// A pick whose use says nothing of the member.
            #[divan::bench(args = $members, threads = [1, 2], sample_size = 1_000)]
            fn pick(bencher: Bencher<'_, '_>, members: usize) {
                bench(bencher, $config, members, |lease, _| lease.cancel());
            }

            /// A pick, and what is learnt by its use.
            #[divan::bench(args = $members, threads = [1, 2], sample_size = 1_000)]
            fn learn(bencher: Bencher<'_, '_>, members: usize) {
                bench(bencher, $config, members, |lease, now| lease.finish(now, Outcome::Ok));
            }
        }
    )*};
}

// Those who join one by one build a table of 65,537 entries each: with Maglev ten thousand would take minutes.
strategies! {
    round_robin: with(Strategy::RoundRobin), MEMBERS;
    random: with(Strategy::Random), MEMBERS;
    least_request: with(Strategy::LeastRequest), MEMBERS;
    ewma: with(Strategy::Ewma), MEMBERS;
    rendezvous: with(Strategy::Hash), MEMBERS;
    maglev: maglev(), &MEMBERS[..5];
}
