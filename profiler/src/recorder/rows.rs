//! The rows of a profile: what each ledger says of each stack in each process.

use std::collections::{BTreeMap, HashMap};

use profiler_common::ledger::StackSums;
use profiler_common::sampling::{ONE, SPACE_VARIANCE_UNIT, WEIGHT_VARIANCE_UNITS};

use super::Recorder;
use crate::ledger::fillers::Charge;
use crate::ledger::resident::{Estimate, Owner};
use crate::profile::path_timeline::PathReading;
use crate::profile::{BlockRow, EstimateRow, MappingRow, PoolRow, ResidentRow, StackId, UnsharedRow};

/// In place of a call path for pages that came without a fault.
const UNSEEN: &str = "[no page fault seen: moved meanwhile, or mapped by the kernel]";

/// In place of a call path for small objects of which no sample says who made them.
const UNSAMPLED: &str = "[small objects of which nobody was seen to make them]";

/// A row of no process and no stack: what the kernel side's sums say.
fn block_row(sums: &StackSums) -> BlockRow {
    let objects = |weight: u64| weight.saturating_add(ONE / 2) / ONE;
    let weight_variance = |variance: u64| variance as f64 / WEIGHT_VARIANCE_UNITS as f64;
    let space_variance = |variance: u64| variance as f64 * SPACE_VARIANCE_UNIT as f64;
    BlockRow {
        alloc_objects: objects(sums.alloc_weight),
        alloc_space: sums.alloc_space,
        inuse_objects: objects(sums.alloc_weight.saturating_sub(sums.free_weight)),
        inuse_space: sums.alloc_space.saturating_sub(sums.free_space),
        temporary_objects: objects(sums.temporary_weight),
        temporary_space: sums.temporary_space,
        largest: sums.largest,
        peak_space: sums.peak_space,
        samples: sums.samples,
        alloc_variance: space_variance(sums.alloc_variance),
        inuse_variance: space_variance(sums.alloc_variance.saturating_sub(sums.free_variance)),
        alloc_objects_variance: weight_variance(sums.alloc_weight_variance),
        inuse_objects_variance: weight_variance(sums.alloc_weight_variance.saturating_sub(sums.free_weight_variance)),
        ..BlockRow::default()
    }
}

impl Recorder {
    /// The rows of the C allocator's blocks, and how many pools each stack opened.
    pub(super) fn block_rows(&mut self, sums: &[(u64, StackSums)]) -> (Vec<BlockRow>, HashMap<(u32, u64), u64>) {
        let mut opened = HashMap::new();
        let mut rows = Vec::new();
        for (key, sums) in sums {
            let Some(process) = self.index(sums.slot) else {
                self.homeless += u64::from(!self.discarded.contains(&sums.slot));
                continue;
            };
            if self.processes.get(process as usize).is_some_and(|process| process.settled) {
                continue;
            }
            if sums.pools_opened > 0 {
                opened.insert((sums.slot, *key), sums.pools_opened);
            }
            if sums.samples == 0 {
                continue;
            }
            let row = BlockRow { process, stack: self.stacks.id(*key, &mut self.builder), ..block_row(sums) };
            rows.push(row);
        }
        (rows, opened)
    }

    /// What the call paths have that are named already, of the processes whose sums are still there.
    pub(super) fn path_readings(&self, sums: &[(u64, StackSums)]) -> impl Iterator<Item = PathReading> {
        sums.iter().filter(|(_, sums)| sums.alloc_space > 0).filter_map(|(key, sums)| {
            let process = self.index(sums.slot)?;
            self.processes.get(process as usize).filter(|process| !process.settled)?;
            let live = sums.alloc_space.saturating_sub(sums.free_space);
            Some(PathReading { process, stack: self.stacks.known(*key)?, live, allocated: sums.alloc_space })
        })
    }

