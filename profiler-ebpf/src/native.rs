//! Walking the running thread's native frames by tables that userspace compiled (see `profiler_common::unwind`).
//!
//! Everything that changes from frame to frame is kept in memory and read and written volatile: there the verifier
//! does not follow it. In registers it would check every outcome of every step of both binary searches.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::MAX_FRAMES;
use profiler_common::counter::Counter;
use profiler_common::event::native;
use profiler_common::probe::Register;
use profiler_common::unwind::{
    MAPPING_STEPS, MAX_NATIVE_FRAMES, NativeMapping, NativeProcess, ROW_STEPS, Row, cfa, rbp,
};

use crate::counters;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::walk::mix;

/// The tables; the loader sets the size, one row when no native frames are wanted.
#[map]
static NATIVE_ROWS: Array<Row> = Array::with_max_entries(1, 0);

/// The executable mappings; the loader sets the size.
#[map]
static NATIVE_MAPPINGS: Array<NativeMapping> = Array::with_max_entries(1, 0);

/// Where a process's mappings are, by slot; the loader sets the size.
#[map]
static NATIVE_PROCESSES: HashMap<u32, NativeProcess> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// A walk: part of a thread's state.
#[repr(C)]
pub struct Walk {
    /// The frame's address: where it goes on when what it called returns.
    pc: u64,
    /// Its registers at that point.
    sp: u64,
    bp: u64,
    /// Hash of the frames so far.
    hash: u64,
    /// Bounds of the binary search under way.
    low: u64,
    high: u64,
    /// Frames stored.
    depth: u64,
    /// Where they go in `Thread::frames`: the number of Python frames.
    first: u64,
    /// The frame's row.
    row: Row,
    /// The mapping that the last frame was in, where the next is likely to be.
    mapping: NativeMapping,
    /// Address of the part of the stack that was read last, or [`NO_WINDOW`].
    window_start: u64,
    /// Index in it of the word asked for.
    word: u64,
    /// That part. One read of many words costs little more than one of one.
    window: [u64; WINDOW],
    /// Rows found lately, by [`place_of`]: a thread allocates from the same places again and again, and both searches
    /// together take ten times as long as a look here.
    recent: [Recent; RECENT],
}

/// A row found lately.
#[repr(C)]
#[derive(Clone, Copy)]
struct Recent {
    /// Address in the lower 48 bits, generation of the process's mappings above.
    key: u64,
    row: Row,
}

/// Must be a power of two.
const RECENT: usize = 64;

/// Words of the stack that are read at once: a few frames. Must be a power of two.
const WINDOW: usize = 64;

/// No address that is a multiple of 8 is less than a window above it.
const NO_WINDOW: u64 = u64::MAX;

/// Bytes below a return address that are read with it: there the callee-saved registers are.
const SAVED_REGISTERS: u64 = 56;

/// Reads a field of the walk from memory.
macro_rules! get {
    ($thread:expr, $($field:tt)+) => {
        // SAFETY: the thread's state is a map value that stays valid while the program runs.
        unsafe { (&raw const (*$thread).native.$($field)+).read_volatile() }
    };
}

/// Writes a field of the walk to memory.
macro_rules! set {
    ($thread:expr, $field:ident, $value:expr) => {{
        let value = $value;
        // SAFETY: as in `get`; only this thread writes its state.
        unsafe { (&raw mut (*$thread).native.$field).write_volatile(value) }
    }};
}

/// Where the outermost function, which is just being entered, returns to.
#[inline(always)]
pub fn note_return(thread: *mut Thread, sp: u64) {
    // SAFETY: the destination is a u64 of the thread's state; the helper checks the target's address itself, and
    // zeroes the destination when it fails.
    unsafe { bpf_probe_read_user((&raw mut (*thread).outer_return).cast(), 8, sp as *const _) };
}

/// Walks the native frames and stores them after `python` Python frames; why the walk ended.
#[inline(always)]
pub fn walk(slot: u32, thread: *mut Thread, regs: Registers, python: u32) -> u32 {
    set!(thread, pc, regs.pc());
    set!(thread, sp, regs.sp());
    set!(thread, bp, regs.get(Register::Rbp as u8));
    set!(thread, first, u64::from(python));
    let status = frames(thread, slot);
    count(status, get!(thread, depth));
    status
}

/// Native frames stored by the last walk.
#[inline(always)]
pub fn depth(thread: *mut Thread) -> u32 {
    get!(thread, depth) as u32
}

/// Hash of the native frames of the last walk.
#[inline(always)]
pub fn hash(thread: *mut Thread) -> u64 {
    get!(thread, hash)
}

