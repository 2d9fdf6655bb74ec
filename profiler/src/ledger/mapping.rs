//! The mapping ledger of one process: address space asked for during the trace, by stack and origin.

use std::collections::{BTreeMap, HashMap};

use profiler_common::event::{Mapping, mapping};

use crate::profile::MappingOrigin;

const PAGE: u64 = 4096;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_STACK: u64 = 0x2_0000;

/// What is known of one stack's mappings of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Mappings made.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Mappings still there, whole or in part.
    pub inuse_objects: u64,
    /// Bytes still there.
    pub inuse_space: u64,
}

/// The mappings made during the trace. Those from before are not in it, and giving them back changes nothing.
#[derive(Clone, Debug, Default)]
pub struct MappingLedger {
    /// Pieces of mappings by start address; they never overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Bytes left of each mapping.
    left: HashMap<u64, u64>,
    sums: HashMap<(u64, MappingOrigin), Sums>,
    program_break: Option<u64>,
    last_id: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    id: u64,
    owner: (u64, MappingOrigin),
}

impl MappingLedger {
    /// Starts empty; `program_break` is the end of the heap at the start, if it is known.
    pub fn new(program_break: Option<u64>) -> Self {
        Self { program_break, ..Self::default() }
    }

    /// Books an event.
    pub fn apply(&mut self, event: &Mapping) {
        match event.operation {
            mapping::MMAP => {
                self.map(event.address, event.length, (event.stack, origin(event)));
            }
            mapping::MUNMAP => self.unmap(event.address, event.length),
            mapping::MREMAP => self.remap(event),
            mapping::BRK => self.move_break(event),
            _ => {}
        }
    }

    /// The sums, by stack key and origin.
    pub fn sums(&self) -> impl Iterator<Item = (u64, MappingOrigin, Sums)> {
        self.sums.iter().map(|(&(stack, origin), &sums)| (stack, origin, sums))
    }

    /// Pieces of mappings made during the trace that lie in a range, cut to it: start, end, stack, origin.
    pub fn pieces(&self, range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, u64, u64, MappingOrigin)> {
        let before = self.pieces.range(..range.start).next_back();
        let inside = self.pieces.range(range.clone());
        before
            .into_iter()
            .chain(inside)
            .filter(move |(_, piece)| piece.end > range.start)
            .map(move |(&at, piece)| (at.max(range.start), piece.end.min(range.end), piece.owner.0, piece.owner.1))
    }

    /// The end of the heap, if it is known.
    pub fn program_break(&self) -> Option<u64> {
        self.program_break
    }

    /// Bytes mapped during the trace and still there.
    pub fn inuse_space(&self) -> u64 {
        self.sums.values().map(|sums| sums.inuse_space).sum()
    }

    fn map(&mut self, start: u64, length: u64, owner: (u64, MappingOrigin)) {
        let end = page_end(start, length);
        self.unmap(start, length);
        if end <= start {
            return;
        }
        self.last_id += 1;
        let sums = self.sums.entry(owner).or_default();
        sums.alloc_objects += 1;
        sums.alloc_space += end - start;
        sums.inuse_objects += 1;
        sums.inuse_space += end - start;
        self.left.insert(self.last_id, end - start);
        self.pieces.insert(start, Piece { end, id: self.last_id, owner });
    }

    fn unmap(&mut self, start: u64, length: u64) {
        for (_, piece, bytes) in self.cut(start, page_end(start, length)) {
            self.give_back(piece, bytes);
        }
    }

    /// Takes the pieces in a range out, splitting those that reach over its ends.
    fn cut(&mut self, start: u64, end: u64) -> Vec<(u64, Piece, u64)> {
        if end <= start {
            return Vec::new();
        }
        let first = self.pieces.range(..start).next_back().filter(|(_, piece)| piece.end > start).map(|(&at, _)| at);
        let touched: Vec<u64> = first.into_iter().chain(self.pieces.range(start..end).map(|(&at, _)| at)).collect();
        let mut cut = Vec::with_capacity(touched.len());
        for at in touched {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            if at < start {
                self.pieces.insert(at, Piece { end: start, ..piece });
            }
            if piece.end > end {
                self.pieces.insert(end, piece);
            }
            let (from, to) = (at.max(start), piece.end.min(end));
            cut.push((from, Piece { end: to, ..piece }, to - from));
        }
        cut
    }

