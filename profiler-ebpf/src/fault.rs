//! The resident ledger's events: page faults of the program and of the kernel on its behalf.
//!
//! A fault says who touched which page. How large the page was that came, and how long it stayed, userspace reads from
//! the page tables.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, pt_regs};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::ledger::{BlockKey, MAX_RUN_PAGES, Touch, touch};
use profiler_common::probe::Register;

use crate::process::Current;
use crate::registers::Registers;
use crate::sampling::faults::{self, Chance};
use crate::thread::Thread;
use crate::walk::mix;
use crate::{atomic, clock, counters, process, stack, thread};

/// Most runs of pages between two readings by userspace, which takes them out.
const MAX_TOUCHES: u32 = 1 << 20;

/// By the first page of a run.
#[map]
static TOUCHES: HashMap<BlockKey, Touch> = HashMap::with_max_entries(MAX_TOUCHES, BPF_F_NO_PREALLOC);

/// Offset of `pagefault_disabled` in `task_struct`, from the kernel's BTF, set by the loader.
// SAFETY: the loader finds the variable by its name; no other item of that name exists.
#[unsafe(no_mangle)]
static PAGEFAULT_DISABLED_OFFSET: Global<u64> = Global::new(0);

const PAGE: u64 = 4096;
/// Addresses from here on are the kernel's own (x86-64, 4 levels of page tables; with 5, programs have to ask for more).
const USER_END: u64 = 1 << 47;

/// The processor's error code: the page was there; it was to be written to.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;

/// A fault that comes later than this after the one before starts a new run, ns: no program has gone back to its
/// interpreter, returned from a function, called another and come to the same instruction with the same registers in
/// so little time.
const RUN_GAP_NS: u64 = 50_000;

/// One fault in this many that go on a run is timed.
const TIMED: u64 = 64;
/// One in this many that are left out is, by random bits from this one on: those below it decided that it is left out.
const TIMED_LEFT_OUT: u64 = 1024;
const TIMED_BIT: u32 = 16;

/// No longer than this takes a walk of the deepest stack, a fault that goes on a run, one that is left out, ns. What is
/// beyond is another program's, which had the CPU meanwhile.
const LONGEST_WALK_NS: u64 = 100_000;
const LONGEST_IN_RUN_NS: u64 = 2_000;
const LONGEST_LEFT_OUT_NS: u64 = 1_000;

/// What the last fault of a thread was part of.
///
/// memset, memcpy and the kernel's copying touch page after page from one instruction. To walk the stack for each of
/// them would cost more than the faults themselves, so a fault right above the last one, at the same instruction, with
/// the same stack pointer and the same callee-saved registers, and soon after it, is taken to be of the same call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Run {
    /// Key of the first page's [`Touch`]; 0 for none.
    key: BlockKey,
    /// The page that goes on the run.
    next: u64,
    /// The instruction that faulted.
    pc: u64,
    /// Hash of the program's stack pointer and callee-saved registers.
    registers: u64,
    /// When the last fault was, ns.
    last_ns: u64,
    /// Number of its stack.
    stack: u64,
}

/// A fault, as far as it is known before anything is decided.
struct Fault {
    address: u64,
    flags: u16,
    /// The instruction that faulted, the kernel's or the program's.
    pc: u64,
    /// How many faults it stands for.
    weight: u16,
    now_ns: u64,
}

/// A process whose fault is to be recorded.
struct Chosen {
    current: Current,
    config: *mut ProcessConfig,
    /// How many faults it stands for.
    weight: u16,
}

/// The program touches a page: `page_fault_user(address, regs, error_code)`.
#[inline(always)]
pub fn try_user(ctx: &BtfTracePointContext) -> i32 {
    let Some(chosen) = chosen(ctx) else { return 0 };
    let regs = Registers::of_tracepoint(ctx.arg::<*const pt_regs>(1));
    take(&chosen, regs, ctx.arg::<u64>(0), flags(ctx.arg::<u64>(2)), regs.pc());
    0
}

