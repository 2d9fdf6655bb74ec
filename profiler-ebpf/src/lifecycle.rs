//! Exits and execs of traced processes, and holding one where userspace must look before it goes on.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel, bpf_send_signal};
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use profiler_common::config::{NO_SLOT, ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::event::{Lifecycle, kind, lifecycle};

use crate::process::Current;
use crate::{counters, process, ring, thread};

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

const SIGSTOP: u32 = 19;

/// The running thread ends.
#[inline(always)]
pub fn try_exit(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    thread::forget(current);
    // do_group_exit gives every thread the same code, so the leader's stands for the process.
    if current.pid == current.tid {
        debug!(ctx, "process {} ends", current.pid);
        send(config.slot, current, lifecycle::EXITED, exit_code());
    }
    0
}

/// The running thread made a thread or a process: `sched_process_fork(parent, child)`.
#[inline(always)]
pub fn try_fork(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(parent) = process::config(current.pid) else { return 0 };
    if parent.flags & process_flags::FOLLOW == 0 {
        return 0;
    }
    let child = ctx.arg::<*const u8>(1) as u64;
    let pid = field_u32(child, TGID_OFFSET.load());
    // A thread has its parent's tgid.
    if pid == current.pid || pid == 0 {
        return 0;
    }
    let Some(slot) = process::slot_of_forked() else {
        counters::one(Counter::ForksNotFollowed);
        return 0;
    };
    let flags = parent.flags & !process_flags::NOT_INHERITED;
    let config = ProcessConfig { slot, flags, parent_slot: parent.slot, ending_tid: 0, ..*parent };
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
    let event = Lifecycle { header: ring::header(kind::LIFECYCLE, slot, current), what, code };
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
