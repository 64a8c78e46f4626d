use frp_admin::Response;

use super::*;

fn owner() -> Owner {
    Owner {
        user: "alice".into(),
        client_id: "c1".into(),
    }
}

fn online(stats: &Stats, name: &str, kind: &'static str) -> (Arc<ProxyStats>, Online) {
    let proxy = stats.proxy(&name.into(), kind);
    let online = stats.online(&proxy, || (owner(), Spec::default()));
    (proxy, online)
}

#[test]
fn a_proxy_that_comes_back_goes_on_counting() {
    let stats = Stats::new(true);
    let (proxy, first) = online(&stats, "p", "tcp");
    proxy.traffic_in(10);
    drop(first);
    let view = stats.find("p").unwrap();
    assert!(view.online.is_none() && view.closed.is_some());
    let (again, _online) = online(&stats, "p", "tcp");
    assert!(Arc::ptr_eq(&proxy, &again));
    again.traffic_in(1);
    let view = stats.find("p").unwrap();
    assert!(view.online.is_some() && view.closed.is_some());
    assert_eq!((view.traffic_in[0], view.traffic_out[0]), (11, 0));
}

#[test]
fn a_proxy_of_another_type_starts_anew() {
    let stats = Stats::new(true);
    let (proxy, first) = online(&stats, "p", "tcp");
    proxy.traffic_in(10);
    drop(first);
    let (other, _online) = online(&stats, "p", "udp");
    other.traffic_in(1);
    let view = stats.find("p").unwrap();
    assert_eq!((view.kind, view.traffic_in[0]), ("udp", 1));
    assert!(view.closed.is_none());
    let summary = stats.summary();
    assert_eq!(summary.traffic_in, 11);
    assert_eq!(summary.kinds, BTreeMap::from([("tcp", 0), ("udp", 1)]));
}

#[test]
fn what_is_pruned_starts_anew_but_for_its_series() {
    let stats = Stats::new(true);
    let (proxy, first) = online(&stats, "p", "tcp");
    let (_, _second) = online(&stats, "q", "tcp");
    proxy.traffic_out(7);
    drop(first);
    let pruned = stats.prune();
    assert_eq!((pruned.cleared, pruned.total), (1, 2));
    assert!(stats.find("p").is_none());
    let (proxy, _online) = online(&stats, "p", "tcp");
    assert_eq!(stats.find("p").unwrap().traffic_out[0], 0);
    proxy.traffic_out(1);
    assert_eq!(stats.find("p").unwrap().traffic_out[0], 1);
    let mut metrics = Metrics::default();
    stats.add_to(&mut metrics);
    let text = Response::from(metrics);
    let text = String::from_utf8_lossy(text.bytes());
    let sample = "frp_server_traffic_out{name=\"p\",type=\"tcp\"} 8\n";
    assert!(text.contains(sample), "{text}");
    assert!(!text.contains("frp_server_traffic_in"), "{text}");
}

#[test]
fn connections_and_clients_count_while_they_last() {
    let stats = Stats::new(true);
    let (proxy, _online) = online(&stats, "p", "tcp");
    let (client, connection) = (stats.client(), proxy.connection());
    let summary = stats.summary();
    assert_eq!((summary.clients, summary.connections), (1, 1));
    assert_eq!(stats.find("p").unwrap().connections, 1);
    drop((client, connection));
    let summary = stats.summary();
    assert_eq!((summary.clients, summary.connections), (0, 0));
}

#[test]
fn nothing_is_kept_for_nobody() {
    let stats = Stats::new(false);
    let (proxy, online) = online(&stats, "p", "tcp");
    proxy.traffic_in(1);
    assert!(stats.proxies().is_empty());
    drop(online);
}

#[test]
fn old_offline_proxies_are_forgotten() {
    let now = Local::now();
    let stats = Stats::new(true);
    let mut book = stats.book().unwrap();
    for (name, days) in [("old", 6), ("older", 8)] {
        let proxy = Arc::new(ProxyStats::new(name.into(), "tcp", Arc::default()));
        book.open(&proxy, owner(), Spec::default(), now - TimeDelta::days(9));
        book.close(&proxy, now - TimeDelta::days(days));
    }
    assert_eq!(book.prune(OFFLINE_AGE, now).cleared, 1);
    assert!(book.entries.contains_key("old"));
}

#[test]
fn the_proxy_that_closed_first_makes_room() {
    let now = Local::now();
    let stats = Stats::new(true);
    let mut book = stats.book().unwrap();
    for n in 0..MAX_ENTRIES + 2 {
        let proxy = Arc::new(ProxyStats::new(n.to_string().into(), "tcp", Arc::default()));
        book.open(&proxy, owner(), Spec::default(), now);
        if n < 10 {
            let later = TimeDelta::seconds(i64::from(n != 5));
            book.close(&proxy, now + later);
        }
    }
    assert_eq!(book.entries.len(), MAX_ENTRIES);
    assert!(!book.entries.contains_key("5") && book.entries.contains_key("10"));
    assert!(book.series.len() <= MAX_ENTRIES + 1);
}
