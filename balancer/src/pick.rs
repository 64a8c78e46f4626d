//! Choosing among the members of one tier (balancing.md §2).

pub(crate) mod alias;
pub(crate) mod ewma;
pub(crate) mod hash;
pub(crate) mod wrr;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Random;
use crate::config::{GroupConfig, Strategy};
use crate::member::{Member, MemberKey};
use alias::Alias;
use hash::Hash;

/// Members up to which all are looked at.
const SCAN: usize = 16;
/// Members looked at, whatever the configuration says.
const MAX_CHOICES: usize = 64;
/// A smaller latency is no better: it is within a network's noise.
const MIN_COST_MS: f32 = 0.05;

/// Members that serve alike.
#[derive(Debug)]
pub(crate) struct Tier<E> {
    pub(crate) slots: Box<[Slot<E>]>,
    equal: bool,
    /// Sum of the weights.
    sum: u64,
    table: Table,
    alias: Option<Alias>,
}

#[derive(Debug)]
pub(crate) struct Slot<E> {
    pub(crate) member: Arc<Member<E>>,
    /// Effective, in thousandths, above 0.
    pub(crate) weight: u32,
    /// Requests and streams at a time; 0 = any number.
    pub(crate) max: u32,
}

#[derive(Debug)]
enum Table {
    None,
    Turns(Vec<u32>),
    Hash(Hash),
}

/// What one pick goes by.
pub(crate) struct Choice<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) tick: u64,
    /// Turns taken in the group.
    pub(crate) turns: &'a AtomicUsize,
    /// Added to the turns while all weights are equal.
    pub(crate) shift: usize,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) tried: &'a [MemberKey],
}

impl<E> Tier<E> {
    /// `slots` in the order of joining.
    pub(crate) fn new(slots: Vec<Slot<E>>, config: &GroupConfig) -> Self {
        let weights: Vec<u32> = slots.iter().map(|s| s.weight).collect();
        let equal = weights.windows(2).all(|w| w[0] == w[1]);
        let table = match config.strategy {
            Strategy::RoundRobin if !slots.is_empty() => Table::Turns(wrr::table(&weights)),
            Strategy::Hash if !slots.is_empty() => {
                let members: Vec<(&str, u32)> =
                    slots.iter().map(|s| (&*s.member.id, s.weight)).collect();
                Table::Hash(Hash::new(
                    config.hash.algorithm,
                    config.hash.table_size,
                    &reduced(members),
                ))
            }
            _ => Table::None,
        };
        let draws = match config.strategy {
            Strategy::Random => true,
            Strategy::LeastRequest | Strategy::Ewma | Strategy::Hash => slots.len() > SCAN,
            _ => false,
        };
        let alias = (draws && !equal).then(|| {
            let weights: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
            Alias::new(&weights)
        });
        Self {
            equal,
            sum: weights.iter().map(|w| u64::from(*w)).sum(),
            slots: slots.into(),
            table,
            alias,
        }
    }

    /// The slot of the member that is to be used; `None` when none can be.
    pub(crate) fn choose(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        let i = match &self.slots[..] {
            [] => return None,
            [_] => 0,
            _ => match (c.config.strategy, &self.table) {
                (Strategy::RoundRobin, Table::Turns(table)) => self.turn(table, c),
                (Strategy::Hash, Table::Hash(hash)) if c.key.is_some() => {
                    return self.by_key(hash, c.key.unwrap_or_default(), c);
                }
                (Strategy::First, _) => return self.slots.iter().find(|s| s.usable(c.tried)),
                (Strategy::Ewma, _) => return self.by_cost(c, random),
                (Strategy::LeastRequest | Strategy::Hash, _) => return self.by_load(c, random),
                _ => self.draw(random),
            },
        };
        if self.slots[i].usable(c.tried) {
            return Some(&self.slots[i]);
        }
        self.any(c, random)
    }

    fn turn(&self, table: &[u32], c: &Choice<'_>) -> usize {
        // Relaxed: the counter orders nothing but itself.
        let turn = c.turns.fetch_add(1, Ordering::Relaxed);
        let shift = if self.equal { c.shift } else { 0 };
        table[turn.wrapping_add(shift) % table.len()] as usize
    }

    fn draw(&self, random: &mut Random) -> usize {
        match &self.alias {
            Some(alias) => alias.draw(random),
            None => random.below(self.slots.len()),
        }
    }

    /// A random usable one, by weight: the next in turn would get all of its neighbour's load.
    fn any(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        let mut tie = Tie::default();
        for (i, slot) in self.slots.iter().enumerate() {
            if slot.usable(c.tried) {
                tie.offer(i, slot.weight, random);
            }
        }
        tie.chosen.map(|i| &self.slots[i])
    }

    fn by_key(&self, hash: &Hash, key: &[u8], c: &Choice<'_>) -> Option<&Slot<E>> {
        let factor = c.config.hash.bounded_load;
        let active: u64 = if factor > 0.0 {
            self.slots.iter().map(|s| s.member.open()).sum()
        } else {
            0
        };
        let usable = |i: usize| {
            let slot = &self.slots[i];
            let fits = || {
                let weight = f64::from(slot.weight);
                slot.member.open() < hash::slots(active, factor, weight, self.sum as f64)
            };
            slot.usable(c.tried) && (factor <= 0.0 || fits())
        };
        hash.pick(key, usable).map(|i| &self.slots[i])
    }

