//! The processes being traced.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use profiler_common::config::ProcessConfig;

/// Most processes of one trace.
const MAX_PROCESSES: u32 = 4096;

/// Keyed by thread group id.
#[map]
static PROCESSES: HashMap<u32, ProcessConfig> = HashMap::with_max_entries(MAX_PROCESSES, BPF_F_NO_PREALLOC);

/// The running thread, in the user's words.
#[derive(Clone, Copy)]
pub struct Current {
    /// The kernel's tgid.
    pub pid: u32,
    /// The kernel's pid.
    pub tid: u32,
}

/// The running thread.
pub fn current() -> Current {
    let both = bpf_get_current_pid_tgid();
    Current {
        pid: (both >> 32) as u32,
        tid: both as u32,
    }
}

/// What userspace said of a process; `None` if it is not traced.
pub fn config(pid: u32) -> Option<&'static ProcessConfig> {
    // SAFETY: values are replaced whole by userspace and removed only when the process has gone or executed
    // another program; a stale value leads at worst to a failed read, which is counted.
    unsafe { PROCESSES.get(&pid) }
}

/// Forgets a process: its addresses mean nothing any more.
pub fn forget(pid: u32) {
    // An absent key is what is wanted.
    let _ = PROCESSES.remove(&pid);
}
