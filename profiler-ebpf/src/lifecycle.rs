//! Exits and execs of traced processes, and holding one where userspace must look before it goes on.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel, bpf_send_signal};
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::event::{Lifecycle, kind, lifecycle};

use crate::process::Current;
use crate::{process, ring, thread};

/// Offset of `exit_code` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static EXIT_CODE_OFFSET: Global<u64> = Global::new(0);

const SIGSTOP: u32 = 19;

/// The running thread ends.
#[inline(always)]
pub fn try_exit() -> i32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    thread::forget(current);
    // do_group_exit gives every thread the same code, so the leader's stands for the process.
    if current.pid == current.tid {
        send(config.slot, current, lifecycle::EXITED, exit_code());
    }
    0
}

/// The running process has executed another program.
#[inline(always)]
pub fn try_exec() -> i32 {
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    let slot = config.slot;
    thread::forget(current);
    if config.flags & process_flags::HOLD_AT_EXEC != 0 {
        stop(slot, current, lifecycle::HELD_AT_EXEC);
        return 0;
    }
    process::forget(current.pid);
    send(slot, current, lifecycle::EXECUTED, 0);
    0
}

/// Stops the process if userspace asked for it at this place.
#[inline(always)]
pub fn hold(config: &ProcessConfig, current: Current, at: u32) {
    if config.flags & at == 0 {
        return;
    }
    let what = if at == process_flags::HOLD_AT_EXIT {
        lifecycle::HELD_AT_EXIT
    } else {
        lifecycle::HELD_AT_ENTRY
    };
    stop(config.slot, current, what);
}

fn stop(slot: u32, current: Current, what: u32) {
    // SAFETY: the helper sends the signal to the running process; userspace asked for it and resumes it.
    unsafe { bpf_send_signal(SIGSTOP) };
    send(slot, current, what, 0);
}

fn send(slot: u32, current: Current, what: u32, code: u32) {
    let Some(mut entry) = ring::reserve::<Lifecycle>() else {
        return;
    };
    entry.write(Lifecycle {
        header: ring::header(kind::LIFECYCLE, slot, current),
        what,
        code,
    });
    entry.submit(0);
}

fn exit_code() -> u32 {
    let mut code = 0u32;
    // SAFETY: the destination is a u32 on the stack; the offset comes from this kernel's BTF, and the helper fails
    // instead of faulting.
    unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel((&raw mut code).cast(), 4, (task + EXIT_CODE_OFFSET.load()) as *const _);
    }
    code
}
