//! Records in the ring buffer. Each starts with a [`Header`]; all integers are little-endian.

use bytemuck::{Pod, Zeroable};

use crate::{LINETABLE_COPY, STRING_COPY};

/// The values of [`Header::kind`].
pub mod kind {
    /// A [`super::NewStack`] and its frames.
    pub const NEW_STACK: u32 = 1;
    /// A [`super::NewCode`].
    pub const NEW_CODE: u32 = 2;
    /// A [`super::Mapping`].
    pub const MAPPING: u32 = 3;
    /// A [`super::Lifecycle`].
    pub const LIFECYCLE: u32 = 4;
}

/// The start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The process's slot.
    pub slot: u32,
    /// The kernel's tgid: what users call the process id.
    pub pid: u32,
    /// The kernel's pid: what users call the thread id.
    pub tid: u32,
    /// Monotonic clock, ns.
    pub time_ns: u64,
}

/// The values of [`NewStack::status`]: why the walk ended.
pub mod walk {
    /// The outermost frame was reached.
    pub const COMPLETE: u32 = 0;
    /// [`crate::MAX_FRAMES`] frames were walked and there were more.
    pub const TRUNCATED: u32 = 1;
    /// The thread has no Python thread state: a native thread, or one that just starts.
    pub const NOT_PYTHON: u32 = 2;
    /// The process has no interpreter, or it is not initialized yet.
    pub const NO_INTERPRETER: u32 = 3;
    /// A read of the target's memory failed; the frames so far are right.
    pub const READ_FAILED: u32 = 4;
    /// The thread state found belongs to another thread: nothing was walked.
    pub const THREAD_MISMATCH: u32 = 5;
    /// The thread has a Python thread state but no frame: between calls into Python.
    pub const NO_FRAME: u32 = 6;
    /// The thread has states in several interpreters, more than one has frames, and none holds the GIL: which of them
    /// runs cannot be told (CPython 3.11 and earlier).
    pub const OTHER_INTERPRETER: u32 = 7;
}

/// A stack seen for the first time. `depth` Python frames follow as `u64`s, innermost first, see [`frame`],
/// then `native_depth` native return addresses as `u64`s, innermost first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NewStack {
    /// Kind [`kind::NEW_STACK`].
    pub header: Header,
    /// The stack's number: unique over the trace, from 1 on.
    pub key: u64,
    /// Number of Python frames that follow.
    pub depth: u32,
    /// One of [`walk`].
    pub status: u32,
    /// Number of native frames after the Python ones.
    pub native_depth: u32,
    /// One of [`native`].
    pub native_status: u32,
}

/// The values of [`NewStack::native_status`]: why the walk of native frames ended. The frames so far are right.
pub mod native {
    /// It was not asked for.
    pub const OFF: u32 = 0;
    /// Python's evaluation loop was reached: the Python frames go on from there.
    pub const EVALUATOR: u32 = 1;
    /// The outermost frame was reached.
    pub const END: u32 = 2;
    /// The last address is in no mapping that userspace has told of: generated code, the vdso, or a library that was
    /// opened a moment ago.
    pub const UNMAPPED: u32 = 3;
    /// The last address is in code without unwinding information.
    pub const NO_TABLE: u32 = 4;
    /// The last address is in code whose unwinding rule is of a form that the tables cannot express.
    pub const UNSUPPORTED: u32 = 5;
    /// The stack could not be read.
    pub const READ_FAILED: u32 = 6;
    /// [`crate::unwind::MAX_NATIVE_FRAMES`] frames were walked and there were more.
    pub const LIMIT: u32 = 7;
}

/// A Python frame in 64 bits: serial of the code object (upper 40) and `lasti` in code units of two bytes
/// (lower 24).
pub mod frame {
    /// Serial of a code object that could not be recorded: the map or the ring was full.
    pub const UNKNOWN_SERIAL: u64 = 0;
    /// `lasti` of a frame that has not executed an instruction, or whose offset makes no sense.
    pub const NO_LASTI: u64 = 0xff_ffff;
    /// `lasti` of a frame whose bytecode could not be found (free-threaded 3.14+): beyond every line table, so that
    /// the frame is shown without a line.
    pub const LOST_LASTI: u64 = 0xff_fffe;

    /// Packs a frame; `lasti_units` is in two-byte code units.
    pub const fn pack(serial: u64, lasti_units: u64) -> u64 {
        serial << 24 | (lasti_units & 0xff_ffff)
    }

    /// The code object's serial.
    pub const fn serial(frame: u64) -> u64 {
        frame >> 24
    }

    /// Byte offset into the bytecode; `None` where there is none.
    pub const fn lasti_bytes(frame: u64) -> Option<u32> {
        match frame & 0xff_ffff {
            NO_LASTI => None,
            units => Some(units as u32 * 2),
        }
    }
}

