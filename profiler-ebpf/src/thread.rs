//! What is kept for each thread: the allocator call it is in, and room to walk its stack.
//!
//! Room for a walk belongs to the thread and not to the CPU, because a uprobe program may be preempted by
//! another thread's on the same CPU, which would overwrite a per-CPU buffer.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::MAX_FRAMES;
use profiler_common::counter::Counter;
use profiler_common::event::NewStack;
use profiler_common::ledger::Block;
use profiler_common::probe::Cookie;
use profiler_common::unwind::MAX_NATIVE_FRAMES;

use crate::code::read_u64;
use crate::counters;
use crate::fault::Run;
use crate::native::Walk;
use crate::process::Current;
use crate::walk::{Step, Walked};

/// Most threads of all traced processes at once.
const MAX_THREADS: u32 = 16384;

/// A nested call's stack pointer is lower than the outer one's by less than this.
const NESTING_REACH: u64 = 64 << 10;

/// Places for code objects that a thread remembers; a power of two.
pub const KNOWN_CODES: usize = 64;

/// Bytes of an object that its print is made of.
pub const PRINT_BYTES: usize = 256;

/// A code object that a thread has met: spares it the look-up in a map that all threads share.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownCode {
    /// Its address.
    pub code: u64,
    /// Its serial.
    pub serial: u64,
    /// How many code objects had died when it was met: it holds as long as none has died since.
    pub deaths: u64,
}

/// Marks a function of pymalloc's, see [`Cookie::with_objects`].
const OF_OBJECTS: u64 = 1 << 8;

/// What a function of this cookie has above its number in [`Thread::function`].
pub fn objects_bit(cookie: Cookie) -> u64 {
    if cookie.is_of_objects() { OF_OBJECTS } else { 0 }
}

/// A thread's state.
#[repr(C)]
pub struct Thread {
    /// Stack pointer at the entry of the outermost probed function the thread is in; 0 when it is in none.
    pub outer_sp: u64,
    /// That function: a `Function` as a number, and above its eight bits [`OF_OBJECTS`] if it is one of pymalloc's.
    pub function: u64,
    /// Bytes asked for.
    pub size: u64,
    /// realloc's old pointer, posix_memalign's out pointer. Between calls: the last pointer given to pymalloc's free.
    pub pointer: u64,
    /// What the block would stand for; 0 if it is not drawn.
    pub weight: u64,
    /// Where the outermost function returns to, which a return probe hides from a walk; 0 if not noted.
    pub outer_return: u64,
    /// At the return: the address of the block handed out. Between calls: the stack pointer at the entry of the last one
    /// that was passed over, see [`Self::pass_over`]. (One place for both: a state has no eight bytes to spare.)
    pub block: u64,
    /// At the return: milliseconds since the trace's start. Between calls: the return address of that one.
    pub now_ms: u64,
    /// At the return: when this hit's timing started; 0 if it is not timed.
    pub started: u64,
    /// The pages that it touches one after the other.
    pub run: Run,
    /// CPU time it had when its last recorded fault was paid for, ns; 0 before the first.
    pub paid_until_ns: u64,
    /// The block that realloc was given; size and stack 0 if it is not known.
    pub old: Block,
    /// Bytes of one frame, as read from the target.
    pub frame: [u64; 16],
    /// Where the walk of Python frames stands.
    pub step: Step,
    /// Code objects this thread has met, by a part of their address.
    pub known: [KnownCode; KNOWN_CODES],
    /// Bytes of one of a code object's texts.
    pub print: [u64; PRINT_BYTES / 8],
    /// What the walk of Python frames found.
    pub python: Walked,
    /// The walk of native frames.
    pub native: Walk,
    /// Head of the record for a new stack; the frames follow it in memory.
    pub event: NewStack,
    /// The stack: Python frames, then native ones.
    pub frames: [u64; MAX_FRAMES + MAX_NATIVE_FRAMES],
}

/// Keyed by tid.
#[map]
static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(MAX_THREADS, BPF_F_NO_PREALLOC);

/// One zeroed state, to insert from: it is larger than a program's stack.
#[map]
static EMPTY_THREAD: Array<Thread> = Array::with_max_entries(1, 0);

/// The thread's state, made at first sight; `None` (counted) when there is no room.
pub fn state(current: Current) -> Option<*mut Thread> {
    if let Some(thread) = THREADS.get_ptr_mut(&current.tid) {
        return Some(thread);
    }
    let inserted = EMPTY_THREAD.get(0).is_some_and(|empty| THREADS.insert(&current.tid, empty, 0).is_ok());
    if !inserted {
        counters::one(Counter::ThreadMapFull);
        return None;
    }
    THREADS.get_ptr_mut(&current.tid)
}

/// The thread's state, if it has one.
pub fn known(current: Current) -> Option<*mut Thread> {
    THREADS.get_ptr_mut(&current.tid)
}

/// The thread has ended.
pub fn forget(current: Current) {
    // An absent key is what is wanted.
    let _ = THREADS.remove(&current.tid);
}

impl Thread {
    /// Whether a call at stack pointer `sp` is made inside the outermost one.
    ///
    /// Judged by the stack pointer and not by a depth counter, so that one missed return cannot blind a thread
    /// for good: the next call from above it starts anew.
    pub fn is_nested(&self, sp: u64) -> bool {
        self.outer_sp != 0 && sp < self.outer_sp && self.outer_sp - sp < NESTING_REACH
    }

    /// Whether the outermost function noted is one of pymalloc's.
    pub fn is_of_objects(&self) -> bool {
        self.function & OF_OBJECTS != 0
    }

    /// Pymalloc's free is given a block: what is not its own it gives to the C library's.
    pub fn given_to_pymalloc(&mut self, pointer: u64) {
        if self.outer_sp == 0 {
            self.pointer = pointer;
        }
    }

    /// Whether a block was given to pymalloc's free just before.
    pub fn was_given(&self, pointer: u64) -> bool {
        self.outer_sp == 0 && self.pointer == pointer
    }

    /// Notes a call that is not drawn and may make others inside: nobody tells when it returns.
    pub fn pass_over(&mut self, sp: u64) {
        self.block = sp;
        self.now_ms = read_u64(sp);
    }

    /// Whether a call at stack pointer `sp` is made inside the last one that was passed over: then that one's return
    /// address still lies where it lay.
    pub fn has_passed_over(&self, sp: u64) -> bool {
        /// An allocating function that calls another has less than this on the stack.
        const REACH: u64 = 512;
        self.block > sp && self.block - sp < REACH && read_u64(self.block) == self.now_ms
    }
}
