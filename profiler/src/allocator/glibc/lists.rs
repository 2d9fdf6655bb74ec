//! Free chunks that look as if in use: the fast bins of the arenas and the caches of the threads, linked lists both.
//!
//! Since glibc 2.32 the links are mixed with the address they lie at.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::state::State;
use super::{FreeKind, FreeRange, Version, owns};
use crate::process::bounded::Pages;
use crate::process::memory::Memory;

const FLAGS: u64 = 7;

/// From a chunk to its first usable byte, where the link lies; the thread caches' key follows.
const HEADER: u64 = 16;
const KEY: u64 = 8;

/// Bytes of the smallest chunk, and from one size to the next.
const SMALLEST: u64 = 32;
const STEP: u64 = 16;

/// Sizes that a thread's cache has a list of its own for.
const SMALL_LISTS: u64 = 64;

/// Chunks followed in one list of a thread's cache; glibc's tunable allows 65535.
const MAX_CACHED: usize = 65535;

/// How `struct tcache_perthread_struct` is laid out: counts, then lists.
#[derive(Clone, Copy, Debug)]
struct CacheLayout {
    /// Bytes of a count.
    count: u64,
    lists: u64,
    /// The counts are what is there, and not what may still be put in.
    counts_chunks: bool,
}

fn cache_layout(version: Version) -> CacheLayout {
    match version {
        (2, ..=29) => CacheLayout { count: 1, lists: SMALL_LISTS, counts_chunks: true },
        (2, ..=41) => CacheLayout { count: 2, lists: SMALL_LISTS, counts_chunks: true },
        _ => CacheLayout { count: 2, lists: SMALL_LISTS + 12, counts_chunks: false },
    }
}

/// Bytes of the chunk in which a thread's cache keeps its books.
pub(super) fn cache_chunk(version: Version) -> u64 {
    let layout = cache_layout(version);
    (layout.lists * (layout.count + 8) + 8).next_multiple_of(16)
}

fn is_mixed(version: Version) -> bool {
    version >= (2, 32)
}

/// What a link that lies at `address` leads to.
fn reveal(version: Version, address: u64, link: u64) -> u64 {
    if is_mixed(version) { link ^ (address >> 12) } else { link }
}

/// The chunks in an arena's fast bins, and how many lists did not validate.
pub(super) fn fast_bins<M: Memory>(
    state: &State,
    pages: &Pages<'_, M>,
    version: Version,
    spans: &[Range<u64>],
) -> (Vec<FreeRange>, u64) {
    let mut ranges = Vec::new();
    let mut refused = 0;
    for (index, &first) in state.fast_bins.iter().enumerate() {
        let size = SMALLEST + index as u64 * STEP;
        let mut seen = HashSet::new();
        let mut chunk = first;
        while chunk != 0 {
            let header = pages.word(chunk.wrapping_add(8));
            let link = pages.word(chunk.wrapping_add(HEADER));
            let (Some(header), Some(link)) = (header, link) else {
                refused += 1;
                break;
            };
            if header & !FLAGS != size || !owns(spans, chunk) || !chunk.is_multiple_of(16) || !seen.insert(chunk) {
                refused += 1;
                break;
            }
            ranges.push(FreeRange { start: chunk, end: chunk + size, kind: FreeKind::FastBin });
            chunk = reveal(version, chunk + HEADER, link);
        }
    }
    (ranges, refused)
}

/// Chunks followed in one bin.
const MAX_BINNED: usize = 1 << 22;

/// The top chunk and the chunks in an arena's bins that lie outside some spans, and how many lists did not validate.
pub(super) fn bins<M: Memory>(state: &State, pages: &Pages<'_, M>, spans: &[Range<u64>]) -> (Vec<FreeRange>, u64) {
    let size = |chunk: u64| Some(pages.word(chunk.checked_add(8)?)? & !FLAGS).filter(|size| size.is_multiple_of(16));
    let range = |start: u64, size: u64, kind| Some(FreeRange { start, end: start.checked_add(size)?, kind });
    let top = size(state.top).filter(|_| !owns(spans, state.top));
    let mut ranges: Vec<_> = top.and_then(|size| range(state.top, size, FreeKind::Top)).into_iter().collect();
    let mut refused = 0;
    for &(own, first) in &state.bins {
        let mut chunk = first;
        for _ in 0..MAX_BINNED {
            if chunk == own {
                break;
            }
            // The chunk behind a free one repeats its size.
            let repeated =
                size(chunk).and_then(|size| pages.word(chunk.checked_add(size)?).filter(|word| *word == size));
            let (Some(size), Some(next)) = (repeated, pages.word(chunk.wrapping_add(HEADER))) else {
                refused += 1;
                break;
            };
            if size >= SMALLEST && !owns(spans, chunk) {
                ranges.extend(range(chunk, size, FreeKind::Bin));
            }
            chunk = next;
        }
    }
    (ranges, refused)
}

/// A chunk in a thread's cache, with what its key says.
struct Cached {
    range: FreeRange,
    key: u64,
}

