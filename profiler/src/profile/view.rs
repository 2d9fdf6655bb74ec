//! Reading a profile: texts, frames of a stack, totals. Nothing here panics, whatever the ids are.

use super::{
    BlockRow, Frame, FrameId, FrameKind, MappingOrigin, MappingRow, PoolRow, Profile, StackId, StringId, UnsharedCause,
};

/// Sums over the heap ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapTotals {
    /// Blocks of the C allocator allocated during the trace.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Of these, blocks still live.
    pub inuse_objects: u64,
    /// Bytes of these.
    pub inuse_space: u64,
    /// Blocks given back within `profiler_common::ledger::TEMPORARY_MS`.
    pub temporary_objects: u64,
    /// Bytes of these.
    pub temporary_space: u64,
    /// Live small objects in pools opened during the trace.
    pub small_objects: u64,
    /// Bytes of these.
    pub small_space: u64,
}

impl HeapTotals {
    /// Bytes of live blocks and live small objects.
    pub fn surviving_space(&self) -> u64 {
        self.inuse_space.saturating_add(self.small_space)
    }

    /// Bytes of blocks given back during the trace.
    pub fn freed_space(&self) -> u64 {
        self.alloc_space.saturating_sub(self.inuse_space)
    }

    pub(super) fn add_blocks(&mut self, row: &BlockRow) {
        add(&mut self.alloc_objects, row.alloc_objects);
        add(&mut self.alloc_space, row.alloc_space);
        add(&mut self.inuse_objects, row.inuse_objects);
        add(&mut self.inuse_space, row.inuse_space);
        add(&mut self.temporary_objects, row.temporary_objects);
        add(&mut self.temporary_space, row.temporary_space);
    }

    pub(super) fn add_pools(&mut self, row: &PoolRow) {
        add(&mut self.small_objects, row.inuse_objects);
        add(&mut self.small_space, row.inuse_space);
    }
}

/// How sure the sums over the heap ledger are: their variances, 0 where each block was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeapVariances {
    /// Blocks that were seen: what the estimates rest on.
    pub samples: u64,
    /// Of `alloc_space`, bytes squared.
    pub alloc_space: f64,
    /// Of `inuse_space`.
    pub inuse_space: f64,
    /// Of `alloc_objects`.
    pub alloc_objects: f64,
    /// Of `inuse_objects`.
    pub inuse_objects: f64,
}

/// Sums over the mapping ledger, or over one origin in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingTotals {
    /// Mappings made during the trace.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Of these, mappings still there.
    pub inuse_objects: u64,
    /// Bytes still there.
    pub inuse_space: u64,
}

impl MappingTotals {
    pub(super) fn add(&mut self, row: &MappingRow) {
        add(&mut self.alloc_objects, row.alloc_objects);
        add(&mut self.alloc_space, row.alloc_space);
        add(&mut self.inuse_objects, row.inuse_objects);
        add(&mut self.inuse_space, row.inuse_space);
    }
}

impl Profile {
    /// A text; empty if there is none of this id.
    pub fn text(&self, id: StringId) -> &str {
        self.strings.get(id as usize).map_or("", String::as_str)
    }

    /// A frame.
    pub fn frame(&self, id: FrameId) -> Option<&Frame> {
        self.frames.get(id as usize)
    }

