//! Process ids as pyalloc sees them: where it runs in a container's pid namespace, they are not the kernel's own.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};

/// Inode of pyalloc's pid namespace, set by the loader; 0 where it is the machine's own and nothing has to be
/// translated: the verifier then drops the code that would.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static PID_NAMESPACE: Global<u64> = Global::new(0);

/// Offset of `group_leader` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: as above.
#[unsafe(no_mangle)]
static GROUP_LEADER_OFFSET: Global<u64> = Global::new(0);

/// Offset of `thread_pid` in `task_struct`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static THREAD_PID_OFFSET: Global<u64> = Global::new(0);

/// Offset of `level` in `struct pid`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static PID_LEVEL_OFFSET: Global<u64> = Global::new(0);

/// Offset of `numbers` in `struct pid`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static PID_NUMBERS_OFFSET: Global<u64> = Global::new(0);

/// Offset of `ns.inum` in `pid_namespace`, likewise.
// SAFETY: as above.
#[unsafe(no_mangle)]
static NAMESPACE_INUM_OFFSET: Global<u64> = Global::new(0);

/// `struct upid { int nr; struct pid_namespace *ns; }` (include/linux/pid.h).
const UPID_NR: u64 = 0;
const UPID_NS: u64 = 8;
const UPID_BYTES: u64 = 16;

/// Namespaces may be nested 32 deep (MAX_PID_NS_LEVEL); a process this many below pyalloc's own is not found.
const LEVELS: u64 = 8;

/// The pid of the running process; 0, which no process has, if pyalloc cannot see it. `global` is the kernel's.
#[inline(always)]
pub fn own_pid(global: u32) -> u32 {
    if PID_NAMESPACE.load() == 0 {
        return global;
    }
    // SAFETY: the helper has no preconditions.
    pid_in_namespace(unsafe { bpf_get_current_task() }) as u32
}

/// The same of a task that a tracepoint gives.
#[inline(always)]
pub fn pid_of(task: u64, global: u32) -> u32 {
    // Not by the global function: to the verifier this is a pointer, and that takes a number.
    if PID_NAMESPACE.load() == 0 { global } else { search(task) as u32 }
}

/// As [`search`]: a global function in the verifier's sense, so that it is checked once.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pid_in_namespace(task: u64) -> u64 {
    search(task)
}

/// A process has a number in each namespace from the machine's own down to its own: `pid.numbers[0..=level]`. Looked
/// for from the innermost, which is the most likely one.
#[inline(always)]
fn search(task: u64) -> u64 {
    let leader = read_u64(task + GROUP_LEADER_OFFSET.load());
    let pid = read_u64(leader + THREAD_PID_OFFSET.load());
    let level = u64::from(read_u32(pid + PID_LEVEL_OFFSET.load()));
    let numbers = pid + PID_NUMBERS_OFFSET.load();
    for above in 0..LEVELS {
        if above > level {
            break;
        }
        let number = numbers + (level - above) * UPID_BYTES;
        let namespace = read_u64(number + UPID_NS);
        if u64::from(read_u32(namespace + NAMESPACE_INUM_OFFSET.load())) == PID_NAMESPACE.load() {
            return u64::from(read_u32(number + UPID_NR));
        }
    }
    0
}

#[inline(always)]
fn read_u32(address: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: the destination is a u32 on the stack; the helper fails instead of faulting.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 4, address as *const _) };
    value
}

#[inline(always)]
fn read_u64(address: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: as in `read_u32`.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 8, address as *const _) };
    value
}
