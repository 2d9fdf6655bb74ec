//! The mapping ledger's events: mmap, munmap, mremap and brk that succeeded, and madvise that discards pages, taken at the
//! system call's exit, where the registers still hold the arguments.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::counter::Counter;
use profiler_common::event::{Mapping, kind, mapping};
use profiler_common::probe::{Function, Register};

use crate::process::Current;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::{clock, counters, process, ring, stack, thread, traffic};

/// System call numbers of x86-64.
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const MREMAP: u64 = 25;
const MADVISE: u64 = 28;

/// `MADV_DONTNEED`.
const DONTNEED: u64 = 4;

/// Results above this are negated error numbers.
const LAST_ADDRESS: u64 = (-4096_i64).cast_unsigned();

/// A system call returns.
#[inline(always)]
pub fn try_sys_exit(ctx: &BtfTracePointContext) -> i32 {
    let regs = Registers::of_tracepoint(ctx.arg::<*const pt_regs>(0));
    let number = regs.system_call();
    if traffic::accepts(number) {
        return traffic::try_accepted(ctx.arg::<u64>(1));
    }
    if number != MMAP && number != MUNMAP && number != MREMAP && number != BRK && number != MADVISE {
        return 0;
    }
    let current = process::current();
    let Some(config) = process::config(current.pid) else {
        return 0;
    };
    if config.flags & process_flags::FOLLOW_ONLY != 0 {
        return 0;
    }
    let result = ctx.arg::<u64>(1);
    let argument = |register: Register| regs.get(register as u8);
    if result > LAST_ADDRESS || (number == BRK && argument(Register::Rdi) != result) {
        return 0;
    }
    let counts_pages = config.flags & process_flags::RESIDENT != 0;
    if number == MADVISE && (!counts_pages || argument(Register::Rdx) != DONTNEED) {
        return 0;
    }
    if number == MREMAP {
        process::moved_mapping(current.pid);
    }
    counters::one(Counter::MappingEvents);
    let started = clock::now_ns();
    let event = match number {
        MMAP => Mapping {
            operation: mapping::MMAP,
            address: result,
            length: argument(Register::Rsi),
            prot_flags: argument(Register::Rdx) & 0xffff_ffff | argument(Register::R10) << 32,
            fd: i64::from(argument(Register::R8) as i32),
            ..EMPTY
        },
        MUNMAP => Mapping {
            operation: mapping::MUNMAP,
            address: argument(Register::Rdi),
            length: argument(Register::Rsi),
            ..EMPTY
        },
        MADVISE => Mapping {
            operation: mapping::DISCARD,
            address: argument(Register::Rdi),
            length: argument(Register::Rsi),
            ..EMPTY
        },
        MREMAP => Mapping {
            operation: mapping::MREMAP,
            address: result,
            length: argument(Register::Rdx),
            old_address: argument(Register::Rdi),
            old_length: argument(Register::Rsi),
            ..EMPTY
        },
        _ => Mapping { operation: mapping::BRK, address: result, ..EMPTY },
    };
    send(config, current, regs, event);
    // Each one is timed: they are rare, and their walks are not.
    counters::add(Counter::BodyNanos, clock::now_ns() - started);
    0
}

const EMPTY: Mapping = Mapping {
    header: profiler_common::event::Header { kind: kind::MAPPING, slot: 0, pid: 0, tid: 0, time_ns: 0 },
    operation: 0,
    via: 0,
    address: 0,
    length: 0,
    old_address: 0,
    old_length: 0,
    prot_flags: 0,
    fd: -1,
    stack: 0,
};

#[inline(always)]
fn send(config: &ProcessConfig, current: Current, regs: Registers, mut event: Mapping) {
    if let Some(state) = thread::state(current) {
        event.via = via(state);
        if event.operation != mapping::MUNMAP && event.operation != mapping::DISCARD {
            event.stack = stack::capture(config, current, state, regs).map_or(0, |stack| stack.number);
        }
    }
    event.header = ring::header(kind::MAPPING, config.slot, current);
    if let Some(mut entry) = ring::reserve::<Mapping>() {
        entry.write(event);
        entry.submit(0);
    }
}

/// Largest request that pymalloc serves from its arenas (`SMALL_REQUEST_THRESHOLD`).
const SMALL: u64 = 512;

/// Who asked: the function of ours that the thread is in.
#[inline(always)]
fn via(state: *mut Thread) -> u32 {
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let (outer_sp, function) = unsafe { ((*state).outer_sp, (*state).function as u8) };
    // SAFETY: as above.
    let small = unsafe { (*state).is_of_objects() && (*state).size <= SMALL };
    if outer_sp == 0 {
        mapping::via::DIRECT
    } else if small || function == Function::PoolOpen as u8 {
        mapping::via::PYMALLOC_ARENA
    } else {
        mapping::via::C_ALLOCATOR
    }
}
