//! pymalloc's pools: which stack opened which pool last. What lives in them is read by userspace from their headers.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use profiler_common::config::ProcessConfig;
use profiler_common::counter::Counter;
use profiler_common::ledger::{BlockKey, Pool};

use crate::stack::Stack;
use crate::thread::Thread;
use crate::{clock, counters};

/// Most pools: 16 GiB of small objects in pools of 16 KiB.
const MAX_POOLS: u32 = 1 << 20;

/// A pool is aligned to its size, 4 or 16 KiB, and its first block follows a header of 48 bytes: so the first
/// block lies in the pool's first 4 KiB, whatever its size.
const POOL_START: u64 = !0xfff;

#[map]
static POOLS: HashMap<BlockKey, Pool> = HashMap::with_max_entries(MAX_POOLS, BPF_F_NO_PREALLOC);

/// Counts the pool that was opened: the state holds its first block.
#[inline(always)]
pub fn opened(config: &ProcessConfig, state: *mut Thread, stack: Stack) {
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let first_block = unsafe { (*state).block };
    let key = BlockKey::new(config.slot, first_block & POOL_START);
    let openings = match POOLS.get_ptr(&key) {
        // SAFETY: a pool's entry is replaced whole.
        Some(pool) => unsafe { (*pool).openings },
        None => 0,
    };
    let pool = Pool { stack: stack.number, born_ms: clock::since_start_ms(), openings: openings.saturating_add(1) };
    if POOLS.insert(&key, &pool, 0).is_err() {
        counters::one(Counter::PoolMapFull);
        return;
    }
    counters::one(Counter::PoolsOpened);
    stack.opened_pool();
}
