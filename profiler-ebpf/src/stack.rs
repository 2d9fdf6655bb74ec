//! Stacks: each distinct one is known by a 64-bit hash of its frames, sent once, and from then on a number that stands
//! for its sums.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, Queue};
use profiler_common::MAX_FRAMES;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::event::{NewStack, kind, native, walk};
use profiler_common::ledger::{Block, StackSums, TEMPORARY_MS};
use profiler_common::sampling;
use profiler_common::unwind::MAX_NATIVE_FRAMES;

use crate::atomic::add;
use crate::process::Current;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::walk::{Walked, mix};
use crate::{counters, native as unwinder, ring, walk as walker};

/// Most distinct stacks of a trace.
const MAX_STACKS: u32 = 1 << 18;

/// Number by hash of the frames.
#[map]
static STACK_NUMBERS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_STACKS, BPF_F_NO_PREALLOC);

/// Sums by number, which is a place in this array: userspace maps it into its memory and reads what exists, for free.
/// Number 0 stands for no stack.
#[map]
static STACKS: Array<StackSums> = Array::with_max_entries(MAX_STACKS, BPF_F_MMAPABLE);

/// The last number given.
#[map]
static LAST_STACK: Array<u64> = Array::with_max_entries(1, 0);

/// Numbers of stacks whose processes have ended and whose sums userspace has taken: they are given again.
#[map]
static FREE_STACKS: Queue<u32> = Queue::with_max_entries(MAX_STACKS, 0);

/// A stack that has its place among the sums.
#[derive(Clone, Copy)]
pub struct Stack {
    /// Its number.
    pub number: u64,
    sums: *mut StackSums,
}

/// Walks the running thread and finds or makes the place of its stack; `None` (counted) when there is none left.
///
/// `regs` are where the native walk starts, if the process is to have one.
#[inline(always)]
pub fn capture(config: &ProcessConfig, current: Current, thread: *mut Thread, regs: Registers) -> Option<Stack> {
    let mut walked = walker::python(config, current, thread);
    count(walked.status);
    let mut native_status = native::OFF;
    if config.flags & process_flags::NATIVE != 0 {
        walked = forgotten(thread, walked);
        native_status = unwinder::walk(config.slot, thread, regs, walked.depth);
        walked.hash = mix(walked.hash, unwinder::hash(thread));
    }
    // Serials of code objects are unique over all processes, but a stack without frames is not.
    let hash =
        mix(walked.hash, u64::from(config.slot) << 32 | u64::from(walked.status) << 16 | u64::from(walked.depth));
    let Some((number, sums)) = find_or_number(hash, config.slot) else {
        counters::one(Counter::StackMapFull);
        return None;
    };
    // SAFETY: map values stay valid while the program runs.
    unsafe {
        if (*sums).sent == 0 && announce(config, current, thread, number, walked, native_status) {
            (*sums).sent = 1;
        }
    }
    Some(Stack { number, sums })
}

/// The same values, by way of memory: else the verifier would check the whole native walk anew for each way the Python
/// walk can end, which is more than its limit.
#[inline(always)]
fn forgotten(thread: *mut Thread, walked: Walked) -> Walked {
    // SAFETY: the thread's state is a map value that stays valid while the program runs.
    unsafe {
        let place = &raw mut (*thread).python;
        place.write_volatile(walked);
        place.read_volatile()
    }
}

#[inline(always)]
fn find_or_number(hash: u64, slot: u32) -> Option<(u64, *mut StackSums)> {
    let number = match STACK_NUMBERS.get_ptr(&hash) {
        // SAFETY: a number is written once, before the entry is visible.
        Some(number) => unsafe { *number },
        None => new_number(hash, slot)?,
    };
    Some((u64::from(number), STACKS.get_ptr_mut(number)?))
}

#[inline(never)]
fn new_number(hash: u64, slot: u32) -> Option<u32> {
    let number = match FREE_STACKS.pop() {
        Ok(Some(number)) => number,
        _ => next_number()?,
    };
    let sums = STACKS.get_ptr_mut(number)?;
    // SAFETY: nobody else knows this number yet.
    unsafe { (*sums).slot = slot };
    // Another CPU may insert the stack between the two: then this fails, the look-up finds theirs, and our number
    // stays without events.
    let _ = STACK_NUMBERS.insert(&hash, &number, u64::from(BPF_NOEXIST));
    // SAFETY: as in `find_or_number`.
    STACK_NUMBERS.get_ptr(&hash).map(|number| unsafe { *number })
}

