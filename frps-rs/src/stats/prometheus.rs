//! The series of server.md §12.2: upstream's names, labels and helps.

use frp_admin::{Kind, Metrics};

use super::{Book, Ordering, ProxyStats};

/// Adds all series that have seen something.
pub(super) fn add(metrics: &mut Metrics, clients: i64, book: &Book) {
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    metrics.add(
        gauge,
        "frp_server_client_counts",
        "The current client counts of frps",
        [],
        [([], signed(clients))],
    );
    metrics.add(
        gauge,
        "frp_server_connection_counts",
        "The current connection counts",
        ["name", "type"],
        each(book, |proxy, _| {
            let seen = proxy.connected.load(Ordering::Relaxed);
            seen.then(|| signed(proxy.connections.load(Ordering::Relaxed)))
        }),
    );
    let kinds = book.kinds.iter();
    metrics.add(
        gauge,
        "frp_server_proxy_counts",
        "The current proxy counts",
        ["type"],
        kinds.map(|(kind, count)| ([*kind], signed(*count))),
    );
    metrics.add(
        gauge,
        "frp_server_proxy_counts_detailed",
        "The current number of proxies grouped by type and name",
        ["name", "type"],
        each(book, |_, registered| Some(f64::from(u8::from(registered)))),
    );
    metrics.add(
        counter,
        "frp_server_traffic_in",
        "The total in traffic",
        ["name", "type"],
        each(book, |proxy, _| proxy.traffic_in.seen().map(unsigned)),
    );
    metrics.add(
        counter,
        "frp_server_traffic_out",
        "The total out traffic",
        ["name", "type"],
        each(book, |proxy, _| proxy.traffic_out.seen().map(unsigned)),
    );
}

/// A sample a series, sorted by its labels; `value` gets the proxy and whether it is registered.
fn each(
    book: &Book,
    value: impl Fn(&ProxyStats, bool) -> Option<f64>,
) -> impl Iterator<Item = ([&str; 2], f64)> {
    let series = book.series.values();
    series.filter_map(move |series| {
        let proxy = &*series.proxy;
        let value = value(proxy, series.registered > 0)?;
        Some(([&*proxy.name, proxy.kind], value))
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows no other numbers"
)]
fn signed(n: i64) -> f64 {
    n as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows no other numbers"
)]
fn unsigned(n: u64) -> f64 {
    n as f64
}
