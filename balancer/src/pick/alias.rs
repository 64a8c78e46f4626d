//! Weight-proportional draws in O(1): Vose's alias method (IEEE TSE 17(9), 1991).

use crate::Random;

/// A table over members `0..n`.
#[derive(Debug)]
pub(crate) struct Alias(Vec<(f64, u32)>);

impl Alias {
    /// `weights` has at least one member above 0.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let sum: f64 = weights.iter().sum();
        let mut table: Vec<(f64, u32)> = (0..n as u32)
            .zip(weights)
            .map(|(i, w)| (w * n as f64 / sum, i))
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..n).partition(|i| table[*i].0 < 1.0);
        while let (Some(s), Some(l)) = (small.pop(), large.pop()) {
            table[s].1 = l as u32;
            table[l].0 -= 1.0 - table[s].0;
            if table[l].0 < 1.0 {
                small.push(l);
            } else {
                large.push(l);
            }
        }
        // What is left over is 1 but for rounding.
        for i in small.into_iter().chain(large) {
            table[i].0 = 1.0;
        }
        Self(table)
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let i = random.below(self.0.len());
        let (keep, other) = self.0[i];
        if random.unit() < keep {
            i
        } else {
            other as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_proportional_to_weights() {
        let weights = [5.0, 0.0, 3.0, 2.0];
        let alias = Alias::new(&weights);
        let mut random = Random::new(3);
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            counts[alias.draw(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        // Chi-square with two degrees of freedom, p > 0.001.
        let chi: f64 = [(0, 5e4), (2, 3e4), (3, 2e4)]
            .iter()
            .map(|(i, e)| (f64::from(counts[*i]) - e).powi(2) / e)
            .sum();
        assert!(chi < 13.8, "{chi} {counts:?}");
    }
}
