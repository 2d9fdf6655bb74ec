//! Keys and values of the maps that the kernel side keeps and userspace reads: blocks, pools, stacks.

use bytemuck::{Pod, Zeroable};

/// An address in a traced process: slot in the upper 16 bits, address in the lower 48.
///
/// x86-64 user addresses fit 47 bits unless a program asks for more by an mmap hint (5-level paging).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct BlockKey(pub u64);

impl BlockKey {
    /// Packs a key.
    pub const fn new(slot: u32, address: u64) -> Self {
        Self((slot as u64) << 48 | (address & 0xffff_ffff_ffff))
    }

    /// The process's slot.
    pub const fn slot(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// The address in that process.
    pub const fn address(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }
}

/// A code object that has stood in a stack, and has not died.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LiveCode {
    /// Its serial number.
    pub serial: u64,
    /// Hash of what names it, where it may have died unseen since; 0 where it cannot have.
    pub print: u64,
}

/// A block that the C allocator handed out and has not got back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Block {
    /// Number of the stack that allocated it.
    pub stack: u64,
    /// Bytes asked for.
    pub size: u64,
    /// How many blocks it stands for, see [`crate::sampling`]; [`crate::sampling::ONE`] where each block is seen.
    pub weight: u64,
    /// Milliseconds from the trace's start.
    pub born_ms: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
}

/// A pymalloc pool by its last opening.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// Number of the stack that opened it last.
    pub stack: u64,
    /// Milliseconds from the trace's start.
    pub born_ms: u32,
    /// How often the pool at this address was opened during the trace.
    pub openings: u32,
    /// Live blocks when the process ended, as the pool's header said; see `end_class`.
    pub end_blocks: u32,
    /// Size class index when the process ended; [`NOT_READ`] before that, or if the header could not be read.
    pub end_class: u32,
}

/// Value of [`Pool::end_class`] where there was no reading.
pub const NOT_READ: u32 = u32::MAX;

/// A write to a watched slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Writing {
    /// Number of the stack that wrote; 0 if nothing has.
    pub stack: u64,
    /// When: monotonic clock, ns.
    pub time_ns: u64,
    /// What the watched word was afterwards.
    pub word: u64,
}

/// A slot of a pool whose second word is watched, keyed by that word's [`BlockKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watch {
    /// Writes seen.
    pub hits: u64,
    /// The last one.
    pub last: Writing,
    /// The last one that may have made an object of the garbage collector's, and was not the collector's own.
    pub birth: Writing,
}

/// A run of pages that one stack touched one after the other: what a page fault leaves behind.
///
/// Keyed by [`Touch::key`]. A later fault at the same first page replaces it, unless a mapping was moved in between.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Touch {
    /// Number of the stack that touched them.
    pub stack: u64,
    /// When the first one was touched: monotonic clock, ns.
    pub time_ns: u64,
    /// How many pages, each right above the one before; at most [`MAX_RUN_PAGES`].
    pub pages: u16,
    /// For how many faults it stands: itself, and those that were left out.
    pub weight: u16,
    /// Bits of [`touch`].
    pub flags: u16,
    /// The first touched address within the first page, bytes.
    pub offset: u16,
}

impl Touch {
    /// Bits of a page's address that are free.
    const EPOCH: u64 = 0xfff;

    /// The key of what touched a page first; `epoch` counts the times that mappings were moved.
    pub const fn key(slot: u32, page: u64, epoch: u32) -> BlockKey {
        BlockKey::new(slot, page & !Self::EPOCH | epoch as u64 & Self::EPOCH)
    }

    /// The first page's address.
    pub const fn page(key: BlockKey) -> u64 {
        key.address() & !Self::EPOCH
    }
}

/// The bits of [`Touch::flags`].
pub mod touch {
    /// It was written to.
    pub const WRITE: u16 = 1;
    /// The page was there, and writing to it was not allowed: shared since a fork, or the zero page.
    pub const PROTECTED: u16 = 2;
    /// The kernel touched it on the process's behalf, in a system call.
    pub const KERNEL: u16 = 4;
}

/// A run is ended after this many pages, so that its stack is looked at again.
pub const MAX_RUN_PAGES: u16 = 512;

/// Sums for one stack, at the place of its number in the array of stacks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StackSums {
    /// The process's slot.
    pub slot: u32,
    /// 1 when the frames have been sent to userspace; else they are sent at the next event.
    pub sent: u32,
    /// Blocks allocated, by their weights: multiples of 1/[`crate::sampling::ONE`].
    pub alloc_weight: u64,
    /// Bytes allocated, as [`crate::sampling::space`] has it.
    pub alloc_space: u64,
    /// Of these, blocks given back.
    pub free_weight: u64,
    /// Of these, bytes given back.
    pub free_space: u64,
    /// Blocks given back within [`TEMPORARY_MS`], by their weights.
    pub temporary_weight: u64,
    /// Bytes given back within [`TEMPORARY_MS`].
    pub temporary_space: u64,
    /// The largest single block, bytes.
    pub largest: u64,
    /// The most bytes of this stack live at once.
    pub peak_space: u64,
    /// Pools of pymalloc opened.
    pub pools_opened: u64,
    /// Page faults taken.
    pub faults: u64,
    /// Blocks that were drawn.
    pub samples: u64,
    /// Variance of `alloc_space` by the draw, see [`crate::sampling::space_variance`].
    pub alloc_variance: u64,
    /// The part of it that the blocks given back had.
    pub free_variance: u64,
    /// Variance of `alloc_weight` by the draw, see [`crate::sampling::weight_variance`].
    pub alloc_weight_variance: u64,
    /// The part of it that the blocks given back had.
    pub free_weight_variance: u64,
}

/// What one process has received and sent through sockets since its trace started.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Calls that received any.
    pub receives: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Calls that sent any.
    pub sends: u64,
    /// Connections accepted.
    pub accepted: u64,
}

/// A block given back within this many milliseconds of its allocation is temporary.
pub const TEMPORARY_MS: u32 = 100;

const _: () = assert!(core::mem::size_of::<LiveCode>() == 16);
const _: () = assert!(core::mem::size_of::<Block>() == 32);
const _: () = assert!(core::mem::size_of::<Pool>() == 24);
const _: () = assert!(core::mem::size_of::<StackSums>() == 128);
const _: () = assert!(core::mem::size_of::<Touch>() == 24);
const _: () = assert!(core::mem::size_of::<Traffic>() == 40);
const _: () = assert!(core::mem::size_of::<Watch>() == 56);