    /// The least loaded for its weight (§2.3).
    fn by_load(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        let streams = (c.config.stream_weight() * 1_000.0) as u32;
        let mut best: Option<(u64, u32)> = None;
        let mut tie = Tie::default();
        self.candidates(c, random, |i, random| {
            let slot = &self.slots[i];
            let (load, weight) = (slot.member.load(streams), slot.weight);
            let order = best.map_or(std::cmp::Ordering::Less, |(top, top_weight)| {
                (load * u64::from(top_weight)).cmp(&(top * u64::from(weight)))
            });
            if order.is_lt() {
                best = Some((load, weight));
                tie = Tie::default();
            }
            if order.is_le() {
                tie.offer(i, weight, random);
            }
        });
        tie.chosen.map(|i| &self.slots[i])
    }

    /// The smallest product of latency and load (§2.4).
    fn by_cost(&self, c: &Choice<'_>, random: &mut Random) -> Option<&Slot<E>> {
        struct Seen {
            slot: usize,
            estimate: f32,
            measured: bool,
            load: f32,
        }
        const NONE: Seen = Seen {
            slot: 0,
            estimate: 0.0,
            measured: false,
            load: 0.0,
        };
        let ewma = &c.config.ewma;
        let decay = ewma.decay.as_secs_f32() * 1e3;
        let streams = (c.config.stream_weight() * 1_000.0) as u32;
        let mean_weight = self.sum as f32 / self.slots.len() as f32;
        let mut seen = [NONE; MAX_CHOICES];
        let mut n = 0;
        self.candidates(c, random, |i, _| {
            let slot = &self.slots[i];
            if n == seen.len() || seen[..n].iter().any(|s| s.slot == i) {
                return;
            }
            let past = slot.member.hot.ewma.read(c.tick, decay);
            let load = slot.member.load(streams) as f32 / 1e3;
            seen[n] = Seen {
                slot: i,
                // Those who wait longer than others did are slow, though no sample says so yet.
                estimate: past.unwrap_or(0.0).max(slot.member.mean_age(c.tick)),
                measured: past.is_some(),
                load: load / (slot.weight as f32 / mean_weight),
            };
            n += 1;
        });
        let seen = &mut seen[..n];
        if seen.iter().any(|s| !s.measured) {
            let mut measured = [0.0; MAX_CHOICES];
            let mut m = 0;
            for s in seen.iter().filter(|s| s.measured) {
                measured[m] = s.estimate;
                m += 1;
            }
            measured[..m].sort_unstable_by(f32::total_cmp);
            let guess = if m == 0 {
                ewma.default_rtt.as_secs_f32() * 1e3
            } else {
                measured[m / 2]
            };
            for s in seen.iter_mut().filter(|s| !s.measured) {
                s.estimate = s.estimate.max(guess);
            }
        }
        let cost = |s: &Seen| s.estimate.max(MIN_COST_MS) * (s.load + 1.0);
        let least = seen.iter().map(cost).fold(f32::INFINITY, f32::min);
        let limit = least * (1.0 + ewma.tolerance);
        let idlest = seen
            .iter()
            .filter(|s| cost(s) <= limit)
            .map(|s| s.load)
            .fold(f32::INFINITY, f32::min);
        let mut tie = Tie::default();
        for s in seen.iter().filter(|s| cost(s) <= limit && s.load <= idlest) {
            tie.offer(s.slot, self.slots[s.slot].weight, random);
        }
        tie.chosen.map(|i| &self.slots[i])
    }

    /// Shows `look` every usable member of a small tier, or a sample of a large one. A sample may show one twice.
    fn candidates(
        &self,
        c: &Choice<'_>,
        random: &mut Random,
        mut look: impl FnMut(usize, &mut Random),
    ) {
        if self.slots.len() > SCAN {
            let mut any = false;
            for _ in 0..(c.config.choices as usize).clamp(1, MAX_CHOICES) {
                let i = self.draw(random);
                if self.slots[i].usable(c.tried) {
                    any = true;
                    look(i, random);
                }
            }
            if any {
                return;
            }
        }
        for i in 0..self.slots.len() {
            if self.slots[i].usable(c.tried) {
                look(i, random);
            }
        }
    }
}

impl<E> Slot<E> {
    fn usable(&self, tried: &[MemberKey]) -> bool {
        !tried.contains(&self.member.key) && !self.is_full()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.max > 0 && self.member.open() >= u64::from(self.max)
    }
}

/// A weighted draw among those offered so far.
#[derive(Default)]
struct Tie {
    sum: u64,
    chosen: Option<usize>,
}

impl Tie {
    fn offer(&mut self, i: usize, weight: u32, random: &mut Random) {
        self.sum += u64::from(weight);
        // The first needs no draw, and most often there is no second.
        if self.chosen.is_none() || random.below(self.sum as usize) < weight as usize {
            self.chosen = Some(i);
        }
    }
}

/// Whole weights where all are whole: tables of hashes are built from the numbers people wrote.
fn reduced(mut members: Vec<(&str, u32)>) -> Vec<(&str, u32)> {
    if members.iter().all(|(_, w)| w % 1_000 == 0) {
        for (_, weight) in &mut members {
            *weight /= 1_000;
        }
    }
    members
}
