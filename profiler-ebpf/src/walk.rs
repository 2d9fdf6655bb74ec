//! Walking the running thread's Python frames, innermost first.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user};
use profiler_common::MAX_FRAMES;
use profiler_common::config::{ABSENT, ProcessConfig, PythonLayout, ThreadSlot, lasti_rule, thread_slot};
use profiler_common::counter::Counter;
use profiler_common::event::{frame, walk};

use crate::process::Current;
use crate::thread::Thread;
use crate::{code, counters};

/// Offset of `thread.fsbase` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static FSBASE_OFFSET: Global<u64> = Global::new(0);

/// Frames looked at in one walk: those shown and the interpreter's own between them, one wherever C code called Python.
const MAX_STEPS: usize = 2 * MAX_FRAMES;

/// Bytes of a frame that are read at the most: `Thread::frame`.
const FRAME_BYTES: u32 = 128;

/// glibc's `tcbhead_t.dtv`, bytes from fs base.
const DTV: u64 = 8;
/// Bytes of a `dtv_t`; the one before the first holds how many follow.
const DTV_ENTRY: u64 = 16;
/// `TLS_DTV_UNALLOCATED`: the thread has not used the library's variables yet.
const UNALLOCATED: u64 = u64::MAX;

/// Keys in each block of glibc's thread-specific data.
const GLIBC_BLOCK_KEYS: u64 = 32;

/// Most copies of one code object's bytecode that a thread's index may name.
const MAX_COPIES: u64 = 1 << 20;

/// Not a status: the walk goes on.
const MORE: u32 = u32::MAX;

/// What a walk found; the frames are in `Thread::frames`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walked {
    /// Frames stored.
    pub depth: u32,
    /// One of `walk`.
    pub status: u32,
    /// Hash of the frames.
    pub hash: u64,
}

/// Walks the running thread.
#[inline(always)]
pub fn python(config: &ProcessConfig, current: Current, thread: *mut Thread) -> Walked {
    let start = match first_frame(config) {
        Ok(start) => start,
        Err(status) => {
            return Walked { depth: 0, status, hash: 0 };
        }
    };
    let walked = frames(config, current, thread, start);
    counters::add(Counter::Frames, u64::from(walked.depth));
    walked
}

/// The innermost frame of the running thread, or why there is none.
#[inline(always)]
fn first_frame(config: &ProcessConfig) -> Result<u64, u32> {
    let fsbase = fsbase();
    let slot = slot_address(&config.thread_slot, fsbase)?;
    let tstate = read(slot).ok_or(walk::READ_FAILED)?;
    if tstate == 0 {
        return Err(walk::NOT_PYTHON);
    }
    let layout = &config.layout;
    let owner = owner(layout, tstate).ok_or(walk::READ_FAILED)?;
    if owner != fsbase {
        return Err(walk::THREAD_MISMATCH);
    }
    let tstate = running_state(config, tstate, fsbase)?;
    match frame_of(layout, tstate) {
        None => Err(walk::READ_FAILED),
        Some(0) => Err(walk::NO_FRAME),
        Some(first) => Ok(first),
    }
}

/// The innermost frame of a thread state; 0 if it has none.
#[inline(always)]
fn frame_of(layout: &PythonLayout, tstate: u64) -> Option<u64> {
    let mut holder = tstate;
    if layout.tstate_cframe != ABSENT {
        holder = read(tstate.wrapping_add(u64::from(layout.tstate_cframe)))?;
    }
    read(holder.wrapping_add(u64::from(layout.tstate_frame)))
}

/// The thread that a thread state belongs to: its fs base.
#[inline(always)]
fn owner(layout: &PythonLayout, tstate: u64) -> Option<u64> {
    read(tstate.wrapping_add(u64::from(layout.tstate_thread_id)))
}

