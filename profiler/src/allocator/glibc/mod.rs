//! glibc's malloc in another process: its arenas, and in each what is free.
//!
//! Facts are `malloc/malloc.c` and `malloc/arena.c` of glibc 2.28 to 2.43, x86-64, and what was measured on 2.31, 2.36,
//! 2.41 and 2.43.
//! A chunk begins with 16 bytes: the size of the chunk before it, if that is free, and its own size with three flags.
//! That it is free is told by a flag of the chunk behind it; chunks in fast bins and thread caches look as if in use.

mod find;
mod heaps;
mod lists;
mod settings;
mod state;
mod walk;

use std::ops::Range;

pub use find::{Place, find};
pub use settings::Settings;

use self::heaps::Span;
use self::lists::{bins, fast_bins, thread_caches};
use self::state::State;
use self::walk::walk;
use super::NotRead;
use crate::process::bounded::{Bounded, Pages};
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// A glibc release, (2, 36).
pub type Version = (u32, u32);

/// What glibc's malloc holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glibc {
    /// The C library's release.
    pub version: Version,
    /// The main arena first.
    pub arenas: Vec<Arena>,
    /// The settings and sums that all arenas share; `None` if they were not found.
    pub settings: Option<Settings>,
}

/// One arena. Threads allocate from an arena each, until there are as many as `MALLOC_ARENA_MAX` allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// The one that grows by brk; the others have mappings of their own.
    pub main: bool,
    /// Threads that allocate from it.
    pub threads: u64,
    /// The address ranges it owns, ascending.
    pub spans: Vec<Range<u64>>,
    /// What is free in them, ascending and disjoint.
    pub free: Vec<FreeRange>,
    /// Bytes of its blocks that are in use, with their headers, and with what was not looked at.
    pub in_use_bytes: u64,
    /// Bytes it has from the kernel.
    pub system_bytes: u64,
    /// Of these, bytes that could not be walked; they are counted as in use.
    pub skipped_bytes: u64,
}

impl Arena {
    /// Free bytes, of all kinds.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(FreeRange::bytes).sum()
    }

    /// Free bytes of one kind.
    pub fn free_bytes_of(&self, kind: FreeKind) -> u64 {
        self.free.iter().filter(|range| range.kind == kind).map(FreeRange::bytes).sum()
    }
}

/// A free chunk, from its header to the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeRange {
    /// First address: its header, which malloc keeps using, of up to 48 bytes.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Where malloc keeps it.
    pub kind: FreeKind,
}

impl FreeRange {
    /// Bytes.
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// Where malloc keeps a free chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FreeKind {
    /// The end of an arena, from which new chunks are cut.
    Top,
    /// A bin: small, large or unsorted.
    Bin,
    /// A fast bin: not merged with its neighbours.
    FastBin,
    /// A thread's cache: only that thread can have it back.
    ThreadCache,
}

/// Looks at all arenas: the number of refusals, and what was found.
pub fn look<M: Memory>(place: &Place, memory: &Bounded<'_, M>, regions: &[Region]) -> Result<(u64, Glibc), NotRead> {
    let states = state::read_all(memory, &place.layout).ok_or(NotRead::Unreadable)?;
    let settings = place.settings.as_ref().and_then(|place| place.read(memory));
    let mut refused = 0;
    let mut caches = Vec::new();
    let mut arenas = Vec::new();
    for (index, state) in states.iter().enumerate() {
        let main = index == 0;
        let spans = match main {
            true => heaps::main_spans(state, settings.as_ref(), regions),
            false => heaps::heap_spans(state, memory, regions),
        };
        let (arena, found, wrong) = arena(place, memory, state, main, &spans);
        arenas.push(arena);
        caches.extend(found);
        refused += wrong;
    }
    refused += lists(place, memory, regions, &states, &caches, &mut arenas);
    for arena in &mut arenas {
        refused += close(arena);
    }
    Ok((refused, Glibc { version: place.version, arenas, settings }))
}