    /// The frames of a stack, innermost first.
    pub fn frame_ids(&self, stack: StackId) -> impl Iterator<Item = FrameId> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            let node = self.stacks.get(at as usize).filter(|_| at != 0)?;
            // A parent that is not before its child would be a cycle.
            at = if node.parent < at { node.parent } else { 0 };
            Some(node.frame)
        })
    }

    /// The frames of a stack, innermost first.
    pub fn frames_of(&self, stack: StackId) -> impl Iterator<Item = &Frame> + '_ {
        self.frame_ids(stack).filter_map(|id| self.frame(id))
    }

    /// The innermost frame.
    pub fn leaf(&self, stack: StackId) -> Option<&Frame> {
        self.frames_of(stack).next()
    }

    /// The frame that names a path: the innermost own one, else the innermost of a package, else the innermost.
    pub fn naming_frame(&self, stack: StackId) -> Option<FrameId> {
        let innermost = |kind| self.frame_ids(stack).find(|id| self.frame(*id).is_some_and(|frame| frame.kind == kind));
        innermost(FrameKind::Own).or_else(|| innermost(FrameKind::Package)).or_else(|| self.frame_ids(stack).next())
    }

    /// Bytes of pages that were copied on write, for one cause or for all.
    pub fn unshared_space(&self, cause: Option<UnsharedCause>) -> u64 {
        let rows = self.unshared.iter().filter(|row| cause.is_none_or(|cause| row.cause == cause));
        rows.fold(0, |sum: u64, row| sum.saturating_add(row.space))
    }

    /// Sums over the heap ledger, over all processes.
    pub fn heap_totals(&self) -> HeapTotals {
        self.heap_totals_of(|_| true)
    }

    /// Sums over the heap ledger, over the processes whose index passes.
    pub fn heap_totals_of(&self, process: impl Fn(u32) -> bool) -> HeapTotals {
        let mut totals = HeapTotals::default();
        self.blocks.iter().filter(|row| process(row.process)).for_each(|row| totals.add_blocks(row));
        self.pools.iter().filter(|row| process(row.process)).for_each(|row| totals.add_pools(row));
        totals
    }

    /// How sure [`Self::heap_totals_of`] is.
    pub fn heap_variances_of(&self, process: impl Fn(u32) -> bool) -> HeapVariances {
        let mut sums = HeapVariances::default();
        for row in self.blocks.iter().filter(|row| process(row.process)) {
            add(&mut sums.samples, row.samples);
            sums.alloc_space += row.alloc_variance;
            sums.inuse_space += row.inuse_variance;
            sums.alloc_objects += row.alloc_objects_variance;
            sums.inuse_objects += row.inuse_objects_variance;
        }
        sums
    }

    /// Sums over the mapping ledger, over all processes; of one origin, or of all.
    pub fn mapping_totals(&self, origin: Option<MappingOrigin>) -> MappingTotals {
        self.mapping_totals_of(origin, |_| true)
    }

    /// As [`Self::mapping_totals`], over the processes whose index passes.
    pub fn mapping_totals_of(&self, origin: Option<MappingOrigin>, process: impl Fn(u32) -> bool) -> MappingTotals {
        let mut totals = MappingTotals::default();
        let wanted = |row: &&MappingRow| origin.is_none_or(|origin| row.origin == origin) && process(row.process);
        self.mappings.iter().filter(wanted).for_each(|row| totals.add(row));
        totals
    }
}

/// A profile may come from anywhere: its sums must not overflow.
fn add(sum: &mut u64, value: u64) {
    *sum = sum.saturating_add(value);
}

#[cfg(test)]
mod tests {
    use super::super::builder::sample;
    use super::*;

    #[test]
    fn a_stack_reads_from_the_inside_out() {
        let profile = sample();
        let names: Vec<_> = profile.frames_of(2).map(|frame| profile.text(frame.function)).collect();
        assert_eq!(names, ["loads", "main"]);
        assert_eq!(profile.frames_of(0).count(), 0);
        assert_eq!(profile.leaf(99), None);
    }

    #[test]
    fn sums_saturate() {
        let mut profile = sample();
        profile.blocks.push(super::super::BlockRow { alloc_space: u64::MAX, ..profile.blocks[0] });
        assert_eq!(profile.heap_totals().alloc_space, u64::MAX);
        assert_eq!(profile.mapping_totals(Some(MappingOrigin::File)), MappingTotals::default());
        assert_eq!(profile.mapping_totals(None).inuse_space, 4096);
    }
}
