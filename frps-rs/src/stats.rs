//! Statistics of proxies and of the server (server.md §12).
//!
//! Whoever sees something happen says so here: a client or proxy comes ([`Stats::client`], [`Stats::online`]) or a user
//! connection opens ([`ProxyStats::connection`]), each as a value whose drop says that it went; bytes pass
//! ([`ProxyStats::traffic_in`], [`ProxyStats::traffic_out`]). Connections and bytes cost a few atomic additions
//! and no lock: days are made from the totals by who reads them, and shortly after each midnight.

mod counted;
mod days;
mod history;
mod prometheus;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local, NaiveDate, TimeDelta, Timelike};
use frp_admin::Metrics;

use crate::proxy::spec::Spec;
pub(crate) use counted::{Counted, Tally};
use days::Days;
pub(crate) use days::History;
pub(crate) use history::Keeper;
use history::{Kept, Slots, Snapshot};

/// Proxies remembered at most; of those that are offline, the one closed longest ago makes room.
const MAX_ENTRIES: usize = 65_536;
/// How long an offline proxy is remembered.
const OFFLINE_AGE: TimeDelta = TimeDelta::days(7);
/// How often proxies older than that are looked for.
const PRUNE_PERIOD: TimeDelta = TimeDelta::hours(12);
/// How often the date is looked at, in case the clock was set.
const DATE_PERIOD: Duration = Duration::from_mins(1);

/// The proxy types, in the order in which errors name them.
pub(crate) const KINDS: [&str; 8] = [
    "tcp", "udp", "http", "https", "tcpmux", "stcp", "xtcp", "sudp",
];

/// The proxy type that a message names; `None` if there is no such type.
pub(crate) fn kind(proxy_type: &str) -> Option<&'static str> {
    let wanted = if proxy_type.is_empty() {
        "tcp"
    } else {
        proxy_type
    };
    KINDS.into_iter().find(|kind| *kind == wanted)
}

/// All statistics of one server.
#[derive(Clone)]
pub(crate) struct Stats(Arc<Inner>);

struct Inner {
    totals: Arc<Totals>,
    /// `None` when nobody will ask.
    book: Option<Mutex<Book>>,
}

/// Sums over all proxies.
#[derive(Default)]
struct Totals {
    clients: AtomicI64,
    connections: AtomicI64,
    traffic_in: AtomicU64,
    traffic_out: AtomicU64,
}

impl Totals {
    /// Bytes in and out.
    fn traffic(&self) -> (u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (load(&self.traffic_in), load(&self.traffic_out))
    }
}

/// A number that appears in `/metrics` once something has happened.
#[derive(Default)]
struct Counter {
    total: AtomicU64,
    seen: AtomicBool,
}

impl Counter {
    fn add(&self, n: u64) {
        self.total.fetch_add(n, Ordering::Relaxed);
        // Most often it is set already, and a load leaves the cache line shared.
        if !self.seen.load(Ordering::Relaxed) {
            self.seen.store(true, Ordering::Relaxed);
        }
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn seen(&self) -> Option<u64> {
        self.seen.load(Ordering::Relaxed).then(|| self.total())
    }
}

/// What is counted while a proxy works; one for all proxies that ever have this name and type.
pub(crate) struct ProxyStats {
    name: Arc<str>,
    kind: &'static str,
    connections: AtomicI64,
    connected: AtomicBool,
    traffic_in: Counter,
    traffic_out: Counter,
    totals: Arc<Totals>,
}

impl ProxyStats {
    fn new(name: Arc<str>, kind: &'static str, totals: Arc<Totals>) -> Self {
        Self {
            name,
            kind,
            connections: AtomicI64::default(),
            connected: AtomicBool::default(),
            traffic_in: Counter::default(),
            traffic_out: Counter::default(),
            totals,
        }
    }

    /// A user connection (for http: a connection to the service) that is open until the value is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        self.connected.store(true, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.totals.connections.fetch_add(1, Ordering::Relaxed);
        Connection(self.clone())
    }