/// The chunks in the threads' caches, of which `candidates` may be the books, all in ascending `spans`; and how many
/// lists did not validate.
pub(super) fn thread_caches<M: Memory>(
    candidates: &[u64],
    pages: &Pages<'_, M>,
    version: Version,
    spans: &[Range<u64>],
) -> (Vec<FreeRange>, u64) {
    let reader = Caches { pages, version, layout: cache_layout(version), spans };
    let mut refused = 0;
    let mut cached = Vec::new();
    for &candidate in candidates {
        if let Some((found, wrong)) = reader.read(candidate + HEADER) {
            // A chunk of this size with other content has no list that holds.
            refused += if found.is_empty() { 0 } else { wrong };
            cached.extend(found);
        }
    }
    let before = cached.len();
    let key = common_key(version, &cached);
    cached.retain(|chunk| key.is_none_or(|key| chunk.key == key));
    refused += (before - cached.len()) as u64;
    (cached.into_iter().map(|chunk| chunk.range).collect(), refused)
}

/// Since glibc 2.34 every cached chunk of a process carries the same random key: the one found most often.
fn common_key(version: Version, cached: &[Cached]) -> Option<u64> {
    if version < (2, 34) {
        return None;
    }
    let mut counts = HashMap::new();
    for chunk in cached {
        *counts.entry(chunk.key).or_insert(0_u64) += 1;
    }
    counts.into_iter().max_by_key(|&(key, count)| (count, key)).map(|(key, _)| key)
}

struct Caches<'a, M> {
    pages: &'a Pages<'a, M>,
    version: Version,
    layout: CacheLayout,
    spans: &'a [Range<u64>],
}

impl<M: Memory> Caches<'_, M> {
    /// Reads what may be a thread's cache: its chunks, and its lists that broke off. `None` if it is something else.
    fn read(&self, books: u64) -> Option<(Vec<Cached>, u64)> {
        let heads = books + self.layout.lists * self.layout.count;
        let mut found = Vec::new();
        let mut wrong = 0;
        let mut filled = 0;
        for index in 0..self.layout.lists {
            let first = self.pages.word(heads + index * 8)?;
            let count = self.count(books, index)?;
            if first == 0 {
                // Dead threads' books lie in chunks that are used anew.
                if self.layout.counts_chunks && count != 0 {
                    return None;
                }
                continue;
            }
            if !first.is_multiple_of(16) || !owns(self.spans, first) {
                return None;
            }
            filled += 1;
            let (chunks, whole) = self.list(books, index, first);
            wrong += u64::from(!whole || self.layout.counts_chunks && chunks.len() as u64 != count);
            found.extend(chunks);
        }
        (filled > 0).then_some((found, wrong))
    }

    fn count(&self, books: u64, index: u64) -> Option<u64> {
        let at = books + index * self.layout.count;
        let word = self.pages.word(at / 8 * 8)? >> (at % 8 * 8);
        Some(if self.layout.count == 1 { word & 0xff } else { word & 0xffff })
    }

    /// Follows a list as far as it validates.
    fn list(&self, books: u64, index: u64, first: u64) -> (Vec<Cached>, bool) {
        let mut chunks = Vec::new();
        let mut seen = HashSet::new();
        let mut block = first;
        while block != 0 {
            let fits = block.is_multiple_of(16) && owns(self.spans, block) && seen.insert(block);
            if !fits || chunks.len() >= MAX_CACHED {
                return (chunks, false);
            }
            let words = [block - 8, block, block + KEY].map(|address| self.pages.word(address));
            let [Some(header), Some(link), Some(key)] = words else { return (chunks, false) };
            let size = header & !FLAGS;
            if !self.is_of_list(index, size) || !self.is_key(books, key) {
                return (chunks, false);
            }
            let start = block - HEADER;
            chunks.push(Cached { range: FreeRange { start, end: start + size, kind: FreeKind::ThreadCache }, key });
            block = reveal(self.version, block, link);
        }
        (chunks, true)
    }

    /// One size a list; the lists of large ones each have twice the size of the one before.
    fn is_of_list(&self, index: u64, size: u64) -> bool {
        match index {
            0..SMALL_LISTS => size == SMALLEST + index * STEP,
            _ => size > SMALLEST + (SMALL_LISTS - 1) * STEP && size.is_multiple_of(16) && size <= 8 << 20,
        }
    }

    /// From glibc 2.29 to 2.33 the key is the address of the books.
    fn is_key(&self, books: u64, key: u64) -> bool {
        self.version >= (2, 34) || self.version < (2, 29) || key == books
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_have_the_sizes_of_their_release() {
        let sizes = [(2, 28), (2, 31), (2, 36), (2, 41), (2, 42), (2, 43)].map(cache_chunk);
        assert_eq!(sizes, [0x250, 0x290, 0x290, 0x290, 0x300, 0x300]);
    }

    #[test]
    fn links_are_mixed_with_their_own_address_since_2_32() {
        assert_eq!(reveal((2, 31), 0x5555_0000_1010, 0x5555_0000_2020), 0x5555_0000_2020);
        assert_eq!(reveal((2, 36), 0x5555_0000_1010, 0x5555_0000_2020 ^ 0x5_5550_0001), 0x5555_0000_2020);
    }
}
