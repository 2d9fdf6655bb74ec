//! Where objects are found first: in the collector's lists, and in the blocks of pymalloc that are in use.

use std::ops::Range;

use super::heap::Heap;
use super::kinds::Shape;
use crate::python::object_layout as at;
use crate::python::used_blocks::used_blocks;

/// Pools, or objects of a list, between two looks at the clock.
const STEP: u64 = 256;

/// Adds the objects of the collector's lists of the interpreter whose state lies at these addresses.
///
/// The heads of the lists are recognized, whatever the version's number of generations: a head's neighbours name it, and
/// it is no object itself.
pub fn lists(heap: &mut Heap<'_>, state: Range<u64>) {
    for head in (state.start..state.end).step_by(8) {
        let Some(first) = heap.copy.word(head).map(pointer) else { continue };
        if first == head || state.contains(&first) || !heap.copy.is_writable(first) {
            continue;
        }
        let Some(last) = heap.copy.word(head + 8).map(pointer) else { continue };
        let names = |address: u64, offset: u64| {
            address.checked_add(offset).and_then(|place| heap.copy.word(place)).map(pointer) == Some(head)
        };
        if (names(first, 8) || names(last, 0)) && heap.identify(first + at::GC_HEADER).is_some() {
            list(heap, head, first);
        }
    }
}

fn pointer(word: u64) -> u64 {
    word & !at::GC_FLAGS
}

/// Follows a list from its first element on.
fn list(heap: &mut Heap<'_>, head: u64, first: u64) {
    let mut header = first;
    let mut count = 0_u64;
    while header != head {
        count += 1;
        if heap.partial || count.is_multiple_of(STEP) && heap.copy.is_late() {
            heap.partial = true;
            return;
        }
        let before = heap.objects.len();
        let added = heap.add(header.wrapping_add(at::GC_HEADER));
        let next = heap.copy.word(header).map(pointer);
        match (added, next) {
            // The list was changed behind us and leads where we were.
            (Some(_), Some(_)) if count as usize > 2 * before + 1024 => return,
            (Some(_), Some(next)) => header = next,
            _ => {
                heap.discarded += 1;
                return;
            }
        }
    }
}

/// Adds the objects in the blocks in use of the pools in a range of one arena.
pub fn pools(heap: &mut Heap<'_>, arena: Range<u64>, pool_size: u64) {
    for pool in arena.step_by(pool_size as usize) {
        if heap.partial || heap.copy.is_late() {
            heap.partial = true;
            return;
        }
        match used_blocks(|address| heap.copy.word(address), pool, pool_size) {
            Some((size, blocks)) => blocks.iter().for_each(|&block| in_block(heap, block, size)),
            None => heap.discarded += 1,
        }
    }
}

/// Adds the object in a block, if there is one: not all blocks hold objects.
fn in_block(heap: &mut Heap<'_>, block: u64, size: u64) {
    for before in [0, at::GC_HEADER, at::GC_HEADER + at::PRE_HEADER] {
        let object = block + before;
        if before + at::FIELDS > size {
            return;
        }
        if heap.find(object).is_some() {
            return;
        }
        let Some(kind) = heap.identify(object) else { continue };
        let of = &heap.kinds.list[kind as usize];
        // A short text is smaller than the largest header of a `str`.
        let fits = of.shape == Shape::Str || of.basic <= size - before;
        if of.before(heap.layouts.objects) == before && fits {
            heap.insert(object, kind);
            return;
        }
    }
}
