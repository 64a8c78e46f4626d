//! Pauses between attempts (client.md §3.1). Time and randomness are passed in.

use std::time::Duration;

use tokio::time::Instant;

/// What a first failure is doubled from.
const BASE: Duration = Duration::from_secs(1);
const FACTOR: f64 = 2.0;
const JITTER: f64 = 0.1;
/// Cap of every loop but that of the first login.
const MAX: Duration = Duration::from_secs(20);
/// Cap of the first login's loop.
const FIRST_LOGIN_MAX: Duration = Duration::from_secs(10);
/// Fast retries in a row.
const FAST_COUNT: u32 = 3;
const FAST_DELAY: Duration = Duration::from_millis(200);
const FAST_JITTER: f64 = 0.5;
/// How long after a slow pause there are no further fast ones.
const FAST_WINDOW: Duration = Duration::from_secs(60);

/// Pauses that double up to a cap.
#[derive(Debug)]
pub(crate) struct Backoff {
    max: Duration,
    previous: Duration,
    fast: Option<FastRetry>,
}

/// Short pauses first, for what is likely to work again at once.
#[derive(Debug)]
struct FastRetry {
    failures: u32,
    window_end: Option<Instant>,
}

impl Backoff {
    /// Between login attempts; `first` = no login has succeeded yet.
    pub(crate) fn login(first: bool) -> Self {
        Self {
            max: if first { FIRST_LOGIN_MAX } else { MAX },
            previous: Duration::ZERO,
            fast: None,
        }
    }

    /// Between the ends of sessions and the logins that follow, from the second end on.
    pub(crate) fn session() -> Self {
        Self {
            max: MAX,
            previous: Duration::ZERO,
            // The first end, after which the login is immediate, counts.
            fast: Some(FastRetry {
                failures: 1,
                window_end: None,
            }),
        }
    }

    /// The pause after one more failure; `random` is uniform in [0, 1).
    pub(crate) fn pause(&mut self, now: Instant, random: f64) -> Duration {
        if let Some(fast) = &mut self.fast {
            fast.failures += 1;
            if fast.failures <= FAST_COUNT {
                self.previous = FAST_DELAY.mul_f64(1.0 + FAST_JITTER * random);
                return self.previous;
            }
            if fast.window_end.is_none_or(|end| now > end) {
                fast.window_end = Some(now + FAST_WINDOW);
                fast.failures = 0;
            }
        }
        let from = if self.previous.is_zero() {
            BASE
        } else {
            self.previous
        };
        self.previous = from.mul_f64(FACTOR * (1.0 + JITTER * random)).min(self.max);
        self.previous
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALMOST_ONE: f64 = 0.999_999;

    fn pauses(mut backoff: Backoff, random: f64, n: usize) -> Vec<u128> {
        let now = Instant::now();
        (0..n)
            .map(|_| backoff.pause(now, random).as_millis())
            .collect()
    }

    #[test]
    fn logins_double_from_two_seconds_to_the_cap() {
        let first = |random| pauses(Backoff::login(true), random, 5);
        assert_eq!(first(0.0), [2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(first(ALMOST_ONE), [2_199, 4_839, 10_000, 10_000, 10_000]);
        let again = |random| pauses(Backoff::login(false), random, 5);
        assert_eq!(again(0.0), [2_000, 4_000, 8_000, 16_000, 20_000]);
        assert_eq!(again(ALMOST_ONE), [2_199, 4_839, 10_647, 20_000, 20_000]);
    }

    #[test]
    fn sessions_that_die_at_once_get_fast_retries_then_double() {
        let session = |random| pauses(Backoff::session(), random, 13);
        assert_eq!(
            session(0.0),
            [
                200, 200, 400, 200, 200, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000
            ]
        );
        assert_eq!(session(ALMOST_ONE)[..4], [299, 299, 659, 299]);
    }

    #[test]
    fn fast_retries_come_back_when_the_window_is_over() {
        let mut backoff = Backoff::session();
        let start = Instant::now();
        for _ in 0..13 {
            backoff.pause(start, 0.0);
        }
        let later = start + FAST_WINDOW + Duration::from_millis(1);
        let pauses: Vec<_> = (0..5).map(|_| backoff.pause(later, 0.0)).collect();
        let millis = Duration::from_millis;
        assert_eq!(
            pauses,
            [
                millis(20_000),
                FAST_DELAY,
                FAST_DELAY,
                FAST_DELAY,
                millis(400)
            ]
        );
    }
}