/// A code object seen for the first time, with copies of its strings as they were at that moment.
///
/// The copies are raw objects (header and data); a copy whose `*_copied` is 0 could not be read in the
/// kernel (page not present, or the object ends near one), and userspace reads it through /proc.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NewCode {
    /// Kind [`kind::NEW_CODE`].
    pub header: Header,
    /// The code object's number: unique over the trace, over all processes.
    pub serial: u64,
    /// Its address.
    pub code: u64,
    /// Address of `co_filename`.
    pub filename: u64,
    /// Address of `co_qualname` (`co_name` before 3.11).
    pub qualname: u64,
    /// Address of `co_linetable` (`co_lnotab` before 3.10).
    pub linetable: u64,
    /// `co_firstlineno`.
    pub firstlineno: i32,
    /// `_co_firsttraceable`: code units before the frame is complete; 0 where there is none.
    pub firsttraceable: i32,
    /// Bytes valid in `filename_bytes`: 0 to [`STRING_COPY`].
    pub filename_copied: u32,
    /// Bytes valid in `qualname_bytes`: 0 to [`STRING_COPY`].
    pub qualname_copied: u32,
    /// Bytes valid in `linetable_bytes`: 0 to [`LINETABLE_COPY`].
    pub linetable_copied: u32,
    /// `co_version`: no other code object gets it; 0 where there is none.
    pub version: u32,
    /// The `str` object of the file name.
    pub filename_bytes: [u8; STRING_COPY],
    /// The `str` object of the qualified name.
    pub qualname_bytes: [u8; STRING_COPY],
    /// The `bytes` object of the line table, maybe cut.
    pub linetable_bytes: [u8; LINETABLE_COPY],
}

/// The values of [`Mapping::operation`].
pub mod mapping {
    /// mmap: `address`, `length`.
    pub const MMAP: u32 = 1;
    /// munmap: `address`, `length`.
    pub const MUNMAP: u32 = 2;
    /// mremap: from `old_address`, `old_length` to `address`, `length`.
    pub const MREMAP: u32 = 3;
    /// brk: `address` is the new end of the heap.
    pub const BRK: u32 = 4;
    /// madvise(MADV_DONTNEED): the pages of `address`, `length` go, and the mapping stays.
    pub const DISCARD: u32 = 5;

    /// The values of [`super::Mapping::via`]: who asked.
    pub mod via {
        /// The program, or a library that is not an allocator we probe.
        pub const DIRECT: u32 = 0;
        /// The C allocator, for a block or for its heap.
        pub const C_ALLOCATOR: u32 = 1;
        /// pymalloc, for an arena.
        pub const PYMALLOC_ARENA: u32 = 2;
    }
}

/// A successful change of the address space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// Kind [`kind::MAPPING`].
    pub header: Header,
    /// One of [`mapping`].
    pub operation: u32,
    /// One of [`mapping::via`].
    pub via: u32,
    /// Start, or the new end of the heap for brk.
    pub address: u64,
    /// Length as asked for, bytes (not rounded to pages).
    pub length: u64,
    /// mremap: the old start.
    pub old_address: u64,
    /// mremap: the old length.
    pub old_length: u64,
    /// mmap: `prot` in the lower, `flags` in the upper 32 bits.
    pub prot_flags: u64,
    /// mmap: the file descriptor, -1 for none.
    pub fd: i64,
    /// Number of the stack; 0 for munmap and madvise, whose stacks are not walked.
    pub stack: u64,
}

/// The values of [`Lifecycle::what`].
pub mod lifecycle {
    /// The first thread of the process ended; `code` is the wait status.
    pub const EXITED: u32 = 1;
    /// The process executed another program: the slot in the header was its own before, `code` is the new one;
    /// `NO_SLOT` if it is not followed any more.
    pub const EXECUTED: u32 = 2;
    /// The process was stopped at its exit.
    pub const HELD_AT_EXIT: u32 = 3;
    /// The process was stopped right after an exec.
    pub const HELD_AT_EXEC: u32 = 4;
    /// The process was stopped at the program's entry point.
    pub const HELD_AT_ENTRY: u32 = 5;
    /// The process was forked: slot and pid in the header are its own, `code` is its parent's slot.
    pub const FORKED: u32 = 6;
    /// As FORKED, and it runs in its parent's memory until it executes a program (vfork).
    pub const VFORKED: u32 = 7;
    /// The last thread of the process ended; `code` is 1 if the pools were read at that moment, while its memory was
    /// still there. Follows or precedes EXITED, which tells how it ended.
    pub const ENDED: u32 = 8;
    /// The kernel's OOM killer has chosen the process.
    pub const OOM_VICTIM: u32 = 9;
    /// A deadly signal was sent to the process: `code` is its number, `sender` and `name` tell by whom.
    pub const SIGNALLED: u32 = 10;
    /// A process was forked that is not to be traced: pid in the header is its own, slot its parent's.
    pub const LEFT_ALONE: u32 = 11;
}

/// Bytes of a thread's name (TASK_COMM_LEN).
pub const NAME_BYTES: usize = 16;

/// Something happened to a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Lifecycle {
    /// Kind [`kind::LIFECYCLE`].
    pub header: Header,
    /// One of [`lifecycle`].
    pub what: u32,
    /// EXITED: the wait status as `waitpid` gives it (exit code in bits 8..16, signal in 0..7). FORKED, EXECUTED: see there.
    pub code: u32,
    /// SIGNALLED: the pid of who sent it; 0 for the kernel.
    pub sender: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
    /// SIGNALLED: the name of the sending thread, ended by a zero byte.
    pub name: [u8; NAME_BYTES],
    /// ENDED: the resident set size at that moment, bytes; 0 if it could not be read.
    pub rss: u64,
}

const _: () = assert!(core::mem::size_of::<Header>() == 24);
const _: () = assert!(core::mem::size_of::<NewStack>() == 48);
const _: () = assert!(core::mem::size_of::<NewCode>() == 88 + 2 * STRING_COPY + LINETABLE_COPY);
const _: () = assert!(core::mem::size_of::<Mapping>() == 88);
const _: () = assert!(core::mem::size_of::<Lifecycle>() == 64);
