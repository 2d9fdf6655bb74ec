//! The trace's clock.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

/// Monotonic ns at the trace's start, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static TRACE_START_NS: Global<u64> = Global::new(0);

/// Monotonic clock, ns; about 23 ns a call.
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Milliseconds since the trace's start. (The cheaper coarse clock is not for programs of this type.)
pub fn since_start_ms() -> u32 {
    (now_ns().saturating_sub(TRACE_START_NS.load()) / 1_000_000) as u32
}
