//! What userspace tells the kernel side about each traced process.

use bytemuck::{Pod, Zeroable};

/// Value of a layout offset that does not exist in this version of CPython.
pub const ABSENT: u32 = u32::MAX;

/// How the running thread's `PyThreadState` is found from the thread's fs base.
pub mod thread_slot {
    /// No interpreter in this process (yet): every stack is recorded as "not Python".
    pub const NONE: u32 = 0;
    /// `*(fsbase + offset)`: a static TLS variable, or a glibc TSD key below 32.
    pub const FS_RELATIVE: u32 = 1;
    /// `*(*(fsbase + offset) + inner)`: a glibc TSD key of 32 and above, or musl's TSD array.
    pub const FS_INDIRECT: u32 = 2;
    /// glibc. The TSD key is read from the target's `autoTSSkey` struct {i32 initialized, u32 key} at address
    /// `inner` at every event; `offset` is fs-relative for key 0 and grows by 16 a key, up to key 31; pointers to
    /// the blocks of the others follow. For processes whose
    /// key is yet to be made: those whose interpreter is not initialized, and forked ones, in which it is made anew.
    pub const KEY_IN_MEMORY: u32 = 3;
    /// `*(*(dtv + offset) + inner)` with `dtv = *(fsbase + 8)`: a TLS variable of a library loaded by dlopen on
    /// glibc. `offset` is 16 bytes a module, and `*(dtv - 16)` the number of modules the thread has room for.
    pub const DYNAMIC_TLS: u32 = 4;
    /// As `KEY_IN_MEMORY` on musl: `*(*(fsbase + offset) + 8 * key)`.
    pub const KEY_IN_MEMORY_MUSL: u32 = 5;
}

/// How the byte offset into the bytecode (`lasti`) is computed.
pub mod lasti_rule {
    /// The frame holds a pointer into the code object's bytecode (CPython 3.11+).
    pub const POINTER: u32 = 0;
    /// The frame holds a byte offset, i32 (CPython 3.9 and earlier).
    pub const BYTES: u32 = 1;
    /// The frame holds an offset in two-byte code units, i32 (CPython 3.10).
    pub const UNITS: u32 = 2;
    /// As `POINTER`, but the bytecode may be a per-thread copy (free-threaded 3.14+).
    pub const POINTER_PER_THREAD: u32 = 3;
}

/// Where the walker finds the thread state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ThreadSlot {
    /// One of [`thread_slot`].
    pub mode: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
    /// Offset from fs base, in bytes, signed.
    pub offset: i64,
    /// See the mode.
    pub inner: u64,
}

/// Byte offsets into CPython's structures, as far as the kernel side needs them.
///
/// Filled from `profiler/src/python/layout.rs`, keyed by minor version and build. [`ABSENT`] marks what a
/// version does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PythonLayout {
    /// `PyThreadState.cframe` (3.11, 3.12), else [`ABSENT`].
    pub tstate_cframe: u32,
    /// The current frame: in the cframe where there is one, else in `PyThreadState`.
    pub tstate_frame: u32,
    /// `PyThreadState.thread_id` (a pthread_self, equal to fs base on glibc and musl).
    pub tstate_thread_id: u32,
    /// Bytes of a frame to read: 80 covers 3.11 and later.
    pub frame_size: u32,
    /// The code object in the frame.
    pub frame_code: u32,
    /// The caller's frame.
    pub frame_previous: u32,
    /// `prev_instr`, `instr_ptr` or `f_lasti`.
    pub frame_lasti: u32,
    /// `owner` (u8), or [`ABSENT`].
    pub frame_owner: u32,
    /// Frames with an owner of this value or more are the interpreter's own and are not shown.
    pub owner_skip_from: u32,
    /// `tlbc_index` (i32), or [`ABSENT`].
    pub frame_tlbc_index: u32,
    /// One of [`lasti_rule`].
    pub lasti_rule: u32,
    /// `co_code_adaptive`.
    pub code_adaptive: u32,
    /// `co_tlbc`, or [`ABSENT`].
    pub code_tlbc: u32,
    /// `co_firstlineno` (i32).
    pub code_firstlineno: u32,
    /// `co_filename`.
    pub code_filename: u32,
    /// `co_qualname`, or `co_name` before 3.11.
    pub code_qualname: u32,
    /// `co_linetable`, or `co_lnotab` before 3.10.
    pub code_linetable: u32,
    /// `_co_firsttraceable` (i32), or [`ABSENT`].
    pub code_firsttraceable: u32,
    /// `PyInterpreterState.next`.
    pub interpreter_next: u32,
    /// `PyInterpreterState`'s first thread state.
    pub interpreter_threads: u32,
    /// `PyThreadState.next`.
    pub tstate_next: u32,
    /// `co_version` (u32, CPython 3.12+), or [`ABSENT`].
    pub code_version: u32,
    /// Bits to keep of a code pointer found in a frame (tagged pointers, 3.14+).
    pub pointer_mask: u64,
}

