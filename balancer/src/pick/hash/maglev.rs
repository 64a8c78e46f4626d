//! Maglev hashing (Eisenbud et al., NSDI 2016), weighted as Envoy does it.

use twox_hash::XxHash64;

/// Table entries per member at least: fewer would make shares uneven.
const MIN_PER_MEMBER: usize = 100;
/// Primes that replace a size which is too small for the members.
const PRIMES: [u32; 5] = [65_537, 131_071, 262_147, 524_287, 1_048_573];

/// A table entry that nobody has taken.
const FREE: u32 = u32::MAX;

/// A member while the table is built.
struct Turn {
    member: u32,
    weight: u64,
    /// What `weight` times the round has to reach for the next entry.
    target: u64,
    at: u64,
    skip: u64,
}

/// A table of members `0..n`.
#[derive(Debug)]
pub(crate) struct Maglev(Vec<u32>);

impl Maglev {
    /// `size` is a prime. Weights of 0 get no entry; one member at least has a weight.
    pub(crate) fn new(size: u32, members: &[(&str, u32)]) -> Self {
        let wanted = members.len() * MIN_PER_MEMBER;
        let size = if size as usize >= wanted {
            size
        } else {
            PRIMES
                .into_iter()
                .find(|p| *p as usize >= wanted)
                .unwrap_or(PRIMES[PRIMES.len() - 1])
        };
        Self::with_size(size, members)
    }

    fn with_size(size: u32, members: &[(&str, u32)]) -> Self {
        let m = u64::from(size);
        let mut sorted: Vec<usize> = (0..members.len()).filter(|i| members[*i].1 > 0).collect();
        sorted.sort_by_key(|i| members[*i].0);
        let heaviest = members
            .iter()
            .map(|(_, w)| u64::from(*w))
            .max()
            .unwrap_or(1);
        let mut turns: Vec<Turn> = sorted
            .into_iter()
            .map(|i| {
                let (id, weight) = members[i];
                Turn {
                    member: i as u32,
                    weight: u64::from(weight),
                    target: 0,
                    at: XxHash64::oneshot(0, id.as_bytes()) % m,
                    skip: XxHash64::oneshot(1, id.as_bytes()) % (m - 1) + 1,
                }
            })
            .collect();
        let mut table = vec![FREE; size as usize];
        let mut left = table.len();
        let mut round = 0;
        while left > 0 {
            round += 1;
            for turn in &mut turns {
                if left == 0 {
                    break;
                }
                if round * turn.weight < turn.target {
                    continue;
                }
                turn.target += heaviest;
                while table[turn.at as usize] != FREE {
                    turn.at = (turn.at + turn.skip) % m;
                }
                table[turn.at as usize] = turn.member;
                left -= 1;
            }
        }
        Self(table)
    }

    /// The member of a hash.
    pub(crate) fn at(&self, hash: u64) -> usize {
        self.0[(hash % self.0.len() as u64) as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(size: u32, ids: &[(String, u32)]) -> Vec<String> {
        let members: Vec<(&str, u32)> = ids.iter().map(|(id, w)| (id.as_str(), *w)).collect();
        Maglev::with_size(size, &members)
            .0
            .iter()
            .map(|i| ids[*i as usize].0.clone())
            .collect()
    }

    #[test]
    fn the_golden_tables_of_the_specification() {
        let ids: Vec<(String, u32)> = (90..96).map(|i| (i.to_string(), 1)).collect();
        assert_eq!(table(7, &ids).join(" "), "92 95 90 93 94 91 90");
        let ids: Vec<(String, u32)> = (90..96).map(|i| (format!("127.0.0.1:{i}"), 1)).collect();
        let ends: Vec<String> = table(7, &ids)
            .iter()
            .map(|id| id[10..].to_owned())
            .collect();
        assert_eq!(ends.join(" "), "92 94 90 91 95 90 93");
        let ids = [("127.0.0.1:90".into(), 1), ("127.0.0.1:91".into(), 2)];
        let ends: Vec<String> = table(17, &ids)
            .iter()
            .map(|id| id[11..].to_owned())
            .collect();
        assert_eq!(ends.join(" "), "1 0 0 1 0 1 1 0 1 1 1 1 1 0 1 0 1");
    }

    #[test]
    fn shares_are_even_and_large_groups_get_large_tables() {
        let ids: Vec<String> = (0..1_000).map(|i| format!("m{i}")).collect();
        let members: Vec<(&str, u32)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        let maglev = Maglev::new(65_537, &members);
        assert_eq!(maglev.0.len(), 131_071);
        let mut counts = vec![0_u32; 1_000];
        for i in &maglev.0 {
            counts[*i as usize] += 1;
        }
        let most = f64::from(*counts.iter().max().unwrap());
        assert!(most / 131.071 <= 1.01, "{most}");
    }
}
