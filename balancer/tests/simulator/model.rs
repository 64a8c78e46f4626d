//! Members as queues with workers, users that arrive at random, and a clock that jumps from event to event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::{
    Group, GroupConfig, Lease, MemberConfig, Membership, Options, Outcome, Random, Request,
};

/// What a member does with a request once a worker has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    After(Duration),
    Fails(Duration),
}

/// Randomness, seconds since the start, number of the member.
pub(crate) type Service = Box<dyn Fn(&mut Random, f64, usize) -> Answer>;

/// A load on a group.
pub(crate) struct Scenario {
    pub(crate) members: usize,
    /// Requests that a member works on at a time.
    pub(crate) workers: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) length: Duration,
    /// Members that are not there at first, and when they join, in seconds.
    pub(crate) joins: Vec<(usize, f64)>,
    pub(crate) leaves: Vec<(usize, f64)>,
    pub(crate) service: Service,
}

#[derive(Debug, Default)]
pub(crate) struct Result {
    /// Milliseconds, in rising order.
    latencies: Vec<f64>,
    counts: BTreeMap<usize, usize>,
    failures: usize,
    members: usize,
    pub(crate) unserved: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Done { member: usize, request: usize },
    Join(usize),
    Leave(usize),
    Tick,
}

/// The earliest first.
type Events = BinaryHeap<Reverse<(Duration, Event)>>;

struct Work {
    arrived: Duration,
    lease: Option<Lease<usize>>,
    fails: bool,
}

#[derive(Default)]
struct Queue {
    busy: usize,
    waiting: VecDeque<usize>,
}

/// A number from the exponential distribution.
pub(crate) fn exponential(random: &mut Random, mean: f64) -> f64 {
    -mean * (1.0 - random.unit()).ln()
}

impl Scenario {
    pub(crate) fn new(
        members: usize,
        service: impl Fn(&mut Random, f64, usize) -> Answer + 'static,
    ) -> Self {
        Self {
            members,
            workers: 1,
            rate: 1.0,
            length: Duration::from_secs(1),
            joins: Vec::new(),
            leaves: Vec::new(),
            service: Box::new(service),
        }
    }

    pub(crate) fn run(&self, config: &GroupConfig, seed: u64) -> Result {
        let start = Instant::now();
        let group = Group::new(
            start,
            Options {
                config: config.clone().into(),
                ..Options::default()
            },
        );
        let mut random = Random::new(seed);
        let mut picks = Random::new(seed + 1);
        let mut memberships: BTreeMap<usize, Membership<usize>> = BTreeMap::new();
        let join = |now: Instant, member: usize| {
            let id = format!("m{member}");
            group
                .join(now, id, Arc::new(member), MemberConfig::default(), None)
                .unwrap()
        };
        let mut events = self.planned();
        for member in 0..self.members {
            if !self.joins.iter().any(|(m, _)| *m == member) {
                memberships.insert(member, join(start, member));
            }
        }
        let mut work: Vec<Work> = Vec::new();
        let mut queues: Vec<Queue> = (0..self.members).map(|_| Queue::default()).collect();
        let mut result = Result {
            members: self.members,
            ..Result::default()
        };
        while let Some(Reverse((time, event))) = events.pop() {
            let now = start + time;
            match event {
                Event::Arrival if time < self.length => {
                    let next = Duration::from_secs_f64(exponential(&mut random, 1.0 / self.rate));
                    events.push(Reverse((time + next, Event::Arrival)));
                    let Ok(picked) = group.pick(now, &Request::default(), &mut picks) else {
                        result.unserved += 1;
                        continue;
                    };
                    let member = **picked.lease.endpoint();
                    *result.counts.entry(member).or_default() += 1;
                    work.push(Work {
                        arrived: time,
                        lease: Some(picked.lease),
                        fails: false,
                    });
                    queues[member].waiting.push_back(work.len() - 1);
                    self.begin(
                        member,
                        time,
                        &mut queues,
                        &mut work,
                        &mut events,
                        &mut random,
                    );
                }
                Event::Done { member, request } => {
                    let done = &mut work[request];
                    let lease = done.lease.take().unwrap();
                    let ms = (time.checked_sub(done.arrived).unwrap()).as_secs_f64() * 1e3;
                    if done.fails {
                        result.failures += 1;
                        lease.finish(now, Outcome::Local);
                    } else {
                        result.latencies.push(ms);
                        lease.finish(now, Outcome::Ok);
                    }
                    queues[member].busy -= 1;
                    self.begin(
                        member,
                        time,
                        &mut queues,
                        &mut work,
                        &mut events,
                        &mut random,
                    );
                }
                Event::Join(member) => {
                    memberships.insert(member, join(now, member));
                }
                Event::Leave(member) => {
                    memberships.remove(&member);
                }
                Event::Tick if time < self.length => {
                    group.tick(now);
                    events.push(Reverse((time + Duration::from_millis(100), Event::Tick)));
                }
                Event::Arrival | Event::Tick => {}
            }
        }
        result.latencies.sort_unstable_by(f64::total_cmp);
        result
    }

    /// What happens whatever the members do.
    fn planned(&self) -> Events {
        let at = |seconds: &f64| Duration::from_secs_f64(*seconds);
        let joins = self.joins.iter().map(|(m, t)| (at(t), Event::Join(*m)));
        let leaves = self.leaves.iter().map(|(m, t)| (at(t), Event::Leave(*m)));
        let begin = [
            (Duration::ZERO, Event::Arrival),
            (Duration::ZERO, Event::Tick),
        ];
        joins.chain(leaves).chain(begin).map(Reverse).collect()
    }

    /// Gives waiting requests to free workers.
    fn begin(
        &self,
        member: usize,
        time: Duration,
        queues: &mut [Queue],
        work: &mut [Work],
        events: &mut Events,
        random: &mut Random,
    ) {
        let queue = &mut queues[member];
        while queue.busy < self.workers {
            let Some(request) = queue.waiting.pop_front() else {
                return;
            };
            queue.busy += 1;
            let (after, fails) = match (self.service)(random, time.as_secs_f64(), member) {
                Answer::After(d) => (d, false),
                Answer::Fails(d) => (d, true),
            };
            work[request].fails = fails;
            events.push(Reverse((time + after, Event::Done { member, request })));
        }
    }
}

impl Result {
    pub(crate) fn percentile(&self, p: f64) -> f64 {
        let i = (self.latencies.len() as f64 * p / 100.0) as usize;
        self.latencies[i.min(self.latencies.len() - 1)]
    }

    /// The share that was answered within so many milliseconds.
    pub(crate) fn within(&self, ms: f64) -> f64 {
        let quick = self.latencies.partition_point(|l| *l < ms);
        quick as f64 / self.total() as f64
    }

    /// The share that failed.
    pub(crate) fn failed(&self) -> f64 {
        self.failures as f64 / self.total() as f64
    }

    /// Percent of the picks that went to a member.
    pub(crate) fn share(&self, member: usize) -> f64 {
        let n = self.counts.get(&member).copied().unwrap_or(0);
        100.0 * n as f64 / self.total() as f64
    }

    pub(crate) fn share_of_last(&self) -> f64 {
        self.share(self.members - 1)
    }

    fn total(&self) -> usize {
        self.counts.values().sum()
    }
}
