//! Watched slots: a hardware watchpoint stands on a free slot of a pool, and who writes there is who fills it.
//!
//! Userspace says which addresses are watched and puts the watchpoints there; the last writer wins. Each watchpoint
//! ends by itself after a number of hits that userspace sets, so that a slot that is taken and given back all the time
//! cannot cost more.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::config::MAX_SLOTS;
use profiler_common::counter::Counter;
use profiler_common::ledger::{BlockKey, Watch, Writing};

use crate::registers::Registers;
use crate::{clock, counters, process, stack, thread};

/// Most slots watched at once in all processes.
const MAX_WATCHED: u32 = 1024;

/// Keyed by the watched address, which userspace puts in before it watches and takes out after.
#[map]
static WATCHED: HashMap<BlockKey, Watch> = HashMap::with_max_entries(MAX_WATCHED, 0);

/// How many threads the process of each slot has made: userspace watches new ones a little later.
#[map]
static THREADS_MADE: Array<u64> = Array::with_max_entries(MAX_SLOTS, 0);

/// A process has made a thread.
#[inline(always)]
pub fn thread_made(slot: u32) {
    if let Some(count) = THREADS_MADE.get_ptr_mut(slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map.
        unsafe { crate::atomic::add(count, 1) };
    }
}

/// The only bit in the link of a header that is linked nowhere (`_PyGC_PREV_MASK_FINALIZED`).
const FINALIZED: u64 = 1;

/// What the kernel is told: else it would not count the hit towards the watchpoint's limit (Linux 6.9).
const COUNT_HIT: u32 = 1;

/// A watched word was written.
#[inline(always)]
pub fn try_written(ctx: *mut c_void) -> u32 {
    let started = clock::now_ns();
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return COUNT_HIT;
    };
    // SAFETY: the context of a perf event's program is this record; the verifier checks the load.
    let address = unsafe { (*ctx.cast::<bpf_perf_event_data>()).addr };
    let Some(watch) = WATCHED.get_ptr_mut(&BlockKey::new(config.slot, address)) else {
        return COUNT_HIT;
    };
    counters::one(Counter::WatchHits);
    if config.ending_tid != current.tid
        && let Some(state) = thread::state(current)
        && let Some(stack) = stack::capture(config, current, state, Registers::of_probe(ctx))
    {
        let mut slot = [0u64; 2];
        // SAFETY: the destination is on the stack and as long as said; the helper checks the target's address itself.
        unsafe { bpf_probe_read_user(slot.as_mut_ptr().cast(), 16, address as *const _) };
        // SAFETY: as below.
        let before = unsafe { (*watch).last.word };
        let writing = Writing { stack: stack.number, time_ns: started, word: slot[0] };
        // SAFETY: map values stay valid while the program runs; should two threads write at once, one of them is last.
        unsafe {
            (*watch).last = writing;
            if is_birth(before, slot) {
                (*watch).birth = writing;
            }
        }
    }
    // SAFETY: as above.
    unsafe { crate::atomic::add(&raw mut (*watch).hits, 1) };
    counters::add(Counter::WatchNanos, clock::now_ns() - started);
    COUNT_HIT
}

/// Whether the garbage collector's header, if the word is the second one of that, was made, or linked where it was not
/// before. What is written while an object stays linked is the collector's, or comes from a neighbour; an object that has
/// references and is no longer linked was let go of by the collector.
#[inline(always)]
fn is_birth(before: u64, [previous, references]: [u64; 2]) -> bool {
    if previous <= FINALIZED { references == 0 } else { before <= FINALIZED }
}