    /// Bytes went from users to the service.
    pub(crate) fn traffic_in(&self, bytes: u64) {
        self.traffic_in.add(bytes);
        self.totals.traffic_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes went from the service to users.
    pub(crate) fn traffic_out(&self, bytes: u64) {
        self.traffic_out.add(bytes);
        self.totals.traffic_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes in and out.
    fn traffic(&self) -> (u64, u64) {
        (self.traffic_in.total(), self.traffic_out.total())
    }
}

/// See [`ProxyStats::connection`].
pub(crate) struct Connection(Arc<ProxyStats>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.totals.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that is logged in until the value is dropped.
pub(crate) struct Client(Arc<Totals>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A proxy that is registered until the value is dropped.
pub(crate) struct Online {
    stats: Stats,
    proxy: Arc<ProxyStats>,
}

impl Drop for Online {
    fn drop(&mut self) {
        if let Some(mut book) = self.stats.book() {
            book.close(&self.proxy, Local::now());
        }
    }
}

/// Whose a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: String,
    /// The configured client id, else the run id.
    pub(crate) client_id: String,
}

/// One proxy as it is known at one moment.
pub(crate) struct View {
    pub(crate) name: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) owner: Owner,
    pub(crate) connections: i64,
    pub(crate) traffic_in: History,
    pub(crate) traffic_out: History,
    pub(crate) started: DateTime<Local>,
    pub(crate) closed: Option<DateTime<Local>>,
    /// `None` = offline.
    pub(crate) online: Option<Arc<Spec>>,
}

/// The server as a whole at one moment.
pub(crate) struct Summary {
    pub(crate) clients: i64,
    pub(crate) connections: i64,
    /// Of today.
    pub(crate) traffic_in: u64,
    pub(crate) traffic_out: u64,
    /// Registered proxies of each type that ever had one.
    pub(crate) kinds: BTreeMap<&'static str, i64>,
}

/// How many entries a prune removed, and of how many.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) cleared: usize,
    pub(crate) total: usize,
}

impl Stats {
    /// `kept`: whether anything is to be remembered, because somebody may ask.
    pub(crate) fn new(kept: bool) -> Self {
        Self(Arc::new(Inner {
            totals: Arc::default(),
            book: kept.then(|| Mutex::new(Book::new(Local::now().date_naive()))),
        }))
    }

    /// A client has logged in.
    pub(crate) fn client(&self) -> Client {
        self.0.totals.clients.fetch_add(1, Ordering::Relaxed);
        Client(self.0.totals.clone())
    }

    /// What a proxy that is about to start counts with. `kind` is one of [`KINDS`].
    pub(crate) fn proxy(&self, name: &Arc<str>, kind: &'static str) -> Arc<ProxyStats> {
        let known = self.book().and_then(|book| book.known(name, kind));
        known.unwrap_or_else(|| {
            let totals = self.0.totals.clone();
            Arc::new(ProxyStats::new(name.clone(), kind, totals))
        })
    }

    /// The proxy has started. `known` says what somebody may ask for.
    pub(crate) fn online(
        &self,
        proxy: &Arc<ProxyStats>,
        known: impl FnOnce() -> (Owner, Spec),
    ) -> Online {
        if let Some(mut book) = self.book() {
            let (owner, spec) = known();
            book.open(proxy, owner, spec, Local::now());
        }
        Online {
            stats: self.clone(),
            proxy: proxy.clone(),
        }
    }

    /// All proxies, by name.
    pub(crate) fn proxies(&self) -> Vec<View> {
        let today = Local::now().date_naive();
        let views = |mut book: MutexGuard<'_, Book>| {
            let entries = book.entries.values_mut();
            entries.map(|entry| entry.view(today)).collect()
        };
        self.book().map(views).unwrap_or_default()
    }

    /// One proxy.
    pub(crate) fn find(&self, name: &str) -> Option<View> {
        let mut book = self.book()?;
        let entry = book.entries.get_mut(name)?;
        Some(entry.view(Local::now().date_naive()))
    }

    /// Sums.
    pub(crate) fn summary(&self) -> Summary {
        let totals = &self.0.totals;
        let mut summary = Summary {
            clients: totals.clients.load(Ordering::Relaxed),
            connections: totals.connections.load(Ordering::Relaxed),
            traffic_in: 0,
            traffic_out: 0,
            kinds: BTreeMap::new(),
        };
        if let Some(mut book) = self.book() {
            book.traffic
                .update(Local::now().date_naive(), self.0.totals.traffic());
            summary.traffic_in = book.traffic.incoming.slots()[0];
            summary.traffic_out = book.traffic.outgoing.slots()[0];
            summary.kinds.clone_from(&book.kinds);
        }
        summary
    }

    /// Forgets the proxies that are offline.
    pub(crate) fn prune(&self) -> Pruned {
        let prune = |mut book: MutexGuard<'_, Book>| book.prune(TimeDelta::zero(), Local::now());
        self.book().map_or(
            Pruned {
                cleared: 0,
                total: 0,
            },
            prune,
        )
    }

