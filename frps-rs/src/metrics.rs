//! What `/metrics` tells beyond upstream's names: durations, errors, logins, handshakes, pools and queues.
//!
//! A proxy's context and a session hold their own series, so that counting is a few atomic additions. There are
//! [`MAX_PROXIES`] and [`MAX_CLIENTS`] series at most; what comes beyond shares series named `other`, and those of proxies
//! and clients that are gone expire. Upstream's names are in [`crate::stats`].

mod exposition;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use frp_admin::{Counter, Family, Histogram, Series};
use frp_proto::msg::Login;

pub(crate) use exposition::{Depths, add_to};

/// Proxies with series of their own: more than a dashboard can show, and a scrape of a few megabytes.
const MAX_PROXIES: usize = 1_000;
/// Clients with series of their own.
const MAX_CLIENTS: usize = 1_000;
/// The label of what has none.
const OTHER: &str = "other";

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
/// Bounds for what users wait for.
static WAITS: [Duration; 13] = [
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// The series of one proxy.
pub(crate) type Proxy = Series<ProxyMetrics>;
/// The series of one client.
pub(crate) type Client = Series<ClientMetrics>;

/// Why a user was not served, or not to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A server plugin did not let the user in.
    Rejected,
    /// The client brought no work connection.
    NoWorkConn,
    /// The user's connection broke.
    User,
    /// The connection to the client, or through it to the service, broke.
    Backend,
    /// An `http` backend did not begin its answer in time.
    Timeout,
    /// A request was not answered for another reason.
    Request,
}

impl Failure {
    const ALL: [Self; 6] = [
        Self::Rejected,
        Self::NoWorkConn,
        Self::User,
        Self::Backend,
        Self::Timeout,
        Self::Request,
    ];

    /// As labels and logs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::NoWorkConn => "no_work_connection",
            Self::User => "user_connection",
            Self::Backend => "work_connection",
            Self::Timeout => "timeout",
            Self::Request => "request",
        }
    }
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    /// A client that was not there before.
    New,
    /// A client that brought the run id of an earlier session.
    Again,
    /// A client that was not let in.
    Refused,
}

impl LoginOutcome {
    const ALL: [(Self, &str); 3] = [
        (Self::New, "new"),
        (Self::Again, "again"),
        (Self::Refused, "refused"),
    ];

    /// Of a login that was accepted.
    pub(crate) fn accepted(login: &Login) -> Self {
        if login.run_id.is_empty() {
            Self::New
        } else {
            Self::Again
        }
    }
}

/// How the TLS stage of a connection from a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TlsOutcome {
    Ok,
    Failed,
    /// Took too long, or the server stopped.
    Abandoned,
    /// No TLS where it is demanded.
    Plain,
}

impl TlsOutcome {
    const ALL: [(Self, &str); 4] = [
        (Self::Ok, "ok"),
        (Self::Failed, "failed"),
        (Self::Abandoned, "abandoned"),
        (Self::Plain, "plain"),
    ];
}

/// All of one server, those of [`crate::stats`] not counted.
pub(crate) struct Metrics {
    proxies: Family<ProxyMetrics>,
    clients: Family<ClientMetrics>,
    logins: [Counter; LoginOutcome::ALL.len()],
    tls: [Counter; TlsOutcome::ALL.len()],
    /// Requests that no route was found for.
    unrouted: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            proxies: Family::new(MAX_PROXIES),
            clients: Family::new(MAX_CLIENTS),
            logins: Default::default(),
            tls: Default::default(),
            unrouted: Counter::default(),
        }
    }
}

impl Metrics {
    /// The series of a proxy, alive as long as they are held.
    pub(crate) fn proxy(&self, name: &str, kind: &'static str) -> Arc<Proxy> {
        self.proxies
            .get([name, kind], [OTHER, kind], Instant::now())
    }

    /// The series of a client: a configured client id stays the same over logins, a run id mostly does.
    pub(crate) fn client(&self, login: &Login, run_id: &str) -> Arc<Client> {
        let id = match login.client_id.as_str() {
            "" => run_id,
            id => id,
        };
        self.clients
            .get([id, &login.user], [OTHER, OTHER], Instant::now())
    }

    pub(crate) fn login(&self, outcome: LoginOutcome) {
        self.logins[outcome as usize].inc();
    }

    /// A request that no route was found for.
    pub(crate) fn unrouted(&self) {
        self.unrouted.inc();
    }

