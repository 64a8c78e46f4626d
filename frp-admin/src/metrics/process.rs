//! What Linux says of this process, under the names that Prometheus's libraries use.

use std::fs;

use super::{Kind, Metrics};

pub(super) fn add(metrics: &mut Metrics) {
    let mut add = |kind, name: &str, help: &str, number: Option<f64>| {
        let sample = number.map(|number| ([], number));
        metrics.add(kind, &format!("process_{name}"), help, [], sample);
    };
    let stat = Stat::read();
    let stat = |field: fn(&Stat) -> f64| stat.as_ref().map(field);
    add(
        Kind::Counter,
        "cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        stat(|s| s.cpu_seconds),
    );
    add(
        Kind::Gauge,
        "max_fds",
        "Maximum number of open file descriptors.",
        limit("Max open files"),
    );
    add(
        Kind::Gauge,
        "open_fds",
        "Number of open file descriptors.",
        // The directory itself is open while it is read.
        fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| float(fds.count().saturating_sub(1))),
    );
    add(
        Kind::Gauge,
        "resident_memory_bytes",
        "Resident memory size in bytes.",
        stat(|s| s.resident_bytes),
    );
    add(
        Kind::Gauge,
        "start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        stat(|s| s.start_seconds),
    );
    add(
        Kind::Gauge,
        "virtual_memory_bytes",
        "Virtual memory size in bytes.",
        stat(|s| s.virtual_bytes),
    );
    add(
        Kind::Gauge,
        "virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        limit("Max address space"),
    );
}

/// What of `/proc/self/stat` is shown.
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in brackets may hold anything; what follows begins with field 3.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |n: usize| fields.get(n - 3)?.trim().parse::<f64>().ok();
        let ticks = float(rustix::param::clock_ticks_per_second());
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: boot.trim().parse::<f64>().ok()? + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * float(rustix::param::page_size()),
        })
    }
}

/// A soft limit; without one, the greatest number there is.
fn limit(name: &str) -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(float(u64::MAX)),
        number => number.parse().ok(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows no other numbers"
)]
fn float<T: TryInto<u64>>(n: T) -> f64 {
    n.try_into().unwrap_or(u64::MAX) as f64
}
