//! pymalloc's arenas in another process: what is live in their pools and what is free.
//!
//! Facts are `Objects/obmalloc.c` and `Include/internal/pycore_obmalloc.h` of CPython 3.8 to 3.15. An array of
//! `struct arena_object` names the arenas; an arena is cut into pools; each pool has blocks of one size. The array is
//! found through `usedpools`, a table of the pools in use that points to itself where there are none: a static variable
//! up to 3.11, then a part of the interpreter's state, with the array's address behind it.

use std::ops::Range;

use super::allocators::{Allocators, Interpreter, NoTables, ObjectAllocator};
use super::layout::Layout;
use super::pool::{self, HEADER_BYTES};
use crate::process::bounded::{Bounded, Pages};
use crate::process::image::Image;
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// Size classes: 16 bytes, 32, up to 512.
pub const CLASSES: usize = 32;

/// Words of `usedpools`: two a class.
const USED_WORDS: usize = 2 * CLASSES;

/// From an entry of `usedpools` to the pool it would be the links of.
const LINKS: u64 = 16;

/// In a pool's header.
const POOL_NEXT: u64 = 16;
const POOL_PREVIOUS: u64 = 24;
const POOL_ARENA: u64 = 32;
const POOL_CLASS: u64 = 36;

/// `struct arena_object`: bytes, and the fields we use.
const ARENA_OBJECT: usize = 48;
const ARENA_NEXT_POOL: usize = 8;
const ARENA_FREE_POOLS: usize = 16;
const ARENA_POOLS: usize = 20;
const ARENA_FREE_LIST: usize = 24;
const ARENA_NEXT: usize = 32;

/// The array's length is 16 at first and doubles.
const FIRST_ARENAS: usize = 16;

/// Arenas looked at: a terabyte of them.
const MAX_ARENAS: usize = 1 << 20;

/// No address of a program is as large.
const USER_END: u64 = 1 << 56;

/// Variables of an interpreter that are searched; the largest build has 5 MiB.
const MAX_DATA: u64 = 64 << 20;

/// Bytes of an interpreter's state that are searched for its pools.
const MAX_STATE: u64 = 1 << 20;

/// Interpreters in a process.
const MAX_INTERPRETERS: usize = 256;

/// The target may open a pool while its table is looked at.
const ATTEMPTS: usize = 8;

/// Since this minor version each interpreter has pools of its own, unless it shares the main one's.
const PER_INTERPRETER_MINOR: u8 = 12;

/// Since this minor version an interpreter's state has a pointer to them.
const POINTER_MINOR: u8 = 13;

/// What pymalloc holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pymalloc {
    /// The arenas, ascending.
    pub arenas: Vec<Range<u64>>,
    /// By size class, smallest first: [`CLASSES`] of them.
    pub classes: Vec<SizeClass>,
    /// Blocks in use.
    pub live_blocks: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Free bytes in pools of which at least one block is in use.
    pub free_in_pools_bytes: u64,
    /// The pools of which no block is in use; neighbours are one range. Ascending.
    pub free_pools: Vec<Range<u64>>,
    /// Space of arenas from which no pool was cut yet: never touched. Ascending.
    pub never_used: Vec<Range<u64>>,
    /// Headers, and what is too small for another block, or for another pool at an arena's ends.
    pub overhead_bytes: u64,
    /// Pools and arenas that did not validate.
    pub refused: u64,
    /// Bytes of pools that did not validate or were not looked at.
    pub refused_bytes: u64,
}

/// The pools of one size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of a block.
    pub block_size: u64,
    /// Pools with at least one block in use.
    pub pools: u64,
    /// Blocks in use.
    pub live_blocks: u64,
    /// Blocks in these pools that are not.
    pub free_blocks: u64,
}

/// Where an interpreter's arenas are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pool_size: u64,
    arena_size: u64,
    /// Address of the pointer to the array, for each set of arenas in the process.
    arrays: Vec<u64>,
    /// Address of each `usedpools`.
    tables: Vec<u64>,
    /// Whether the array's length stands behind that pointer.
    has_length: bool,
}