/// The kernel touches a page of the running program, the same way.
#[inline(always)]
pub fn try_kernel(ctx: &BtfTracePointContext) -> i32 {
    let Some(chosen) = chosen(ctx) else { return 0 };
    let address = ctx.arg::<u64>(0);
    let flags = flags(ctx.arg::<u64>(2)) | touch::KERNEL;
    // Reads that may not fault are refused by the kernel right after this, and our own programs' reads are such. A copy
    // to the program that may not fault is tried again after the page has been brought, which nothing tells of: ext4's
    // read() is of this kind on Linux 6.18.
    if address >= USER_END || (flags & touch::WRITE == 0 && may_not_fault()) {
        return 0;
    }
    // SAFETY: the helpers have no preconditions; the task is the running one, which has such registers.
    let regs = Registers::of_tracepoint(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs });
    let pc = Registers::of_tracepoint(ctx.arg::<*const pt_regs>(1)).pc();
    take(&chosen, regs, address, flags, pc);
    0
}

/// The process, if this fault of it is to be recorded. All that most faults of a busy process cost it is in here: no
/// clock, no state of the thread, no registers.
#[inline(always)]
fn chosen(ctx: &BtfTracePointContext) -> Option<Chosen> {
    let current = process::current();
    let config = recorded(current)?;
    let chance = Chance::of(config);
    if chance.is_recorded() {
        return Some(Chosen { current, config, weight: chance.weight() });
    }
    leave_out(config, ctx.arg::<u64>(2), chance.random);
    None
}

/// The process, if its faults are to be recorded.
#[inline(always)]
fn recorded(current: Current) -> Option<*mut ProcessConfig> {
    let config = process::config_mut(current.pid)?;
    // SAFETY: the value is aligned and lives as long as the program runs.
    let flags = unsafe { (&raw const (*config).flags).read_volatile() };
    if flags & process_flags::RESIDENT == 0 { None } else { Some(config) }
}

#[inline(always)]
fn leave_out(config: *mut ProcessConfig, error_code: u64, random: u32) {
    counters::one(Counter::FaultsLeftOut);
    if error_code & (PRESENT | WRITE) == PRESENT | WRITE {
        // SAFETY: as in `recorded`.
        unsafe { atomic::add(&raw mut (*config).faults.protected_left_out, 1) };
    }
    if random >> TIMED_BIT & (TIMED_LEFT_OUT as u32 - 1) == 0 {
        time_the_same();
    }
}

/// What one that is left out costs is found by doing it once more: to look at the clock first would be dearer than that.
#[inline(never)]
fn time_the_same() {
    let started = clock::now_ns();
    if let Some(config) = recorded(process::current())
        && Chance::of(config).weight() > 0
    {
        counters::add(Counter::FaultNanos, since(started, LONGEST_LEFT_OUT_NS) * TIMED_LEFT_OUT);
    }
}

#[inline(always)]
fn flags(error_code: u64) -> u16 {
    let mut flags = 0;
    if error_code & WRITE != 0 {
        flags |= touch::WRITE;
    }
    if error_code & PRESENT != 0 {
        flags |= touch::PROTECTED;
    }
    flags
}

#[inline(always)]
fn take(chosen: &Chosen, regs: Registers, address: u64, flags: u16, pc: u64) {
    let Chosen { current, config, weight } = *chosen;
    let fault = Fault { address, flags, pc, weight, now_ns: clock::now_ns() };
    let count = counters::here(Counter::Faults);
    counters::one(Counter::Faults);
    let Some(state) = thread::state(current) else { return };
    if goes_on(state, regs, &fault) {
        counters::one(Counter::FaultsInRuns);
        if count % TIMED == 0 {
            spent(config, state, since(fault.now_ns, LONGEST_IN_RUN_NS) * TIMED);
        }
        return;
    }
    // SAFETY: as in `recorded`.
    start_run(unsafe { &*config }, current, state, regs, &fault);
    spent(config, state, since(fault.now_ns, LONGEST_WALK_NS));
}

