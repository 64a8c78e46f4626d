//! A bucket of tokens that fills up within an hour. It is full at first.

use std::time::Duration;

use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

pub(super) struct Tokens {
    /// Between two tokens.
    period: Duration,
    /// From empty to one token missing.
    depth: Duration,
    /// When the bucket will be full, if nobody takes.
    full: Instant,
}

impl Tokens {
    /// A bucket for `capacity` tokens, at least one.
    pub(super) fn new(capacity: u32, now: Instant) -> Self {
        let period = HOUR / capacity.max(1);
        Self {
            period,
            depth: period * (capacity.max(1) - 1),
            full: now,
        }
    }

    /// Takes a token; says from when on it may be used.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        let full = self.full.max(now);
        self.full = full + self.period;
        // An instant before now: there was one.
        full.checked_sub(self.depth).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_then_one_at_a_time() {
        let start = Instant::now() + HOUR;
        let mut tokens = Tokens::new(8, start);
        for _ in 0..8 {
            assert_eq!(tokens.take(start), start);
        }
        let minutes = |n: f64| start + Duration::from_secs_f64(n * 60.0);
        assert_eq!(tokens.take(start), minutes(7.5));
        assert_eq!(tokens.take(minutes(7.5)), minutes(15.0));
        // Two have come meanwhile.
        assert_eq!(tokens.take(minutes(30.0)), minutes(30.0));
        assert_eq!(tokens.take(minutes(30.0)), minutes(30.0));
        assert_eq!(tokens.take(minutes(30.0)), minutes(37.5));
        let later = start + 10 * HOUR;
        for _ in 0..8 {
            assert_eq!(tokens.take(later), later);
        }
        assert!(tokens.take(later) > later);
    }
}