    fn give_back(&mut self, piece: Piece, bytes: u64) {
        let sums = self.sums.entry(piece.owner).or_default();
        sums.inuse_space -= bytes;
        if let Some(left) = self.left.get_mut(&piece.id) {
            *left -= bytes;
            if *left == 0 {
                sums.inuse_objects -= 1;
                self.left.remove(&piece.id);
            }
        }
    }

    /// What was mapped keeps its owner at the new address; what is new belongs to the caller.
    fn remap(&mut self, event: &Mapping) {
        let old_end = page_end(event.old_address, event.old_length);
        let new_end = page_end(event.address, event.length);
        let old_bytes = old_end.saturating_sub(event.old_address);
        let kept = old_bytes.min(new_end.saturating_sub(event.address));
        let moved = self.cut(event.old_address, event.old_address + kept);
        self.unmap(event.old_address + kept, old_bytes - kept);
        if event.address != event.old_address {
            self.unmap(event.address, event.length);
        }
        for (at, piece, _) in moved {
            let shift = |address: u64| address - event.old_address + event.address;
            self.pieces.insert(shift(at), Piece { end: shift(piece.end), ..piece });
        }
        let grown = event.address + kept;
        if new_end > grown {
            self.map(grown, new_end - grown, (event.stack, origin_of_remap(event)));
        }
    }

    fn move_break(&mut self, event: &Mapping) {
        let new = event.address;
        if let Some(old) = self.program_break {
            let (old, new) = (page_end(old, 0), page_end(new, 0));
            if new > old {
                self.map(old, new - old, (event.stack, MappingOrigin::AllocatorBrk));
            } else {
                self.unmap(new, old - new);
            }
        }
        self.program_break = Some(new);
    }
}

fn page_end(start: u64, length: u64) -> u64 {
    start.saturating_add(length).saturating_add(PAGE - 1) / PAGE * PAGE
}

fn origin(event: &Mapping) -> MappingOrigin {
    let flags = event.prot_flags >> 32;
    match event.via {
        mapping::via::C_ALLOCATOR => MappingOrigin::AllocatorMmap,
        mapping::via::PYMALLOC_ARENA => MappingOrigin::PymallocArena,
        _ if flags & MAP_ANONYMOUS == 0 => MappingOrigin::File,
        _ if flags & MAP_STACK != 0 => MappingOrigin::ThreadStack,
        _ => MappingOrigin::Anonymous,
    }
}

