//! Exits and execs of traced processes, what killed them, and holding one where userspace must look before it goes on.

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_task, bpf_probe_read_kernel, bpf_send_signal,
};
use aya_ebpf::programs::BtfTracePointContext;
use aya_ebpf::{EbpfContext as _, Global};
use aya_log_ebpf::debug;
use profiler_common::config::{NO_SLOT, ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::event::{Lifecycle, NAME_BYTES, kind, lifecycle};

use crate::process::Current;
use crate::{counters, namespace, pool, process, ring, sampling, thread, watch};

/// Offset of `exit_code` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static EXIT_CODE_OFFSET: Global<u64> = Global::new(0);

/// Offset of `tgid` in `task_struct`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static TGID_OFFSET: Global<u64> = Global::new(0);

/// Offset of `mm` in `task_struct`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static MM_OFFSET: Global<u64> = Global::new(0);

/// Offset of `signal` in `task_struct`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static SIGNAL_OFFSET: Global<u64> = Global::new(0);

/// Offset of `live` in `signal_struct`, likewise: how many threads of the process run.
// SAFETY: as above.
#[unsafe(no_mangle)]
static LIVE_OFFSET: Global<u64> = Global::new(0);

/// Offset of the count of `rss_stat[0]` in `mm_struct`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static RSS_OFFSET: Global<u64> = Global::new(0);

/// Bytes from one of these to the next; 0 on kernels that keep them otherwise (before 6.2).
// SAFETY: as above.
#[unsafe(no_mangle)]
static RSS_STRIDE: Global<u64> = Global::new(0);

/// On x86-64.
const PAGE_BYTES: u64 = 4096;

const SIGABRT: u32 = 6;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
const SIGSTOP: u32 = 19;

/// `SEND_SIG_NOINFO` (0, by a process) and `SEND_SIG_PRIV` (1, by the kernel) stand for a signal's origin where there
/// is no `kernel_siginfo` (include/linux/sched/signal.h).
const BY_KERNEL: u64 = 1;
/// `TRACE_SIGNAL_DELIVERED` (include/trace/events/signal.h).
const DELIVERED: u64 = 0;
/// Pointers into the kernel lie above; before Linux 6.10 `mark_victim` had a pid in the place of the task.
const LAST_PID: u64 = 1 << 32;

/// The running thread ends.
#[inline(always)]
pub fn try_exit(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    thread::forget(current);
    // do_group_exit gives every thread the same code, so the leader's stands for the process.
    if process::kernel_pid() == current.tid {
        debug!(ctx, "process {} ends", current.pid);
        send(config.slot, current, lifecycle::EXITED, exit_code());
    }
    if is_last_thread() {
        let read = config.flags & process_flags::FOLLOW_ONLY == 0 && has_memory();
        if read {
            pool::read_all(config.slot);
        }
        send_with_rss(config.slot, current, lifecycle::ENDED, u32::from(read), if read { rss() } else { 0 });
        // Its pid may be another process's before userspace looks.
        process::forget(current.pid);
    }
    0
}

/// Whether no other thread of the running one's process is left. The kernel has taken it off the count by now.
fn is_last_thread() -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    field_u32(field_u64(task, SIGNAL_OFFSET.load()), LIVE_OFFSET.load()) == 0
}

/// Resident set size of the running process, bytes; as /proc has it, without what CPUs have not yet added up.
fn rss() -> u64 {
    let (first, stride) = (RSS_OFFSET.load(), RSS_STRIDE.load());
    if stride == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let mm = field_u64(unsafe { bpf_get_current_task() }, MM_OFFSET.load());
    // MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES (include/linux/mm_types_task.h).
    let pages = field_u64(mm, first)
        .wrapping_add(field_u64(mm, first + stride))
        .wrapping_add(field_u64(mm, first + 3 * stride));
    if (pages as i64) < 0 { 0 } else { pages * PAGE_BYTES }
}

/// Whether the running thread still has its memory: at its exit it does since Linux 6.16.
fn has_memory() -> bool {
    // SAFETY: the helper has no preconditions.
    field_u64(unsafe { bpf_get_current_task() }, MM_OFFSET.load()) != 0
}

/// The kernel's OOM killer has chosen a process: `mark_victim(task, uid)`, or `mark_victim(pid)`.
#[inline(always)]
pub fn try_oom(ctx: &BtfTracePointContext) -> i32 {
    let victim = argument(ctx, 0);
    let pid = if victim < LAST_PID { victim as u32 } else { field_u32(victim, TGID_OFFSET.load()) };
    if let Some(config) = process::config(pid) {
        debug!(ctx, "process {} is the OOM killer's victim", pid);
        send(config.slot, Current { pid, tid: pid }, lifecycle::OOM_VICTIM, 0);
    }
    0
}

/// A signal is sent: `signal_generate(number, info, task, group, result)`.
#[inline(always)]
pub fn try_signal(ctx: &BtfTracePointContext) -> i32 {
    let number = argument(ctx, 0) as u32;
    if number != SIGKILL && number != SIGABRT && number != SIGTERM {
        return 0;
    }
    let pid = field_u32(argument(ctx, 2), TGID_OFFSET.load());
    let Some(config) = process::config(pid) else { return 0 };
    if argument(ctx, 4) != DELIVERED {
        return 0;
    }
    let Some(mut entry) = ring::reserve::<Lifecycle>() else { return 0 };
    let by_kernel = argument(ctx, 1) == BY_KERNEL;
    let mut name = [0u8; NAME_BYTES];
    if !by_kernel {
        // SAFETY: the destination is on the stack and as long as said.
        unsafe { bpf_get_current_comm(name.as_mut_ptr().cast(), NAME_BYTES as u32) };
    }
    let sender = if by_kernel { 0 } else { process::current().pid };
    let header = ring::header(kind::LIFECYCLE, config.slot, Current { pid, tid: pid });
    entry.write(Lifecycle { header, what: lifecycle::SIGNALLED, code: number, sender, reserved: 0, name, rss: 0 });
    entry.submit(0);
    0
}

