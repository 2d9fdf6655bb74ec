//! What a hit of a probe means: which process, which function, entry or return.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::probe::{Cookie, Function};

use crate::process::Current;
use crate::registers::Registers;
use crate::{clock, code, counters, heap, lifecycle, pool, process, thread};

/// What a session program gives at the entry: whether the return is wanted.
const TAKE_RETURN: u32 = 0;
const SKIP_RETURN: u32 = 1;

/// One hit in this many is timed.
const TIMED: u64 = 64;

/// Entry and return in one program.
#[inline(always)]
pub fn try_session(ctx: *mut c_void) -> u32 {
    if session_is_return(ctx) {
        try_return(ctx)
    } else {
        try_entry(ctx)
    }
}

/// The entry of a function.
#[inline(always)]
pub fn try_entry(ctx: *mut c_void) -> u32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return SKIP_RETURN;
    };
    let started = start_timing(Counter::EntryHits);
    // SAFETY: the context is this program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx) });
    let verdict = entered(config, current, Registers::of_probe(ctx), cookie);
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
    returned(config, current, Registers::of_probe(ctx));
    stop_timing(started);
    TAKE_RETURN
}

#[inline(always)]
fn entered(config: &ProcessConfig, current: Current, regs: Registers, cookie: Cookie) -> u32 {
    let function = cookie.function();
    let sp = regs.sp() + cookie.pushed();
    if function == Function::Free as u8 {
        heap::free(config, current, regs.get(cookie.register(0)), sp);
        return SKIP_RETURN;
    }
    if function == Function::CodeDealloc as u8 {
        code::died(config, regs.get(cookie.register(0)));
        return SKIP_RETURN;
    }
    if function == Function::Exit as u8 {
        lifecycle::hold(config, current, process_flags::HOLD_AT_EXIT);
        return SKIP_RETURN;
    }
    if function == Function::Entry as u8 {
        lifecycle::hold(config, current, process_flags::HOLD_AT_ENTRY);
        return SKIP_RETURN;
    }
    let Some(state) = thread::state(current) else {
        return SKIP_RETURN;
    };
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    unsafe {
        if (*state).is_nested(sp) {
            counters::one(Counter::Nested);
            return SKIP_RETURN;
        }
        (*state).outer_sp = sp;
        (*state).function = u64::from(function);
    }
    if function != Function::PoolOpen as u8 {
        heap::enter(config, state, regs, cookie);
    }
    TAKE_RETURN
}

#[inline(always)]
fn returned(config: &ProcessConfig, current: Current, regs: Registers) {
    let Some(state) = thread::known(current) else { return };
    // SAFETY: as in `entered`.
    let function = unsafe {
        // At the return rsp is above the return address; a nested function's return has another rsp.
        if (*state).outer_sp == 0 || regs.sp() != (*state).outer_sp + 8 {
            return;
        }
        (*state).outer_sp = 0;
        (*state).function as u8
    };
    let result = regs.get(profiler_common::probe::Register::Rax as u8);
    if function == Function::PoolOpen as u8 {
        pool::opened(config, current, state, result);
    } else {
        heap::leave(config, current, state, result);
    }
}

/// Counts a hit; the start time when this hit is one of those timed, else 0.
#[inline(always)]
fn start_timing(hits: Counter) -> u64 {
    let count = counters::here(hits);
    counters::one(hits);
    if count % TIMED == 0 { clock::now_ns() } else { 0 }
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
