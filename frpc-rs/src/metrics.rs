//! What `/metrics` of frpc tells, when `enablePrometheus` is set: proxies, their users, logins.
//!
//! Every proxy holds its own series, so that counting is a few atomic additions. There are [`MAX_PROXIES`] at most; what
//! comes beyond shares series named `other`, and those of proxies that are gone expire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use frp_admin::{Counter, Family, Histogram, Kind, Metrics as Text, Series};
use frp_proto::telemetry;

use crate::service::Service;

/// Proxies with series of their own.
const MAX_PROXIES: usize = 1_000;
/// The label of what has none.
const OTHER: &str = "other";
/// Labels of what there is for each proxy.
const PROXY: [&str; 2] = ["name", "type"];

/// Bounds for connections: from a failed attempt to a session of a day.
static LIFETIMES: [Duration; 10] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
    Duration::from_hours(24),
];
/// Bounds for reaching a local service.
static DIALS: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// The series of one proxy.
pub(crate) type Proxy = Series<ProxyMetrics>;

/// Why a user was not served, or not to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The local service could not be reached.
    LocalDial,
    /// The local service's connection broke.
    Local,
    /// The connection to frps, or through it to the user, broke.
    WorkConn,
}

impl Failure {
    const ALL: [Self; 3] = [Self::LocalDial, Self::Local, Self::WorkConn];

    /// As labels and logs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LocalDial => "local_dial",
            Self::Local => "local_connection",
            Self::WorkConn => "work_connection",
        }
    }
}

/// All of one client.
pub(crate) struct Metrics {
    proxies: Family<ProxyMetrics>,
    connected: AtomicBool,
    logins: Counter,
    login_failures: Counter,
    work_conns: Counter,
    work_conn_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            proxies: Family::new(MAX_PROXIES),
            connected: AtomicBool::default(),
            logins: Counter::default(),
            login_failures: Counter::default(),
            work_conns: Counter::default(),
            work_conn_failures: Counter::default(),
        }
    }
}

impl Metrics {
    /// The series of a proxy, alive as long as they are held.
    pub(crate) fn proxy(&self, name: &str, kind: &str) -> Arc<Proxy> {
        self.proxies
            .get([name, kind], [OTHER, kind], Instant::now())
    }

    /// Whether there is a session now.
    pub(crate) fn connected(&self, now: bool) {
        self.connected.store(now, Ordering::Relaxed);
    }

    /// A login has ended.
    pub(crate) fn login(&self, accepted: bool) {
        let counter = if accepted {
            &self.logins
        } else {
            &self.login_failures
        };
        counter.inc();
    }

    /// A work connection was asked for; whether it could be opened.
    pub(crate) fn work_conn(&self, opened: bool) {
        let counter = if opened {
            &self.work_conns
        } else {
            &self.work_conn_failures
        };
        counter.inc();
    }
}

/// What is counted of one proxy.
#[derive(Debug)]
pub(crate) struct ProxyMetrics {
    /// From the arrival of a user to the end.
    lifetimes: Histogram,
    /// For connecting to the local service.
    dials: Histogram,
    traffic_in: Counter,
    traffic_out: Counter,
    failures: [Counter; Failure::ALL.len()],
}

impl Default for ProxyMetrics {
    fn default() -> Self {
        Self {
            lifetimes: Histogram::new(&LIFETIMES),
            dials: Histogram::new(&DIALS),
            traffic_in: Counter::default(),
            traffic_out: Counter::default(),
            failures: Default::default(),
        }
    }
}

impl ProxyMetrics {
    /// The local service was reached after this time.
    pub(crate) fn dialled(&self, took: Duration) {
        self.dials.observe(took);
    }

    /// A user is gone.
    pub(crate) fn ended(
        &self,
        lifetime: Duration,
        (traffic_in, traffic_out): (u64, u64),
        failure: Option<Failure>,
    ) {
        self.lifetimes.observe(lifetime);
        self.traffic_in.add(traffic_in);
        self.traffic_out.add(traffic_out);
        if let Some(failure) = failure {
            self.failures[failure as usize].inc();
        }
    }
}

/// All as text.
pub(crate) fn text(service: &Service) -> Text {
    let metrics = &service.shared().metrics;
    let mut text = Text::default();
    let connected = metrics.connected.load(Ordering::Relaxed);
    text.add(
        Kind::Gauge,
        "frpc_connected",
        "Whether there is a session with frps",
        [],
        [([], f64::from(u8::from(connected)))],
    );
    let logins = [
        (["accepted"], metrics.logins.get()),
        (["failed"], metrics.login_failures.get()),
    ];
    text.add_counts(
        "frpc_logins_total",
        "Attempts to log in by outcome; all accepted ones but the first are reconnections",
        ["outcome"],
        logins,
    );
    let work_conns = [
        (["failed"], metrics.work_conn_failures.get()),
        (["opened"], metrics.work_conns.get()),
    ];
    text.add_counts(
        "frpc_work_connections_total",
        "Work connections that frps asked for, by outcome",
        ["outcome"],
        work_conns,
    );
    let mut phases: BTreeMap<String, u32> = BTreeMap::new();
    for (proxy, _) in service.status() {
        *phases.entry(proxy.phase.to_string()).or_default() += 1;
    }
    text.add(
        Kind::Gauge,
        "frpc_proxies",
        "Proxies by status, as in /api/status",
        ["status"],
        phases
            .iter()
            .map(|(phase, n)| ([phase.as_str()], f64::from(*n))),
    );
    add_proxies(&metrics.proxies.all(Instant::now()), &mut text);
    text.add_counts(
        "frpc_log_lines_dropped_total",
        "Lines of all logs that were lost because they could not be written fast enough",
        [],
        [([], telemetry::dropped_lines())],
    );
    text.add_process();
    text
}

fn add_proxies(proxies: &[Arc<Proxy>], text: &mut Text) {
    text.add_histograms(
        "frpc_connection_duration_seconds",
        "How long connections of users lasted; for udp those to frps",
        PROXY,
        proxies.iter().map(|p| (p.labels(), &p.lifetimes)),
    );
    text.add_histograms(
        "frpc_local_dial_seconds",
        "How long it took to connect to the local service",
        PROXY,
        proxies.iter().map(|p| (p.labels(), &p.dials)),
    );
    text.add_counts(
        "frpc_traffic_in_bytes_total",
        "Bytes from users to local services, of connections that have ended",
        PROXY,
        proxies.iter().map(|p| (p.labels(), p.traffic_in.get())),
    );
    text.add_counts(
        "frpc_traffic_out_bytes_total",
        "Bytes from local services to users, of connections that have ended",
        PROXY,
        proxies.iter().map(|p| (p.labels(), p.traffic_out.get())),
    );
    let failures = proxies.iter().flat_map(|p| {
        let [name, kind] = p.labels();
        Failure::ALL
            .into_iter()
            .map(move |f| ([name, f.name(), kind], p.failures[f as usize].get()))
    });
    text.add_counts(
        "frpc_user_errors_total",
        "Connections of users that were not served, or not to the end, by reason",
        ["name", "reason", "type"],
        failures.filter(|(_, n)| *n > 0),
    );
}
