//! Consistent hashing (balancing.md §2.6): a key keeps its member while members come and go.

mod maglev;
mod rendezvous;
mod ring;

use twox_hash::XxHash64;

pub(crate) use maglev::Maglev;
pub(crate) use ring::Ring;

use crate::config::HashAlgorithm;

/// Other places a table is asked for when the first member cannot be used.
const PROBES: u64 = 8;

/// Members `0..n` by key.
#[derive(Debug)]
pub(crate) struct Hash {
    members: Vec<rendezvous::Member>,
    table: Table,
}

#[derive(Debug)]
enum Table {
    None,
    Maglev(Maglev),
    Ring(Ring),
}

impl Hash {
    /// `size` is the size of a Maglev table, a prime; it counts only where it is large enough for the members.
    pub(crate) fn new(algorithm: HashAlgorithm, size: u32, members: &[(&str, u32)]) -> Self {
        Self {
            members: members
                .iter()
                .map(|(id, weight)| rendezvous::Member::new(id, *weight))
                .collect(),
            table: match algorithm {
                HashAlgorithm::Rendezvous => Table::None,
                HashAlgorithm::Maglev => Table::Maglev(Maglev::new(size, members)),
                HashAlgorithm::Ring => Table::Ring(Ring::new(members)),
            },
        }
    }

    /// The member of `key` among those that `usable` lets through.
    pub(crate) fn pick(&self, key: &[u8], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let first = match &self.table {
            Table::None => None,
            Table::Maglev(maglev) => (0..=PROBES)
                .map(|attempt| maglev.at(XxHash64::oneshot(attempt, key)))
                .find(|i| usable(*i)),
            Table::Ring(ring) => ring
                .walk(key)
                .take(PROBES as usize + 1)
                .find(|i| usable(*i)),
        };
        first.or_else(|| rendezvous::pick(&self.members, XxHash64::oneshot(0, key), usable))
    }
}

/// Requests at most that member of weight `weight` may have in flight with a bounded load of `factor`, when there are
/// `active` in the group, this one not counted (Mirrokni et al. 2016).
pub(crate) fn slots(active: u64, factor: f64, weight: f64, sum: f64) -> u64 {
    let all = ((active + 1) as f64 * factor).ceil();
    ((all * weight / sum).ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_loads_of_the_specification() {
        assert_eq!(slots(9, 1.25, 1.0, 3.0), 5);
        assert_eq!(slots(99, 1.5, 1.0, 4.0), 38);
        assert_eq!(slots(0, 1.25, 1.0, 100.0), 1);
    }

    #[test]
    fn other_keys_stay_when_a_member_cannot_be_used() {
        let ids: Vec<String> = (0..10).map(|i| format!("m{i}")).collect();
        let members: Vec<(&str, u32)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        for algorithm in [
            HashAlgorithm::Rendezvous,
            HashAlgorithm::Maglev,
            HashAlgorithm::Ring,
        ] {
            let hash = Hash::new(algorithm, 65_537, &members);
            for key in 0..2_000_u32 {
                let key = key.to_string();
                let home = hash.pick(key.as_bytes(), |_| true).unwrap();
                let without = hash.pick(key.as_bytes(), |i| i != 3).unwrap();
                assert!(without != 3 && (home == 3 || home == without));
            }
            assert_eq!(hash.pick(b"x", |_| false), None);
            assert_eq!(hash.pick(b"x", |i| i == 7), Some(7));
        }
    }
}
