//! The records that the kernel side (`profiler-ebpf`) and userspace (`profiler`) share.
//!
//! Every type here is plain old data of one layout on both sides: no padding, no `bool`, no enum with
//! holes. The sizes are asserted below, so a field added on one side cannot slip past the other.

#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod counter;
pub mod event;
pub mod ledger;
pub mod probe;
pub mod sampling;
pub mod unwind;

/// Most Python frames the kernel walks in one stack; a deeper stack is flagged as truncated.
///
/// The frames kept are the innermost ones.
/// With 512 a thread's state just fits the kernel's blocks of 8 KiB.
pub const MAX_FRAMES: usize = 512;

/// Bytes of a string object that travel with a [`event::NewCode`] record: header and text.
pub const STRING_COPY: usize = 384;

/// Bytes of a line table object that travel with a [`event::NewCode`] record.
pub const LINETABLE_COPY: usize = 1024;
