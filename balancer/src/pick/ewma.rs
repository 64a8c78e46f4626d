//! Peak EWMA of a member's latency (balancing.md §2.4): rises at once, falls with time, and reading it changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::millis;

/// No sample yet.
const EMPTY: u64 = u64::MAX;
/// Tries to store a sample that others store at the same time; one more or less changes little.
const TRIES: usize = 4;

/// How fast estimates fall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decay {
    /// Halvings a tick.
    rate: f32,
}

impl Decay {
    /// `time`: after it an estimate has fallen to 1/e.
    pub(crate) fn new(time: Duration) -> Self {
        let ticks_to_half = time.as_secs_f64() * 1e3 * std::f64::consts::LN_2 / millis(1.0);
        Self {
            rate: (1.0 / ticks_to_half) as f32,
        }
    }

    /// What is left of an estimate after `age` ticks: a power of two, within 0.001 %. No call and no branch, so that
    /// many are worked out at once.
    pub(crate) fn factor(self, age: f32) -> f32 {
        /// Adding it to a small number leaves the nearest whole one in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        /// Taylor's series of 2^x; x is within half of 0.
        const SERIES: [f32; 7] = [
            1.0,
            std::f32::consts::LN_2,
            0.240_226_5,
            0.055_504_11,
            0.009_618_129,
            0.001_333_355_8,
            0.000_154_035_3,
        ];
        let exponent = (age * -self.rate).max(-126.0);
        let whole = exponent + ROUND;
        let rest = exponent - (whole - ROUND);
        let power = SERIES.iter().rev().fold(0.0, |sum, c| sum * rest + c);
        f32::from_bits(power.to_bits().wrapping_add(whole.to_bits() << 23))
    }
}

/// An estimate in one word: milliseconds as `f32` in the high half, the tick of the last sample in the low half.
#[derive(Debug)]
pub(crate) struct Estimate(AtomicU64);

impl Estimate {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(EMPTY))
    }

    /// The estimate at its last sample in milliseconds, and the ticks since; `None` without a sample.
    pub(crate) fn past(&self, tick: u64) -> Option<(f32, f32)> {
        let (value, since) = unpack(self.0.load(Ordering::Relaxed))?;
        Some((value, age(since, tick) as f32))
    }

    /// The estimate in milliseconds, decayed to `tick`; `None` without a sample.
    pub(crate) fn read(&self, tick: u64, decay: Decay) -> Option<f32> {
        let (value, age) = self.past(tick)?;
        Some(value * decay.factor(age))
    }

    /// Takes a latency of `sample` milliseconds.
    pub(crate) fn sample(&self, tick: u64, sample: f32, decay: Decay) {
        let mut before = self.0.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let value = match unpack(before) {
                None => sample,
                Some((value, since)) => {
                    let past = decay.factor(age(since, tick) as f32);
                    if sample > value * past {
                        sample
                    } else {
                        value * past + sample * (1.0 - past)
                    }
                }
            };
            let after = pack(value, tick);
            if after == before {
                // Others have been measured in the same tick.
                return;
            }
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
    pub(crate) fn refresh(&self, tick: u64, decay: Decay, older_than: u64) {
        let before = self.0.load(Ordering::Relaxed);
        if let Some((value, since)) = unpack(before)
            && age(since, tick) > older_than
        {
            let left = decay.factor(age(since, tick) as f32);
            let after = pack(value * left, tick);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ticks;

    const DECAY: Duration = Duration::from_secs(10);

    fn decay() -> Decay {
        Decay::new(DECAY)
    }

    fn at(seconds: f64) -> u64 {
        ticks(Duration::from_secs_f64(seconds))
    }

    #[track_caller]
    fn near(estimate: &Estimate, tick: u64, expected: f32) {
        let read = estimate.read(tick, decay()).unwrap();
        assert!((read / expected - 1.0).abs() < 1e-3, "{read} != {expected}");
    }

    #[test]
    fn the_golden_values_of_the_specification() {
        let e = Estimate::new();
        assert_eq!(e.read(0, decay()), None);
        e.sample(0, 100.0, decay());
        near(&e, 0, 100.0);
        e.sample(at(1.0), 20.0, decay());
        near(&e, at(1.0), 92.387);
        near(&e, at(1.5), 87.881);
        e.sample(at(1.5), 150.0, decay());
        near(&e, at(1.5), 150.0);
        near(&e, at(11.5), 55.182);
        near(&e, at(12.0), 52.491);
        e.sample(at(12.0), 1000.0, decay());
        near(&e, at(12.0 + 29.47), 52.491);
    }

    #[test]
    fn powers_are_those_of_the_library() {
        for age in 0..200_000 {
            let exact = (-f64::from(age) * 1.048_576 / 10_000.0).exp();
            let factor = f64::from(decay().factor(age as f32));
            let off = (factor / exact - 1.0).abs();
            assert!(off < 1e-5, "{age}: {factor} != {exact}");
        }
        assert!(decay().factor(1e30) < 1e-37);
        assert!((decay().factor(0.0) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn ticks_wrap_and_clocks_that_go_back_count_as_no_time() {
        let e = Estimate::new();
        let late = u64::from(u32::MAX) + 5;
        e.sample(u64::from(u32::MAX) - 5, 100.0, decay());
        near(&e, late, 100.0 * (-10.0 * 1.048_576 / 10_000.0_f32).exp());
        near(&e, u64::from(u32::MAX) - 500, 100.0);
        e.refresh(late + 1_000_000, decay(), 500_000);
        assert!(e.read(late + 1_000_000, decay()).unwrap() < 1e-3);
    }
}