    /// A client that speaks no TLS where it must.
    pub(crate) fn refused_plain(&self) {
        self.tls[TlsOutcome::Plain as usize].inc();
    }

    /// A TLS handshake that has begun.
    pub(crate) fn handshake(&self) -> Handshake<'_> {
        Handshake {
            metrics: self,
            outcome: TlsOutcome::Abandoned,
        }
    }
}

/// A TLS handshake; it counts when it is dropped.
pub(crate) struct Handshake<'a> {
    metrics: &'a Metrics,
    outcome: TlsOutcome,
}

impl Handshake<'_> {
    /// It has come to its end.
    pub(crate) fn done<T, E>(&mut self, result: &Result<T, E>) {
        self.outcome = match result {
            Ok(_) => TlsOutcome::Ok,
            Err(_) => TlsOutcome::Failed,
        };
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        self.metrics.tls[self.outcome as usize].inc();
    }
}

/// What is counted of one proxy.
#[derive(Debug)]
pub(crate) struct ProxyMetrics {
    /// From the work connection to the end; for `http` of a connection to the backend.
    lifetimes: Histogram,
    /// From the wish for a work connection to the one that has been told what it is for.
    waits: Histogram,
    /// Requests by the first digit of their status; only `http` has any.
    requests: OnceLock<Box<[Histogram; 5]>>,
    failures: [Counter; Failure::ALL.len()],
}

impl Default for ProxyMetrics {
    fn default() -> Self {
        Self {
            lifetimes: Histogram::new(&LIFETIMES),
            waits: Histogram::new(&WAITS),
            requests: OnceLock::new(),
            failures: Default::default(),
        }
    }
}

impl ProxyMetrics {
    /// A connection has ended.
    pub(crate) fn ended(&self, lifetime: Duration) {
        self.lifetimes.observe(lifetime);
    }

    /// A work connection was there after this time.
    pub(crate) fn waited(&self, wait: Duration) {
        self.waits.observe(wait);
    }

    /// A user was not served, or not to the end.
    pub(crate) fn failed(&self, failure: Failure) {
        self.failures[failure as usize].inc();
    }

    /// A request has been answered, body included.
    pub(crate) fn answered(&self, status: u16, duration: Duration) {
        let classes = || Box::new(std::array::from_fn(|_| Histogram::new(&WAITS)));
        let classes = self.requests.get_or_init(classes);
        let class = usize::from(status / 100).clamp(1, classes.len());
        classes[class - 1].observe(duration);
    }
}

/// What is counted of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    logins: Counter,
    /// Work connections that were in the pool when a user came.
    hits: Counter,
    /// Those that the client had to be asked for.
    misses: Counter,
    traffic_in: Counter,
    traffic_out: Counter,
}

impl ClientMetrics {
    pub(crate) fn logged_in(&self) {
        self.logins.inc();
    }

    /// A work connection was wanted; whether one was there.
    pub(crate) fn wanted(&self, pooled: bool) {
        if pooled {
            self.hits.inc();
        } else {
            self.misses.inc();
        }
    }

    /// Bytes passed to the client's services and back.
    pub(crate) fn traffic(&self, traffic_in: u64, traffic_out: u64) {
        self.traffic_in.add(traffic_in);
        self.traffic_out.add(traffic_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_places_in_the_lists() {
        assert!(
            Failure::ALL
                .iter()
                .enumerate()
                .all(|(i, f)| i == *f as usize)
        );
        let logins = LoginOutcome::ALL.iter().enumerate();
        assert!(logins.into_iter().all(|(i, (o, _))| i == *o as usize));
        let tls = TlsOutcome::ALL.iter().enumerate();
        assert!(tls.into_iter().all(|(i, (o, _))| i == *o as usize));
    }

    #[test]
    fn a_handshake_that_nobody_ends_is_abandoned() {
        let metrics = Metrics::default();
        drop(metrics.handshake());
        metrics.handshake().done(&Ok::<_, ()>(()));
        metrics.handshake().done(&Err::<(), _>(()));
        metrics.refused_plain();
        assert_eq!(metrics.tls.each_ref().map(Counter::get), [1, 1, 1, 1]);
    }

    #[test]
    fn statuses_that_no_protocol_knows_have_a_class() {
        let proxy = ProxyMetrics::default();
        for status in [0, 99, 100, 599, 999] {
            proxy.answered(status, Duration::ZERO);
        }
        let classes = proxy.requests.get().unwrap();
        assert_eq!((classes[0].count(), classes[4].count()), (3, 2));
    }
}