/// Why pymalloc's arenas were not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// PYTHONMALLOC=malloc.
    #[error("python's small objects come from the C library (PYTHONMALLOC=malloc) and are in its arenas")]
    CLibrary,
    /// A free-threaded build, or PYTHONMALLOC=mimalloc.
    #[error("python's objects come from mimalloc, whose heaps pyalloc cannot read: what it holds free is not known")]
    Mimalloc,
    /// Something else.
    #[error("another allocator has replaced pymalloc: what it holds free is not known")]
    Foreign,
    /// The table of pools was not found.
    #[error("pymalloc's arenas were not found in this python: what they hold free is not known")]
    NotFound,
    /// They were found, and then could not be read.
    #[error("pymalloc's arenas could not be read: the process has ended, or the time for a look was over")]
    Unreadable,
    /// What serves objects was not found.
    #[error(transparent)]
    NoTables(#[from] NoTables),
}

/// Finds where an interpreter names its arenas.
///
/// # Errors
/// Its objects do not come from pymalloc, or no table was found.
pub fn find(
    interpreter: &Interpreter<'_>,
    layout: &Layout,
    memory: &impl Memory,
    regions: &[Region],
) -> Result<Place, NotRead> {
    match Allocators::read(interpreter, memory, regions)?.object_allocator {
        ObjectAllocator::CLibrary => return Err(NotRead::CLibrary),
        ObjectAllocator::Mimalloc => return Err(NotRead::Mimalloc),
        ObjectAllocator::Foreign => return Err(NotRead::Foreign),
        ObjectAllocator::Pymalloc => {}
    }
    let arrays = (0..ATTEMPTS).find_map(|_| {
        let finder = Finder { interpreter, layout, memory, pages: Pages::new(memory) };
        finder.arrays(regions)
    });
    let (arrays, tables) = arrays.ok_or(NotRead::NotFound)?;
    Ok(Place {
        pool_size: layout.pool_size,
        arena_size: layout.arena_size,
        arrays,
        tables,
        has_length: interpreter.minor >= PER_INTERPRETER_MINOR,
    })
}

/// What the pair of a class without pools holds.
fn empty(table: u64, class: usize) -> u64 {
    table + class as u64 * 16 - LINKS
}

struct Finder<'a, M> {
    interpreter: &'a Interpreter<'a>,
    layout: &'a Layout,
    memory: &'a M,
    pages: Pages<'a, M>,
}

