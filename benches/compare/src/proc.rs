//! What the system knows of a process: CPU time, resident memory, limits; and of the machine.
//!
//! CPU time is `utime + stime` of `/proc/PID/stat`: it counts threads that have ended, which the nanosecond counters
//! of `/proc/PID/task/*/schedstat` lose. Its grain is one tick (10 ms), so measured intervals should be seconds long.

use serde::Serialize;
use std::io;
use std::time::Duration;

/// CPU time, user and system, that process `pid` has used so far.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let ticks = parse_cpu_ticks(&read(pid, "stat")?).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second()))
}

/// Resident memory of process `pid` in KiB.
///
/// Taken from `smaps_rollup`, which walks the pages; the counter in `status` may lag by hundreds of KiB a CPU.
pub(crate) fn resident_kib(pid: u32) -> io::Result<u64> {
    let exact = read(pid, "smaps_rollup")
        .ok()
        .and_then(|t| parse_kib(&t, "Rss:"));
    match exact {
        Some(kib) => Ok(kib),
        None => parse_kib(&read(pid, "status")?, "VmRSS:")
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(target_os = "linux")]
fn read(pid: u32, file: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
}

#[cfg(not(target_os = "linux"))]
fn read(_pid: u32, _file: &str) -> io::Result<String> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "CPU time and memory of a process are read from /proc: this works on Linux only",
    ))
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    100
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name in field 2 may hold spaces and parentheses.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The number in a line `Key:   123 kB`.
fn parse_kib(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Raises the soft limit of open files to the hard one, which children inherit; returns what is now in force.
#[cfg(unix)]
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    };
    in_force.unwrap_or(u64::MAX)
}

/// Elsewhere the limit is left as it is and taken to be enough.
#[cfg(not(unix))]
pub(crate) fn raise_open_files() -> u64 {
    u64::MAX
}

/// The machine the figures are from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Logical CPUs this process may use.
    pub(crate) cores: usize,
    /// CPU model as the system names it.
    pub(crate) cpu: String,
    /// Operating system and kernel release.
    pub(crate) kernel: String,
    /// Physical memory in KiB; 0 when unknown.
    pub(crate) memory_kib: u64,
    /// Open files a process may have.
    pub(crate) open_files: u64,
    /// Load averages at the start: other work on the machine shows here.
    pub(crate) load_average: String,
}

impl Machine {
    /// Looks at this machine; what cannot be read is `unknown`.
    pub(crate) fn look(open_files: u64) -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let cpuinfo = text("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or_else(unknown, |(_, name)| name.trim().to_owned());
        let release = text("/proc/sys/kernel/osrelease");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu,
            kernel: format!("{} {}", std::env::consts::OS, release.trim()),
            memory_kib: parse_kib(&text("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            open_files,
            load_average: text("/proc/loadavg")
                .split_ascii_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_after_a_name_with_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 9 0 100 1 1";
        assert_eq!(parse_cpu_ticks(stat), Some(300));
        assert_eq!(parse_cpu_ticks("42 (cut) S 1 2"), None);
        assert_eq!(parse_cpu_ticks(""), None);
    }

    #[test]
    fn kib_lines() {
        let text = "Name:\tx\nVmRSS:\t   1234 kB\n";
        assert_eq!(parse_kib(text, "VmRSS:"), Some(1234));
        assert_eq!(parse_kib(text, "Rss:"), None);
        assert_eq!(parse_kib("Rss: many kB", "Rss:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reads_this_process() {
        let me = std::process::id();
        assert!(resident_kib(me).unwrap() > 100);
        cpu_time(me).unwrap();
    }
}