#[inline(always)]
fn since(started_ns: u64, longest_ns: u64) -> u64 {
    let ns = clock::now_ns() - started_ns;
    if ns > longest_ns { longest_ns } else { ns }
}

#[inline(always)]
fn spent(config: *mut ProcessConfig, state: *mut Thread, ns: u64) {
    counters::add(Counter::FaultNanos, ns);
    faults::pay(config, state, ns);
}

/// The program's stack pointer and the registers that a call leaves as they are.
#[inline(always)]
fn fingerprint(regs: Registers) -> u64 {
    let mut hash = regs.sp();
    hash = mix(hash, regs.get(Register::Rbx as u8));
    hash = mix(hash, regs.get(Register::Rbp as u8));
    hash = mix(hash, regs.get(Register::R12 as u8));
    hash = mix(hash, regs.get(Register::R13 as u8));
    hash = mix(hash, regs.get(Register::R14 as u8));
    mix(hash, regs.get(Register::R15 as u8))
}

/// Adds the page to the thread's run, if it goes on it. Where faults are left out there are no runs.
#[inline(always)]
fn goes_on(state: *mut Thread, regs: Registers, fault: &Fault) -> bool {
    let page = fault.address & !(PAGE - 1);
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let run = unsafe { &mut (*state).run };
    // Each page that is un-shared tells for itself what was written to.
    let unshares = fault.flags & touch::PROTECTED != 0;
    if run.next != page || run.pc != fault.pc || unshares || fault.weight != 1 || run.key.0 == 0 {
        return false;
    }
    if fault.now_ns - run.last_ns > RUN_GAP_NS || run.registers != fingerprint(regs) {
        return false;
    }
    let Some(touch) = TOUCHES.get_ptr_mut(&run.key) else { return false };
    // SAFETY: map values stay valid while the program runs. Another thread may have put a run of its own in the place
    // of ours: it has another stack or time.
    unsafe {
        if (*touch).stack != run.stack
            || (*touch).pages >= MAX_RUN_PAGES
            || Touch::page(run.key) + u64::from((*touch).pages) * PAGE != page
        {
            return false;
        }
        (*touch).pages += 1;
    }
    run.next = page + PAGE;
    run.last_ns = fault.now_ns;
    true
}

/// Walks the stack and starts a run with this page.
#[inline(always)]
fn start_run(config: &ProcessConfig, current: Current, state: *mut Thread, regs: Registers, fault: &Fault) {
    let Fault { address, flags, pc, weight, now_ns } = *fault;
    let page = address & !(PAGE - 1);
    let Some(stack) = stack::capture(config, current, state, regs) else { return };
    stack.touched();
    let key = Touch::key(config.slot, page, config.faults.epoch);
    let offset = (address - page) as u16;
    let touch = Touch { stack: stack.number, time_ns: now_ns, pages: 1, weight, flags, offset };
    if TOUCHES.insert(&key, &touch, 0).is_err() {
        counters::one(Counter::TouchMapFull);
        return;
    }
    let (registers, next) = (fingerprint(regs), page + PAGE);
    let run = if weight == 1 { key } else { BlockKey(0) };
    // SAFETY: as in `goes_on`.
    unsafe { (*state).run = Run { key: run, next, pc, registers, last_ns: now_ns, stack: stack.number } };
}

/// Whether a fault is refused now: the kernel only wants to know whether a page is there.
#[inline(always)]
fn may_not_fault() -> bool {
    let mut disabled = 0u32;
    // SAFETY: the destination is a u32 on the stack; the offset comes from this kernel's BTF, and the helper fails
    // instead of faulting.
    unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel((&raw mut disabled).cast(), 4, (task + PAGEFAULT_DISABLED_OFFSET.load()) as *const _);
    }
    disabled != 0
}
