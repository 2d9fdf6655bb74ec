//! How the kernel side unwinds native frames: tables compiled from `.eh_frame`, since libpython and most extension
//! modules are built without frame pointers.
//!
//! Userspace fills three arrays. `NATIVE_ROWS` holds the tables of all images one after another, `NATIVE_MAPPINGS`
//! the executable mappings of all processes, each process's together and sorted by address, and `NATIVE_PROCESSES`
//! says where a process's mappings are. The walk follows return addresses: at each it looks up the mapping, then the
//! row, and the row says where the caller's stack frame starts and where its rbp was saved.

use bytemuck::{Pod, Zeroable};

/// Most native frames of one stack; the innermost are kept.
pub const MAX_NATIVE_FRAMES: usize = 32;

/// Steps of the binary search for a row: an image's table has fewer than `1 << ROW_STEPS` rows.
pub const ROW_STEPS: u32 = 20;

/// Steps of the binary search for a mapping: a process has fewer than `1 << MAPPING_STEPS` executable mappings.
pub const MAPPING_STEPS: u32 = 14;

/// The values of [`Row::cfa`]: what the canonical frame address (the stack pointer before the call) is computed from.
pub mod cfa {
    /// No information on these addresses.
    pub const NONE: u8 = 0;
    /// rsp + offset.
    pub const RSP: u8 = 1;
    /// rbp + offset.
    pub const RBP: u8 = 2;
    /// The value stored at rbp + offset: functions that align their stack (`-mstackrealign`, AVX spills).
    pub const AT_RBP: u8 = 3;
    /// The outermost frame: `_start`, a thread's start.
    pub const END: u8 = 4;
    /// A rule of another form.
    pub const UNSUPPORTED: u8 = 5;
    /// `_PyEval_EvalFrameDefault`: the Python frames stand for what is above it.
    pub const EVALUATOR: u8 = 6;
}

/// The values of [`Row::rbp`]: how the caller's rbp is found. A negative value is its distance from the canonical
/// frame address in units of 8 bytes.
pub mod rbp {
    /// It is still in the register.
    pub const SAME: i8 = 0;
    /// It is lost.
    pub const UNDEFINED: i8 = 1;
    /// It is stored where rbp points.
    pub const AT_RBP: i8 = 2;
}

/// What is true from `pc` on, up to the next row's `pc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Row {
    /// Distance from the image's first executable vaddr, bytes. An image's first row has 0.
    pub pc: u32,
    /// Offset of the canonical frame address, in units of 8 bytes.
    pub cfa_offset: i16,
    /// One of [`cfa`].
    pub cfa: u8,
    /// See [`rbp`].
    pub rbp: i8,
}

/// An executable mapping of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NativeMapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// The address that the rows' `pc` counts from: where the image's first executable vaddr lies in this process.
    pub base: u64,
    /// Index of the image's first row in `NATIVE_ROWS`.
    pub first_row: u32,
    /// Number of rows; 0 for an image without a table.
    pub rows: u32,
}

/// Where the mappings of a process are; the value of the map that is keyed by the process's slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NativeProcess {
    /// Index of the first in `NATIVE_MAPPINGS`.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Another with every change, never 0: rows found before a change are not to be used after it.
    pub generation: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
}

const _: () = assert!(core::mem::size_of::<Row>() == 8);
const _: () = assert!(core::mem::size_of::<NativeMapping>() == 32);
const _: () = assert!(core::mem::size_of::<NativeProcess>() == 16);
