//! Resident pages joined with the allocations that lie in them.

use std::collections::HashMap;

use super::resident::{OwnedRun, Owner};
use crate::profile::ResidentKind;

/// A live piece of memory of a known allocator: a block, or the objects of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Number of the stack that allocated it.
    pub stack: u64,
}

/// Resident bytes by who touched them, who allocated them (`None`: nobody that the trace knows), and what they are.
pub type Sums = HashMap<(Owner, Option<u64>, ResidentKind), u64>;

/// Joins resident pages with the allocations that lie in them. Both are sorted by address; allocations do not overlap.
pub fn join(pages: &[OwnedRun], allocations: &[Allocation]) -> Sums {
    let mut sums = Sums::new();
    let mut next = 0;
    for OwnedRun { pages, owner } in pages {
        while allocations.get(next).is_some_and(|found| found.end <= pages.start) {
            next += 1;
        }
        let mut allocated = 0;
        for found in allocations[next..].iter().take_while(|found| found.start < pages.end) {
            let bytes = found.end.min(pages.end) - found.start.max(pages.start);
            allocated += bytes;
            *sums.entry((*owner, Some(found.stack), pages.kind)).or_default() += bytes;
        }
        let rest = (pages.end - pages.start).saturating_sub(allocated);
        if rest > 0 {
            *sums.entry((*owner, None, pages.kind)).or_default() += rest;
        }
    }
    sums
}