    pub(super) fn pool_rows(
        &mut self,
        opened: &HashMap<(u32, u64), u64>,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<PoolRow> {
        let filled = self
            .processes
            .iter()
            .filter(|process| wanted(process.slot))
            .flat_map(|process| process.pools.iter().map(|(&stack, &charge)| ((process.slot, stack), charge)));
        let mut all: BTreeMap<(u32, u64), Charge> = filled.collect();
        for &key in opened.keys() {
            all.entry(key).or_default();
        }
        let mut rows = Vec::new();
        for ((slot, key), live) in all {
            let Some(process) = self.index(slot) else { continue };
            rows.push(PoolRow {
                process,
                stack: self.filler(key),
                opened: opened.get(&(slot, key)).copied().unwrap_or(0),
                live_pools: live.pools,
                inuse_objects: live.objects,
                inuse_space: live.space,
                opened_space: live.opened_space,
                inuse_variance: live.space_variance,
                inuse_objects_variance: live.objects_variance,
            });
        }
        rows
    }

    /// The stack of a number; a mark for the small objects of which nobody was seen.
    fn filler(&mut self, number: u64) -> StackId {
        if number != 0 {
            return self.stacks.id(number, &mut self.builder);
        }
        let marker = self.builder.marker(UNSAMPLED);
        self.builder.stack(&[marker])
    }

    pub(super) fn mapping_rows(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<MappingRow> {
        let mut rows = Vec::new();
        for (slot, process) in self.processes.iter().enumerate().filter(|(_, process)| wanted(process.slot)) {
            for (key, origin, sums) in process.mappings.sums().filter(|(_, _, sums)| sums.alloc_objects > 0) {
                rows.push(MappingRow {
                    process: u32::try_from(slot).unwrap_or(u32::MAX),
                    stack: self.stacks.id(key, &mut self.builder),
                    origin,
                    alloc_objects: sums.alloc_objects,
                    alloc_space: sums.alloc_space,
                    inuse_objects: sums.inuse_objects,
                    inuse_space: sums.inuse_space,
                });
            }
        }
        rows
    }

    /// What was there before the trace is in each process's residency and in no call path.
    pub(super) fn resident_rows(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<ResidentRow> {
        let mut rows = Vec::new();
        for (index, process) in self.processes.iter().enumerate().filter(|(_, process)| wanted(process.slot)) {
            let Some(residence) = &process.residence else { continue };
            for (&(owner, allocated_by, kind), &inuse_space) in &residence.sums {
                let stack = match owner {
                    Owner::Before | Owner::Inherited => continue,
                    Owner::Stack(number) => self.stacks.id(number, &mut self.builder),
                    Owner::Unseen => {
                        let marker = self.builder.marker(UNSEEN);
                        self.builder.stack(&[marker])
                    }
                };
                let allocated_by = allocated_by.map(|number| self.stacks.id(number, &mut self.builder));
                let process = u32::try_from(index).unwrap_or(u32::MAX);
                rows.push(ResidentRow { process, stack, allocated_by, kind, inuse_space });
            }
        }
        rows
    }

    pub(super) fn unshared_rows(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<UnsharedRow> {
        let mut rows = Vec::new();
        for (index, process) in self.processes.iter().enumerate().filter(|(_, process)| wanted(process.slot)) {
            for (&(number, cause), sum) in &process.unshared {
                let stack = self.stacks.id(number, &mut self.builder);
                let process = u32::try_from(index).unwrap_or(u32::MAX);
                rows.push(UnsharedRow { process, stack, cause, space: sum.space() });
            }
        }
        rows
    }

    /// How sure the rows of the two ledgers above are, where not every page fault was recorded.
    pub(super) fn estimate_rows(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<EstimateRow> {
        let mut rows = Vec::new();
        for (index, process) in self.processes.iter().enumerate().filter(|(_, process)| wanted(process.slot)) {
            let process_index = u32::try_from(index).unwrap_or(u32::MAX);
            for (of, (number, estimate)) in process.estimates() {
                let stack = self.stacks.id(number, &mut self.builder);
                let Estimate { space, error } = estimate;
                rows.push(EstimateRow { process: process_index, stack, of, space, standard_error: error });
            }
        }
        rows
    }
}
