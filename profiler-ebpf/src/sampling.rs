//! Which allocations are looked at: what userspace has said. Which page faults are is decided here, in `faults`.

pub mod faults;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use profiler_common::sampling::{self, EVERY_BLOCK};

/// One element: the interval. The loader sets it.
#[map]
static SAMPLING: Array<u64> = Array::with_max_entries(1, 0);

/// The weight of a block of this size; 0 if it is not drawn.
#[inline(always)]
pub fn draw(size: u64) -> u64 {
    match interval() {
        EVERY_BLOCK => sampling::ONE,
        // SAFETY: the helper has no preconditions.
        interval => sampling::draw(size, interval, unsafe { bpf_get_prandom_u32() }),
    }
}

/// Whether there may be blocks that are not drawn.
#[inline(always)]
pub fn is_partial() -> bool {
    interval() != EVERY_BLOCK
}

#[inline(always)]
fn interval() -> u64 {
    SAMPLING.get(0).copied().unwrap_or(EVERY_BLOCK)
}
