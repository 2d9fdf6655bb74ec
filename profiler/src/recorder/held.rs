//! What the allocators of one process hold, joined with its resident pages: which memory is theirs, and how much of it
//! is free and resident all the same.

use std::ops::Range;

use crate::allocator::{Advice, FreeKind, Glibc, Held, NotRead, Places, advice};
use crate::ledger::resident::PageRun;
use crate::process::Pid;
use crate::process::bounded::Budget;
use crate::process::image::Image;
use crate::process::maps::Region;
use crate::process::memory::{Memory, ProcessMemory};
use crate::profile::{Allocators, ResidentKind};
use crate::python::Interpreter;

/// `IS_MMAPPED` in a chunk's size (glibc's malloc/malloc.c): the only one of the three low bits that is set.
const MMAPPED: u64 = 2;
const FLAGS: u64 = 7;
const PAGE: u64 = 4096;

/// Where the allocators of a process keep their books, found when there are any.
#[derive(Clone, Debug, Default)]
pub struct Books {
    places: Option<Places>,
}

impl Books {
    /// Looks into them.
    pub fn look(&mut self, pid: Pid, memory: &ProcessMemory, regions: &[Region]) -> Holdings {
        let places = self.places.take().filter(Places::are_settled).unwrap_or_else(|| {
            let python = Interpreter::discover(pid).ok();
            Places::find(pid, memory, regions, &Image::all(pid, regions), python.as_ref())
        });
        let held = places.look(memory, regions, Budget::default());
        self.places = Some(places);
        Holdings::new(held)
    }
}

/// One look, in order of addresses.
#[derive(Debug)]
pub struct Holdings {
    held: Held,
    /// Memory that belongs to an allocator.
    spans: Vec<(Range<u64>, ResidentKind)>,
    c_free: Vec<Range<u64>>,
    object_free: Vec<Range<u64>>,
}

impl Holdings {
    fn new(held: Held) -> Self {
        let arenas = || held.glibc.iter().flat_map(|glibc| &glibc.arenas);
        let objects = held.pymalloc.iter().flat_map(|pymalloc| &pymalloc.arenas);
        let mut spans: Vec<(Range<u64>, ResidentKind)> =
            arenas().flat_map(|arena| &arena.spans).map(|span| (span.clone(), ResidentKind::CHeap)).collect();
        spans.extend(objects.map(|arena| (arena.clone(), ResidentKind::Objects)));
        spans.sort_by_key(|(span, _)| span.start);
        let c_free = ascending(arenas().flat_map(|arena| &arena.free).map(|free| free.start..free.end).collect());
        let free_pools = held.pymalloc.iter().flat_map(|found| found.free_pools.iter().chain(&found.never_used));
        let object_free = ascending(free_pools.cloned().collect());
        Self { spans, c_free, object_free, held }
    }

    /// The parts of a range that belong to an allocator, ascending.
    pub fn spans(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, ResidentKind)> {
        let first = self.spans.partition_point(|(span, _)| span.end <= range.start);
        let inside = self.spans[first..].iter().take_while(move |(span, _)| span.start < range.end);
        inside.map(move |(span, kind)| (span.start.max(range.start)..span.end.min(range.end), *kind))
    }

    /// Bytes of a kind that are free and in private resident pages; `None` where the allocator's state is not known.
    pub fn free(&self, kind: ResidentKind, pages: &[PageRun]) -> Option<u64> {
        match kind {
            ResidentKind::CHeap => self.held.glibc.is_ok().then(|| resident(&self.c_free, pages)),
            ResidentKind::Objects => {
                let found = self.held.pymalloc.as_ref().ok()?;
                Some(resident(&self.object_free, pages) + found.free_in_pools_bytes)
            }
            _ => None,
        }
    }

    /// What the report says of them.
    pub fn summary(&self, pages: &[PageRun]) -> Allocators {
        let mut summary = Allocators::default();
        if let Ok(glibc) = &self.held.glibc {
            summarize(glibc, pages, &mut summary);
        }
        if let Ok(found) = &self.held.pymalloc {
            summary.pool_free_space = found.free_in_pools_bytes;
            summary.free_pool_space = resident(&self.object_free, pages);
        }
        summary.notes = self.notes();
        summary
    }