/// A number that was never given; `None` when all have been.
#[inline(always)]
fn next_number() -> Option<u32> {
    let last = LAST_STACK.get_ptr_mut(0)?;
    // SAFETY: the map's value is an aligned u64 that lives as long as the map.
    unsafe {
        // Looked at first, so that a full array does not count its refusals.
        if *last >= u64::from(MAX_STACKS) - 1 {
            return None;
        }
        Some((add(last, 1) + 1) as u32)
    }
}

/// Sends the frames; when the ring is full the stack's next event tries again.
#[inline(always)]
fn announce(
    config: &ProcessConfig,
    current: Current,
    thread: *mut Thread,
    number: u64,
    walked: Walked,
    native_status: u32,
) -> bool {
    let depth = at_most(walked.depth, MAX_FRAMES as u32);
    let native_depth = match native_status {
        native::OFF => 0,
        _ => at_most(unwinder::depth(thread), MAX_NATIVE_FRAMES as u32),
    };
    let length = size_of::<NewStack>() + (depth + native_depth) as usize * size_of::<u64>();
    // SAFETY: the frames follow the event in `Thread` without a gap (both are made of u64s), and length is bounded by
    // their sizes.
    let bytes = unsafe {
        (*thread).event = NewStack {
            header: ring::header(kind::NEW_STACK, config.slot, current),
            key: number,
            depth,
            status: walked.status,
            native_depth,
            native_status,
        };
        core::slice::from_raw_parts((&raw const (*thread).event).cast::<u8>(), length)
    };
    ring::output(bytes)
}

#[inline(always)]
fn at_most(value: u32, limit: u32) -> u32 {
    if value > limit { limit } else { value }
}

fn count(status: u32) {
    counters::one(Counter::Walks);
    match status {
        walk::TRUNCATED => counters::one(Counter::Truncated),
        walk::NOT_PYTHON => counters::one(Counter::NotPython),
        walk::NO_INTERPRETER => counters::one(Counter::NoInterpreter),
        walk::READ_FAILED => counters::one(Counter::ReadFailed),
        walk::THREAD_MISMATCH => counters::one(Counter::ThreadMismatch),
        walk::NO_FRAME => counters::one(Counter::NoFrame),
        walk::OTHER_INTERPRETER => counters::one(Counter::OtherInterpreter),
        _ => {}
    }
}

impl Stack {
    /// A block was handed out.
    pub fn allocated(self, block: &Block) {
        let space = sampling::space(block.size, block.weight);
        // SAFETY: map values stay valid while the program runs, and all fields are aligned u64s.
        unsafe {
            add(&raw mut (*self.sums).samples, 1);
            add(&raw mut (*self.sums).alloc_weight, block.weight);
            let allocated = add(&raw mut (*self.sums).alloc_space, space) + space;
            let live = allocated.saturating_sub((*self.sums).free_space);
            // Two CPUs may race here; the loser's peak is off by at most the other's block.
            if live > (*self.sums).peak_space {
                (*self.sums).peak_space = live;
            }
            if block.size > (*self.sums).largest {
                (*self.sums).largest = block.size;
            }
            if block.weight != sampling::ONE {
                add(&raw mut (*self.sums).alloc_variance, sampling::space_variance(block.size, block.weight));
                add(&raw mut (*self.sums).alloc_weight_variance, sampling::weight_variance(block.weight));
            }
        }
    }

    /// A page was touched.
    pub fn touched(self) {
        // SAFETY: as in `allocated`.
        unsafe { add(&raw mut (*self.sums).faults, 1) };
    }

    /// A pool was opened.
    pub fn opened_pool(self) {
        // SAFETY: as in `allocated`.
        unsafe { add(&raw mut (*self.sums).pools_opened, 1) };
    }
}

/// A block of a stack was given back.
pub fn freed(block: &Block, now_ms: u32) {
    let Some(sums) = STACKS.get_ptr_mut(block.stack as u32) else {
        return;
    };
    let space = sampling::space(block.size, block.weight);
    // SAFETY: as in `Stack::allocated`.
    unsafe {
        add(&raw mut (*sums).free_weight, block.weight);
        add(&raw mut (*sums).free_space, space);
        if now_ms.wrapping_sub(block.born_ms) <= TEMPORARY_MS {
            add(&raw mut (*sums).temporary_weight, block.weight);
            add(&raw mut (*sums).temporary_space, space);
        }
        if block.weight != sampling::ONE {
            add(&raw mut (*sums).free_variance, sampling::space_variance(block.size, block.weight));
            add(&raw mut (*sums).free_weight_variance, sampling::weight_variance(block.weight));
        }
    }
}
