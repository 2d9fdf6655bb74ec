//! The processes being traced.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::config::{FIRST_EXECUTED_SLOT, FIRST_FORKED_SLOT, MAX_SLOTS, ProcessConfig, process_flags};

use crate::{atomic, namespace};

/// Most processes of one trace.
const MAX_PROCESSES: u32 = 4096;

/// Keyed by the process id that pyalloc sees.
#[map]
static PROCESSES: HashMap<u32, ProcessConfig> = HashMap::with_max_entries(MAX_PROCESSES, BPF_F_NO_PREALLOC);

/// How many slots were given to forked processes, and to executed programs.
#[map]
static GIVEN_SLOTS: Array<u64> = Array::with_max_entries(2, 0);

const FORKED: u32 = 0;
const EXECUTED: u32 = 1;

/// The running thread, in the user's words.
#[derive(Clone, Copy)]
pub struct Current {
    /// The process's id as pyalloc sees it: the kernel's tgid, but in a container's pid namespace. 0 if it is not seen
    /// there.
    pub pid: u32,
    /// The kernel's pid, in whatever namespace: it only tells threads apart.
    pub tid: u32,
}

/// The running thread.
pub fn current() -> Current {
    let both = bpf_get_current_pid_tgid();
    Current { pid: namespace::own_pid((both >> 32) as u32), tid: both as u32 }
}

/// The kernel's own id of the running process.
pub fn kernel_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// What userspace said of a process; `None` if it is not traced.
pub fn config(pid: u32) -> Option<&'static ProcessConfig> {
    // SAFETY: values are replaced whole by userspace and removed only when the process has gone or executed
    // another program; a stale value leads at worst to a failed read, which is counted.
    unsafe { PROCESSES.get(&pid) }
}

/// As [`config`], to be changed by the kernel side.
pub fn config_mut(pid: u32) -> Option<*mut ProcessConfig> {
    PROCESSES.get_ptr_mut(&pid)
}

/// A mapping of the process was moved: what is touched from now on is told apart from what was before.
pub fn moved_mapping(pid: u32) {
    if let Some(config) = PROCESSES.get_ptr_mut(&pid) {
        // SAFETY: the value is aligned and lives as long as the program runs. Threads that move mappings at the same
        // moment may count as one: their touches are told apart from earlier ones all the same.
        unsafe {
            let epoch = &raw mut (*config).faults.epoch;
            epoch.write_volatile(epoch.read_volatile().wrapping_add(1));
        }
    }
}

/// The running thread takes the interpreter down.
///
/// Not for the process as a whole: its other threads may go on, and are waited for.
pub fn ends(current: Current) {
    if let Some(config) = PROCESSES.get_ptr_mut(&current.pid) {
        // SAFETY: the value is aligned and lives as long as the program runs; one thread of a process ends it.
        unsafe { (&raw mut (*config).ending_tid).write_volatile(current.tid) };
    }
}

/// From now on no code object of the process dies unseen.
#[inline(always)]
pub fn deaths_are_seen(pid: u32, slot: u32) {
    if let Some(config) = PROCESSES.get_ptr_mut(&pid) {
        // SAFETY: the value is aligned and lives as long as the program runs; the kernel side changes flags only here.
        unsafe {
            if (*config).slot == slot {
                let flags = (&raw const (*config).flags).read_volatile();
                (&raw mut (*config).flags).write_volatile(flags | process_flags::DEATHS_SEEN);
            }
        }
    }
}

/// Makes a forked process known; false when there is no room.
pub fn insert(pid: u32, config: &ProcessConfig) -> bool {
    PROCESSES.insert(&pid, config, 0).is_ok()
}

/// The next slot for a forked process; `None` when all have been given.
pub fn slot_of_forked() -> Option<u32> {
    next_slot(FORKED, FIRST_FORKED_SLOT, MAX_SLOTS)
}

/// The next slot for a program that a process executes; `None` when all have been given.
pub fn slot_of_executed() -> Option<u32> {
    next_slot(EXECUTED, FIRST_EXECUTED_SLOT, FIRST_FORKED_SLOT)
}

#[inline(always)]
fn next_slot(kind: u32, first: u32, end: u32) -> Option<u32> {
    let last = GIVEN_SLOTS.get_ptr_mut(kind)?;
    // SAFETY: the map's value is an aligned u64 that lives as long as the map.
    let given = unsafe { atomic::add(last, 1) };
    let slot = u64::from(first) + given;
    if slot < u64::from(end) { Some(slot as u32) } else { None }
}

/// Forgets a process: its addresses mean nothing any more.
pub fn forget(pid: u32) {
    // An absent key is what is wanted.
    let _ = PROCESSES.remove(&pid);
}
