//! Peak EWMA of a member's latency (balancing.md §2.4): rises at once, falls with time, and reading it changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::millis;

/// No sample yet.
const EMPTY: u64 = u64::MAX;
/// Tries to store a sample that others store at the same time; one more or less changes little.
const TRIES: usize = 4;

/// An estimate in one word: milliseconds as `f32` in the high half, the tick of the last sample in the low half.
#[derive(Debug)]
pub(crate) struct Estimate(AtomicU64);

impl Estimate {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(EMPTY))
    }

    /// The estimate in milliseconds, decayed to `tick`; `None` without a sample. `decay` is the time constant in
    /// milliseconds.
    pub(crate) fn read(&self, tick: u64, decay: f32) -> Option<f32> {
        let (value, since) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(decayed(value, since, tick, decay))
    }

    /// Takes a latency of `sample` milliseconds.
    pub(crate) fn sample(&self, tick: u64, sample: f32, decay: f32) {
        let mut before = self.0.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let value = match unpack(before) {
                None => sample,
                Some((value, since)) => {
                    let past = factor(since, tick, decay);
                    if sample > value * past {
                        sample
                    } else {
                        value * past + sample * (1.0 - past)
                    }
                }
            };
            let after = pack(value, tick);
            match self
                .0
                .compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// Takes over what another endpoint of the same member had learnt.
    pub(crate) fn copy(&self, other: &Self) {
        self.0
            .store(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Rewrites an estimate that is so old that its tick could be read as one of the future.
    pub(crate) fn refresh(&self, tick: u64, decay: f32, older_than: u64) {
        let before = self.0.load(Ordering::Relaxed);
        if let Some((value, since)) = unpack(before)
            && age(since, tick) > older_than
        {
            let after = pack(decayed(value, since, tick, decay), tick);
            // A sample that came in between is as good.
            let _ = self
                .0
                .compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn pack(value: f32, tick: u64) -> u64 {
    u64::from(value.to_bits()) << 32 | tick & 0xffff_ffff
}

fn unpack(cell: u64) -> Option<(f32, u32)> {
    (cell != EMPTY).then(|| (f32::from_bits((cell >> 32) as u32), cell as u32))
}

/// Ticks from `since` to `tick`; the future has none.
fn age(since: u32, tick: u64) -> u64 {
    u64::try_from((tick as u32).wrapping_sub(since).cast_signed()).unwrap_or(0)
}

fn factor(since: u32, tick: u64, decay: f32) -> f32 {
    let age = millis(age(since, tick) as f64) as f32;
    (-age / decay).exp()
}

fn decayed(value: f32, since: u32, tick: u64, decay: f32) -> f32 {
    value * factor(since, tick, decay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ticks;
    use std::time::Duration;

    const DECAY: f32 = 10_000.0;

    fn at(seconds: f64) -> u64 {
        ticks(Duration::from_secs_f64(seconds))
    }

    #[track_caller]
    fn near(estimate: &Estimate, tick: u64, expected: f32) {
        let read = estimate.read(tick, DECAY).unwrap();
        assert!((read / expected - 1.0).abs() < 1e-3, "{read} != {expected}");
    }

    #[test]
    fn the_golden_values_of_the_specification() {
        let e = Estimate::new();
        assert_eq!(e.read(0, DECAY), None);
        e.sample(0, 100.0, DECAY);
        near(&e, 0, 100.0);
        e.sample(at(1.0), 20.0, DECAY);
        near(&e, at(1.0), 92.387);
        near(&e, at(1.5), 87.881);
        e.sample(at(1.5), 150.0, DECAY);
        near(&e, at(1.5), 150.0);
        near(&e, at(11.5), 55.182);
        near(&e, at(12.0), 52.491);
        e.sample(at(12.0), 1000.0, DECAY);
        near(&e, at(12.0 + 29.47), 52.491);
    }

    #[test]
    fn ticks_wrap_and_clocks_that_go_back_count_as_no_time() {
        let e = Estimate::new();
        let late = u64::from(u32::MAX) + 5;
        e.sample(u64::from(u32::MAX) - 5, 100.0, DECAY);
        near(&e, late, 100.0 * (-10.0 * 1.048_576 / DECAY).exp());
        near(&e, u64::from(u32::MAX) - 500, 100.0);
        e.refresh(late + 1_000_000, DECAY, 500_000);
        assert!(e.read(late + 1_000_000, DECAY).unwrap() < 1e-3);
    }
}
