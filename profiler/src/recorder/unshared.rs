//! Pages that a process un-shared: sums by stack and cause, and how sure they are.

use std::collections::HashMap;

use crate::ledger::resident::Estimate;
use crate::process::pagemap::PAGE;
use crate::profile::UnsharedCause;

/// Pages that one stack un-shared for one cause: as many as the writes recorded stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnsharedSum {
    pages: f64,
    variance: f64,
}

impl UnsharedSum {
    /// Adds one write, which stands for so many.
    pub fn add(&mut self, pages: f64) {
        self.pages += pages;
        self.variance += pages * (pages - 1.0).max(0.0);
    }

    /// Bytes.
    pub fn space(&self) -> u64 {
        (self.pages * PAGE as f64).round() as u64
    }
}

/// By stack: what its sums are where some of the writes stand for others; stacks whose every write was recorded are left out.
pub fn estimates(sums: &HashMap<(u64, UnsharedCause), UnsharedSum>) -> HashMap<u64, Estimate> {
    let mut by_stack: HashMap<u64, UnsharedSum> = HashMap::new();
    for (&(stack, _), sum) in sums.iter().filter(|(_, sum)| sum.variance > 0.0) {
        let all = by_stack.entry(stack).or_default();
        all.pages += sum.pages;
        all.variance += sum.variance;
    }
    let bytes = |pages: f64| (pages * PAGE as f64).round() as u64;
    let estimate = |sum: UnsharedSum| Estimate { space: bytes(sum.pages), error: bytes(sum.variance.sqrt()) };
    by_stack.into_iter().map(|(stack, sum)| (stack, estimate(sum))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_stand_for_themselves_are_no_estimate() {
        let mut sums: HashMap<(u64, UnsharedCause), UnsharedSum> = HashMap::new();
        for _ in 0..3 {
            sums.entry((1, UnsharedCause::Data)).or_default().add(1.0);
        }
        for (stack, cause) in [(1, UnsharedCause::GcHeader), (2, UnsharedCause::Data), (2, UnsharedCause::GcHeader)] {
            sums.entry((stack, cause)).or_default().add(5.0);
        }
        let estimates = estimates(&sums);
        // Each of the writes that stand for five has a variance of 5 times 4.
        assert_eq!(estimates[&1], Estimate { space: 5 * PAGE, error: (20f64.sqrt() * PAGE as f64).round() as u64 });
        assert_eq!(estimates[&2], Estimate { space: 10 * PAGE, error: (40f64.sqrt() * PAGE as f64).round() as u64 });
        assert_eq!(sums[&(1, UnsharedCause::Data)].space(), 3 * PAGE);
    }
}
