//! The kernel side of pyalloc: entry points of one line, each with a `try_*` body in its room.
//!
//! Every map is owned by one module. A failed operation is counted (see `counters`), never retried in a
//! loop, and never stops the target. One body serves all three kinds of links: a session program is told by
//! the kernel whether it runs at the entry or at the return; on older kernels two programs share the work.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![deny(unsafe_op_in_unsafe_fn)]
#![allow(missing_docs, reason = "aya's macros make functions of their own from documented ones")]

mod atomic;
mod clock;
mod code;
mod counters;
mod fault;
mod heap;
mod lifecycle;
mod mapping;
mod namespace;
mod native;
mod pool;
mod probe;
mod process;
mod registers;
mod ring;
mod sampling;
mod stack;
mod thread;
mod traffic;
mod walk;
mod watch;

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// Entry and return of the functions whose result matters, where the kernel has sessions (6.13+).
///
/// Not `#[uprobe]`: that macro drops the return value, and 1 is what spares the target the return trap.
// SAFETY: the loader attaches this symbol by its name; no other item of that name exists.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn probe_session(ctx: *mut c_void) -> u32 {
    probe::try_session(ctx)
}

/// Entry of a function, where the kernel has no sessions, and of functions whose result does not matter.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn probe_entry(ctx: *mut c_void) -> u32 {
    probe::try_entry(ctx)
}

/// Return of a function, where the kernel has no sessions.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uretprobe")]
pub extern "C" fn probe_return(ctx: *mut c_void) -> u32 {
    probe::try_return(ctx)
}

/// A hit that does nothing, at an entry or in a session: for the calibration.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn idle_entry(_ctx: *mut c_void) -> u32 {
    probe::try_nothing()
}

/// A return that does nothing: for the calibration.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uretprobe")]
pub extern "C" fn idle_return(_ctx: *mut c_void) -> u32 {
    probe::try_nothing()
}

/// A watched slot of a pool is written to.
///
/// Not `#[perf_event]`: that macro drops the return value, and the hit would not count towards the watchpoint's limit.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
pub extern "C" fn slot_written(ctx: *mut c_void) -> u32 {
    watch::try_written(ctx)
}

/// A watchpoint's hit that does nothing: for the calibration.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
pub extern "C" fn idle_written(_ctx: *mut c_void) -> u32 {
    probe::try_nothing() | 1
}

/// Every system call's exit: mmap, munmap, mremap, brk and those that accept connections are picked out first.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    mapping::try_sys_exit(&ctx)
}

/// The program touches a page that is not there, or that it may not write to yet.
#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    fault::try_user(&ctx)
}

/// The kernel does, in a system call.
#[btf_tracepoint(function = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: BtfTracePointContext) -> i32 {
    fault::try_kernel(&ctx)
}

/// Data came out of a socket (Linux 6.3+).
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    traffic::try_receive(&ctx)
}

/// Data went into a socket (Linux 6.3+).
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    traffic::try_send(&ctx)
}

/// A thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    lifecycle::try_exit(&ctx)
}

/// The kernel's OOM killer has chosen a process.
#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    lifecycle::try_oom(&ctx)
}

/// A signal is sent.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    lifecycle::try_signal(&ctx)
}

/// A thread or a process is made.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    lifecycle::try_fork(&ctx)
}

/// A process executes another program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    lifecycle::try_exec(&ctx)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier would refuse the object if this could be reached.
    loop {}
}

// SAFETY: the kernel looks for a license in this section; helpers that read memory want the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
