//! The address ranges of an arena.
//!
//! The main arena is what brk gave. The others have heaps: aligned pieces of 64 MiB, of which the front part is in use,
//! chained from the newest to the first, in which the arena itself lies.

use std::ops::Range;

use super::settings::Settings;
use super::state::{State, USER_END};
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// A stretch of chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// What the arena owns, its own books included.
    pub range: Range<u64>,
    /// Its first chunk.
    pub first_chunk: u64,
    /// Whether it is the main arena's.
    pub main: bool,
}

/// Sizes of a heap: 64 MiB, or what the tunable `glibc.malloc.hugetlb` makes of it.
const LIKELY_HEAP: u64 = 64 << 20;
const HEAP_SHIFTS: Range<u32> = 19..35;

/// Heaps of one arena that are followed: a terabyte.
const MAX_HEAPS: usize = 16384;

/// In `struct heap_info`: the arena, the heap before, the bytes in use.
const HEAP_ARENA: u64 = 0;
const HEAP_PREVIOUS: u64 = 8;
const HEAP_SIZE: u64 = 16;

/// Bytes of `struct heap_info` at most; 32 before glibc 2.35, 48 since.
const MAX_HEAP_INFO: u64 = 128;

/// The main arena's span: from the heap's start to the end of the top chunk. Where brk could not grow malloc goes on in
/// mappings, of which nothing tells where they begin: then the span is the heap, and the rest is found by lists.
pub(super) fn main_spans(state: &State, settings: Option<&Settings>, regions: &[Region]) -> Vec<Span> {
    let heap = |region: &&Region| is_named(region, "[heap]");
    let start = settings.map(|settings| settings.heap_start).filter(|&start| start != 0 && start < USER_END);
    let start = start.or_else(|| regions.iter().find(heap).map(|region| region.start));
    let Some(start) = start.map(|start| start.next_multiple_of(16)) else { return Vec::new() };
    let end = state.top.saturating_add(state.top_size);
    let in_one_piece = !state.noncontiguous && start < state.top && end - start <= state.system_bytes;
    let range = if in_one_piece {
        start..end
    } else {
        let region = regions.iter().find(|region| region.start <= start && start < region.end);
        start..region.map_or(start, |region| region.end)
    };
    if range.is_empty() {
        return Vec::new();
    }
    vec![Span { first_chunk: range.start, range, main: true }]
}

fn is_named(region: &Region, name: &str) -> bool {
    matches!(&region.name, crate::process::maps::RegionName::Special(special) if special == name)
}

/// The writable regions in which some addresses lie.
pub(super) fn regions_of(addresses: impl Iterator<Item = u64>, regions: &[Region]) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for address in addresses {
        if found.iter().any(|range| range.contains(&address)) {
            continue;
        }
        let region = regions.iter().find(|region| region.start <= address && address < region.end);
        found.extend(region.filter(|region| region.permissions.write).map(|region| region.start..region.end));
    }
    found
}

/// The heaps of another arena, found from its top.
pub(super) fn heap_spans(state: &State, memory: &impl Memory, regions: &[Region]) -> Vec<Span> {
    let sizes = std::iter::once(LIKELY_HEAP).chain(HEAP_SHIFTS.map(|shift| 1 << shift));
    let Some((most, newest)) = sizes
        .map(|most| (most, state.top & !(most - 1)))
        .find(|&(most, heap)| heap_range(state, memory, regions, most, heap).is_some_and(|r| r.contains(&state.top)))
    else {
        return Vec::new();
    };
    let mut spans = Vec::new();
    let mut heap = newest;
    while heap != 0 && spans.len() < MAX_HEAPS {
        let Some(range) = heap_range(state, memory, regions, most, heap) else { break };
        let first = state.address & !(most - 1);
        let first_chunk = if heap == first { state.first_chunk } else { heap + (state.address - first) };
        if !range.contains(&first_chunk) || spans.iter().any(|span: &Span| span.range == range) {
            break;
        }
        spans.push(Span { range, first_chunk, main: false });
        heap = memory.u64(heap + HEAP_PREVIOUS).unwrap_or(0);
    }
    spans
}

/// What of a heap is in use, if there is one of this arena at the address.
fn heap_range(state: &State, memory: &impl Memory, regions: &[Region], most: u64, heap: u64) -> Option<Range<u64>> {
    let info_fits = (state.address & (most - 1)) <= MAX_HEAP_INFO;
    let owner = memory.u64(heap.wrapping_add(HEAP_ARENA)).ok()?;
    let size = memory.u64(heap.wrapping_add(HEAP_SIZE)).ok()?;
    let mapped = regions.iter().any(|region| region.start <= heap && heap < region.end);
    let is_heap = info_fits && owner == state.address && size <= most && size.is_multiple_of(4096) && mapped;
    is_heap.then(|| heap..heap + size)
}