    fn notes(&self) -> Vec<String> {
        let not_read = [self.held.glibc.as_ref().err(), self.held.pymalloc.as_ref().err()];
        let worth_a_word = |error: &&NotRead| !matches!(error, NotRead::NoPython);
        let mut notes: Vec<String> =
            not_read.into_iter().flatten().filter(worth_a_word).map(NotRead::to_string).collect();
        if self.held.unfinished {
            notes.push(
                "the allocators' memory is too large to be read whole: what was not read counts as live".to_owned(),
            );
        }
        notes
    }
}

fn summarize(glibc: &Glibc, pages: &[PageRun], summary: &mut Allocators) {
    let ranges_of = |wanted: fn(FreeKind) -> bool| {
        let free = glibc.arenas.iter().flat_map(|arena| &arena.free);
        ascending(free.filter(|free| wanted(free.kind)).map(|free| free.start..free.end).collect())
    };
    let Advice { trim, arena_max } = Advice::of(glibc);
    summary.glibc = format!("{}.{}", glibc.version.0, glibc.version.1);
    summary.arenas = glibc.arenas.len() as u64;
    summary.arena_max = glibc.settings.as_ref().and_then(|settings| settings.arena_max);
    summary.top_space = resident(&ranges_of(|kind| kind == FreeKind::Top), pages);
    summary.bin_space = resident(&ranges_of(|kind| kind == FreeKind::Bin), pages);
    summary.cached_space = resident(&ranges_of(|kind| !matches!(kind, FreeKind::Top | FreeKind::Bin)), pages);
    summary.trim_gives_back = resident(&trim, pages);
    summary.two_arenas_give_back = resident(&arena_max, pages);
    summary.threshold_gives_back = resident(&advice::trim_threshold(glibc, 128 << 10), pages);
}

/// Sorted by address.
fn ascending(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges
}

/// Bytes of ranges that lie in private resident pages; both are in order of addresses.
fn resident(ranges: &[Range<u64>], pages: &[PageRun]) -> u64 {
    let mut sum = 0;
    let mut next = 0;
    for run in pages.iter().filter(|run| !run.shared) {
        while ranges.get(next).is_some_and(|range| range.end <= run.start) {
            next += 1;
        }
        let inside = ranges[next..].iter().take_while(|range| range.start < run.end);
        sum += inside.map(|range| range.end.min(run.end) - range.start.max(run.start)).sum::<u64>();
    }
    sum
}

/// The blocks of glibc's malloc that have a mapping of their own, from the start of a range on: their header says how
/// long they are. Neighbours are one range.
pub fn mmapped_blocks(memory: &dyn Memory, range: Range<u64>) -> Option<Range<u64>> {
    let mut end = range.start;
    while end < range.end {
        let (Ok(before), Ok(size)) = (memory.u64(end), memory.u64(end + 8)) else { break };
        let length = size & !FLAGS;
        let is_block = before == 0 && size & FLAGS == MMAPPED && length > 0 && length.is_multiple_of(PAGE);
        if !is_block || length > range.end - end {
            break;
        }
        end += length;
    }
    (end > range.start).then_some(range.start..end)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Bytes(u64, Vec<u64>);

    impl Memory for Bytes {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let word = usize::try_from((address - self.0) / 8).unwrap();
            let word = self.1.get(word).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(&word.to_le_bytes());
            Ok(())
        }
    }

    #[test]
    fn free_bytes_count_where_their_pages_are() {
        let run = |start, end, shared| PageRun { start, end, kind: ResidentKind::CHeap, shared };
        let pages = [run(0, 4096, false), run(8192, 12288, false), run(12288, 16384, true)];
        assert_eq!(resident(&[100..9000, 10_000..20_000], &pages), 3996 + 808 + 2288);
        assert_eq!(resident(&[], &pages), 0);
    }

    #[test]
    fn blocks_with_a_mapping_of_their_own_are_known_by_their_size() {
        let mut words = vec![0; 3 * 512];
        words[1] = 4096 | MMAPPED;
        words[513] = 8192 | MMAPPED;
        assert_eq!(mmapped_blocks(&Bytes(0, words.clone()), 0..12288), Some(0..12288));
        assert_eq!(mmapped_blocks(&Bytes(0, words.clone()), 0..8192), Some(0..4096));
        words[1] = 4096 | 1;
        assert_eq!(mmapped_blocks(&Bytes(0, words), 0..12288), None);
    }
}
