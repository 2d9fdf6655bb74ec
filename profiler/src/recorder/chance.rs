//! Choosing at random what to sample.

use std::hash::{BuildHasher as _, RandomState};

/// Random numbers: xorshift64, as good as choosing a sample needs.
pub(super) struct Chance(u64);

impl Chance {
    /// Different ones each time.
    pub(super) fn new() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below another; `None` below 0.
    pub(super) fn below(&mut self, end: usize) -> Option<usize> {
        let end = u64::try_from(end).ok().filter(|end| *end > 0)?;
        usize::try_from(self.next() % end).ok()
    }

    /// An index, as often as its weight says; `None` if there is no weight.
    pub(super) fn weighted(&mut self, weights: &[u64]) -> Option<usize> {
        let total: u64 = weights.iter().sum();
        let mut left = self.next().checked_rem(total)?;
        weights.iter().position(|&weight| {
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_by_weight() {
        let mut chance = Chance::new();
        assert_eq!((chance.below(0), chance.weighted(&[]), chance.weighted(&[0, 0])), (None, None, None));
        let mut chosen = [0u32; 4];
        for _ in 0..4000 {
            chosen[chance.weighted(&[1, 0, 3, 0]).unwrap()] += 1;
            assert!(chance.below(3).unwrap() < 3);
        }
        assert!(chosen[1] == 0 && chosen[3] == 0 && (700..1300).contains(&chosen[0]), "{chosen:?}");
    }
}
