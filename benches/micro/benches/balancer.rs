//! A pick and the end of its use, for every strategy, alone and from two threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::{
    Group, GroupConfig, HashAlgorithm, MemberConfig, Membership, Options, Outcome, Random, Request,
    Strategy,
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
                .join(start, &id, Arc::new(n), MemberConfig::default(), None)
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

fn bench(bencher: Bencher<'_, '_>, config: GroupConfig, members: usize) {
    let (group, _memberships, now) = group(config, members);
    let request = Request {
        key: Some(b"198.51.100.7"),
        ..Request::default()
    };
    bencher.bench(|| {
        RANDOM.with_borrow_mut(|random| {
            let picked = group
                .pick(now, &request, random)
                .expect("there are members");
            picked.lease.finish(now, Outcome::Ok);
        });
    });
}

fn with(strategy: Strategy) -> GroupConfig {
    GroupConfig {
        strategy,
        ..GroupConfig::default()
    }
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn round_robin(bencher: Bencher<'_, '_>, members: usize) {
    bench(bencher, with(Strategy::RoundRobin), members);
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn random(bencher: Bencher<'_, '_>, members: usize) {
    bench(bencher, with(Strategy::Random), members);
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn least_request(bencher: Bencher<'_, '_>, members: usize) {
    bench(bencher, with(Strategy::LeastRequest), members);
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn ewma(bencher: Bencher<'_, '_>, members: usize) {
    bench(bencher, with(Strategy::Ewma), members);
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn rendezvous(bencher: Bencher<'_, '_>, members: usize) {
    bench(bencher, with(Strategy::Hash), members);
}

#[divan::bench(args = MEMBERS, threads = [1, 2])]
fn maglev(bencher: Bencher<'_, '_>, members: usize) {
    let mut config = with(Strategy::Hash);
    config.hash.algorithm = HashAlgorithm::Maglev;
    bench(bencher, config, members);
}