impl<M: Memory> Finder<'_, M> {
    /// The address of each pointer to an array of arenas, and of each table of the pools in use.
    fn arrays(&self, regions: &[Region]) -> Option<(Vec<u64>, Vec<u64>)> {
        let data: Vec<_> = data(self.interpreter.image, regions)
            .filter_map(|(start, length)| Some((start, words(self.memory, start, length)?)))
            .collect();
        let used = data.iter().find_map(|(start, words)| self.used_pools(*start, words))?;
        if self.interpreter.minor < PER_INTERPRETER_MINOR {
            let pools = self.pools(used);
            let mut pointers = data.iter().flat_map(|(start, words)| {
                words.iter().enumerate().map(move |(index, word)| (start + index as u64 * 8, *word))
            });
            let (pointer, _) = pointers.find(|(_, array)| self.names_all(*array, &pools))?;
            return Some((vec![pointer], vec![used]));
        }
        let behind = |used: u64| used + USED_WORDS as u64 * 8;
        let tables: Vec<u64> = std::iter::once(used).chain(self.other_tables(used)).collect();
        Some((tables.iter().copied().map(behind).collect(), tables))
    }

    /// The address of `usedpools` among words that lie at `start`.
    fn used_pools(&self, start: u64, words: &[u64]) -> Option<u64> {
        let windows = words.windows(USED_WORDS).enumerate();
        let mut alike = windows.map(|(index, window)| (start + index as u64 * 8, window));
        alike.find_map(|(table, window)| (self.is_alike(table, window) && self.is_used_pools(table)).then_some(table))
    }

    /// Whether each pair points to itself or to two pools.
    fn is_alike(&self, table: u64, window: &[u64]) -> bool {
        let is_pool = |pool: u64| pool != 0 && pool.is_multiple_of(self.layout.pool_size);
        let plausible = |(class, pair): (usize, &[u64])| {
            pair.iter().all(|&pool| pool == empty(table, class)) || pair.iter().all(|&pool| is_pool(pool))
        };
        window.chunks_exact(2).enumerate().all(plausible)
    }

    /// Whether the pools of each pair are the first and the last of a ring of pools of its class. A table without any
    /// pool is not told from others that look alike. What was copied a while ago may have changed: it is read anew.
    fn is_used_pools(&self, table: u64) -> bool {
        (0..ATTEMPTS).any(|_| {
            let Some(window) = words(self.memory, table, USED_WORDS as u64 * 8) else { return false };
            let word = |address: u64| self.memory.u64(address).ok();
            let filled = || window.chunks_exact(2).enumerate().filter(|(class, pair)| pair[0] != empty(table, *class));
            let in_ring = |(class, pair): (usize, &[u64])| {
                self.memory.u32(pair[0].wrapping_add(POOL_CLASS)).is_ok_and(|of| of as usize == class)
                    && word(pair[0].wrapping_add(POOL_PREVIOUS)) == Some(empty(table, class))
                    && word(pair[1].wrapping_add(POOL_NEXT)) == Some(empty(table, class))
            };
            filled().next().is_some() && filled().all(in_ring)
        })
    }

    /// The pools that a table names, with the index of the arena of each.
    fn pools(&self, used: u64) -> Vec<(u64, u32)> {
        let first = (0..CLASSES as u64).filter_map(|class| {
            let pool = self.pages.word(used + class * 16)?;
            (pool != empty(used, class as usize)).then_some(pool)
        });
        first.filter_map(|pool| Some((pool, self.pages.word(pool + POOL_ARENA)? as u32))).collect()
    }

    /// Whether each pool lies in the arena that an array has at its index.
    fn names_all(&self, array: u64, pools: &[(u64, u32)]) -> bool {
        let lies_in = |&(pool, index): &(u64, u32)| {
            let object = array.wrapping_add(u64::from(index) * ARENA_OBJECT as u64);
            let start = self.pages.word(object)?;
            let next_pool = self.pages.word(object.wrapping_add(ARENA_NEXT_POOL as u64))?;
            let end = start.checked_add(self.layout.arena_size)?;
            Some(start != 0 && start <= pool && pool < next_pool && next_pool <= end)
        };
        array != 0 && array.is_multiple_of(16) && !pools.is_empty() && pools.iter().all(|p| lies_in(p) == Some(true))
    }

    /// The tables of interpreters that do not share the main one's: where theirs is relative to their state is told by
    /// the main one.
    fn other_tables(&self, used: u64) -> Vec<u64> {
        let interpreters = self.interpreters();
        let runtime = self.interpreter.runtime;
        let size = self.interpreter.image.export("_PyRuntime").map_or(0, |symbol| symbol.size);
        // The main interpreter's state is a part of the runtime's.
        let is_main = |state: &&u64| runtime <= **state && **state - runtime < size;
        let Some(main) = interpreters.iter().find(is_main).copied() else { return Vec::new() };
        let to_table: Box<dyn Fn(u64) -> Option<u64>> = if self.interpreter.minor < POINTER_MINOR {
            let Some(offset) = used.checked_sub(main) else { return Vec::new() };
            Box::new(move |state| state.checked_add(offset))
        } else {
            let length = (runtime + size - main).min(MAX_STATE);
            let held = words(self.memory, main, length).unwrap_or_default();
            let Some(index) = held.iter().position(|&word| word == used) else { return Vec::new() };
            Box::new(move |state| self.pages.word(state.checked_add(index as u64 * 8)?))
        };
        let others = interpreters.iter().filter(|state| **state != main).filter_map(|state| to_table(*state));
        others.filter(|table| *table != used && self.is_used_pools(*table)).collect()
    }

    fn interpreters(&self) -> Vec<u64> {
        let mut states = Vec::new();
        let mut state = self.pages.word(self.interpreter.runtime + self.layout.runtime.interpreters_head).unwrap_or(0);
        while state != 0 && states.len() < MAX_INTERPRETERS && !states.contains(&state) {
            states.push(state);
            state = self.pages.word(state.wrapping_add(self.layout.interpreter.next)).unwrap_or(0);
        }
        states
    }
}

