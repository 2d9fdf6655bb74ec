//! `struct malloc_state`, the head of an arena, and the ring of all arenas.
//!
//! Told apart from other data by its bins, 127 pairs of pointers: an empty bin points to itself. All offsets are relative
//! to the first bin; they are the same from glibc 2.27 to 2.43. What lies before the bins differs with the fast bins.

use crate::process::memory::Memory;

/// Pairs of pointers.
pub(super) const BINS: u64 = 127;

/// From a bin to the chunk it would be the links of.
const LINKS: u64 = 16;

/// Bytes of all bins.
const BIN_BYTES: u64 = BINS * 16;

/// From the first bin, bytes.
const TOP: u64 = 16;
const NEXT: u64 = BIN_BYTES + 16;
const ATTACHED: u64 = NEXT + 16;
const SYSTEM: u64 = NEXT + 24;
const END: u64 = NEXT + 40;

/// Bins from the start of the state where it has ten fast bins: mutex, flags, `have_fastchunks`, the fast bins, top, last
/// remainder.
const BINS_WITH_FAST_BINS: u64 = 112;
const FIRST_FAST_BIN: u64 = 16;
pub(super) const FAST_BINS: u64 = 10;

/// The state's flags, and the bit that says that the main arena is not one piece.
const FLAGS: u64 = 4;
const NONCONTIGUOUS: u32 = 2;

/// No address of a program, and no size, is as large: user space has 47 bits, or 56 with five levels of page tables.
pub(super) const USER_END: u64 = 1 << 56;

/// Flags in a chunk's size.
const SIZE_FLAGS: u64 = 7;

/// Arenas followed: eight for each of 1024 processors.
const MAX_ARENAS: usize = 8192;

/// Where the main arena lies, and how its fields do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Address of `main_arena`.
    pub main: u64,
    /// From an arena's start to its first bin.
    pub bins: u64,
}

impl Layout {
    /// Address of an arena's `top`.
    pub fn top(&self, arena: u64) -> u64 {
        arena.wrapping_add(self.bins - TOP)
    }
}

/// One arena's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub address: u64,
    /// Address of the first chunk that would fit behind it.
    pub first_chunk: u64,
    pub noncontiguous: bool,
    /// Heads of the lists, smallest chunks first.
    pub fast_bins: Vec<u64>,
    /// Where a bin points to if it is empty, and where it does point to.
    pub bins: Vec<(u64, u64)>,
    pub top: u64,
    /// Bytes of the top chunk.
    pub top_size: u64,
    pub attached: u64,
    pub system_bytes: u64,
    next: u64,
}

/// All arenas, the main one first; `None` if the ring does not close.
pub(super) fn read_all(memory: &impl Memory, layout: &Layout) -> Option<Vec<State>> {
    let mut states = Vec::new();
    let mut address = layout.main;
    while states.len() < MAX_ARENAS {
        let state = read(memory, layout, address)?;
        address = state.next;
        states.push(state);
        if address == layout.main {
            return Some(states);
        }
    }
    None
}

/// Reads an arena's head until its top is still the same after the top's size was read.
fn read(memory: &impl Memory, layout: &Layout, address: u64) -> Option<State> {
    let same = |state: &State| memory.u64(layout.top(address)).is_ok_and(|top| top == state.top);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut state = copy(memory, layout, address)?;
        state.top_size = memory.u64(state.top.wrapping_add(8)).map_or(0, |size| size & !SIZE_FLAGS);
        if same(&state) {
            return Some(state);
        }
        last = Some(state);
    }
    last
}