/// An argument of a tracepoint as a plain number: the verifier lets nobody compute with a pointer that it knows.
fn argument(ctx: &BtfTracePointContext, index: u64) -> u64 {
    field_u64(ctx.as_ptr() as u64, 8 * index)
}

/// The running thread made a thread or a process: `sched_process_fork(parent, child)`.
#[inline(always)]
pub fn try_fork(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(parent) = process::config(current.pid) else { return 0 };
    let child = ctx.arg::<*const u8>(1) as u64;
    let kernel_pid = field_u32(child, TGID_OFFSET.load());
    // A thread has its parent's tgid.
    if kernel_pid == process::kernel_pid() {
        watch::thread_made(parent.slot);
        return 0;
    }
    let pid = namespace::pid_of(child, kernel_pid);
    if pid == 0 {
        return 0;
    }
    if parent.flags & process_flags::FOLLOW == 0 {
        if !shares_memory(child) {
            send(parent.slot, Current { pid, tid: pid }, lifecycle::LEFT_ALONE, 0);
        }
        return 0;
    }
    let Some(slot) = process::slot_of_forked() else {
        counters::one(Counter::ForksNotFollowed);
        return 0;
    };
    let flags = parent.flags & !process_flags::NOT_INHERITED;
    let thread_slot = parent.forked_thread_slot;
    let faults = sampling::faults::of_forked(&parent.faults);
    let config = ProcessConfig { slot, flags, parent_slot: parent.slot, ending_tid: 0, faults, thread_slot, ..*parent };
    if !process::insert(pid, &config) {
        counters::one(Counter::ForksNotFollowed);
        return 0;
    }
    debug!(ctx, "process {} forked {}", current.pid, pid);
    let what = if shares_memory(child) { lifecycle::VFORKED } else { lifecycle::FORKED };
    send(slot, Current { pid, tid: pid }, what, parent.slot);
    0
}

/// Whether a task has the running one's memory.
fn shares_memory(child: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let offset = MM_OFFSET.load();
    field_u64(child, offset) == field_u64(task, offset)
}

/// The running process has executed another program.
#[inline(always)]
pub fn try_exec(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    let slot = config.slot;
    debug!(ctx, "process {} executed another program", current.pid);
    thread::forget(current);
    if config.flags & process_flags::HOLD_AT_EXEC != 0 {
        stop(slot, current, lifecycle::HELD_AT_EXEC);
        return 0;
    }
    let next = follow_on(config, current.pid);
    send(slot, current, lifecycle::EXECUTED, next);
    0
}

/// What is known of the process before holds no more, but what it forks must not be missed until userspace has looked:
/// a shell forks the moment it runs. Its new slot.
#[inline(always)]
fn follow_on(config: &ProcessConfig, pid: u32) -> u32 {
    if config.flags & process_flags::FOLLOW != 0 {
        if let Some(slot) = process::slot_of_executed() {
            let flags = config.flags & !process_flags::NOT_INHERITED | process_flags::FOLLOW_ONLY;
            let next = ProcessConfig { slot, flags, parent_slot: NO_SLOT, ending_tid: 0, ..*config };
            if process::insert(pid, &next) {
                return slot;
            }
        }
        counters::one(Counter::ForksNotFollowed);
    }
    process::forget(pid);
    NO_SLOT
}

/// Stops the process if userspace asked for it at this place.
#[inline(always)]
pub fn hold(config: &ProcessConfig, current: Current, at: u32) {
    if config.flags & at == 0 {
        return;
    }
    let what = if at == process_flags::HOLD_AT_EXIT { lifecycle::HELD_AT_EXIT } else { lifecycle::HELD_AT_ENTRY };
    stop(config.slot, current, what);
}

fn stop(slot: u32, current: Current, what: u32) {
    // SAFETY: the helper sends the signal to the running process; userspace asked for it and resumes it.
    unsafe { bpf_send_signal(SIGSTOP) };
    send(slot, current, what, 0);
}

fn send(slot: u32, current: Current, what: u32, code: u32) {
    send_with_rss(slot, current, what, code, 0);
}

fn send_with_rss(slot: u32, current: Current, what: u32, code: u32, rss: u64) {
    let header = ring::header(kind::LIFECYCLE, slot, current);
    let event = Lifecycle { header, what, code, sender: 0, reserved: 0, name: [0; NAME_BYTES], rss };
    ring::tell_follower(event);
    if let Some(mut entry) = ring::reserve::<Lifecycle>() {
        entry.write(event);
        entry.submit(0);
    }
}

fn exit_code() -> u32 {
    // SAFETY: the helper has no preconditions.
    field_u32(unsafe { bpf_get_current_task() }, EXIT_CODE_OFFSET.load())
}

fn field_u32(task: u64, offset: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: the destination is a u32 on the stack; the offset comes from this kernel's BTF, and the helper fails
    // instead of faulting.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 4, (task + offset) as *const _) };
    value
}

fn field_u64(task: u64, offset: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: as in `field_u32`.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 8, (task + offset) as *const _) };
    value
}
