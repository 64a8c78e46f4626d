//! The order of weighted round robin as a table (balancing.md §2.1): smooth, as nginx interleaves it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Members above which the table is built by deadlines instead: smooth selection looks at every member for every entry.
const MAX_SMOOTH: usize = 512;
/// Entries of a table, unless there are more members.
const MAX_TABLE: u64 = 4_096;

/// A round over members `0..n`, each in proportion to its weight; a weight of 0 has no turn.
pub(crate) fn table(weights: &[u32]) -> Vec<u32> {
    let weights = reduced(weights);
    let n = weights.len() as u32;
    if weights.iter().all(|w| *w == 1) {
        return (0..n).collect();
    }
    if weights.len() <= MAX_SMOOTH {
        smooth(&weights)
    } else {
        by_deadline(&weights)
    }
}

/// The same proportions with the smallest sum, which is bounded.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    let divisor = weights.iter().fold(0, |d, w| gcd(d, u64::from(*w))).max(1);
    let limit = MAX_TABLE.max(weights.len() as u64);
    weights
        .iter()
        .map(|w| match u64::from(*w) {
            0 => 0,
            w if sum / divisor <= limit => w / divisor,
            w => ((limit * w + sum / 2) / sum).max(1),
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn smooth(weights: &[u64]) -> Vec<u32> {
    let sum: i64 = weights.iter().map(|w| w.cast_signed()).sum();
    let mut current = vec![0_i64; weights.len()];
    (0..sum)
        .map(|_| {
            let mut best = 0;
            for (i, w) in weights.iter().enumerate() {
                current[i] += w.cast_signed();
                if current[i] > current[best] {
                    best = i;
                }
            }
            current[best] -= sum;
            best as u32
        })
        .collect()
}

/// Each member's turns at even distances, the earliest deadline first.
fn by_deadline(weights: &[u64]) -> Vec<u32> {
    let sum: u64 = weights.iter().sum();
    // Deadlines in units of 2^-32 rounds.
    let step = |w: u64| (1_u64 << 32) / w;
    let mut heap: BinaryHeap<Reverse<(u64, u32)>> = weights
        .iter()
        .enumerate()
        .filter(|(_, w)| **w > 0)
        .map(|(i, w)| Reverse((step(*w) / 2, i as u32)))
        .collect();
    let mut left = weights.to_vec();
    let mut table = Vec::with_capacity(sum as usize);
    while let Some(Reverse((deadline, i))) = heap.pop() {
        table.push(i);
        let i_left = &mut left[i as usize];
        *i_left -= 1;
        if *i_left > 0 {
            heap.push(Reverse((deadline + step(weights[i as usize]), i)));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(weights: &[u32]) -> String {
        table(weights)
            .iter()
            .map(|i| (b'a' + *i as u8) as char)
            .collect()
    }

    #[test]
    fn the_golden_orders_of_the_specification() {
        assert_eq!(letters(&[5, 1, 1]), "aabacaa");
        assert_eq!(letters(&[3, 2, 1]), "abacba");
        assert_eq!(letters(&[4, 2, 1]), "abacaba");
        assert_eq!(letters(&[1, 1, 1]), "abc");
        assert_eq!(letters(&[20, 20]), "ab");
        assert_eq!(letters(&[2, 0, 2]), "ac");
    }

    #[test]
    fn tables_are_bounded_and_every_member_has_a_turn() {
        let table = table(&[1000, 999, 1, 997]);
        assert!(table.len() <= 4_100, "{}", table.len());
        assert!(table.contains(&2));
    }

    #[test]
    fn many_members_have_their_shares() {
        let weights: Vec<u32> = (0..1_000).map(|i| i % 4 + 1).collect();
        let table = table(&weights);
        let mut counts = vec![0_u32; weights.len()];
        for i in &table {
            counts[*i as usize] += 1;
        }
        assert_eq!(counts, weights);
        // A member of weight 4 never waits much longer than a quarter of a round.
        let turns: Vec<usize> = (0..table.len()).filter(|t| table[*t] == 3).collect();
        assert!(turns.windows(2).all(|w| w[1] - w[0] < table.len() / 3));
    }
}
