//! What is counted of a group, and the metrics made of it (balancing.md §7).

use std::sync::Arc;
use std::time::Duration;

use balancer::{Cause, MemberView, NoMember, Outcome, State};
use frp_admin::{Counter, Histogram, Kind, Metrics};

use super::Managed;
use super::turn::Stage;

const PICKS: [&str; 7] = [
    "strategy",
    "sticky",
    "hash",
    "retry",
    "hedge",
    "probe",
    "fail_open",
];
const RESULTS: [&str; 5] = ["ok", "local", "gateway", "error", "busy"];
const CAUSES: [Cause; 5] = [
    Cause::Consecutive,
    Cause::FailureRate,
    Cause::Deviation,
    Cause::Probe,
    Cause::Check,
];
const NO_MEMBER: [(NoMember, &str); 7] = [
    (NoMember::Empty, "empty"),
    (NoMember::Drained, "drained"),
    (NoMember::Unavailable, "unavailable"),
    (NoMember::Full, "full"),
    (NoMember::Left, "left"),
    (NoMember::Tried, "tried"),
    (NoMember::Sticky, "sticky"),
];
const STATES: [State; 6] = [
    State::Up,
    State::Ejected,
    State::HalfOpen,
    State::Down,
    State::Draining,
    State::Disabled,
];
/// Upper bounds of the histogram.
static BOUNDS: [Duration; 11] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// Members of a group that have series of their own; what there is beyond them is summed.
const MAX_SERIES: usize = 256;

/// Counts of one group, as long as it lives.
pub(crate) struct Counters {
    picks: [Counter; PICKS.len()],
    results: [Counter; RESULTS.len()],
    ejections: [Counter; CAUSES.len()],
    suppressed: Counter,
    /// By stage; done, and not done.
    retries: [[Counter; 2]; Stage::ALL.len()],
    sticky: [Counter; 2],
    /// Copies that were answered first, and that were not.
    hedges: [Counter; 2],
    /// Passed, and failed.
    checks: [Counter; 2],
    no_member: [Counter; NO_MEMBER.len()],
    conflicts: Counter,
    /// To the first byte.
    latencies: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            picks: Default::default(),
            results: Default::default(),
            ejections: Default::default(),
            suppressed: Counter::default(),
            retries: Default::default(),
            sticky: Default::default(),
            hedges: Default::default(),
            checks: Default::default(),
            no_member: Default::default(),
            conflicts: Counter::default(),
            latencies: Histogram::new(&BOUNDS),
        }
    }
}

impl Counters {
    pub(super) fn pick(&self, reason: &str) {
        if let Some(at) = PICKS.iter().position(|name| *name == reason) {
            self.picks[at].inc();
        }
    }

    pub(super) fn result(&self, outcome: Outcome) {
        let at = match outcome {
            Outcome::Ok => 0,
            Outcome::Local => 1,
            Outcome::Gateway(_) => 2,
            Outcome::Error => 3,
            Outcome::Busy(_) => 4,
        };
        self.results[at].inc();
    }

    pub(super) fn ejection(&self, cause: Cause) {
        if let Some(at) = CAUSES.iter().position(|c| *c == cause) {
            self.ejections[at].inc();
        }
    }

    pub(super) fn ejection_suppressed(&self) {
        self.suppressed.inc();
    }

    pub(super) fn retry(&self, stage: Stage, done: bool) {
        self.retries[stage as usize][usize::from(!done)].inc();
    }

    /// A cookie was followed, or had to be written.
    pub(crate) fn sticky(&self, issued: bool) {
        self.sticky[usize::from(issued)].inc();
    }

    pub(super) fn hedge(&self, won: bool) {
        self.hedges[usize::from(!won)].inc();
    }

    pub(super) fn check(&self, passed: bool) {
        self.checks[usize::from(!passed)].inc();
    }

    pub(super) fn no_member(&self, cause: NoMember) {
        if let Some(at) = NO_MEMBER.iter().position(|(c, _)| *c == cause) {
            self.no_member[at].inc();
        }
    }

    pub(super) fn conflict(&self) {
        self.conflicts.inc();
    }

    pub(super) fn latency(&self, latency: Duration) {
        self.latencies.observe(latency);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows no other numbers"
)]
fn number(n: u64) -> f64 {
    n as f64
}

