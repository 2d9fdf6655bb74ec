//! What each piece of advice would give back, at most: pure functions of one look.
//!
//! They say which pages could go, not which of them are resident: who knows that intersects.

use std::ops::Range;

use super::glibc::{Arena, FreeKind, Glibc};

const PAGE: u64 = 4096;

/// Bytes at the start of a free chunk that malloc keeps using: `struct malloc_chunk`.
const CHUNK_HEAD: u64 = 48;

/// Bytes that stay at the top of an arena when it is trimmed.
const SMALLEST_TOP: u64 = 32 + 1;

/// The whole pages that `malloc_trim(0)` would give back: inside the free chunks of all arenas, and the top of the main
/// one. It leaves the tops of the other arenas, and never sees the threads' caches. Ascending.
pub fn malloc_trim(glibc: &Glibc) -> Vec<Range<u64>> {
    ascending(glibc.arenas.iter().flat_map(|arena| {
        let top = top(arena).filter(|_| arena.main);
        inside_chunks(arena).chain(top)
    }))
}

/// The whole pages at the tops of the arenas, which each free at an arena's end gives back as soon as the top is larger
/// than `MALLOC_TRIM_THRESHOLD_`: what a threshold of `threshold` bytes would give back. Ascending.
pub fn trim_threshold(glibc: &Glibc, threshold: u64) -> Vec<Range<u64>> {
    let tops = glibc.arenas.iter().filter_map(top);
    ascending(tops.filter(|pages| pages.end - pages.start > threshold))
}

/// The free pages of the arenas that `MALLOC_ARENA_MAX=most` would not have: all but the main one and those with the
/// most in use. At most so much: the blocks of these arenas would have to live in the others, in what is free there.
pub fn arena_max(glibc: &Glibc, most: usize) -> Vec<Range<u64>> {
    let mut others: Vec<&Arena> = glibc.arenas.iter().filter(|arena| !arena.main).collect();
    others.sort_by_key(|arena| std::cmp::Reverse(arena.in_use_bytes));
    let surplus = others.into_iter().skip(most.saturating_sub(1));
    ascending(surplus.flat_map(|arena| inside_chunks(arena).chain(top(arena))))
}

/// Free bytes that only fragmentation holds: all that is free outside the whole pages that trimming could reach.
pub fn fragments(glibc: &Glibc) -> u64 {
    let free: u64 = glibc.arenas.iter().map(Arena::free_bytes).sum();
    let pages = glibc.arenas.iter().flat_map(|arena| inside_chunks(arena).chain(top(arena)));
    free - pages.map(|pages| pages.end - pages.start).sum::<u64>()
}

/// Bytes of ranges.
pub fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The whole pages inside what trimming sees: bins, and the fast bins that it merges first. A fast bin's chunk is
/// smaller than a page, so without its neighbours it has none.
fn inside_chunks(arena: &Arena) -> impl Iterator<Item = Range<u64>> {
    let chunks = arena.free.iter().filter(|range| range.kind == FreeKind::Bin);
    chunks.filter_map(|chunk| pages(chunk.start + CHUNK_HEAD, chunk.end))
}

fn top(arena: &Arena) -> Option<Range<u64>> {
    let top = arena.free.iter().find(|range| range.kind == FreeKind::Top)?;
    pages(top.start + SMALLEST_TOP, top.end)
}

/// The whole pages between two addresses.
fn pages(start: u64, end: u64) -> Option<Range<u64>> {
    let pages = start.next_multiple_of(PAGE)..end / PAGE * PAGE;
    (!pages.is_empty()).then_some(pages)
}

fn ascending(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

#[cfg(test)]
mod tests {
    use super::super::glibc::FreeRange;
    use super::*;

    fn arena(main: bool, in_use_bytes: u64, free: &[(u64, u64, FreeKind)]) -> Arena {
        let free = free.iter().map(|&(start, end, kind)| FreeRange { start, end, kind }).collect();
        Arena { main, in_use_bytes, free, ..Arena::default() }
    }

    fn three_arenas() -> Glibc {
        let main = arena(
            true,
            1 << 20,
            &[
                (0x1000, 0x2000, FreeKind::Bin),
                (0x2fd0, 0x5010, FreeKind::Bin),
                (0x6000, 0x6020, FreeKind::ThreadCache),
                (0x8000, 0x10000, FreeKind::Top),
            ],
        );
        let large = arena(false, 9000, &[(0x2_0000, 0x2_4000, FreeKind::Bin), (0x3_0010, 0x3_3000, FreeKind::Top)]);
        let small = arena(false, 500, &[(0x4_0000, 0x4_2030, FreeKind::Bin), (0x5_0000, 0x5_3000, FreeKind::Top)]);
        Glibc { version: (2, 36), arenas: vec![main, large, small], settings: None }
    }

    #[test]
    fn trimming_gives_back_whole_pages_and_leaves_the_other_tops() {
        let pages = malloc_trim(&three_arenas());
        assert_eq!(pages, [0x3000..0x5000, 0x9000..0x10000, 0x2_1000..0x2_4000, 0x4_1000..0x4_2000]);
        assert_eq!(bytes(&pages), 0x2000 + 0x7000 + 0x3000 + 0x1000);
    }

    #[test]
    fn a_threshold_gives_back_the_tops_above_it() {
        let glibc = three_arenas();
        assert_eq!(trim_threshold(&glibc, 0), [0x9000..0x10000, 0x3_1000..0x3_3000, 0x5_1000..0x5_3000]);
        assert_eq!(trim_threshold(&glibc, 0x2000).as_slice(), std::slice::from_ref(&(0x9000..0x10000)));
    }

    #[test]
    fn fewer_arenas_keep_those_with_the_most_in_use() {
        let glibc = three_arenas();
        assert_eq!(arena_max(&glibc, 2), [0x4_1000..0x4_2000, 0x5_1000..0x5_3000]);
        assert_eq!(bytes(&arena_max(&glibc, 1)), 0x3000 + 0x2000 + 0x1000 + 0x2000);
        assert!(arena_max(&glibc, 3).is_empty());
    }

    #[test]
    fn what_covers_no_page_is_fragments() {
        let glibc = three_arenas();
        let free: u64 = glibc.arenas.iter().map(Arena::free_bytes).sum();
        let pages = bytes(&malloc_trim(&glibc)) + 0x2000 + 0x2000;
        assert_eq!(fragments(&glibc), free - pages);
    }
}