/// The interpreter's variables: start and length of each writable segment, in the target.
fn data<'a>(image: &'a Image, regions: &'a [Region]) -> impl Iterator<Item = (u64, u64)> {
    let segments = image.segments.iter().filter(|segment| !segment.execute);
    segments.filter_map(|segment| {
        let start = image.bias.wrapping_add(segment.vaddr).next_multiple_of(8);
        let end = image.bias.wrapping_add(segment.vaddr).checked_add(segment.memory_size)?;
        let writable = regions.iter().filter(|region| region.permissions.write);
        let pieces: Vec<_> = writable.filter(|region| region.start < end && start < region.end).collect();
        let (first, last) = (pieces.first()?, pieces.last()?);
        let (start, end) = (start.max(first.start), end.min(last.end));
        (end > start && end - start <= MAX_DATA).then(|| (start, end - start))
    })
}

fn words(memory: &impl Memory, start: u64, length: u64) -> Option<Vec<u64>> {
    let length = usize::try_from(length).ok()?;
    let bytes = memory.bytes(start, length, length).ok()?;
    let (chunks, _) = bytes.as_chunks::<8>();
    Some(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

/// Looks at all arenas.
///
/// # Errors
/// Not one of the arrays could be read.
pub fn look<M: Memory>(place: &Place, memory: &Bounded<'_, M>) -> Result<Pymalloc, NotRead> {
    let mut found = Pymalloc { classes: classes(), ..Pymalloc::default() };
    let mut readable = false;
    for &pointer in &place.arrays {
        let Some(objects) = place.objects(memory, pointer) else { continue };
        readable = true;
        for (index, object) in objects.iter().enumerate().filter(|(_, object)| object.start != 0) {
            place.arena(memory, index, object, &mut found);
        }
    }
    if !readable {
        return Err(NotRead::Unreadable);
    }
    if memory.is_spent() {
        // What could not be read for want of budget is not wrong.
        found.refused = 0;
    }
    found.arenas.sort_by_key(|range| range.start);
    found.never_used.sort_by_key(|range| range.start);
    found.free_pools = joined(found.free_pools);
    Ok(found)
}

/// The part of each arena from which pools were cut, all interpreters' arenas, ascending; what does not validate is left
/// out.
pub fn cut(place: &Place, memory: &impl Memory) -> Vec<Range<u64>> {
    let objects = place.arrays.iter().filter_map(|&pointer| place.objects(memory, pointer)).flatten();
    let mut cut: Vec<_> = objects.filter_map(|object| object.cut(place.pool_size)).collect();
    cut.sort_by_key(|range| range.start);
    cut
}

fn classes() -> Vec<SizeClass> {
    (1..=CLASSES as u64).map(|class| SizeClass { block_size: class * 16, ..SizeClass::default() }).collect()
}

/// Sorted, neighbours as one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// `struct arena_object`.
#[derive(Clone, Copy, Debug)]
struct ArenaObject {
    start: u64,
    /// The next pool that would be cut off.
    next_pool: u64,
    free_pools: u32,
    pools: u32,
    /// The first pool that was given back.
    given_back: u64,
    /// The next object in the list of those with arenas to spare, or of the unused ones, whose last has none.
    next: u64,
}

impl ArenaObject {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let int = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            start: long(0)?,
            next_pool: long(ARENA_NEXT_POOL)?,
            free_pools: int(ARENA_FREE_POOLS)?,
            pools: int(ARENA_POOLS)?,
            given_back: long(ARENA_FREE_LIST)?,
            next: long(ARENA_NEXT)?,
        })
    }

    /// The address of its first pool.
    fn first_pool(&self, pool_size: u64) -> Option<u64> {
        self.start.checked_next_multiple_of(pool_size)
    }

    /// The pools cut from it.
    fn cut(&self, pool_size: u64) -> Option<Range<u64>> {
        let first = self.first_pool(pool_size).filter(|_| self.start != 0 && self.is_one(pool_size))?;
        Some(first..self.next_pool)
    }

    /// Whether its fields agree.
    fn is_one(&self, pool_size: u64) -> bool {
        let Some(first) = self.first_pool(pool_size) else { return false };
        let end = first.checked_add(u64::from(self.pools) * pool_size);
        self.start.is_multiple_of(4096)
            && self.start < USER_END
            && (1..=4096).contains(&self.pools)
            && self.free_pools <= self.pools
            && self.next_pool.is_multiple_of(pool_size)
            && end.is_some_and(|end| (first..=end).contains(&self.next_pool))
    }
}

