//! Strategies that compare members: by load, and by load and latency (balancing.md §2.3, §2.4).

use super::{Choice, SCAN, Slot, Tier};
use crate::Random;
use crate::config::GroupConfig;

/// Members looked at, whatever the configuration says: they fit the bits of a word.
const MAX_CHOICES: usize = 64;
/// Members that most groups have, at most.
const FEW: usize = 4;
/// A smaller latency is no better: it is within a network's noise.
const MIN_COST_MS: f32 = 0.05;

impl<E> Tier<E> {
    /// The least loaded for its weight (§2.3).
    pub(super) fn by_load(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        match self.looked_at(c) {
            n if n <= FEW => self.least::<FEW>(c, random),
            n if n <= SCAN => self.least::<SCAN>(c, random),
            _ => self.least::<MAX_CHOICES>(c, random),
        }
    }

    /// The smallest product of latency and load (§2.4).
    pub(super) fn by_cost(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        match self.looked_at(c) {
            n if n <= FEW => self.cheapest::<FEW>(c, random),
            n if n <= SCAN => self.cheapest::<SCAN>(c, random),
            _ => self.cheapest::<MAX_CHOICES>(c, random),
        }
    }

    /// How many members are looked at, at most: short lists cost less.
    fn looked_at(&self, c: &Choice<'_>) -> usize {
        if self.slots.len() <= SCAN {
            self.slots.len()
        } else {
            c.config.choices as usize
        }
    }

    fn least<const N: usize>(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        let streams = (c.config.stream_weight() * 1_000.0) as u32;
        let mut seen = Seen::<N>::default();
        let mut loads = [u32::MAX; N];
        self.candidates::<N>(c, random, |i| {
            let load = self.slots[i].member.load(streams);
            loads[seen.add(i)] = u32::try_from(load).unwrap_or(u32::MAX);
        });
        let ties = if self.equal {
            smallest(&loads)
        } else {
            // Of two, without a division.
            let scaled = |load: usize, weight: usize| {
                u64::from(loads[load]) * u64::from(self.slots[seen.slots[weight]].weight)
            };
            let order = |a: usize, b: usize| scaled(a, b).cmp(&scaled(b, a));
            let best = (0..seen.n).min_by(|a, b| order(*a, *b))?;
            mask::<N>(|i| i < seen.n && order(i, best).is_eq())
        };
        self.one_of(&seen, ties, random)
    }

    fn cheapest<const N: usize>(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        let streams = c.config.stream_weight();
        let mean_weight = self.sum as f32 / self.slots.len() as f32;
        // In columns, for which processors have instructions. Rows beyond those seen have an infinite load, and cost.
        let mut seen = Seen::<N>::default();
        let (mut past, mut ages, mut floors) = ([0.0; N], [0.0; N], [0.0; N]);
        let mut loads = [f32::INFINITY; N];
        let mut unmeasured = false;
        // A small tier shows each once.
        let repeats = self.slots.len() > SCAN;
        self.candidates::<N>(c, random, |i| {
            if repeats && seen.slots[..seen.n].contains(&i) {
                return;
            }
            let Slot { member, weight, .. } = &self.slots[i];
            let row = seen.add(i);
            let known = member.hot.ewma.past(c.tick);
            unmeasured |= known.is_none();
            (past[row], ages[row]) = known.unwrap_or((f32::NAN, 0.0));
            floors[row] = member.hot.waiting.mean_age(c.tick);
            loads[row] = member.weighed(streams);
            if !self.equal {
                loads[row] *= mean_weight / *weight as f32;
            }
        });
        // Those who wait longer than others did are slow, though no sample says so yet.
        let mut latencies: [f32; N] =
            std::array::from_fn(|i| (past[i] * c.decay.factor(ages[i])).max(floors[i]));
        if unmeasured {
            guess(&mut latencies[..seen.n], &past[..seen.n], c.config);
        }
        let costs: [f32; N] =
            std::array::from_fn(|i| latencies[i].max(MIN_COST_MS) * (loads[i] + 1.0));
        let limit = least(&costs) * (1.0 + c.config.ewma.tolerance);
        let near: [f32; N] = std::array::from_fn(|i| {
            if costs[i] <= limit {
                loads[i]
            } else {
                f32::INFINITY
            }
        });
        let idlest = least(&near);
        let ties = mask::<N>(|i| near[i] <= idlest);
        self.one_of(&seen, ties, random)
    }

