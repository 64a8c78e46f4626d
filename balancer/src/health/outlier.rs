//! Which members fail so much that others should have their requests (balancing.md §3.2).

use crate::config::OutlierConfig;
use crate::health::Cause;

/// Members below which a deviation says nothing: the worst of n can be at most sqrt(n - 1) deviations away.
const MIN_MEMBERS: usize = 5;
/// Requests in the window below which a member does not take part in the comparison.
const MIN_VOLUME: u64 = 100;

/// How many of `members` may be ejected at a time; never all of them.
pub(crate) fn limit(members: usize, max_percent: u32) -> usize {
    let share = members * max_percent as usize / 100;
    share.max(1).min(members.saturating_sub(1))
}

/// Members to eject by their window's successes and failures, the worst first.
pub(crate) fn sweep(windows: &[(u64, u64)], c: &OutlierConfig) -> Vec<(usize, Cause)> {
    let rate = |(ok, failed): (u64, u64)| 100.0 * ok as f64 / (ok + failed) as f64;
    let compared: Vec<f64> = windows
        .iter()
        .filter(|(ok, failed)| ok + failed >= MIN_VOLUME)
        .map(|w| rate(*w))
        .collect();
    let threshold = (c.stdev_factor > 0.0 && compared.len() >= MIN_MEMBERS)
        .then(|| deviation_threshold(&compared, c.stdev_factor));
    let mut found: Vec<(usize, Cause)> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let (ok, failed) = *window;
        let volume = ok + failed;
        let many = c.failure_percent > 0
            && windows.len() >= 2
            && volume >= u64::from(c.min_requests.max(1))
            && failed * 100 >= volume * u64::from(c.failure_percent);
        if many {
            found.push((i, Cause::FailureRate));
        } else if volume >= MIN_VOLUME && threshold.is_some_and(|t| rate(*window) < t) {
            found.push((i, Cause::Deviation));
        }
    }
    found.sort_by(|a, b| rate(windows[a.0]).total_cmp(&rate(windows[b.0])));
    found
}

/// The success rate, in percent, below which a member stands out.
fn deviation_threshold(rates: &[f64], factor: f64) -> f64 {
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n;
    mean - factor * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_specification() {
        for (members, expected) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
            assert_eq!(limit(members, 50), expected, "{members}");
        }
        assert_eq!(limit(10, 100), 9);
        assert_eq!(limit(0, 50), 0);
    }

    #[test]
    fn the_deviation_of_the_specification() {
        let rates = [50.0, 100.0, 100.0, 100.0, 100.0];
        assert!((deviation_threshold(&rates, 1.9) - 52.0).abs() < 1e-9);
    }

    #[test]
    fn rules_and_their_minimum_volumes() {
        let c = OutlierConfig::default();
        assert!(sweep(&[(0, 19), (100, 0)], &c).is_empty());
        assert_eq!(sweep(&[(10, 10), (100, 0)], &c), [(0, Cause::FailureRate)]);
        // A lone member has nobody to be compared with.
        assert!(sweep(&[(0, 100)], &c).is_empty());
        let four_good = [(100, 0); 4];
        let with = |bad| [&four_good[..], &[bad]].concat();
        assert_eq!(sweep(&with((60, 40)), &c), [(4, Cause::Deviation)]);
        assert!(sweep(&with((59, 40)), &c).is_empty());
        let worst_first = sweep(&[(5, 15), (10, 10), (1, 30), (50, 0)], &c);
        assert_eq!(
            worst_first.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
            [2, 0, 1]
        );
        let off = OutlierConfig {
            failure_percent: 0,
            stdev_factor: 0.0,
            ..c
        };
        assert!(sweep(&with((0, 1_000)), &off).is_empty());
    }
}