/// What the kernel side does with a process: see the constants.
pub mod process_flags {
    /// Stop the process (SIGSTOP) and tell userspace when it is about to exit.
    pub const HOLD_AT_EXIT: u32 = 1;
    /// Stop the process (SIGSTOP) and tell userspace at its next exec.
    pub const HOLD_AT_EXEC: u32 = 2;
    /// Stop the process (SIGSTOP) and tell userspace at the program's entry point.
    pub const HOLD_AT_ENTRY: u32 = 4;
    /// Walk native frames too.
    pub const NATIVE: u32 = 8;
    /// Processes that it forks are traced too, from their first instruction on.
    pub const FOLLOW: u32 = 16;
    /// Only its forks and execs matter: it has no interpreter, or none yet.
    pub const FOLLOW_ONLY: u32 = 32;
    /// Its page faults are recorded.
    pub const RESIDENT: u32 = 64;
    /// Code objects do not die unseen: the probe of `code_dealloc` is on. Set by the kernel side alone, when userspace
    /// has said so in the map `DEATHS_SEEN`.
    pub const DEATHS_SEEN: u32 = 128;
    /// What a forked process does not inherit.
    pub const NOT_INHERITED: u32 = HOLD_AT_EXIT | HOLD_AT_EXEC | HOLD_AT_ENTRY | DEATHS_SEEN;
}

/// Slots from here on, up to [`FIRST_FORKED_SLOT`], are given by the kernel side to programs that it sees executed in a
/// followed process; those below are userspace's, for the processes that it finds.
pub const FIRST_EXECUTED_SLOT: u32 = 1 << 12;

/// Slots from here on are given by the kernel side to processes that it sees forked.
pub const FIRST_FORKED_SLOT: u32 = 1 << 15;

/// Slots are below this: they share 64 bits with an address of 48.
pub const MAX_SLOTS: u32 = 1 << 16;

/// No process.
pub const NO_SLOT: u32 = u32::MAX;

/// How a process's page faults are sampled. The kernel side keeps it; all zero at the start, when each one is recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FaultSampling {
    /// One fault in `1 << level` is recorded, by chance, and stands for so many; at most [`MAX_FAULT_LEVEL`].
    pub level: u32,
    /// How often mappings were moved (mremap): tells a page's touches before and after one apart.
    pub epoch: u32,
    /// What the faults recorded have cost the process beyond the share of its CPU time that they may, ns.
    pub debt_ns: u64,
    /// Writes to pages that were there and write-protected, not recorded.
    pub protected_left_out: u64,
}

/// The most by which [`FaultSampling::level`] goes: one fault in 4096.
pub const MAX_FAULT_LEVEL: u32 = 12;

/// One traced process; the value of the map that is keyed by process id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessConfig {
    /// The process's number in this trace, never reused: userspace gives them from 0 up, the kernel side from
    /// [`FIRST_EXECUTED_SLOT`] and [`FIRST_FORKED_SLOT`] up.
    pub slot: u32,
    /// Bits of [`process_flags`].
    pub flags: u32,
    /// The slot of the process that forked it; [`NO_SLOT`] for one that was found or launched.
    pub parent_slot: u32,
    /// The thread that takes the interpreter down; 0 while none does. Written by the kernel side, which counts nothing
    /// of that thread from then on: what the process held when it ended stays known.
    pub ending_tid: u32,
    /// How its page faults are sampled.
    pub faults: FaultSampling,
    /// Where the thread state is.
    pub thread_slot: ThreadSlot,
    /// Where it is in processes that this one forks.
    pub forked_thread_slot: ThreadSlot,
    /// Address of `_PyRuntime.gilstate.tstate_current` (CPython 3.11 and earlier), else 0. Up to 3.11 a thread's slot
    /// keeps its first thread state; while a sub-interpreter runs, only this variable tells which one does.
    pub current_state: u64,
    /// Address of `_PyRuntime.interpreters.head`, where `current_state` is not 0.
    pub interpreters: u64,
    /// The interpreter's offsets.
    pub layout: PythonLayout,
}

const _: () = assert!(core::mem::size_of::<ThreadSlot>() == 24);
const _: () = assert!(core::mem::size_of::<PythonLayout>() == 96);
const _: () = assert!(core::mem::size_of::<FaultSampling>() == 24);
const _: () = assert!(core::mem::size_of::<ProcessConfig>() == 200);