    /// One of those seen whose bits are set in `ties`, by weight.
    fn one_of<const N: usize>(
        &self,
        seen: &Seen<N>,
        ties: u64,
        random: &mut Random,
    ) -> Option<&Slot<E>> {
        // When nobody was seen all rows are alike.
        let mut ties = ties & low_bits(seen.n);
        let slot = |ties: u64| &self.slots[seen.slots[ties.trailing_zeros() as usize]];
        match ties.count_ones() as usize {
            0 => return None,
            1 => {}
            n if self.equal => {
                for _ in 0..random.below(n) {
                    ties &= ties - 1;
                }
            }
            _ => {
                let weight = |ties: u64| slot(ties).weight as usize;
                let (mut sum, mut rest) = (0, ties);
                while rest > 0 {
                    sum += weight(rest);
                    rest &= rest - 1;
                }
                let mut left = random.below(sum);
                while left >= weight(ties) {
                    left -= weight(ties);
                    ties &= ties - 1;
                }
            }
        }
        Some(slot(ties))
    }

    /// Shows `look` every usable member of a small tier, or a sample of a large one: `N` at most. A sample may show one twice.
    fn candidates<const N: usize>(
        &self,
        c: &Choice<'_>,
        random: &mut Random,
        mut look: impl FnMut(usize),
    ) {
        let all = self.slots.len();
        if all <= SCAN {
            (0..all)
                .filter(|i| self.slots[*i].usable(c.tried))
                .for_each(look);
            return;
        }
        let mut any = false;
        for _ in 0..(c.config.choices as usize).clamp(1, N) {
            let i = self.draw(random);
            if self.slots[i].usable(c.tried) {
                any = true;
                look(i);
            }
        }
        if !any {
            // Nearly all are full: the next ones after anybody that are not.
            let start = random.below(all);
            let round = (start..all).chain(0..start);
            let usable = round.filter(|i| self.slots[*i].usable(c.tried));
            usable.take(N).for_each(look);
        }
    }
}

/// Members that a pick has looked at.
struct Seen<const N: usize> {
    slots: [usize; N],
    n: usize,
}

impl<const N: usize> Default for Seen<N> {
    fn default() -> Self {
        Self {
            slots: [0; N],
            n: 0,
        }
    }
}

impl<const N: usize> Seen<N> {
    /// The row of the slot.
    fn add(&mut self, slot: usize) -> usize {
        self.slots[self.n] = slot;
        self.n += 1;
        self.n - 1
    }
}

/// The smallest of numbers that are not negative.
fn least(numbers: &[f32]) -> f32 {
    // Their bits have their order, and whole numbers may be compared in any order, thus several at once.
    let bits = numbers.iter().map(|n| n.to_bits());
    bits.min().map_or(f32::INFINITY, f32::from_bits)
}

/// A bit for each number that no other is smaller than.
fn smallest<const N: usize>(numbers: &[u32; N]) -> u64 {
    let least = numbers.iter().copied().min();
    mask::<N>(|i| Some(numbers[i]) == least)
}

fn mask<const N: usize>(set: impl Fn(usize) -> bool) -> u64 {
    (0..N).fold(0, |mask, i| mask | u64::from(set(i)) << i)
}

fn low_bits(n: usize) -> u64 {
    u64::MAX.checked_shr(64 - n as u32).unwrap_or(0)
}

/// Those that have not been measured are as fast as the median of the others. What is not a number in `past` has not.
fn guess(latencies: &mut [f32], past: &[f32], config: &GroupConfig) {
    let mut measured = [0.0; MAX_CHOICES];
    let mut n = 0;
    for (latency, _) in latencies.iter().zip(past).filter(|(_, p)| !p.is_nan()) {
        measured[n] = *latency;
        n += 1;
    }
    measured[..n].sort_unstable_by(f32::total_cmp);
    let guess = if n == 0 {
        config.ewma.default_rtt.as_secs_f32() * 1e3
    } else {
        measured[n / 2]
    };
    for (latency, _) in latencies.iter_mut().zip(past).filter(|(_, p)| p.is_nan()) {
        *latency = latency.max(guess);
    }
}
