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
use crate::thread::Thread;
use crate::walk::mix;
use crate::{clock, counters, process, stack, thread};

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
    now_ns: u64,
}

/// The program touches a page: `page_fault_user(address, regs, error_code)`.
#[inline(always)]
pub fn try_user(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(config) = recorded(current) else { return 0 };
    let regs = Registers::of_tracepoint(ctx.arg::<*const pt_regs>(1));
    let fault =
        Fault { address: ctx.arg::<u64>(0), flags: flags(ctx.arg::<u64>(2)), pc: regs.pc(), now_ns: clock::now_ns() };
    take(config, current, regs, &fault);
    0
}

/// The kernel touches a page of the running program, the same way.
#[inline(always)]
pub fn try_kernel(ctx: &BtfTracePointContext) -> i32 {
    let current = process::current();
    let Some(config) = recorded(current) else { return 0 };
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
    let fault = Fault { address, flags, pc, now_ns: clock::now_ns() };
    take(config, current, regs, &fault);
    0
}

/// The process, if its faults are to be recorded.
#[inline(always)]
fn recorded(current: Current) -> Option<&'static ProcessConfig> {
    process::config(current.pid).filter(|config| config.flags & process_flags::RESIDENT != 0)
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
fn take(config: &ProcessConfig, current: Current, regs: Registers, fault: &Fault) {
    let count = counters::here(Counter::Faults);
    counters::one(Counter::Faults);
    let Some(state) = thread::state(current) else { return };
    let page = fault.address & !(PAGE - 1);
    let registers = fingerprint(regs);
    if goes_on(state, page, registers, fault) {
        counters::one(Counter::FaultsInRuns);
        if count % TIMED == 0 {
            counters::add(Counter::FaultNanos, (clock::now_ns() - fault.now_ns) * TIMED);
        }
        return;
    }
    start_run(config, current, state, regs, page, registers, fault);
    counters::add(Counter::FaultNanos, clock::now_ns() - fault.now_ns);
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

/// Adds the page to the thread's run, if it goes on it.
#[inline(always)]
fn goes_on(state: *mut Thread, page: u64, registers: u64, fault: &Fault) -> bool {
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let run = unsafe { &mut (*state).run };
    let same = run.next == page && run.pc == fault.pc && run.registers == registers;
    // Each page that is un-shared tells for itself what was written to.
    let unshares = fault.flags & touch::PROTECTED != 0;
    if !same || unshares || run.key.0 == 0 || fault.now_ns - run.last_ns > RUN_GAP_NS {
        return false;
    }
    let Some(touch) = TOUCHES.get_ptr_mut(&run.key) else { return false };
    // SAFETY: map values stay valid while the program runs. Another thread may have put a run of its own in the place
    // of ours: it has another stack or time.
    unsafe {
        if (*touch).stack != run.stack
            || (*touch).pages >= MAX_RUN_PAGES
            || run.key.address() + u64::from((*touch).pages) * PAGE != page
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
fn start_run(
    config: &ProcessConfig,
    current: Current,
    state: *mut Thread,
    regs: Registers,
    page: u64,
    registers: u64,
    fault: &Fault,
) {
    let (address, flags, pc, now_ns) = (fault.address, fault.flags, fault.pc, fault.now_ns);
    let Some(stack) = stack::capture(config, current, state, regs) else { return };
    stack.touched();
    let key = BlockKey::new(config.slot, page);
    let touch = Touch { stack: stack.number, time_ns: now_ns, pages: 1, flags, offset: (address - page) as u16 };
    if TOUCHES.insert(&key, &touch, 0).is_err() {
        counters::one(Counter::TouchMapFull);
        return;
    }
    // SAFETY: as in `goes_on`.
    unsafe { (*state).run = Run { key, next: page + PAGE, pc, registers, last_ns: now_ns, stack: stack.number } };
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
