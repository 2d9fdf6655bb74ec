//! Which page faults are recorded: all of them while that is cheap for the process, else some of them, by chance.
//!
//! What a recorded fault cost is a debt of the process, which its CPU time pays off at a fixed rate. Up to some debt
//! each fault is recorded; from there on the chance is halved with each further step of debt. So it settles where the
//! faults cost just what is paid off, whatever a walk costs and however many faults there are.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_prandom_u32, bpf_probe_read_kernel};
use profiler_common::config::{FaultSampling, MAX_FAULT_LEVEL, ProcessConfig};

use crate::thread::Thread;

/// Offset of `se.sum_exec_runtime` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static RUNTIME_OFFSET: Global<u64> = Global::new(0);

/// Of the CPU time of a process this part pays for faults: 1 in so many. What its caches lose by our programs costs it
/// about as much again.
const SHARE: u64 = 400;
/// Debt up to which each fault is recorded, ns: some two thousand walks, or ten thousand pages in runs.
const FREE_NS: u64 = 4_000_000;
/// What a forked process has left of it, ns: there may be very many, which live for some milliseconds.
const FREE_OF_FORKED_NS: u64 = 1_000_000;
/// Debt that halves the chance, ns.
const STEP_NS: u64 = 250_000;
/// The most that one pause between two recorded faults pays off, ns of CPU time.
const LONGEST_PAUSE_NS: u64 = 2_000_000_000;

/// By chance: whether a fault is recorded, and how many faults it then stands for.
#[derive(Clone, Copy)]
pub struct Chance {
    /// 32 random bits; 0 where each fault is recorded.
    pub random: u32,
    /// The level that held.
    level: u32,
}

impl Chance {
    /// Decides about one fault.
    #[inline(always)]
    pub fn of(config: *const ProcessConfig) -> Self {
        // SAFETY: the value is aligned and lives as long as the program runs.
        let level = unsafe { (&raw const (*config).faults.level).read_volatile() };
        // SAFETY: the helper has no preconditions.
        let random = if level == 0 { 0 } else { unsafe { bpf_get_prandom_u32() } };
        Self { random, level: if level > MAX_FAULT_LEVEL { MAX_FAULT_LEVEL } else { level } }
    }

    /// Whether the fault is recorded.
    pub fn is_recorded(self) -> bool {
        self.random & ((1 << self.level) - 1) == 0
    }

    /// How many faults it stands for.
    pub fn weight(self) -> u16 {
        1 << self.level
    }
}

/// Books what recording faults has cost the running thread's process, and says how many are to be recorded from now on.
#[inline(always)]
pub fn pay(config: *mut ProcessConfig, thread: *mut Thread, spent_ns: u64) {
    let runtime = runtime_ns();
    // SAFETY: both are map values that stay valid while the program runs. Threads of one process that book at the same
    // moment may lose one of their sums: the next ones make up for it.
    unsafe {
        let before = (*thread).paid_until_ns;
        (*thread).paid_until_ns = runtime;
        let mut ran = if before == 0 { 0 } else { runtime.saturating_sub(before) };
        if ran > LONGEST_PAUSE_NS {
            ran = LONGEST_PAUSE_NS;
        }
        let faults = &raw mut (*config).faults;
        let debt = ((&raw const (*faults).debt_ns).read_volatile() + spent_ns).saturating_sub(ran / SHARE);
        (&raw mut (*faults).debt_ns).write_volatile(debt);
        (&raw mut (*faults).level).write_volatile(level(debt));
    }
}

fn level(debt_ns: u64) -> u32 {
    if debt_ns < FREE_NS {
        return 0;
    }
    let steps = (debt_ns - FREE_NS) / STEP_NS + 1;
    if steps > u64::from(MAX_FAULT_LEVEL) { MAX_FAULT_LEVEL } else { steps as u32 }
}

/// What a forked process starts with.
pub fn of_forked(parent: &FaultSampling) -> FaultSampling {
    let least = FREE_NS - FREE_OF_FORKED_NS;
    let debt_ns = if parent.debt_ns > least { parent.debt_ns } else { least };
    FaultSampling { level: level(debt_ns), epoch: 0, debt_ns, protected_left_out: 0 }
}

/// CPU time of the running thread up to its last tick or switch, ns.
fn runtime_ns() -> u64 {
    let mut value = 0u64;
    // SAFETY: the destination is a u64 on the stack; the offset comes from this kernel's BTF, and the helper fails
    // instead of faulting.
    unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel((&raw mut value).cast(), 8, (task + RUNTIME_OFFSET.load()) as *const _);
    }
    value
}