/// Adds what only lists lead to: fast bins, threads' caches, and where the main arena is not one piece the bins of the
/// other pieces. Returns the lists that did not validate.
fn lists<M: Memory>(
    place: &Place,
    memory: &Bounded<'_, M>,
    regions: &[Region],
    states: &[State],
    caches: &[u64],
    arenas: &mut [Arena],
) -> u64 {
    let pages = Pages::new(memory);
    let mut refused = 0;
    let mut pieces = Vec::new();
    if let (Some(state), Some(main)) = (states.first(), arenas.first_mut()) {
        let owned = bytes_of(&main.spans);
        if owned < state.system_bytes {
            let (ranges, wrong) = bins(state, &pages, &main.spans);
            refused += wrong;
            pieces = heaps::regions_of(ranges.iter().map(|range| range.start), regions);
            add(main, ranges);
        }
    }
    for (state, arena) in states.iter().zip(&mut *arenas) {
        let owned: Vec<_> = if arena.main { united(&arena.spans, &pieces) } else { arena.spans.clone() };
        let (ranges, wrong) = fast_bins(state, &pages, place.version, &owned);
        add(arena, ranges);
        refused += wrong;
    }
    let all: Vec<_> = arenas.iter().flat_map(|arena| arena.spans.clone()).collect();
    let (ranges, wrong) = thread_caches(caches, &pages, place.version, &united(&all, &pieces));
    refused += wrong;
    for range in ranges {
        let owner = arenas.iter().position(|arena| owns(&arena.spans, range.start)).unwrap_or(0);
        arenas.get_mut(owner).into_iter().for_each(|arena| add(arena, vec![range]));
    }
    // What could not be read for want of budget is not wrong.
    if memory.is_spent() { 0 } else { refused }
}

/// Adds free chunks to an arena; one that lies in none of its spans is a span of its own.
fn add(arena: &mut Arena, ranges: Vec<FreeRange>) {
    let outside: Vec<_> = ranges.iter().filter(|range| !owns(&arena.spans, range.start)).collect();
    let outside: Vec<_> = outside.into_iter().map(|range| range.start..range.end).collect();
    if !outside.is_empty() {
        arena.spans = united(&arena.spans, &outside);
    }
    arena.free.extend(ranges);
}

/// Ascending and disjoint: those that overlap are one.
fn united(spans: &[Range<u64>], more: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<_> = spans.iter().chain(more).cloned().collect();
    all.sort_by_key(|span| span.start);
    let mut united: Vec<Range<u64>> = Vec::new();
    for span in all {
        match united.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => united.push(span),
        }
    }
    united
}

fn bytes_of(spans: &[Range<u64>]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}

/// Whether an address lies in one of some ascending ranges.
fn owns(spans: &[Range<u64>], address: u64) -> bool {
    let after = spans.partition_point(|span| span.end <= address);
    spans.get(after).is_some_and(|span| span.start <= address)
}

/// Whether one of some ascending ranges holds the whole of another.
fn holds(spans: &[Range<u64>], range: &FreeRange) -> bool {
    let after = spans.partition_point(|span| span.end <= range.start);
    spans.get(after).is_some_and(|span| span.start <= range.start && range.end <= span.end)
}

/// Walks the spans of one arena: what its chunks say, the chunks that may be a thread's cache, and the refusals.
fn arena<M: Memory>(
    place: &Place,
    memory: &Bounded<'_, M>,
    state: &State,
    main: bool,
    spans: &[Span],
) -> (Arena, Vec<u64>, u64) {
    let mut arena = Arena { main, threads: state.attached, system_bytes: state.system_bytes, ..Arena::default() };
    let mut caches = Vec::new();
    let mut refused = 0;
    let top_now = || memory.u64(place.layout.top(state.address)).ok();
    for span in spans {
        let walked = walk(memory, span, state.top, top_now, lists::cache_chunk(place.version));
        arena.spans.push(span.range.clone());
        arena.free.extend(walked.free);
        arena.skipped_bytes += walked.skipped;
        caches.extend(walked.caches);
        refused += walked.refused;
    }
    arena.spans = united(&arena.spans, &[]);
    (arena, caches, refused)
}

/// Sorts what is free, leaves out what overlaps with what comes before or leaves the arena, and makes the sums. Returns
/// what was left out.
fn close(arena: &mut Arena) -> u64 {
    // Of two that begin together the one that the neighbour's flag vouches for comes first.
    arena.free.sort_by_key(|range| (range.start, range.kind));
    let mut end = 0;
    let before = arena.free.len();
    arena.free.retain(|range| {
        let keep = range.start >= end && holds(&arena.spans, range);
        end = if keep { range.end } else { end };
        keep
    });
    let owned = bytes_of(&arena.spans);
    arena.skipped_bytes += arena.system_bytes.saturating_sub(owned);
    arena.system_bytes = arena.system_bytes.max(owned);
    arena.in_use_bytes = arena.system_bytes - arena.free_bytes();
    (before - arena.free.len()) as u64
}