/// A function of its own, so that its code is in each program once.
#[inline(never)]
fn frames(thread: *mut Thread, slot: u32) -> u32 {
    set!(thread, hash, 0);
    set!(thread, depth, 0);
    set!(thread, mapping, NO_MAPPING);
    set!(thread, window_start, NO_WINDOW);
    // SAFETY: the value is replaced whole by userspace; torn reads lead at worst to a failed look-up.
    let Some(process) = (unsafe { NATIVE_PROCESSES.get(&slot) }) else {
        return native::UNMAPPED;
    };
    let process: *const NativeProcess = process;
    for _ in 0..=MAX_NATIVE_FRAMES {
        let status = native_step(thread, process);
        if status != native::OFF {
            return status;
        }
    }
    native::LIMIT
}

const NO_MAPPING: NativeMapping = NativeMapping { start: 0, end: 0, base: 0, first_row: 0, rows: 0 };

/// One step, as a global function in the verifier's sense: checked once, and not for each step of each walk.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn native_step(thread: *mut Thread, process: *const NativeProcess) -> u32 {
    // SAFETY: the caller's pointers are a map's values; the verifier wants to see that null has been thought of.
    match unsafe { process.as_ref() } {
        Some(process) if !thread.is_null() => step(thread, *process),
        _ => native::UNMAPPED,
    }
}

/// Stores one frame and goes to its caller; `native::OFF` while there is more.
#[inline(always)]
fn step(thread: *mut Thread, process: NativeProcess) -> u32 {
    // A return address may lie behind its function's end (after a call that does not return): the call is before it.
    let call = get!(thread, pc).wrapping_sub(1);
    if !recall(thread, process, call) {
        if !find_mapping(thread, process, call) {
            return store(thread, native::UNMAPPED);
        }
        let Some(row) = find_row(thread, call) else {
            return store(thread, native::NO_TABLE);
        };
        remember(thread, process, call, row);
    }
    let row = get!(thread, row);
    match row.cfa {
        cfa::EVALUATOR => return native::EVALUATOR,
        cfa::END => return store(thread, native::END),
        cfa::NONE => return store(thread, native::NO_TABLE),
        cfa::UNSUPPORTED => return store(thread, native::UNSUPPORTED),
        _ => {}
    }
    let stored = store(thread, native::OFF);
    if stored != native::OFF {
        return stored;
    }
    to_caller(thread, row)
}

/// Stores the frame; `then` if there was room.
#[inline(always)]
fn store(thread: *mut Thread, then: u32) -> u32 {
    let depth = get!(thread, depth);
    let index = get!(thread, first) + depth;
    if depth >= MAX_NATIVE_FRAMES as u64 || index >= (MAX_FRAMES + MAX_NATIVE_FRAMES) as u64 {
        return native::LIMIT;
    }
    let pc = get!(thread, pc);
    // SAFETY: the index is below the array's length.
    unsafe { (*thread).frames[index as usize] = pc };
    set!(thread, depth, depth + 1);
    set!(thread, hash, mix(get!(thread, hash), pc));
    then
}

/// Where an address's row is kept: folds the bits in which return addresses differ.
#[inline(always)]
fn place_of(address: u64) -> usize {
    (address ^ address >> 7 ^ address >> 14) as usize & (RECENT - 1)
}

#[inline(always)]
fn key_of(process: NativeProcess, address: u64) -> u64 {
    u64::from(process.generation) << 48 | address & 0xffff_ffff_ffff
}

/// Makes `Walk::row` the address's if it was found lately.
#[inline(always)]
fn recall(thread: *mut Thread, process: NativeProcess, address: u64) -> bool {
    let place = place_of(address);
    // SAFETY: the place is below the array's length; else as in `get`.
    let known = unsafe { (&raw const (*thread).native.recent[place]).read_volatile() };
    set!(thread, row, known.row);
    known.key == key_of(process, address)
}

/// Makes `Walk::row` the row found, for now and later.
#[inline(always)]
fn remember(thread: *mut Thread, process: NativeProcess, address: u64, row: Row) {
    let (place, key) = (place_of(address), key_of(process, address));
    // SAFETY: as in `recall`.
    unsafe { (&raw mut (*thread).native.recent[place]).write_volatile(Recent { key, row }) };
    set!(thread, row, row);
}

/// Makes `Walk::mapping` the one that holds an address.
#[inline(always)]
fn find_mapping(thread: *mut Thread, process: NativeProcess, address: u64) -> bool {
    if address >= get!(thread, mapping.start) && address < get!(thread, mapping.end) {
        return true;
    }
    set!(thread, low, u64::from(process.first));
    set!(thread, high, u64::from(process.first) + u64::from(process.count));
    for _ in 0..MAPPING_STEPS {
        let (low, high) = (get!(thread, low), get!(thread, high));
        if high.wrapping_sub(low) <= 1 {
            break;
        }
        let middle = (low + high) / 2;
        let Some(mapping) = NATIVE_MAPPINGS.get(middle as u32) else {
            return false;
        };
        if mapping.start <= address {
            set!(thread, low, middle);
        } else {
            set!(thread, high, middle);
        }
    }
    let Some(mapping) = NATIVE_MAPPINGS.get(get!(thread, low) as u32) else {
        return false;
    };
    set!(thread, mapping, *mapping);
    address >= mapping.start && address < mapping.end
}