fn origin_of_remap(event: &Mapping) -> MappingOrigin {
    match event.via {
        mapping::via::C_ALLOCATOR => MappingOrigin::AllocatorMmap,
        mapping::via::PYMALLOC_ARENA => MappingOrigin::PymallocArena,
        _ => MappingOrigin::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANONYMOUS: u64 = MAP_ANONYMOUS << 32;

    fn event(operation: u32, address: u64, length: u64, stack: u64) -> Mapping {
        Mapping { operation, address, length, stack, prot_flags: ANONYMOUS, ..Mapping::default() }
    }

    fn sums_of(ledger: &MappingLedger, stack: u64) -> Sums {
        ledger.sums().filter(|(key, _, _)| *key == stack).fold(Sums::default(), |total, (_, _, sums)| Sums {
            alloc_objects: total.alloc_objects + sums.alloc_objects,
            alloc_space: total.alloc_space + sums.alloc_space,
            inuse_objects: total.inuse_objects + sums.inuse_objects,
            inuse_space: total.inuse_space + sums.inuse_space,
        })
    }

    #[test]
    fn a_hole_splits_a_mapping_and_lengths_are_rounded_to_pages() {
        let mut ledger = MappingLedger::default();
        ledger.apply(&event(mapping::MMAP, 0x10000, 0x3ffe, 1));
        ledger.apply(&event(mapping::MUNMAP, 0x11000, 0x1000, 0));
        let expected = Sums { alloc_objects: 1, alloc_space: 0x4000, inuse_objects: 1, inuse_space: 0x3000 };
        assert_eq!(sums_of(&ledger, 1), expected);
        ledger.apply(&event(mapping::MUNMAP, 0, 0x10_0000, 0));
        let expected = Sums { alloc_objects: 1, alloc_space: 0x4000, ..Sums::default() };
        assert_eq!(sums_of(&ledger, 1), expected);
    }

    #[test]
    fn a_fixed_mapping_replaces_what_was_there() {
        let mut ledger = MappingLedger::default();
        ledger.apply(&event(mapping::MMAP, 0x10000, 0x4000, 1));
        ledger.apply(&event(mapping::MMAP, 0x12000, 0x4000, 2));
        assert_eq!(sums_of(&ledger, 1).inuse_space, 0x2000);
        assert_eq!(sums_of(&ledger, 2).inuse_space, 0x4000);
    }

    #[test]
    fn remapping_keeps_the_owner_and_charges_growth_to_the_caller() {
        let mut ledger = MappingLedger::default();
        ledger.apply(&event(mapping::MMAP, 0x10000, 0x4000, 1));
        let moved = Mapping { old_address: 0x10000, old_length: 0x4000, ..event(mapping::MREMAP, 0x40000, 0x6000, 2) };
        ledger.apply(&moved);
        assert_eq!(sums_of(&ledger, 1).inuse_space, 0x4000);
        assert_eq!(sums_of(&ledger, 2).inuse_space, 0x2000);
        let shrunk = Mapping { old_address: 0x40000, old_length: 0x6000, ..event(mapping::MREMAP, 0x40000, 0x1000, 3) };
        ledger.apply(&shrunk);
        assert_eq!((sums_of(&ledger, 1).inuse_space, sums_of(&ledger, 2).inuse_space), (0x1000, 0));
        assert_eq!(sums_of(&ledger, 3), Sums::default());
    }

    #[test]
    fn the_heap_grows_and_shrinks_by_brk() {
        let mut ledger = MappingLedger::new(Some(0x50000));
        ledger.apply(&event(mapping::BRK, 0x70000, 0, 1));
        assert_eq!(sums_of(&ledger, 1).inuse_space, 0x20000);
        ledger.apply(&event(mapping::BRK, 0x60000, 0, 2));
        assert_eq!(sums_of(&ledger, 1).inuse_space, 0x10000);
        ledger.apply(&event(mapping::BRK, 0x40000, 0, 2));
        assert_eq!(ledger.inuse_space(), 0);
        let mut unknown = MappingLedger::new(None);
        unknown.apply(&event(mapping::BRK, 0x70000, 0, 1));
        assert_eq!(unknown.inuse_space(), 0);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_map_of_single_pages(steps in proptest::collection::vec((0u32..5, 0u64..40, 0u64..12, 0u64..40, 0u64..12, 1u64..4), 0..60)) {
            let mut ledger = MappingLedger::default();
            let mut pages: HashMap<u64, u64> = HashMap::new();
            for (kind, at, length, old_at, old_length, stack) in steps {
                match kind {
                    0 | 1 => {
                        ledger.apply(&event(mapping::MMAP, at * PAGE, length * PAGE, stack));
                        pages.extend((at..at + length).map(|page| (page, stack)));
                    }
                    2 => {
                        ledger.apply(&event(mapping::MUNMAP, at * PAGE, length * PAGE, 0));
                        (at..at + length).for_each(|page| { pages.remove(&page); });
                    }
                    // The kernel refuses a move onto an overlapping range, and an empty one.
                    _ if old_length > 0 && length > 0 && (at >= old_at + old_length || at + length <= old_at) => {
                        let remap = Mapping {
                            old_address: old_at * PAGE,
                            old_length: old_length * PAGE,
                            ..event(mapping::MREMAP, at * PAGE, length * PAGE, stack)
                        };
                        ledger.apply(&remap);
                        let kept: Vec<Option<u64>> = (old_at..old_at + old_length).map(|page| pages.remove(&page)).collect();
                        for (index, page) in (at..at + length).enumerate() {
                            match kept.get(index) {
                                Some(Some(owner)) => { pages.insert(page, *owner); }
                                Some(None) => { pages.remove(&page); }
                                None => { pages.insert(page, stack); }
                            }
                        }
                    }
                    _ => {}
                }
            }
            for stack in 1..4 {
                let expected = pages.values().filter(|owner| **owner == stack).count() as u64 * PAGE;
                proptest::prop_assert_eq!(sums_of(&ledger, stack).inuse_space, expected);
            }
        }
    }
}