/// Adds `frp_server_lb_*` of these groups.
pub(crate) fn add_to(metrics: &mut Metrics, groups: &[Arc<dyn Managed>]) {
    add_members(metrics, groups);
    let counter = |metrics: &mut Metrics,
                   name: &str,
                   help: &str,
                   label: &str,
                   values: &dyn Fn(&Counters) -> Vec<(&'static str, u64)>| {
        let samples = groups.iter().flat_map(|group| {
            let labelled = move |(value, n)| ([group.kind(), group.name(), value], number(n));
            values(group.counters()).into_iter().map(labelled)
        });
        let name = format!("frp_server_lb_{name}");
        metrics.add(
            Kind::Counter,
            &name,
            help,
            ["kind", "group", label],
            samples,
        );
    };
    counter(metrics, "checks_total", "Active checks", "result", &|c| {
        vec![("passed", c.checks[0].get()), ("failed", c.checks[1].get())]
    });
    counter(
        metrics,
        "ejections_total",
        "Members ejected",
        "cause",
        &|c| {
            let counts = CAUSES.iter().zip(&c.ejections);
            counts.map(|(cause, n)| (cause.as_str(), n.get())).collect()
        },
    );
    counter(metrics, "hedges_total", "Copies of requests", "won", &|c| {
        vec![("true", c.hedges[0].get()), ("false", c.hedges[1].get())]
    });
    counter(
        metrics,
        "no_member_total",
        "Users for whom there was no member",
        "cause",
        &|c| {
            let counts = NO_MEMBER.iter().zip(&c.no_member);
            counts.map(|((_, cause), n)| (*cause, n.get())).collect()
        },
    );
    counter(metrics, "picks_total", "Members picked", "reason", &|c| {
        let counts = PICKS.iter().zip(&c.picks);
        counts.map(|(reason, n)| (*reason, n.get())).collect()
    });
    counter(
        metrics,
        "results_total",
        "How uses of members went",
        "result",
        &|c| {
            let counts = RESULTS.iter().zip(&c.results);
            counts.map(|(result, n)| (*result, n.get())).collect()
        },
    );
    counter(metrics, "sticky_total", "Sticky cookies", "result", &|c| {
        vec![
            ("followed", c.sticky[0].get()),
            ("issued", c.sticky[1].get()),
        ]
    });
    add_retries(metrics, groups);
    add_unlabelled(metrics, groups);
    add_latencies(metrics, groups);
}

fn add_retries(metrics: &mut Metrics, groups: &[Arc<dyn Managed>]) {
    let retries = groups.iter().flat_map(|group| {
        Stage::ALL.iter().flat_map(move |(stage, name)| {
            let counts = &group.counters().retries[*stage as usize];
            ["done", "refused"]
                .into_iter()
                .zip(counts)
                .map(move |(result, n)| {
                    ([group.kind(), group.name(), *name, result], number(n.get()))
                })
        })
    });
    metrics.add(
        Kind::Counter,
        "frp_server_lb_retries_total",
        "Tries on another member",
        ["kind", "group", "stage", "result"],
        retries,
    );
}

/// Counters of one number a group.
fn add_unlabelled(metrics: &mut Metrics, groups: &[Arc<dyn Managed>]) {
    for (name, help, value) in [
        (
            "frp_server_lb_config_conflicts_total",
            "Members whose settings differ from the group's",
            (|c: &Counters| c.conflicts.get()) as fn(&Counters) -> u64,
        ),
        (
            "frp_server_lb_ejections_suppressed_total",
            "Ejections that did not happen because too many members were out",
            |c| c.suppressed.get(),
        ),
    ] {
        let samples = groups.iter().map(|group| {
            (
                [group.kind(), group.name()],
                number(value(group.counters())),
            )
        });
        metrics.add(Kind::Counter, name, help, ["kind", "group"], samples);
    }
}

fn add_latencies(metrics: &mut Metrics, groups: &[Arc<dyn Managed>]) {
    let histograms = groups
        .iter()
        .map(|group| ([group.kind(), group.name()], &group.counters().latencies));
    metrics.add_histograms(
        "frp_server_lb_first_byte_seconds",
        "Time to the first byte of an answer",
        ["kind", "group"],
        histograms,
    );
}

/// A number of a member, if it has one.
type Value = fn(&MemberView) -> Option<f64>;

/// Gauges of states and members.
fn add_members(metrics: &mut Metrics, groups: &[Arc<dyn Managed>]) {
    let views: Vec<(&Arc<dyn Managed>, Vec<MemberView>)> = groups
        .iter()
        .map(|group| (group, group.members()))
        .collect();
    let states = views.iter().flat_map(|(group, members)| {
        STATES.iter().map(move |state| {
            let n = members.iter().filter(|m| m.state == *state).count();
            (
                [group.kind(), group.name(), state.as_str()],
                number(n as u64),
            )
        })
    });
    metrics.add(
        Kind::Gauge,
        "frp_server_lb_members",
        "Members by state",
        ["kind", "group", "state"],
        states,
    );
    let gauges: [(&str, &str, Value); 4] = [
        (
            "frp_server_lb_member_active",
            "Requests or connections in use",
            |m| Some(f64::from(m.active)),
        ),
        (
            "frp_server_lb_member_latency_seconds",
            "Decayed peak latency",
            |m| m.latency_ms.map(|ms| f64::from(ms) / 1e3),
        ),
        ("frp_server_lb_member_streams", "Open streams", |m| {
            Some(f64::from(m.streams))
        }),
        ("frp_server_lb_member_weight", "Effective weight", |m| {
            Some(f64::from(m.effective_weight))
        }),
    ];
    for (name, help, value) in gauges {
        let samples = views.iter().flat_map(|(group, members)| {
            let (own, others) = members.split_at(members.len().min(MAX_SERIES));
            let rest = others.iter().filter_map(value).reduce(|a, b| a + b);
            let own = own.iter().filter_map(move |m| Some((&*m.id, value(m)?)));
            own.chain(rest.map(|sum| ("other", sum)))
                .map(|(member, n)| ([group.kind(), group.name(), member], n))
        });
        metrics.add(
            Kind::Gauge,
            name,
            help,
            ["kind", "group", "member"],
            samples,
        );
    }
}
