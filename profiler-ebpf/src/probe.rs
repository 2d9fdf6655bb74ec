//! What a hit of a probe means: which process, which function, entry or return.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::probe::{Cookie, Function};

use crate::process::Current;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::{clock, code, counters, heap, lifecycle, native, pool, process, stack, thread};

/// What a session program gives at the entry: whether the return is wanted.
const TAKE_RETURN: u32 = 0;
const SKIP_RETURN: u32 = 1;

/// One hit in this many is timed.
const TIMED: u64 = 64;

/// What every hit does before anything is decided. Linked to a child of pyalloc's own, to learn what a hit costs here.
#[inline(always)]
pub fn try_nothing() -> u32 {
    let _ = process::config(process::current().pid);
    TAKE_RETURN
}

/// Entry and return in one program.
#[inline(always)]
pub fn try_session(ctx: *mut c_void) -> u32 {
    if session_is_return(ctx) { try_return(ctx) } else { enter(ctx, true) }
}

/// The entry of a function.
#[inline(always)]
pub fn try_entry(ctx: *mut c_void) -> u32 {
    enter(ctx, false)
}

/// `spares`: this program decides whether the return is taken.
#[inline(always)]
fn enter(ctx: *mut c_void, spares: bool) -> u32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return SKIP_RETURN;
    };
    let started = start_timing(Counter::EntryHits);
    // SAFETY: the context is this program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx) });
    let verdict = entered(config, current, Registers::of_probe(ctx), cookie, spares);
    stop_timing(started);
    verdict
}

/// The return of a function whose entry was taken.
#[inline(always)]
pub fn try_return(ctx: *mut c_void) -> u32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return TAKE_RETURN;
    };
    let started = start_timing(Counter::ReturnHits);
    let regs = Registers::of_probe(ctx);
    match outermost(current, regs) {
        Some(state) => returned(config, current, state, regs, started),
        None => stop_timing(started),
    }
    TAKE_RETURN
}

#[inline(always)]
fn entered(config: &ProcessConfig, current: Current, regs: Registers, cookie: Cookie, spares: bool) -> u32 {
    let function = cookie.function();
    let sp = regs.sp() + cookie.pushed();
    // Probes may be there before userspace knows the interpreter that they are for.
    if config.flags & process_flags::FOLLOW_ONLY != 0 && function != Function::Entry as u8 {
        return SKIP_RETURN;
    }
    if config.ending_tid == current.tid && is_of_the_heap(function) {
        counters::one(Counter::AtExit);
        return SKIP_RETURN;
    }
    if function == Function::Free as u8 {
        heap::free(config, current, regs.get(cookie.register(0)), sp, cookie.is_of_objects());
        return SKIP_RETURN;
    }
    if function == Function::CodeDealloc as u8 {
        code::died(config, regs.get(cookie.register(0)));
        return SKIP_RETURN;
    }
    if function == Function::Exit as u8 {
        process::ends(current);
        lifecycle::hold(config, current, process_flags::HOLD_AT_EXIT);
        return SKIP_RETURN;
    }
    if function == Function::Entry as u8 {
        lifecycle::hold(config, current, process_flags::HOLD_AT_ENTRY);
        return SKIP_RETURN;
    }
    let is_pool = function == Function::PoolOpen as u8;
    let asked = if is_pool { None } else { Some(heap::asked(config, regs, cookie)) };
    // Where every return is taken, one is not missed by passing a call over.
    if spares
        && let Some(asked) = asked
        && !asked.matters()
    {
        heap::pass_over(current, asked, sp);
        return SKIP_RETURN;
    }
    let Some(state) = thread::state(current) else {
        return SKIP_RETURN;
    };
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    unsafe {
        // Pymalloc jumps to the C library's functions at its end: their stack pointer is then its own.
        let jumped = (*state).is_of_objects() && (*state).outer_sp == sp && !cookie.is_of_objects();
        if jumped || (*state).is_nested(sp) || spares && (*state).has_passed_over(sp) {
            counters::one(Counter::Nested);
            return SKIP_RETURN;
        }
        (*state).outer_sp = sp;
        (*state).function = u64::from(function) | thread::objects_bit(cookie);
    }
    if config.flags & process_flags::NATIVE != 0 {
        native::note_return(state, sp);
    }
    if let Some(asked) = asked {
        heap::enter(config, state, asked);
    }
    TAKE_RETURN
}

#[inline(always)]
fn is_of_the_heap(function: u8) -> bool {
    ![Function::CodeDealloc, Function::Exit, Function::Entry].iter().any(|other| *other as u8 == function)
}

/// The state of the running thread, if the function that returns is its outermost one. It is in none from now on.
#[inline(always)]
fn outermost(current: Current, regs: Registers) -> Option<*mut Thread> {
    let state = thread::known(current)?;
    // SAFETY: as in `entered`.
    unsafe {
        // At the return rsp is above the return address; a nested function's return has another rsp.
        if (*state).outer_sp == 0 || regs.sp() != (*state).outer_sp + 8 {
            return None;
        }
        (*state).outer_sp = 0;
    }
    Some(state)
}

/// Everything known before the walk is put into the state and read from there after it, and there is one walk for all
/// functions: else the verifier would check the walk once for each way that leads to it, which is more than its limit.
#[inline(always)]
fn returned(config: &ProcessConfig, current: Current, state: *mut Thread, regs: Registers, started: u64) {
    // SAFETY: as in `entered`.
    unsafe { (&raw mut (*state).started).write_volatile(started) };
    if prepare(config, state, regs.get(profiler_common::probe::Register::Rax as u8))
        && let Some(stack) = stack::capture(config, current, state, regs)
    {
        if is_pool(state) {
            pool::opened(config, state, stack);
        } else {
            heap::handed_out(config, state, stack);
        }
    }
    // SAFETY: as in `entered`.
    stop_timing(unsafe { (&raw const (*state).started).read_volatile() });
}

/// What is to be done before the walk; false if nothing was handed out.
#[inline(always)]
fn prepare(config: &ProcessConfig, state: *mut Thread, result: u64) -> bool {
    if !is_pool(state) {
        return heap::settle(config, state, result);
    }
    // SAFETY: as in `entered`.
    unsafe { (&raw mut (*state).block).write_volatile(result) };
    result != 0
}

#[inline(always)]
fn is_pool(state: *mut Thread) -> bool {
    // SAFETY: as in `entered`.
    let function = unsafe { (&raw const (*state).function).read_volatile() };
    function == Function::PoolOpen as u64
}

/// Counts a hit; the start time when this hit is one of those timed, else 0.
///
/// Not every 64th: in a loop of one malloc and one free that would be always the same of the two. Multiplied by
/// 2^64 / phi the numbers of the hits spread evenly, and no period of a program keeps step with them.
#[inline(always)]
fn start_timing(hits: Counter) -> u64 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let count = counters::here(hits);
    counters::one(hits);
    if count.wrapping_mul(SPREAD) < u64::MAX / TIMED { clock::now_ns() } else { 0 }
}

#[inline(always)]
fn stop_timing(started: u64) {
    if started != 0 {
        counters::add(Counter::BodyNanos, (clock::now_ns() - started) * TIMED);
    }
}

/// The kernel function `bpf_session_is_return`: the loader turns a call of this address into a call of it.
#[inline(always)]
fn session_is_return(ctx: *mut c_void) -> bool {
    let _ = ctx;
    // SAFETY: never a real address: `kernel/session.rs` rewrites the call instruction before the program is loaded.
    let function: extern "C" fn() -> bool = unsafe { core::mem::transmute(0x7000_0001_usize) };
    function()
}
