//! The metrics as text.

use std::collections::BTreeMap;
use std::time::Instant;

use frp_admin::{Counter, Kind, Metrics as Text};
use frp_proto::telemetry;

use super::{Client, Failure, LoginOutcome, Proxy, TlsOutcome};
use crate::Shared;

/// Labels of what there is for each proxy, as upstream names them.
const PROXY: [&str; 2] = ["name", "type"];
/// Labels of what there is for each client.
const CLIENT: [&str; 2] = ["client", "user"];
/// Classes of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Adds all that has been counted.
pub(crate) fn add_to(shared: &Shared, text: &mut Text) {
    let now = Instant::now();
    add_proxies(&shared.metrics.proxies.all(now), text);
    add_clients(&shared.metrics.clients.all(now), text);
    add_queues(shared, text);
    let metrics = &shared.metrics;
    text.add_counts(
        "frps_logins_total",
        "Logins by outcome: new, again (with the run id of an earlier session), refused",
        ["outcome"],
        outcomes(&LoginOutcome::ALL, &metrics.logins),
    );
    text.add_counts(
        "frps_tls_handshakes_total",
        "TLS handshakes of clients by outcome: ok, failed, abandoned, plain (no TLS where it is demanded)",
        ["outcome"],
        outcomes(&TlsOutcome::ALL, &metrics.tls),
    );
    text.add_counts(
        "frps_http_unrouted_total",
        "HTTP requests that no route was found for",
        [],
        [([], metrics.unrouted.get())],
    );
    text.add_counts(
        "frps_log_lines_dropped_total",
        "Lines of all logs that were lost because they could not be written fast enough",
        [],
        [([], telemetry::dropped_lines())],
    );
}

/// A sample for each outcome that has a name, sorted as the names are.
fn outcomes<'a, T>(
    names: &'a [(T, &'a str)],
    counters: &'a [Counter],
) -> impl Iterator<Item = ([&'a str; 1], u64)> {
    let sorted: BTreeMap<&str, u64> = names
        .iter()
        .zip(counters)
        .map(|((_, name), counter)| (*name, counter.get()))
        .collect();
    sorted.into_iter().map(|(name, n)| ([name], n))
}

fn add_proxies(proxies: &[std::sync::Arc<Proxy>], text: &mut Text) {
    text.add_histograms(
        "frps_connection_duration_seconds",
        "How long connections of users lasted; for http those to backends",
        PROXY,
        proxies.iter().map(|p| (p.labels(), &p.lifetimes)),
    );
    text.add_histograms(
        "frps_work_connection_wait_seconds",
        "How long it took to get a work connection and to tell it what it is for",
        PROXY,
        proxies.iter().map(|p| (p.labels(), &p.waits)),
    );
    let requests = proxies.iter().flat_map(|p| {
        let [name, kind] = p.labels();
        let classes = p.requests.get().into_iter().flat_map(|c| c.iter());
        CLASSES
            .iter()
            .zip(classes)
            .map(move |(class, histogram)| ([*class, name, kind], histogram))
    });
    text.add_histograms(
        "frps_http_request_duration_seconds",
        "How long requests took from the end of their head to the end of the answer, by class of the status",
        ["code", "name", "type"],
        requests,
    );
    let failures = proxies.iter().flat_map(|p| {
        let [name, kind] = p.labels();
        Failure::ALL
            .into_iter()
            .map(move |f| ([name, f.name(), kind], p.failures[f as usize].get()))
    });
    text.add_counts(
        "frps_user_errors_total",
        "Connections and requests of users that were not served, or not to the end, by reason",
        ["name", "reason", "type"],
        failures.filter(|(_, n)| *n > 0),
    );
}

fn add_clients(clients: &[std::sync::Arc<Client>], text: &mut Text) {
    let each = |value: fn(&Client) -> u64| clients.iter().map(move |c| (c.labels(), value(c)));
    text.add_counts(
        "frps_client_logins_total",
        "Logins of a client; all but the first are reconnections",
        CLIENT,
        each(|c| c.logins.get()),
    );
    text.add_counts(
        "frps_client_traffic_in_bytes_total",
        "Bytes from users to a client; those of open connections are not in it yet",
        CLIENT,
        each(|c| c.traffic_in.get()),
    );
    text.add_counts(
        "frps_client_traffic_out_bytes_total",
        "Bytes from a client to users; those of open connections are not in it yet",
        CLIENT,
        each(|c| c.traffic_out.get()),
    );
    text.add_counts(
        "frps_client_pool_hits_total",
        "Work connections that were ready when a user came",
        CLIENT,
        each(|c| c.hits.get()),
    );
    text.add_counts(
        "frps_client_pool_misses_total",
        "Work connections that the client had to be asked for while a user waited",
        CLIENT,
        each(|c| c.misses.get()),
    );
}

/// How full a session's queues are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Depths {
    /// Work connections that wait for users.
    pub(crate) ready: usize,
    /// Users that wait for work connections.
    pub(crate) waiting: usize,
    /// Messages that wait for the client.
    pub(crate) outbox: usize,
}

fn add_queues(shared: &Shared, text: &mut Text) {
    let sessions = shared.sessions.running();
    let mut depths: BTreeMap<[&str; 2], Depths> = BTreeMap::new();
    for session in &sessions {
        let (sum, one) = (
            depths.entry(session.metrics.labels()).or_default(),
            session.depths(),
        );
        sum.ready += one.ready;
        sum.waiting += one.waiting;
        sum.outbox += one.outbox;
    }
    let mut add = |name, help, value: fn(&Depths) -> usize| {
        let samples = depths.iter().map(|(labels, d)| (*labels, count(value(d))));
        text.add(Kind::Gauge, name, help, CLIENT, samples);
    };
    add(
        "frps_client_pool_ready",
        "Work connections that wait for users",
        |d| d.ready,
    );
    add(
        "frps_client_pool_waiting",
        "Users that wait for a work connection",
        |d| d.waiting,
    );
    add(
        "frps_client_control_queue",
        "Messages that wait to be sent to a client",
        |d| d.outbox,
    );
    let pending = [
        ("client", &shared.pending, crate::MAX_PENDING),
        ("vhost", &shared.sniffing, crate::MAX_PENDING),
    ];
    text.add(
        Kind::Gauge,
        "frps_pending_connections",
        "Connections that have not said yet what they want, by port: that of clients, those of virtual hosts",
        ["port"],
        pending.map(|(port, free, max)| {
            ([port], count(max.saturating_sub(free.available_permits())))
        }),
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows no other numbers"
)]
fn count(n: usize) -> f64 {
    n as f64
}
