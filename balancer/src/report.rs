//! Weights by the load that members report of themselves (balancing.md §7), as gRPC's weighted round robin has them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::ticks;

/// Reports count once they have come for so long: a member that has just started is no measure.
const SETTLING: Duration = Duration::from_secs(10);
/// A member that has not reported for so long is one without reports.
const EXPIRY: Duration = Duration::from_mins(3);
/// Weights stay within this multiple of the configured one, up and down.
const SPREAD: f32 = 10.0;

/// What a member says of its load.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LoadReport {
    /// Share of what it can do that it does, as the application counts; above 1 = overloaded.
    pub application_utilization: f64,
    /// Share of its processors in use.
    pub cpu_utilization: f64,
    /// Requests a second.
    pub rps: f64,
    /// Errors a second.
    pub eps: f64,
}

impl LoadReport {
    /// Requests a second that it could serve; `None` if it does not say.
    fn capacity(&self) -> Option<f32> {
        let sound = |n: f64| (n.is_finite() && n > 0.0).then_some(n);
        let used = sound(self.application_utilization).or_else(|| sound(self.cpu_utilization))?;
        let rps = sound(self.rps)?;
        let errors = sound(self.eps).unwrap_or(0.0) / rps;
        Some((rps / (used + errors)) as f32).filter(|capacity| capacity.is_finite())
    }
}

/// The latest of a member's reports.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Option<Box<Latest>>>);

#[derive(Debug, Clone, Copy)]
struct Latest {
    since: u64,
    last: u64,
    capacity: f32,
}

impl Reports {
    pub(crate) fn take(&self, tick: u64, report: &LoadReport) {
        let Some(capacity) = report.capacity() else {
            return;
        };
        // The value is replaced as a whole.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match &*latest {
            Some(before) if tick.saturating_sub(before.last) < ticks(EXPIRY) => before.since,
            _ => tick,
        };
        let report = Latest {
            since,
            last: tick,
            capacity,
        };
        match &mut *latest {
            Some(place) => **place = report,
            None => *latest = Some(Box::new(report)),
        }
    }

    /// What the member could serve, if it has said so for long enough and lately.
    pub(crate) fn capacity(&self, tick: u64) -> Option<f32> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = **latest.as_ref()?;
        let settled = tick.saturating_sub(latest.since) >= ticks(SETTLING);
        let fresh = tick.saturating_sub(latest.last) < ticks(EXPIRY);
        (settled && fresh).then_some(latest.capacity)
    }
}

/// Weights of members by what they report, beside what is configured; the mean stays. Members without a report get the
/// median. `None`: nobody has reported.
pub(crate) fn weights(members: &[(f32, Option<f32>)]) -> Option<Vec<f32>> {
    let mut known: Vec<f32> = members.iter().filter_map(|(_, c)| *c).collect();
    if known.is_empty() {
        return None;
    }
    known.sort_by(f32::total_cmp);
    let median = known[known.len() / 2];
    let capacities = || members.iter().map(|(_, c)| c.unwrap_or(median));
    let configured: f32 = members.iter().map(|(configured, _)| configured).sum();
    let scale = configured / capacities().sum::<f32>();
    let weights = members.iter().zip(capacities());
    let weights = weights.map(|((configured, _), capacity)| {
        let bounds = (configured / SPREAD, configured * SPREAD);
        (capacity * scale).clamp(bounds.0, bounds.1)
    });
    Some(weights.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(used: f64, rps: f64, eps: f64) -> LoadReport {
        LoadReport {
            cpu_utilization: used,
            rps,
            eps,
            ..LoadReport::default()
        }
    }

    #[test]
    fn capacity_is_what_is_done_over_what_is_used() {
        assert_eq!(report(0.5, 100.0, 0.0).capacity(), Some(200.0));
        // A tenth of the requests failed.
        assert_eq!(report(0.4, 100.0, 10.0).capacity(), Some(200.0));
        let both = LoadReport {
            application_utilization: 1.0,
            ..report(0.5, 100.0, 0.0)
        };
        assert_eq!(both.capacity(), Some(100.0));
        for nothing in [
            (0.0, 100.0),
            (0.5, 0.0),
            (f64::NAN, 1.0),
            (0.5, f64::INFINITY),
        ] {
            assert_eq!(report(nothing.0, nothing.1, 0.0).capacity(), None);
        }
    }

    #[test]
    fn reports_settle_and_expire() {
        let second = |n| ticks(Duration::from_secs(n));
        let reports = Reports::default();
        reports.take(0, &report(0.5, 10.0, 0.0));
        assert_eq!(reports.capacity(second(9)), None);
        assert_eq!(reports.capacity(second(11)), Some(20.0));
        assert_eq!(reports.capacity(second(181)), None);
        // Who comes back begins anew.
        reports.take(second(200), &report(0.5, 10.0, 0.0));
        assert_eq!(reports.capacity(second(201)), None);
    }

    #[test]
    fn the_mean_stays_and_extremes_are_cut() {
        assert_eq!(weights(&[(1.0, None), (1.0, None)]), None);
        let shared = weights(&[(1.0, Some(300.0)), (1.0, Some(100.0))]);
        assert_eq!(shared, Some(vec![1.5, 0.5]));
        let silent = weights(&[(2.0, Some(100.0)), (2.0, None), (2.0, Some(100.0))]);
        assert_eq!(silent, Some(vec![2.0, 2.0, 2.0]));
        let extreme = weights(&[(1.0, Some(1e6)), (1.0, Some(1.0))]).unwrap();
        assert!((extreme[1] - 0.1).abs() < 1e-6, "{extreme:?}");
    }
}