/// The thread's state that runs: while a sub-interpreter runs on CPython 3.11 and earlier, another than the slot's.
///
/// `tstate_current` is NULL or another thread's while this one does not hold the GIL; then the slot's is right, unless
/// the thread is in the middle of code of another interpreter too: from there it may have come back or not.
#[inline(always)]
fn running_state(config: &ProcessConfig, tstate: u64, fsbase: u64) -> Result<u64, u32> {
    if config.current_state == 0 {
        return Ok(tstate);
    }
    let current = read(config.current_state).ok_or(walk::READ_FAILED)?;
    if current == tstate {
        return Ok(tstate);
    }
    if current != 0 && owner(&config.layout, current) == Some(fsbase) {
        return Ok(current);
    }
    match runs_elsewhere(config, tstate, fsbase) {
        0 => Ok(tstate),
        _ => Err(walk::OTHER_INTERPRETER),
    }
}

/// Most thread states of all interpreters that are looked at; beyond them a stack counts as not told.
const MAX_STATES: u32 = 512;

/// Whether the thread has another state than `tstate` that has frames: 1, or 0.
///
/// A global function in the verifier's sense, as [`python_step`] is.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn runs_elsewhere(config: *const ProcessConfig, tstate: u64, fsbase: u64) -> u32 {
    // SAFETY: the caller's pointer is a map's value; the verifier wants to see that null has been thought of.
    let Some(config) = (unsafe { config.as_ref() }) else { return 1 };
    let layout = &config.layout;
    let next_of = |object: u64, offset: u32| read(object.wrapping_add(u64::from(offset))).unwrap_or(0);
    let mut interpreter = read(config.interpreters).unwrap_or(0);
    // By far the most processes have one.
    if interpreter == 0 || next_of(interpreter, layout.interpreter_next) == 0 {
        return 0;
    }
    let mut state = next_of(interpreter, layout.interpreter_threads);
    for _ in 0..MAX_STATES {
        if state == 0 {
            interpreter = next_of(interpreter, layout.interpreter_next);
            if interpreter == 0 {
                return 0;
            }
            state = next_of(interpreter, layout.interpreter_threads);
            continue;
        }
        if state != tstate && owner(layout, state) == Some(fsbase) && frame_of(layout, state) != Some(0) {
            return 1;
        }
        state = next_of(state, layout.tstate_next);
    }
    1
}

/// Where the running thread keeps the pointer to its `PyThreadState`.
#[inline(always)]
fn slot_address(slot: &ThreadSlot, fsbase: u64) -> Result<u64, u32> {
    let relative = fsbase.wrapping_add(slot.offset.cast_unsigned());
    match slot.mode {
        thread_slot::FS_RELATIVE => Ok(relative),
        thread_slot::FS_INDIRECT => match read(relative) {
            None => Err(walk::READ_FAILED),
            Some(0) => Err(walk::NOT_PYTHON),
            Some(level) => Ok(level.wrapping_add(slot.inner)),
        },
        thread_slot::KEY_IN_MEMORY | thread_slot::KEY_IN_MEMORY_MUSL => {
            let key = read(slot.inner).ok_or(walk::NO_INTERPRETER)?;
            let (initialized, index) = (key as u32, key >> 32);
            if initialized == 0 {
                return Err(walk::NO_INTERPRETER);
            }
            let (level, inner) = match slot.mode {
                thread_slot::KEY_IN_MEMORY_MUSL => (relative, 8 * index),
                _ if index < GLIBC_BLOCK_KEYS => return Ok(relative + 16 * index),
                // `offset` is that of the first block's first value, 8 bytes into it; the pointers follow the block.
                _ => (
                    relative.wrapping_add(16 * GLIBC_BLOCK_KEYS - 8 + 8 * (index / GLIBC_BLOCK_KEYS)),
                    16 * (index % GLIBC_BLOCK_KEYS) + 8,
                ),
            };
            match read(level) {
                None => Err(walk::READ_FAILED),
                Some(0) => Err(walk::NOT_PYTHON),
                Some(level) => Ok(level.wrapping_add(inner)),
            }
        }
        thread_slot::DYNAMIC_TLS => {
            let vector = read(fsbase + DTV).ok_or(walk::READ_FAILED)?;
            let room = read(vector.wrapping_sub(DTV_ENTRY)).ok_or(walk::READ_FAILED)?;
            let entry = slot.offset.cast_unsigned();
            // A thread that has not used the library yet has no room for it, or no block.
            if entry > room.wrapping_mul(DTV_ENTRY) {
                return Err(walk::NOT_PYTHON);
            }
            match read(vector.wrapping_add(entry)) {
                None => Err(walk::READ_FAILED),
                Some(0 | UNALLOCATED) => Err(walk::NOT_PYTHON),
                Some(block) => Ok(block.wrapping_add(slot.inner)),
            }
        }
        _ => Err(walk::NO_INTERPRETER),
    }
}

