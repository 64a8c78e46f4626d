//! Time, CPU time and memory between two moments, of a pair's programs and of this process.

use crate::error::Error;
use crate::proc;
use std::time::{Duration, Instant};

/// What an interval took.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spent {
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of each program of the pair, in the order they were started.
    pub(crate) cpu: Vec<f64>,
    /// Resident memory of each program at the end, KiB.
    pub(crate) resident_kib: Vec<u64>,
    /// CPU seconds of the load generator: this process.
    pub(crate) generator: f64,
}

/// A running interval.
pub(crate) struct Meter<'a> {
    pids: &'a [u32],
    cpu: Vec<Duration>,
    generator: Duration,
    since: Instant,
}

impl<'a> Meter<'a> {
    /// Begins an interval now.
    pub(crate) fn start(pids: &'a [u32]) -> Result<Self, Error> {
        Ok(Self {
            pids,
            cpu: read(pids)?,
            generator: proc::cpu_time(std::process::id())
                .map_err(Error::io("CPU time of this process"))?,
            since: Instant::now(),
        })
    }

    /// Ends it. A program that has ended meanwhile is an error: the load was not carried by it.
    pub(crate) fn stop(self) -> Result<Spent, Error> {
        let seconds = self.since.elapsed().as_secs_f64();
        let now = read(self.pids)?;
        let own =
            proc::cpu_time(std::process::id()).map_err(Error::io("CPU time of this process"))?;
        Ok(Spent {
            seconds,
            cpu: now
                .iter()
                .zip(&self.cpu)
                .map(|(now, then)| now.saturating_sub(*then).as_secs_f64())
                .collect(),
            resident_kib: resident_kib(self.pids)?,
            generator: own.saturating_sub(self.generator).as_secs_f64(),
        })
    }
}

fn read(pids: &[u32]) -> Result<Vec<Duration>, Error> {
    pids.iter()
        .map(|&pid| proc::cpu_time(pid).map_err(Error::io("CPU time of a program of the pair")))
        .collect()
}

/// Resident memory of each program, KiB.
pub(crate) fn resident_kib(pids: &[u32]) -> Result<Vec<u64>, Error> {
    pids.iter()
        .map(|&pid| proc::resident_kib(pid).map_err(Error::io("memory of a program of the pair")))
        .collect()
}
