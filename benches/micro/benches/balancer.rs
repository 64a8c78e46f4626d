//! Picks of an endpoint, alone and from several threads.

use balancer::{First, Membership, RoundRobin};
use divan::Bencher;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2, 16, 100, 10_000], threads = [1, 2])]
fn round_robin(bencher: Bencher<'_, '_>, members: u32) {
    let group = RoundRobin::new(First::Oldest);
    let _members: Vec<Membership<u32>> = (0..members)
        .map(|n| group.join(n).expect("within the bound"))
        .collect();
    bencher.bench(|| group.pick());
}