#[inline(always)]
fn frames(config: &ProcessConfig, current: Current, thread: *mut Thread, start: u64) -> Walked {
    set_step(thread, Step { next: start, hash: 0, depth: 0 });
    let mut status = walk::TRUNCATED;
    for _ in 0..MAX_STEPS {
        let reached = python_step(thread, config, current.pid, current.tid);
        if reached != MORE {
            status = reached;
            break;
        }
    }
    let Step { hash, depth, .. } = step_of(thread);
    // CPython 3.15+ ends every chain in a frame of its own, also when no code runs.
    if depth == 0 && status == walk::COMPLETE {
        status = walk::NO_FRAME;
    }
    Walked { depth: depth as u32, status, hash }
}

/// Where a walk stands. Kept in memory, where the verifier does not tell values apart.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Step {
    /// The next frame's address.
    next: u64,
    /// Hash of the frames so far.
    hash: u64,
    /// Frames stored so far.
    depth: u64,
}

#[inline(always)]
fn step_of(thread: *mut Thread) -> Step {
    // SAFETY: the thread's state is a map value that stays valid while the program runs.
    unsafe { (&raw const (*thread).step).read_volatile() }
}

#[inline(always)]
fn set_step(thread: *mut Thread, step: Step) {
    // SAFETY: as in `step_of`; only this thread writes its state.
    unsafe { (&raw mut (*thread).step).write_volatile(step) }
}

/// Stores one frame and goes to its caller: [`MORE`], or the status that ends the walk.
///
/// A global function in the verifier's sense: checked once, by its types alone, and not for each step of each walk.
/// Inlined, the walk took more than half of the verifier's million instructions, and a second of every start.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn python_step(thread: *mut Thread, config: *const ProcessConfig, pid: u32, tid: u32) -> u32 {
    // SAFETY: the caller's pointers are a map's values; the verifier wants to see that null has been thought of.
    let Some(config) = (unsafe { config.as_ref() }) else { return walk::READ_FAILED };
    if thread.is_null() {
        return walk::READ_FAILED;
    }
    let layout = &config.layout;
    let mut step = step_of(thread);
    if !read_frame(thread, step.next, layout.frame_size) {
        return walk::READ_FAILED;
    }
    if !is_interpreters_own(thread, layout.frame_owner, layout.owner_skip_from) {
        if step.depth >= MAX_FRAMES as u64 {
            return walk::TRUNCATED;
        }
        let object = field_u64(thread, layout.frame_code) & layout.pointer_mask;
        let serial = code::serial(config, Current { pid, tid }, thread, object);
        let packed = frame::pack(serial, lasti(config, thread, object));
        // SAFETY: depth is below the array's length.
        unsafe { (*thread).frames[step.depth as usize] = packed };
        step.depth += 1;
        step.hash = mix(step.hash, packed);
    }
    step.next = field_u64(thread, layout.frame_previous);
    set_step(thread, step);
    if step.next == 0 { walk::COMPLETE } else { MORE }
}

