//! Time as small integers: ticks of 2^20 ns since the group's start.

use std::time::{Duration, Instant};

/// Nanoseconds of a tick as a power of two.
const SHIFT: u32 = 20;

/// Turns instants into ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new(start: Instant) -> Self {
        Self(start)
    }

    /// Ticks since the start; 0 for what lies before it.
    pub(crate) fn tick(self, now: Instant) -> u64 {
        ticks(now.saturating_duration_since(self.0))
    }
}

/// A duration in whole ticks.
pub(crate) fn ticks(d: Duration) -> u64 {
    (d.as_nanos() >> SHIFT) as u64
}

/// Ticks in milliseconds.
pub(crate) fn millis(ticks: f64) -> f64 {
    ticks * f64::from(1_u32 << SHIFT) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_about_a_millisecond() {
        let start = Instant::now();
        let clock = Clock::new(start + Duration::from_secs(1));
        assert_eq!(clock.tick(start), 0);
        assert_eq!(clock.tick(start + Duration::from_secs(11)), 9_536);
        assert!((millis(9_536.0) - 10_000.0).abs() < 1.1);
    }
}
