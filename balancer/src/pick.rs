//! Choosing among the members of one tier (balancing.md §2).

pub(crate) mod alias;
mod compare;
pub(crate) mod ewma;
pub(crate) mod hash;
pub(crate) mod wrr;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Random;
use crate::config::{GroupConfig, Strategy};
use crate::member::{Member, MemberKey};
use alias::Alias;
use ewma::Decay;
use hash::Hash;

/// Members up to which all are looked at.
const SCAN: usize = 16;

/// Members that serve alike.
#[derive(Debug)]
pub(crate) struct Tier<E> {
    pub(crate) slots: Box<[Slot<E>]>,
    equal: bool,
    /// Sum of the weights.
    sum: u64,
    table: Table,
    alias: Option<Box<Alias>>,
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
    Turns(Box<[u32]>),
    Hash(Box<Hash>),
}

/// What one pick goes by.
pub(crate) struct Choice<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) decay: Decay,
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
            // One alone has all turns.
            Strategy::RoundRobin if slots.len() > 1 => Table::Turns(wrr::table(&weights).into()),
            Strategy::Hash if !slots.is_empty() => {
                let members: Vec<(&str, u32)> =
                    slots.iter().map(|s| (&*s.member.id, s.weight)).collect();
                Table::Hash(Box::new(Hash::new(
                    config.hash.algorithm,
                    config.hash.table_size,
                    &reduced(members),
                )))
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
            Box::new(Alias::new(&weights))
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
        let (mut sum, mut chosen) = (0, None);
        for slot in self.slots.iter().filter(|s| s.usable(c.tried)) {
            sum += slot.weight as usize;
            if random.below(sum) < slot.weight as usize {
                chosen = Some(slot);
            }
        }
        chosen
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
}

impl<E> Slot<E> {
    fn usable(&self, tried: &[MemberKey]) -> bool {
        !tried.contains(&self.member.key) && !self.is_full()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.max > 0 && self.member.open() >= u64::from(self.max)
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
