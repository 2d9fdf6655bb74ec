//! pymalloc's pools: which stack opened which pool last. What lives in them is read by userspace from their headers; of
//! a process that ends it is read here, in the last moment in which its memory is there.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::{bpf_for_each_map_elem, bpf_probe_read_user};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::config::{MAX_SLOTS, ProcessConfig};
use profiler_common::counter::Counter;
use profiler_common::ledger::{BlockKey, NOT_READ, Pool};

use crate::stack::Stack;
use crate::thread::Thread;
use crate::{atomic, clock, counters};

/// Most pools: 16 GiB of small objects in pools of 16 KiB.
const MAX_POOLS: u32 = 1 << 20;

/// A pool is aligned to its size, 4 or 16 KiB, and its first block follows a header of 48 bytes: so the first
/// block lies in the pool's first 4 KiB, whatever its size.
const POOL_START: u64 = !0xfff;

#[map]
static POOLS: HashMap<BlockKey, Pool> = HashMap::with_max_entries(MAX_POOLS, BPF_F_NO_PREALLOC);

/// How many pools of each size class were opened, but for those that were a moment before: one that is opened and given
/// back all the time is no growth. Keyed by slot and, in place of an address, class.
#[map]
static OPENINGS: HashMap<BlockKey, u64> = HashMap::with_max_entries(MAX_CLASSES, BPF_F_NO_PREALLOC);

/// Room for all 32 classes of 4096 processes.
const MAX_CLASSES: u32 = 1 << 17;

/// A pool that was opened so many milliseconds ago and is opened again is none that stayed open in between.
const GROWTH_MS: u32 = 1000;

/// Where a pool's header has its class index.
const CLASS_OFFSET: u64 = 36;

/// How many pools each slot has opened: most processes that end have opened none, and need no look at the pools.
#[map]
static OPENED: Array<u64> = Array::with_max_entries(MAX_SLOTS, 0);

/// Words of a pool's header up to the size class: used-block count at 0, class index at 36 (`Objects/obmalloc.c`,
/// CPython 3.8 to 3.15).
const HEADER_WORDS: usize = 10;

/// Counts the pool that was opened: the state holds its first block.
#[inline(always)]
pub fn opened(config: &ProcessConfig, state: *mut Thread, stack: Stack) {
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let first_block = unsafe { (*state).block };
    let key = BlockKey::new(config.slot, first_block & POOL_START);
    let (openings, opened_ms) = match POOLS.get_ptr(&key) {
        // SAFETY: a pool's entry is replaced whole.
        Some(pool) => unsafe { ((*pool).openings, (*pool).born_ms) },
        None => (0, 0),
    };
    let pool = Pool {
        stack: stack.number,
        born_ms: clock::since_start_ms(),
        openings: openings.saturating_add(1),
        end_blocks: 0,
        end_class: NOT_READ,
    };
    if POOLS.insert(&key, &pool, 0).is_err() {
        counters::one(Counter::PoolMapFull);
        return;
    }
    counters::one(Counter::PoolsOpened);
    if openings == 0 || pool.born_ms.wrapping_sub(opened_ms) > GROWTH_MS {
        count_class(config.slot, first_block & POOL_START);
    }
    stack.opened_pool();
    if let Some(count) = OPENED.get_ptr_mut(config.slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map.
        unsafe { atomic::add(count, 1) };
    }
}

/// Counts a pool that was opened by its class. One that cannot be read is not counted: the numbers only tell what to watch.
#[inline(always)]
fn count_class(slot: u32, pool: u64) {
    let mut class = 0u32;
    // SAFETY: the destination is on the stack and as long as said; the helper checks the target's address itself.
    let failed = unsafe { bpf_probe_read_user((&raw mut class).cast(), 4, (pool + CLASS_OFFSET) as *const _) };
    if failed != 0 {
        return;
    }
    let key = BlockKey::new(slot, u64::from(class));
    match OPENINGS.get_ptr_mut(&key) {
        // SAFETY: the map's value is an aligned u64 that stays valid while the program runs.
        Some(count) => drop(unsafe { atomic::add(count, 1) }),
        None => drop(OPENINGS.insert(&key, &1, 0)),
    }
}

/// Reads the headers of the running process's pools; its memory must be the running one's.
#[inline(always)]
pub fn read_all(slot: u32) {
    // SAFETY: the map's value is an aligned u64 that lives as long as the map.
    if !OPENED.get_ptr(slot).is_some_and(|count| unsafe { *count } > 0) {
        return;
    }
    let mut wanted = slot;
    let map = (&raw const POOLS).cast_mut().cast::<c_void>();
    // SAFETY: the callback has the signature that the helper asks for; the verifier checks both.
    unsafe {
        bpf_for_each_map_elem(map, read_one as *mut c_void, (&raw mut wanted).cast(), 0);
    }
}

/// Reads one header, if it is of the slot that `wanted` points to; 0 goes on to the next.
#[inline(never)]
extern "C" fn read_one(_map: *mut c_void, key: *const u64, pool: *mut Pool, wanted: *const u32) -> i64 {
    // SAFETY: the helper hands over the key, the value and the context it was given.
    let (key, wanted) = unsafe { (BlockKey(*key), *wanted) };
    if key.slot() != wanted {
        return 0;
    }
    let mut header = [0u32; HEADER_WORDS];
    let bytes = (HEADER_WORDS * 4) as u32;
    // SAFETY: the destination is on the stack and as long as said; the helper checks the target's address itself.
    let failed = unsafe { bpf_probe_read_user(header.as_mut_ptr().cast(), bytes, key.address() as *const _) };
    if failed == 0 {
        // SAFETY: as above; the process ends, so nobody else writes its pools.
        unsafe {
            (*pool).end_blocks = header[0];
            (*pool).end_class = header[9];
        }
    }
    0
}
