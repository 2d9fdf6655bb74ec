//! Which allocations are looked at: what userspace has said last.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use profiler_common::sampling::{self, EVERY_BLOCK, Sampling};

/// One element. All zero, as it starts: no window is open.
#[map]
static SAMPLING: Array<Sampling> = Array::with_max_entries(1, 0);

/// The weight of a block of this size, 0 if it is not drawn, and the number of the window that is open.
#[inline(always)]
pub fn draw(size: u64) -> (u64, u32) {
    let Some(now) = SAMPLING.get(0) else { return (0, 0) };
    match now.interval {
        0 => return (0, 0),
        EVERY_BLOCK => return (sampling::ONE, now.window),
        _ => {}
    }
    // SAFETY: the helper has no preconditions.
    (sampling::draw(size, now.interval, unsafe { bpf_get_prandom_u32() }), now.window)
}

/// Whether there are, or were, blocks that are not drawn.
#[inline(always)]
pub fn is_partial() -> bool {
    SAMPLING.get(0).is_none_or(|now| now.interval != EVERY_BLOCK || now.window != 1)
}

/// The window that is open, or the last one.
#[inline(always)]
pub fn window() -> u32 {
    SAMPLING.get(0).map_or(0, |now| now.window)
}

/// How often the allocation functions' probes were taken away.
#[inline(always)]
pub fn disarmed() -> u32 {
    SAMPLING.get(0).map_or(0, |now| now.disarmed)
}
