//! The heap ledger's events: calls of the C allocator, each byte once, frees paired.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use profiler_common::config::{NO_SLOT, ProcessConfig};
use profiler_common::counter::Counter;
use profiler_common::ledger::{Block, BlockKey};
use profiler_common::probe::{Cookie, Function};

use crate::process::Current;
use crate::registers::Registers;
use crate::stack::Stack;
use crate::thread::Thread;
use crate::{clock, counters, sampling, stack, thread};

/// Most live blocks; the loader sets it (`--max-live-blocks`).
const MAX_BLOCKS: u32 = 1 << 20;

/// Live blocks that were allocated during the trace.
#[map]
static BLOCKS: HashMap<BlockKey, Block> = HashMap::with_max_entries(MAX_BLOCKS, BPF_F_NO_PREALLOC);

/// No block.
const NONE: Block = Block { stack: 0, size: 0, weight: 0, born_ms: 0, reserved: 0 };

/// What a call of an allocating function asks for.
#[derive(Clone, Copy)]
pub struct Asked {
    size: u64,
    /// realloc's old pointer, posix_memalign's out pointer.
    pointer: u64,
    /// What the block would stand for; 0 if it is not drawn.
    weight: u64,
    /// realloc was given a block that is known.
    settles: bool,
    /// The call may make another of these calls inside.
    nests: bool,
}

impl Asked {
    /// Whether the return is wanted.
    #[inline(always)]
    pub fn matters(self) -> bool {
        self.weight != 0 || self.settles
    }
}

/// A thread calls an allocating function: what it asks for, and whether it is drawn.
#[inline(always)]
pub fn asked(config: &ProcessConfig, regs: Registers, cookie: Cookie) -> Asked {
    let argument = |index| regs.get(cookie.register(index));
    let function = cookie.function();
    let (size, pointer) = if function == Function::Malloc as u8 {
        (argument(0), 0)
    } else if function == Function::Calloc as u8 {
        (argument(0).wrapping_mul(argument(1)), 0)
    } else if function == Function::Realloc as u8 {
        (argument(1), argument(0))
    } else if function == Function::Reallocarray as u8 {
        (argument(1).wrapping_mul(argument(2)), argument(0))
    } else if function == Function::PosixMemalign as u8 {
        (argument(2), argument(0))
    } else {
        (argument(1), 0)
    };
    let reallocates = pointer != 0 && function != Function::PosixMemalign as u8;
    let settles = reallocates && BLOCKS.get_ptr(&BlockKey::new(config.slot, pointer)).is_some();
    let weight = sampling::draw(size);
    Asked { size, pointer, weight, settles, nests: function != Function::Malloc as u8 }
}

/// The call is not looked at, but those that it makes inside must not be taken for calls of their own.
#[inline(always)]
pub fn pass_over(current: Current, asked: Asked, sp: u64) {
    if asked.nests
        && sampling::is_partial()
        && let Some(state) = thread::known(current)
    {
        // SAFETY: as in `enter`.
        unsafe { (*state).pass_over(sp) };
    }
}

/// A thread enters an allocating function as its outermost one: notes what it asks for.
#[inline(always)]
pub fn enter(config: &ProcessConfig, state: *mut Thread, asked: Asked) {
    let mut old = NONE;
    if asked.settles {
        // Taken out now and not at the return: in between another thread may be given the old address.
        take(BlockKey::new(config.slot, asked.pointer), &mut old);
    }
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    unsafe {
        (*state).size = asked.size;
        (*state).pointer = asked.pointer;
        (*state).weight = asked.weight;
        (*state).old = old;
    }
}

/// The outermost allocating function returns `result`: settles realloc's old block and leaves the new one's address in
/// the state; false if there is none, or it was not drawn.
#[inline(always)]
pub fn settle(config: &ProcessConfig, state: *mut Thread, result: u64) -> bool {
    // SAFETY: as in `enter`.
    let (function, size, pointer, old) =
        unsafe { ((*state).function as u8, (*state).size, (*state).pointer, (*state).old) };
    // SAFETY: as in `enter`.
    if unsafe { (*state).weight == 0 } && old.stack == 0 {
        return false;
    }
    let posix = function == Function::PosixMemalign as u8;
    let address = if posix { posix_result(result, pointer) } else { result };
    let now_ms = clock::since_start_ms();
    if address == 0 {
        refused(config, &old, size, pointer, posix, now_ms);
        return false;
    }
    if old.stack != 0 {
        given_back(&old, now_ms);
    }
    // SAFETY: as in `enter`.
    unsafe {
        (*state).block = address;
        (*state).now_ms = u64::from(now_ms);
        (*state).weight != 0
    }
}