/// The row for an address in `Walk::mapping`.
#[inline(always)]
fn find_row(thread: *mut Thread, address: u64) -> Option<Row> {
    let rows = get!(thread, mapping.rows);
    let offset = address.wrapping_sub(get!(thread, mapping.base));
    if rows == 0 || offset > u64::from(u32::MAX) {
        return None;
    }
    let first = u64::from(get!(thread, mapping.first_row));
    set!(thread, low, first);
    set!(thread, high, first + u64::from(rows));
    for _ in 0..ROW_STEPS {
        let (low, high) = (get!(thread, low), get!(thread, high));
        if high.wrapping_sub(low) <= 1 {
            break;
        }
        let middle = (low + high) / 2;
        let row = NATIVE_ROWS.get(middle as u32)?;
        if u64::from(row.pc) <= offset {
            set!(thread, low, middle);
        } else {
            set!(thread, high, middle);
        }
    }
    NATIVE_ROWS.get(get!(thread, low) as u32).copied()
}

/// Applies a row: the registers become the caller's. `native::OFF` if the walk can go on.
#[inline(always)]
fn to_caller(thread: *mut Thread, row: Row) -> u32 {
    let (sp, bp) = (get!(thread, sp), get!(thread, bp));
    let offset = i64::from(row.cfa_offset).cast_unsigned().wrapping_mul(8);
    let mut frame_address = if row.cfa == cfa::RSP { sp } else { bp }.wrapping_add(offset);
    if row.cfa == cfa::AT_RBP {
        match read(frame_address) {
            Some(value) => frame_address = value,
            None => return native::READ_FAILED,
        }
    }
    let place = frame_address.wrapping_sub(8);
    let Some(on_stack) = word(thread, place) else {
        return native::READ_FAILED;
    };
    let Some(caller_bp) = caller_bp(thread, row.rbp, bp, frame_address) else {
        return native::READ_FAILED;
    };
    let pc = return_address(thread, place, on_stack);
    if pc == 0 {
        return native::END;
    }
    set!(thread, bp, caller_bp);
    set!(thread, sp, frame_address);
    set!(thread, pc, pc);
    native::OFF
}

/// The return address read from `place`, or what a return probe put another address in place of.
#[inline(always)]
fn return_address(thread: *mut Thread, place: u64, on_stack: u64) -> u64 {
    // SAFETY: as in `get`.
    let (outer_sp, outer_return) = unsafe { ((*thread).outer_sp, (*thread).outer_return) };
    if place == outer_sp && outer_return != 0 {
        return outer_return;
    }
    on_stack
}

#[inline(always)]
fn caller_bp(thread: *mut Thread, rule: i8, bp: u64, frame_address: u64) -> Option<u64> {
    match rule {
        rbp::SAME => Some(bp),
        // The next row that needs it fails its read.
        rbp::UNDEFINED => Some(0),
        rbp::AT_RBP => read(bp),
        _ => word(thread, frame_address.wrapping_add(i64::from(rule).cast_unsigned().wrapping_mul(8))),
    }
}

/// A word of the stack.
#[inline(always)]
fn word(thread: *mut Thread, address: u64) -> Option<u64> {
    const BYTES: u64 = 8 * WINDOW as u64;
    let mut offset = address.wrapping_sub(get!(thread, window_start));
    if offset >= BYTES || offset % 8 != 0 {
        let start = address.wrapping_sub(SAVED_REGISTERS);
        // SAFETY: the destination are the BYTES of `window`; the helper checks the target's address itself.
        let failed =
            unsafe { bpf_probe_read_user((&raw mut (*thread).native.window).cast(), BYTES as u32, start as *const _) };
        if failed != 0 {
            // The stack ends nearby.
            set!(thread, window_start, NO_WINDOW);
            return read(address);
        }
        set!(thread, window_start, start);
        offset = SAVED_REGISTERS;
    }
    set!(thread, word, offset / 8);
    // By way of memory, so that the compiler leaves the mask that the verifier wants to see.
    let index = get!(thread, word) as usize & (WINDOW - 1);
    // SAFETY: the index is below the array's length; else as in `get`.
    Some(unsafe { (&raw const (*thread).native.window[index]).read_volatile() })
}

fn count(status: u32, depth: u64) {
    counters::one(Counter::NativeWalks);
    counters::add(Counter::NativeFrames, depth);
    match status {
        native::UNMAPPED => counters::one(Counter::NativeUnmapped),
        native::NO_TABLE => counters::one(Counter::NativeNoTable),
        native::UNSUPPORTED => counters::one(Counter::NativeUnsupported),
        native::READ_FAILED => counters::one(Counter::NativeReadFailed),
        native::LIMIT => counters::one(Counter::NativeTruncated),
        _ => {}
    }
}

#[inline(always)]
fn read(address: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the destination is a u64 on the stack; the helper checks the target's address itself.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) };
    (failed == 0).then_some(value)
}