impl Place {
    /// Bytes of a pool.
    pub const fn pool_size(&self) -> u64 {
        self.pool_size
    }

    /// The pools from which the next block of a size class is handed out, one each class and table; classes in whose
    /// pools nothing is free have none.
    pub fn heads(&self, memory: &impl Memory) -> Vec<u64> {
        let head = |(table, class, word): (u64, usize, u64)| {
            (word != empty(table, class) && word != 0 && word.is_multiple_of(self.pool_size)).then_some(word)
        };
        let tables =
            self.tables.iter().filter_map(|&table| Some((table, words(memory, table, USED_WORDS as u64 * 8)?)));
        let all = tables.flat_map(|(table, words)| {
            let firsts = words.into_iter().step_by(2).enumerate();
            firsts.map(move |(class, word)| (table, class, word)).collect::<Vec<_>>()
        });
        all.filter_map(head).collect()
    }

    /// The pools that are opened next, at most `most` of each set of arenas, in their order.
    pub fn upcoming(&self, memory: &impl Memory, most: usize) -> Vec<u64> {
        self.arrays.iter().flat_map(|&pointer| self.upcoming_of(memory, pointer, most).unwrap_or_default()).collect()
    }

    /// pymalloc takes the next pool from the arena that has the fewest free ones: what was given back first, then what was
    /// never used.
    fn upcoming_of(&self, memory: &impl Memory, pointer: u64, most: usize) -> Option<Vec<u64>> {
        let objects = self.objects(memory, pointer)?;
        let usable = objects.iter().filter(|object| object.start != 0 && object.free_pools > 0);
        let object = usable.min_by_key(|object| object.free_pools).filter(|object| object.is_one(self.pool_size))?;
        let first = object.first_pool(self.pool_size)?;
        let end = first + u64::from(object.pools) * self.pool_size;
        let mut pools = Vec::new();
        let mut next = object.given_back;
        while pools.len() < most && next.is_multiple_of(self.pool_size) && (first..end).contains(&next) {
            pools.push(next);
            next = memory.u64(next + POOL_NEXT).ok()?;
        }
        let unused = (object.next_pool..end).step_by(self.pool_size as usize);
        pools.extend(unused.take(most - pools.len()));
        Some(pools)
    }

    /// The array.
    fn objects(&self, memory: &impl Memory, pointer: u64) -> Option<Vec<ArenaObject>> {
        let array = memory.u64(pointer).ok()?;
        let read = |from: usize, count: usize| {
            let length = count * ARENA_OBJECT;
            let address = array.checked_add((from * ARENA_OBJECT) as u64)?;
            let bytes = memory.bytes(address, length, MAX_ARENAS * ARENA_OBJECT).ok()?;
            bytes.chunks_exact(ARENA_OBJECT).map(ArenaObject::decode).collect::<Option<Vec<_>>>()
        };
        if array == 0 {
            return Some(Vec::new());
        }
        if self.has_length {
            let count = memory.u32(pointer.checked_add(8)?).ok()? as usize;
            return read(0, count.min(MAX_ARENAS));
        }
        // Where the length stands is not known: it doubles for as long as all that is there is of the array.
        let mut objects = read(0, FIRST_ARENAS)?;
        while objects.len() < MAX_ARENAS {
            let Some(more) = read(objects.len(), objects.len()) else { break };
            let last_unused = objects.iter().chain(&more).filter(|object| object.start == 0 && object.next == 0);
            if last_unused.count() > 1 || !more.iter().all(|object| self.is_member(memory, array, object)) {
                break;
            }
            objects.extend(more);
        }
        Some(objects)
    }