/// Counts the block that [`settle`] left in the state.
#[inline(always)]
pub fn handed_out(config: &ProcessConfig, state: *mut Thread, stack: Stack) {
    // SAFETY: as in `enter`.
    let (address, block) = unsafe {
        let Thread { size, weight, now_ms, block, .. } = &*state;
        let born_ms = *now_ms as u32;
        (*block, Block { stack: stack.number, size: *size, weight: *weight, born_ms, reserved: 0 })
    };
    let key = BlockKey::new(config.slot, address);
    if BLOCKS.insert(&key, &block, u64::from(BPF_NOEXIST)).is_err() && !replaced(key, &block) {
        counters::one(Counter::BlockMapFull);
        return;
    }
    counters::one(Counter::Allocations);
    stack.allocated(&block);
}

/// The map took no block at this address: because it is full (false), or because it holds one whose free was not seen.
#[inline(always)]
fn replaced(key: BlockKey, block: &Block) -> bool {
    let mut missed = NONE;
    if !take(key, &mut missed) {
        return false;
    }
    counters::one(Counter::MissedFrees);
    given_back(&missed, block.born_ms);
    BLOCKS.insert(&key, block, 0).is_ok()
}

/// `free(pointer)`; `of_objects`: pymalloc's, which may call the C library's for the same block.
#[inline(always)]
pub fn free(config: &ProcessConfig, current: Current, pointer: u64, sp: u64, of_objects: bool) {
    if pointer == 0 {
        return;
    }
    if of_objects && let Some(state) = thread::known(current) {
        // SAFETY: as in `enter`.
        unsafe { (*state).given_to_pymalloc(pointer) };
    }
    let mut block = NONE;
    if take(BlockKey::new(config.slot, pointer), &mut block) {
        given_back(&block, clock::since_start_ms());
        return;
    }
    if sampling::is_partial() {
        // Most likely a block that was not drawn.
        counters::one(Counter::UnseenFrees);
        return;
    }
    // realloc(p, 0) calls free inside; its block was taken out at realloc's entry.
    let nested = match thread::known(current) {
        // SAFETY: as in `enter`.
        Some(state) => unsafe { (*state).is_nested(sp) || !of_objects && (*state).was_given(pointer) },
        None => false,
    };
    counters::one(if nested {
        Counter::Nested
    } else if is_inherited(config, pointer) {
        Counter::InheritedFrees
    } else {
        Counter::UnmatchedFrees
    });
}

/// Whether the process that forked this one has a block at the address: then this one's is a copy of it.
#[inline(always)]
fn is_inherited(config: &ProcessConfig, pointer: u64) -> bool {
    config.parent_slot != NO_SLOT && BLOCKS.get_ptr(&BlockKey::new(config.parent_slot, pointer)).is_some()
}

/// Takes a block out of the map; false if it is not in it.
///
/// Looked up first, since deleting an absent key costs three times a look-up.
#[inline(always)]
fn take(key: BlockKey, block: &mut Block) -> bool {
    let Some(found) = BLOCKS.get_ptr(&key) else {
        return false;
    };
    // SAFETY: a block is written whole before it becomes visible and is never changed.
    *block = unsafe { *found };
    BLOCKS.remove(&key).is_ok()
}

#[inline(always)]
fn given_back(block: &Block, now_ms: u32) {
    counters::one(Counter::Frees);
    stack::freed(block, now_ms);
}

/// The allocator gave nothing: realloc's old block is still there, unless it was asked for no bytes, which frees it.
#[inline(always)]
fn refused(config: &ProcessConfig, old: &Block, size: u64, pointer: u64, posix: bool, now_ms: u32) {
    if pointer == 0 || posix || size != 0 {
        counters::one(Counter::Refused);
    }
    if old.stack == 0 {
        return;
    }
    if size == 0 {
        given_back(old, now_ms);
    } else if BLOCKS.insert(&BlockKey::new(config.slot, pointer), old, 0).is_err() {
        counters::one(Counter::BlockMapFull);
        stack::freed(old, now_ms);
    }
}

/// The block that posix_memalign stored at its out pointer; 0 when it failed.
#[inline(always)]
fn posix_result(result: u64, out: u64) -> u64 {
    if result as u32 != 0 {
        return 0;
    }
    let mut address = 0u64;
    // SAFETY: the destination is a u64 on the stack; the helper checks the target's address itself.
    unsafe { bpf_probe_read_user((&raw mut address).cast(), 8, out as *const _) };
    address
}