    /// What outlives the program; `None` when nothing is remembered.
    fn snapshot(&self) -> Option<Snapshot> {
        let mut book = self.book()?;
        let now = Local::now();
        book.update(now.date_naive(), &self.0.totals);
        let kept = book.entries.values().map(|entry| Kept {
            name: entry.proxy.name.to_string(),
            kind: entry.proxy.kind.into(),
            user: entry.owner.user.clone(),
            client_id: entry.owner.client_id.clone(),
            traffic: entry.traffic.slots(),
            started: entry.started.timestamp(),
            closed: entry.closed.map(|closed| closed.timestamp()),
        });
        let (day, saved) = (now.date_naive(), now.timestamp());
        let kept = kept.collect();
        Some(Snapshot::new(day, saved, book.traffic.slots(), kept))
    }

    /// Begins with what an earlier run has left; its proxies are offline.
    fn restore(&self, snapshot: &Snapshot) {
        let Some(mut book) = self.book() else {
            return;
        };
        book.traffic = Traffic::restored(snapshot.day, snapshot.traffic);
        for kept in snapshot.proxies.iter().take(MAX_ENTRIES) {
            let Some(kind) = kind(&kept.kind) else {
                continue;
            };
            let name: Arc<str> = kept.name.as_str().into();
            let proxy = ProxyStats::new(name.clone(), kind, self.0.totals.clone());
            // One that was online ended with the program, which is not later than it was saved.
            let closed = match kept.closed {
                Some(closed) if closed >= kept.started => closed,
                _ => snapshot.saved,
            };
            let entry = Entry {
                proxy: Arc::new(proxy),
                owner: Owner {
                    user: kept.user.clone(),
                    client_id: kept.client_id.clone(),
                },
                traffic: Traffic::restored(snapshot.day, kept.traffic),
                started: local_time(kept.started),
                closed: Some(local_time(closed)),
                online: None,
            };
            book.entries.insert(name, entry);
        }
    }

    /// Adds the series of server.md §12.2.
    pub(crate) fn add_to(&self, metrics: &mut Metrics) {
        let clients = self.0.totals.clients.load(Ordering::Relaxed);
        if let Some(book) = self.book() {
            prometheus::add(metrics, clients, &book);
        }
    }

    /// Ends days at midnight and forgets proxies that are offline for long. Runs until dropped.
    pub(crate) async fn maintain(&self) {
        let mut date = Local::now().date_naive();
        let mut pruned = Local::now();
        loop {
            let now = Local::now();
            let midnight = 86_400_u64.saturating_sub(now.num_seconds_from_midnight().into());
            tokio::time::sleep(DATE_PERIOD.min(Duration::from_secs(midnight))).await;
            let now = Local::now();
            let Some(mut book) = self.book() else {
                return std::future::pending().await;
            };
            if now.date_naive() != date {
                date = now.date_naive();
                book.update(date, &self.0.totals);
            }
            if now - pruned >= PRUNE_PERIOD {
                pruned = now;
                let Pruned { cleared, total } = book.prune(OFFLINE_AGE, now);
                tracing::debug!("cleared [{cleared}] offline proxies, total [{total}] proxies");
            }
        }
    }