    /// Whether this may be an element of an array: a mapped arena, or an unused one in the list of these.
    fn is_member(&self, memory: &impl Memory, array: u64, object: &ArenaObject) -> bool {
        if object.start != 0 {
            return object.is_one(self.pool_size) && memory.u64(object.start).is_ok();
        }
        let offset = object.next.wrapping_sub(array);
        object.next == 0 || offset.is_multiple_of(ARENA_OBJECT as u64) && offset < (MAX_ARENAS * ARENA_OBJECT) as u64
    }

    fn arena(&self, memory: &impl Memory, index: usize, object: &ArenaObject, found: &mut Pymalloc) {
        let first = object.first_pool(self.pool_size).filter(|_| object.is_one(self.pool_size));
        let Some(first) = first else {
            found.refused += 1;
            return;
        };
        let pools_end = first + u64::from(object.pools) * self.pool_size;
        // An arena that does not begin at a pool's boundary has a pool less.
        let end = if first == object.start { pools_end } else { first + u64::from(object.pools + 1) * self.pool_size };
        let end = end - (first - object.start);
        let range = object.start..end.max(pools_end);
        found.overhead_bytes += (first - range.start) + (range.end - pools_end);
        found.arenas.push(range);
        if object.next_pool < pools_end {
            found.never_used.push(object.next_pool..pools_end);
        }
        let headers = Headers::new(memory, self.pool_size, first..object.next_pool);
        for pool in (first..object.next_pool).step_by(self.pool_size as usize) {
            match headers.read(pool).and_then(|header| self.decode(&header, index)) {
                Some(content) => self.add(pool, content, found),
                None => {
                    found.refused += 1;
                    found.refused_bytes += self.pool_size;
                }
            }
        }
    }

    /// What a pool holds, if it is one of the arena's.
    fn decode(&self, header: &[u8; HEADER_BYTES], index: usize) -> Option<pool::PoolContent> {
        let arena = u32::from_le_bytes([header[32], header[33], header[34], header[35]]);
        pool::decode(header, self.pool_size).filter(|_| arena as usize == index)
    }

    fn add(&self, pool: u64, content: pool::PoolContent, found: &mut Pymalloc) {
        if content.blocks == 0 {
            found.free_pools.push(pool..pool + self.pool_size);
            return;
        }
        let capacity = (self.pool_size - HEADER_BYTES as u64) / content.block_size;
        let free = capacity - content.blocks;
        if let Some(class) = found.classes.get_mut((content.block_size / 16 - 1) as usize) {
            class.pools += 1;
            class.live_blocks += content.blocks;
            class.free_blocks += free;
        }
        found.live_blocks += content.blocks;
        found.live_bytes += content.blocks * content.block_size;
        found.free_in_pools_bytes += free * content.block_size;
        found.overhead_bytes += self.pool_size - capacity * content.block_size;
    }
}

/// The headers of one arena's pools: copied with the whole arena where each page has one, else each by itself.
struct Headers<'a, M> {
    memory: &'a M,
    copy: Option<(u64, Vec<u8>)>,
}

impl<'a, M: Memory> Headers<'a, M> {
    fn new(memory: &'a M, pool_size: u64, pools: Range<u64>) -> Self {
        let length = (pools.end - pools.start) as usize;
        let whole = pool_size <= 4096 && length > 0;
        let copy = whole.then(|| memory.bytes(pools.start, length, 1 << 24).ok()).flatten();
        Self { memory, copy: copy.map(|copy| (pools.start, copy)) }
    }

    fn read(&self, pool: u64) -> Option<[u8; HEADER_BYTES]> {
        let mut header = [0; HEADER_BYTES];
        match &self.copy {
            Some((start, copy)) => {
                let at = (pool - start) as usize;
                header.copy_from_slice(copy.get(at..at + HEADER_BYTES)?);
            }
            None => self.memory.read(pool, &mut header).ok()?,
        }
        Some(header)
    }
}