fn copy(memory: &impl Memory, layout: &Layout, address: u64) -> Option<State> {
    let length = usize::try_from(layout.bins + END).ok()?;
    let bytes = memory.bytes(address, length, length).ok()?;
    let word = |at: u64| Some(u64::from_le_bytes(bytes.get(usize::try_from(at).ok()?..)?.get(..8)?.try_into().ok()?));
    let flags = u32::from_le_bytes(bytes.get(FLAGS as usize..)?.get(..4)?.try_into().ok()?);
    let has_fast_bins = layout.bins == BINS_WITH_FAST_BINS;
    let fast_bins = (0..FAST_BINS).filter(|_| has_fast_bins).map(|index| word(FIRST_FAST_BIN + index * 8));
    let bin = |index: u64| Some((address + layout.bins + index * 16 - LINKS, word(layout.bins + index * 16)?));
    let state = State {
        address,
        first_chunk: (address + layout.bins + END).next_multiple_of(16),
        noncontiguous: flags & NONCONTIGUOUS != 0,
        fast_bins: fast_bins.collect::<Option<_>>()?,
        bins: (0..BINS).map(bin).collect::<Option<_>>()?,
        top: word(layout.bins - TOP)?,
        top_size: 0,
        attached: word(layout.bins + ATTACHED)?,
        system_bytes: word(layout.bins + SYSTEM)?,
        next: word(layout.bins + NEXT)?,
    };
    let numbers = [state.address, state.top, state.system_bytes, state.next];
    numbers.iter().all(|&number| number < USER_END).then_some(state)
}

/// Looks for the bins of the main arena among words that lie at `address` in the target.
pub(super) fn search(memory: &impl Memory, address: u64, words: &[u64]) -> Option<Layout> {
    let count = (BINS * 2) as usize;
    let mut candidates = words.windows(count).enumerate().map(|(index, pairs)| (address + index as u64 * 8, pairs));
    candidates.find_map(|(bins, pairs)| {
        let alike = pairs.chunks_exact(2).enumerate().all(|(index, pair)| is_alike(own(bins, index), pair));
        (alike && are_bins(memory, bins)).then(|| layout(memory, bins)).flatten()
    })
}

/// What an empty bin's two pointers hold.
fn own(bins: u64, index: usize) -> u64 {
    bins + index as u64 * 16 - LINKS
}

/// Both point to the bin itself, or both to chunks.
fn is_alike(own: u64, pair: &[u64]) -> bool {
    let is_chunk = |chunk: &u64| *chunk != own && *chunk != 0 && chunk.is_multiple_of(16);
    pair.iter().all(|pointer| *pointer == own) || pair.iter().all(is_chunk)
}

/// The target may change a bin while it is looked at.
const ATTEMPTS: usize = 8;

/// Whether the chunks in each bin point back to it. What was copied a while ago may have changed: it is read anew.
fn are_bins(memory: &impl Memory, bins: u64) -> bool {
    (0..ATTEMPTS).any(|_| {
        let Ok(bytes) = memory.bytes(bins, BIN_BYTES as usize, BIN_BYTES as usize) else { return false };
        let (words, _) = bytes.as_chunks::<8>();
        let pairs = words.chunks_exact(2).map(|pair| (u64::from_le_bytes(pair[0]), u64::from_le_bytes(pair[1])));
        let mut filled = pairs.enumerate().filter(|(index, (first, _))| *first != own(bins, *index));
        let links_back = |(index, (first, last)): (usize, (u64, u64))| {
            let is_own = |address: u64| memory.u64(address).is_ok_and(|pointer| pointer == own(bins, index));
            is_own(first.wrapping_add(24)) && is_own(last.wrapping_add(16))
        };
        filled.all(links_back)
    })
}

/// How far before its bins an arena starts, told by the ring that leads back to it.
fn layout(memory: &impl Memory, bins: u64) -> Option<Layout> {
    let next = memory.u64(bins + NEXT).ok()?;
    let starts = (3..=64).map(|words| words * 8).filter(|&offset| {
        // Alone the arena points to itself; else the bins of the next one are where they would be.
        next == bins - offset || next.is_multiple_of(16) && is_arena(memory, next.wrapping_add(offset))
    });
    starts
        .map(|offset| Layout { main: bins - offset, bins: offset })
        .find(|layout| read_all(memory, layout).is_some_and(|states| !states.is_empty()))
}

/// Whether an arena's bins may lie here: the last ones are for chunks so large that they are empty.
fn is_arena(memory: &impl Memory, bins: u64) -> bool {
    (BINS - 16..BINS).any(|index| {
        let bin = bins.wrapping_add(index * 16);
        let own = bin.wrapping_sub(LINKS);
        [0, 8].iter().all(|half| memory.u64(bin.wrapping_add(*half)).is_ok_and(|value| value == own))
    })
}
