//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005).

use twox_hash::XxHash64;

use crate::random::finalise;

#[derive(Debug)]
pub(crate) struct Member {
    hash: u64,
    weight: f64,
    id: Box<str>,
}

impl Member {
    pub(crate) fn new(id: &str, weight: u32) -> Self {
        Self {
            hash: XxHash64::oneshot(0, id.as_bytes()),
            weight: f64::from(weight),
            id: id.into(),
        }
    }

    fn score(&self, key: u64) -> f64 {
        let x = finalise(self.hash ^ key);
        let u = ((x >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -self.weight / u.ln()
    }
}

/// The member with the best score; the lower id if two are equal.
pub(crate) fn pick(members: &[Member], key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (i, member) in members.iter().enumerate().filter(|(i, _)| usable(*i)) {
        let score = member.score(key);
        let better = best.is_none_or(|(top, at)| {
            score > top || (score.total_cmp(&top).is_eq() && member.id < members[at].id)
        });
        if better {
            best = Some((score, i));
        }
    }
    best.map(|(_, i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(weights: [u32; 3], keys: &[&str]) -> String {
        let members: Vec<Member> = ["a", "b", "c"]
            .iter()
            .zip(weights)
            .map(|(id, w)| Member::new(id, w))
            .collect();
        keys.iter()
            .map(|key| pick(&members, XxHash64::oneshot(0, key.as_bytes()), |_| true).unwrap())
            .map(|i| (b'a' + i as u8) as char)
            .collect()
    }

    #[test]
    fn the_golden_keys_of_the_specification() {
        assert_eq!(XxHash64::oneshot(0, b"user-1"), 0xa173_746b_114c_6be8);
        let keys = ["user-1", "user-2", "user-3", "192.0.2.1", "", "/index.html"];
        assert_eq!(letters([1, 1, 1], &keys), "cacabc");
        assert_eq!(letters([5, 3, 2], &keys), "caaaaa");
    }

    #[test]
    fn shares_follow_the_weights_and_few_keys_move() {
        let ids: Vec<String> = (0..10).map(|i| format!("member-{i}")).collect();
        let weighted = |second: u32| -> Vec<Member> {
            let weights = (0..10).map(|i| if i == 1 { second } else { 2 });
            ids.iter()
                .zip(weights)
                .map(|(id, w)| Member::new(id, w))
                .collect()
        };
        let (before, after) = (weighted(2), weighted(4));
        let n = 100_000_u32;
        let mut counts = [0_u32; 10];
        let (mut left, mut moved) = (0, 0);
        for key in 0..n {
            let hash = XxHash64::oneshot(0, &key.to_le_bytes());
            let home = pick(&before, hash, |_| true).unwrap();
            counts[home] += 1;
            let heavier = pick(&after, hash, |_| true).unwrap();
            moved += u32::from(heavier != home);
            // Only towards the member that became heavier.
            assert!(heavier == home || heavier == 1);
            left += u32::from(pick(&before, hash, |i| i != 5).unwrap() != home);
        }
        let chi: f64 = counts
            .iter()
            .map(|c| (f64::from(*c) - 1e4).powi(2) / 1e4)
            .sum();
        assert!(chi < 27.9, "{chi} {counts:?}");
        assert_eq!(left, counts[5]);
        // From a share of 2/20 to one of 4/22.
        let share = f64::from(moved) / f64::from(n);
        assert!((share - (4.0 / 22.0 - 0.1)).abs() < 0.004, "{share}");
    }
}