    fn book(&self) -> Option<MutexGuard<'_, Book>> {
        let book = self.0.book.as_ref()?;
        // Counts that a panic elsewhere has left are still counts.
        Some(book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A Unix time on the clocks of this machine; times that it cannot say become the epoch.
fn local_time(seconds: i64) -> DateTime<Local> {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.with_timezone(&Local)
}

/// What is remembered of proxies.
struct Book {
    /// By name.
    entries: BTreeMap<Arc<str>, Entry>,
    /// By name and type; they stay when entries go, since a counter of Prometheus never starts anew.
    series: BTreeMap<(Arc<str>, &'static str), Series>,
    kinds: BTreeMap<&'static str, i64>,
    traffic: Traffic,
}

struct Series {
    proxy: Arc<ProxyStats>,
    /// How many proxies of this name and type there are now: replicas share one.
    registered: usize,
}

/// Both directions of [`Totals`] or of a proxy.
struct Traffic {
    incoming: Days,
    outgoing: Days,
}

impl Traffic {
    fn new(today: NaiveDate, (incoming, outgoing): (u64, u64)) -> Self {
        Self {
            incoming: Days::new(today, incoming),
            outgoing: Days::new(today, outgoing),
        }
    }

    /// As an earlier run has left it; nothing has been counted since.
    fn restored(day: NaiveDate, slots: Slots) -> Self {
        Self {
            incoming: Days::restored(day, slots.incoming),
            outgoing: Days::restored(day, slots.outgoing),
        }
    }

    fn slots(&self) -> Slots {
        Slots {
            incoming: self.incoming.slots(),
            outgoing: self.outgoing.slots(),
        }
    }

    fn update(&mut self, today: NaiveDate, (incoming, outgoing): (u64, u64)) {
        self.incoming.update(today, incoming);
        self.outgoing.update(today, outgoing);
    }
}

struct Entry {
    proxy: Arc<ProxyStats>,
    owner: Owner,
    traffic: Traffic,
    started: DateTime<Local>,
    closed: Option<DateTime<Local>>,
    online: Option<Arc<Spec>>,
}

impl Entry {
    fn view(&mut self, today: NaiveDate) -> View {
        self.traffic.update(today, self.proxy.traffic());
        View {
            name: self.proxy.name.clone(),
            kind: self.proxy.kind,
            owner: self.owner.clone(),
            connections: self.proxy.connections.load(Ordering::Relaxed),
            traffic_in: self.traffic.incoming.slots(),
            traffic_out: self.traffic.outgoing.slots(),
            started: self.started,
            closed: self.closed,
            online: self.online.clone(),
        }
    }
}

impl Book {
    fn new(today: NaiveDate) -> Self {
        Self {
            entries: BTreeMap::new(),
            series: BTreeMap::new(),
            kinds: BTreeMap::new(),
            traffic: Traffic::new(today, (0, 0)),
        }
    }

    /// What counts for this name and type already, in this run or, as history, an earlier one.
    fn known(&self, name: &Arc<str>, kind: &'static str) -> Option<Arc<ProxyStats>> {
        if let Some(series) = self.series.get(&(name.clone(), kind)) {
            return Some(series.proxy.clone());
        }
        let entry = self.entries.get(name);
        let entry = entry.filter(|entry| entry.proxy.kind == kind);
        entry.map(|entry| entry.proxy.clone())
    }

    fn open(&mut self, proxy: &Arc<ProxyStats>, owner: Owner, spec: Spec, now: DateTime<Local>) {
        self.make_room();
        *self.kinds.entry(proxy.kind).or_default() += 1;
        let series = self
            .series
            .entry((proxy.name.clone(), proxy.kind))
            .or_insert_with(|| Series {
                proxy: proxy.clone(),
                registered: 0,
            });
        series.proxy = proxy.clone();
        series.registered += 1;
        let known = self.entries.remove(&proxy.name);
        let known = known.filter(|entry| Arc::ptr_eq(&entry.proxy, proxy));
        let today = now.date_naive();
        let (traffic, closed) = known.map_or_else(
            || (Traffic::new(today, proxy.traffic()), None),
            |entry| (entry.traffic, entry.closed),
        );
        let entry = Entry {
            proxy: proxy.clone(),
            owner,
            traffic,
            started: now,
            closed,
            online: Some(Arc::new(spec)),
        };
        self.entries.insert(proxy.name.clone(), entry);
    }

    fn close(&mut self, proxy: &ProxyStats, now: DateTime<Local>) {
        *self.kinds.entry(proxy.kind).or_default() -= 1;
        if let Some(series) = self.series.get_mut(&(proxy.name.clone(), proxy.kind)) {
            series.registered = series.registered.saturating_sub(1);
            if series.registered > 0 {
                return;
            }
        }
        if let Some(entry) = self.entries.get_mut(&proxy.name) {
            entry.closed = Some(now);
            entry.online = None;
        }
    }

    fn update(&mut self, today: NaiveDate, totals: &Totals) {
        self.traffic.update(today, totals.traffic());
        for entry in self.entries.values_mut() {
            entry.traffic.update(today, entry.proxy.traffic());
        }
    }

    fn prune(&mut self, age: TimeDelta, now: DateTime<Local>) -> Pruned {
        let total = self.entries.len();
        self.entries.retain(|_, entry| {
            entry.online.is_some() || entry.closed.is_none_or(|closed| now - closed < age)
        });
        Pruned {
            cleared: total - self.entries.len(),
            total,
        }
    }

    /// Keeps both maps within [`MAX_ENTRIES`], not counting what is registered.
    fn make_room(&mut self) {
        if self.entries.len() >= MAX_ENTRIES {
            let offline = self.entries.values().filter(|entry| entry.online.is_none());
            let oldest = offline.min_by_key(|entry| entry.closed);
            if let Some(name) = oldest.map(|entry| entry.proxy.name.clone()) {
                self.entries.remove(&name);
            }
        }
        if self.series.len() >= MAX_ENTRIES {
            let entries = &self.entries;
            self.series
                .retain(|(name, _), series| series.registered > 0 || entries.contains_key(name));
        }
    }
}

#[cfg(test)]
mod tests;
