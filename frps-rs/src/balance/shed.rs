//! Users move to members that have joined (balancing.md §7): of those who have more than their share the oldest connections
//! end, a few a second, and whoever was there comes back to another one.

use std::time::{Duration, Instant};

/// Connections are not saved up for longer.
const BURST: Duration = Duration::from_secs(1);

/// An order to shed, while it is carried out.
#[derive(Debug)]
pub(super) struct Shedding {
    /// Of the group's connections, a second.
    pub(super) percent: f64,
    /// Connections that may be ended now.
    credit: f64,
    last: Instant,
    /// How many have been ended.
    pub(super) ended: u64,
}

/// What a member has, and what it is worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) open: u32,
    pub(super) weight: f32,
}

impl Shedding {
    pub(super) fn new(now: Instant, percent: f64) -> Self {
        Self {
            percent,
            credit: 0.0,
            last: now,
            ended: 0,
        }
    }

    /// Which members lose a connection now, each as often as it is named; `None`: nobody has more than his share.
    pub(super) fn due(&mut self, now: Instant, loads: &mut [Load]) -> Option<Vec<usize>> {
        let passed = now.saturating_duration_since(self.last).min(BURST);
        self.last = now;
        let total: f64 = loads.iter().map(|load| f64::from(load.open)).sum();
        self.credit += total * self.percent / 100.0 * passed.as_secs_f64();
        let mut due = Vec::new();
        let mut fullest = fullest(loads, total)?;
        while self.credit >= 1.0 {
            self.credit -= 1.0;
            loads[fullest].open -= 1;
            due.push(fullest);
            match self::fullest(loads, total) {
                Some(next) => fullest = next,
                None => break,
            }
        }
        self.ended += due.len() as u64;
        Some(due)
    }
}

/// Who is most above its share of `total`, if anybody is by a whole connection.
fn fullest(loads: &[Load], total: f64) -> Option<usize> {
    let weights: f64 = loads.iter().map(|load| f64::from(load.weight)).sum();
    let above = |load: &Load| f64::from(load.open) - total * f64::from(load.weight) / weights;
    let members = loads.iter().enumerate();
    let most = members.max_by(|(_, a), (_, b)| above(a).total_cmp(&above(b)))?;
    // Without weights there are no shares, and the comparison fails.
    (above(most.1) >= 1.0).then_some(most.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(of: &[(u32, f32)]) -> Vec<Load> {
        of.iter()
            .map(|&(open, weight)| Load { open, weight })
            .collect()
    }

    /// What members have after so many seconds.
    fn after(seconds: u64, percent: f64, of: &[(u32, f32)]) -> (Vec<u32>, bool) {
        let start = Instant::now();
        let mut shedding = Shedding::new(start, percent);
        let mut loads = loads(of);
        let mut going = true;
        for second in 1..=seconds {
            let due = shedding.due(start + Duration::from_secs(second), &mut loads);
            going = due.is_some();
            // Whoever is sent away comes back to the one with the least.
            for _ in due.unwrap_or_default() {
                let least = (0..loads.len()).min_by_key(|&at| loads[at].open);
                loads[least.unwrap()].open += 1;
            }
        }
        (loads.iter().map(|load| load.open).collect(), going)
    }

    #[test]
    fn a_newcomer_gets_its_share_and_no_more() {
        let before = [(1_000, 1.0), (1_000, 1.0), (0, 1.0)];
        assert_eq!(after(10, 0.5, &before).0, [950, 950, 100]);
        assert_eq!(after(200, 0.5, &before), (vec![667, 667, 666], false));
        // Few connections take longer than a second each.
        assert_eq!(after(19, 0.5, &[(10, 1.0), (0, 1.0)]).0, [10, 0]);
        assert_eq!(after(20, 0.5, &[(10, 1.0), (0, 1.0)]).0, [9, 1]);
    }

    #[test]
    fn shares_follow_weights() {
        assert_eq!(after(1_000, 0.5, &[(100, 3.0), (0, 1.0)]).0, [75, 25]);
        assert_eq!(fullest(&loads(&[(3, 0.0), (5, 1.0)]), 8.0), Some(0));
        assert_eq!(fullest(&loads(&[(3, 0.0), (5, 0.0)]), 8.0), None);
        assert_eq!(fullest(&[], 0.0), None);
    }

    #[test]
    fn a_pause_does_not_save_up() {
        let start = Instant::now();
        let mut shedding = Shedding::new(start, 0.5);
        let mut loads = loads(&[(1_000, 1.0), (0, 1.0)]);
        let due = shedding.due(start + Duration::from_secs(100), &mut loads);
        assert_eq!(due.unwrap().len(), 5);
    }
}
