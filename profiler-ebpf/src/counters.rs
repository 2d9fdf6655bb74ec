//! The counters, one value a CPU.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use profiler_common::counter::Counter;

use crate::atomic;

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Adds to a counter. Atomic, since a program may be preempted by another on the same CPU.
pub fn add(counter: Counter, value: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map.
        unsafe { atomic::add(slot, value) };
    }
}

/// Adds one.
pub fn one(counter: Counter) {
    add(counter, 1);
}

/// This CPU's value.
pub fn here(counter: Counter) -> u64 {
    COUNTERS.get(counter as u32).copied().unwrap_or(0)
}
