//! What is kept of processes that have ended: their rows, made once and for all, so that the kernel side can give the
//! room to others. In bounded room: of very many the smallest call paths become one row a process.

use std::collections::BTreeMap;

use crate::profile::builder::ProfileBuilder;
use crate::profile::{BlockRow, EstimateRow, MappingRow, PoolRow, ResidentRow, StackId, UnsharedRow};

/// Most rows that are kept of each kind; more than this and half of them are made one a process.
const MOST: usize = 1 << 20;

const MARKER: &str = "[call paths of processes that ended earlier, not kept apart]";

/// The rows of processes that have ended.
#[derive(Default)]
pub struct Ended {
    /// Of the heap ledger.
    pub blocks: Vec<BlockRow>,
    /// Of pools.
    pub pools: Vec<PoolRow>,
    /// Of the mapping ledger.
    pub mappings: Vec<MappingRow>,
    /// Of the resident ledger.
    pub resident: Vec<ResidentRow>,
    /// Of pages un-shared.
    pub unshared: Vec<UnsharedRow>,
    /// What is estimated of the two before.
    pub estimates: Vec<EstimateRow>,
}

impl Ended {
    /// Adds a process's.
    pub fn add(&mut self, rows: Self, builder: &mut ProfileBuilder) {
        self.blocks.extend(rows.blocks);
        self.pools.extend(rows.pools);
        self.mappings.extend(rows.mappings);
        self.resident.extend(rows.resident);
        self.unshared.extend(rows.unshared);
        self.estimates.extend(rows.estimates);
        self.bound(MOST, builder);
    }

    fn bound(&mut self, most: usize, builder: &mut ProfileBuilder) {
        let mut elsewhere = || {
            let marker = builder.marker(MARKER);
            builder.stack(&[marker])
        };
        if self.blocks.len() > most {
            fold(&mut self.blocks, most, elsewhere(), |row| row.alloc_space);
        }
        if self.pools.len() > most {
            fold(&mut self.pools, most, elsewhere(), |row| row.opened);
        }
        if self.mappings.len() > most {
            fold(&mut self.mappings, most, elsewhere(), |row| row.alloc_space);
        }
        if self.resident.len() > most {
            fold(&mut self.resident, most, elsewhere(), |row| row.inuse_space);
        }
        if self.unshared.len() > most {
            fold(&mut self.unshared, most, elsewhere(), |row| row.space);
        }
        if self.estimates.len() > most {
            fold(&mut self.estimates, most, elsewhere(), |row| row.space);
        }
    }
}

/// A row of a process and a stack.
trait Row {
    /// What is kept apart in any case.
    type Key: Ord;
    fn key(&self) -> Self::Key;
    fn set_stack(&mut self, stack: StackId);
    fn add(&mut self, other: &Self);
}

/// Keeps the heavier half; of the rest one row each process.
fn fold<R: Row>(rows: &mut Vec<R>, most: usize, stack: StackId, weight: impl Fn(&R) -> u64) {
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    let light = rows.split_off(most / 2);
    let mut folded: BTreeMap<R::Key, R> = BTreeMap::new();
    for mut row in light {
        row.set_stack(stack);
        match folded.get_mut(&row.key()) {
            Some(sum) => sum.add(&row),
            None => {
                folded.insert(row.key(), row);
            }
        }
    }
    rows.extend(folded.into_values());
}

impl Row for BlockRow {
    type Key = u32;

    fn key(&self) -> u32 {
        self.process
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
    }

    fn add(&mut self, other: &Self) {
        self.alloc_objects += other.alloc_objects;
        self.alloc_space += other.alloc_space;
        self.inuse_objects += other.inuse_objects;
        self.inuse_space += other.inuse_space;
        self.temporary_objects += other.temporary_objects;
        self.temporary_space += other.temporary_space;
        self.samples += other.samples;
        self.alloc_variance += other.alloc_variance;
        self.inuse_variance += other.inuse_variance;
        self.alloc_objects_variance += other.alloc_objects_variance;
        self.inuse_objects_variance += other.inuse_objects_variance;
        self.largest = self.largest.max(other.largest);
        // Peaks of different moments: their sum is an upper bound, the larger one a lower.
        self.peak_space = self.peak_space.max(other.peak_space);
    }
}

impl Row for PoolRow {
    type Key = u32;

    fn key(&self) -> u32 {
        self.process
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
    }

    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.live_pools += other.live_pools;
        self.inuse_objects += other.inuse_objects;
        self.inuse_space += other.inuse_space;
        self.opened_space += other.opened_space;
        self.inuse_variance += other.inuse_variance;
        self.inuse_objects_variance += other.inuse_objects_variance;
    }
}

impl Row for MappingRow {
    type Key = (u32, crate::profile::MappingOrigin);

    fn key(&self) -> Self::Key {
        (self.process, self.origin)
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
    }

    fn add(&mut self, other: &Self) {
        self.alloc_objects += other.alloc_objects;
        self.alloc_space += other.alloc_space;
        self.inuse_objects += other.inuse_objects;
        self.inuse_space += other.inuse_space;
    }
}

impl Row for ResidentRow {
    type Key = (u32, crate::profile::ResidentKind);

    fn key(&self) -> Self::Key {
        (self.process, self.kind)
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
        self.allocated_by = None;
    }

    fn add(&mut self, other: &Self) {
        self.inuse_space += other.inuse_space;
    }
}

impl Row for UnsharedRow {
    type Key = (u32, crate::profile::UnsharedCause);

    fn key(&self) -> Self::Key {
        (self.process, self.cause)
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
    }

    fn add(&mut self, other: &Self) {
        self.space += other.space;
    }
}

impl Row for EstimateRow {
    type Key = (u32, crate::profile::EstimateOf);

    fn key(&self) -> Self::Key {
        (self.process, self.of)
    }

    fn set_stack(&mut self, stack: StackId) {
        self.stack = stack;
    }

    fn add(&mut self, other: &Self) {
        self.space += other.space;
        // What is too much for one path may be too little for another: this is an upper bound.
        self.standard_error += other.standard_error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_rows_the_sums_stay() {
        let mut builder = ProfileBuilder::new();
        let mut ended = Ended::default();
        for number in 0..1000u64 {
            let process = u32::try_from(number % 10).unwrap();
            let row = BlockRow { process, stack: 1, alloc_objects: 1, alloc_space: number, ..BlockRow::default() };
            ended.blocks.push(row);
            ended.bound(100, &mut builder);
        }
        assert!(ended.blocks.len() <= 100, "{}", ended.blocks.len());
        let objects: u64 = ended.blocks.iter().map(|row| row.alloc_objects).sum();
        let of_one: u64 = ended.blocks.iter().filter(|row| row.process == 7).map(|row| row.alloc_space).sum();
        assert_eq!((objects, of_one), (1000, (0..100).map(|tens| tens * 10 + 7).sum()));
        assert!(
            ended.blocks.iter().any(|row| row.alloc_space == 999 && row.alloc_objects == 1),
            "the heaviest is kept"
        );
    }
}