#[inline(always)]
fn read_frame(thread: *mut Thread, address: u64, size: u32) -> bool {
    let size = if size > FRAME_BYTES { FRAME_BYTES } else { size };
    // SAFETY: `frame` has room for FRAME_BYTES; the helper checks the target's address itself.
    unsafe { bpf_probe_read_user((&raw mut (*thread).frame).cast(), size, address as *const _) == 0 }
}

#[inline(always)]
fn is_interpreters_own(thread: *mut Thread, owner_offset: u32, skip_from: u32) -> bool {
    if owner_offset == ABSENT {
        return false;
    }
    let offset = (owner_offset & 0x7f) as usize;
    // SAFETY: the offset is below the 128 bytes of `frame`.
    let owner = unsafe { *(&raw const (*thread).frame).cast::<u8>().add(offset) };
    u32::from(owner) >= skip_from
}

/// `lasti` in code units, or `frame::NO_LASTI`.
#[inline(always)]
fn lasti(config: &ProcessConfig, thread: *mut Thread, object: u64) -> u64 {
    let layout = &config.layout;
    let units = match layout.lasti_rule {
        lasti_rule::POINTER => {
            let base = object.wrapping_add(u64::from(layout.code_adaptive));
            field_u64(thread, layout.frame_lasti).wrapping_sub(base) / 2
        }
        lasti_rule::POINTER_PER_THREAD => {
            let index = u64::from(field_u32(thread, layout.frame_tlbc_index));
            let base = match index {
                0 => object.wrapping_add(u64::from(layout.code_adaptive)),
                _ => bytecode_copy(object.wrapping_add(u64::from(layout.code_tlbc)), index),
            };
            if base == 0 {
                return frame::LOST_LASTI;
            }
            field_u64(thread, layout.frame_lasti).wrapping_sub(base) / 2
        }
        lasti_rule::BYTES => u64::from(field_u32(thread, layout.frame_lasti)) / 2,
        lasti_rule::UNITS => u64::from(field_u32(thread, layout.frame_lasti)),
        _ => frame::NO_LASTI,
    };
    if units < frame::NO_LASTI { units } else { frame::NO_LASTI }
}

/// A thread's own copy of a code object's bytecode; 0 if it cannot be found.
///
/// `co_tlbc` points to {i64 size; char *entries[size]}. Read at every event: it is replaced when it has to grow.
#[inline(never)]
fn bytecode_copy(co_tlbc: u64, index: u64) -> u64 {
    let Some(array) = read(co_tlbc) else { return 0 };
    let size = read(array).unwrap_or(0);
    if index >= size || index >= MAX_COPIES {
        return 0;
    }
    read(array.wrapping_add(8 + 8 * index)).unwrap_or(0)
}

#[inline(always)]
fn field_u64(thread: *mut Thread, offset: u32) -> u64 {
    let offset = (offset & 0x78) as usize;
    // SAFETY: offset + 8 is at most the 128 bytes of `frame`, and offset is a multiple of 8.
    unsafe { *(&raw const (*thread).frame).cast::<u8>().add(offset).cast::<u64>() }
}

#[inline(always)]
fn field_u32(thread: *mut Thread, offset: u32) -> u32 {
    let offset = (offset & 0x7c) as usize;
    // SAFETY: offset + 4 is at most the 128 bytes of `frame`, and offset is a multiple of 4.
    unsafe { *(&raw const (*thread).frame).cast::<u8>().add(offset).cast::<u32>() }
}

/// The thread's fs base: what `pthread_self()` gives on glibc and musl.
fn fsbase() -> u64 {
    let mut value = 0u64;
    // SAFETY: the destination is a u64 on the stack; the offset comes from this kernel's BTF, and the helper fails
    // instead of faulting.
    unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel((&raw mut value).cast(), 8, (task + FSBASE_OFFSET.load()) as *const _);
    }
    value
}

#[inline(always)]
fn read(address: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the destination is a u64 on the stack; the helper checks the target's address itself.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) };
    (failed == 0).then_some(value)
}

/// One step of a 64-bit hash: multiply by 2^64 / phi and fold.
pub fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}
