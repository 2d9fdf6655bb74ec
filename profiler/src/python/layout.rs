//! Where CPython keeps what we read: byte offsets into its structures on x86-64, one row a version and build.
//!
//! Each row is one minor version; no patch level of a minor version was found to differ (3.8.18 to 3.15.2,
//! pyenv, Debian and manylinux builds). A row is written as its difference from the version before. Another
//! version is another row here and nothing elsewhere.

use profiler_common::config::{ABSENT, PythonLayout, lasti_rule};

use super::debug_offsets;
use super::linetable::Format;
use super::object::{BytesLayout, StringLayout};
use super::version::Version;

/// Everything that depends on the minor version and on the build being free-threaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// 11 in 3.11.
    pub minor: u8,
    /// The build without the GIL.
    pub free_threaded: bool,
    /// Whether `trace` may attach: the whole line was tested on this version.
    pub verified: bool,
    /// Offsets in `_PyRuntime`.
    pub runtime: Runtime,
    /// Offsets in `PyInterpreterState`.
    pub interpreter: InterpreterState,
    /// Offsets in `PyThreadState`.
    pub thread: ThreadState,
    /// Offsets in a frame.
    pub frame: Frame,
    /// Offsets in `PyCodeObject`.
    pub code: Code,
    /// `str` objects.
    pub string: StringLayout,
    /// `bytes` objects.
    pub bytes: BytesLayout,
    /// `ob_type` in any object.
    pub object_type: u64,
    /// `tp_dealloc` in a type.
    pub type_dealloc: u64,
    /// How line tables are written.
    pub lines: Format,
    /// Bytes of a pymalloc pool; unused in free-threaded builds, which have mimalloc.
    pub pool_size: u64,
    /// Bytes of a pymalloc arena; unused in free-threaded builds.
    pub arena_size: u64,
}

/// Offsets in `_PyRuntime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `interpreters.head`: NULL until the interpreter is initialized.
    pub interpreters_head: u64,
    /// `gilstate.tstate_current`, the state of the thread that holds the GIL; not a global any more since 3.12.
    pub current_state: Option<u64>,
    /// `autoTSSkey`, {i32 initialized; u32 key}; gone in 3.15.
    pub auto_tss_key: Option<u64>,
    /// The allocators' tables; static variables elsewhere before 3.12.
    pub allocators: Option<Allocators>,
}

/// Offsets in `_PyRuntime` of the tables {ctx, malloc, calloc, realloc, free} (CPython 3.12+).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocators {
    /// The raw domain.
    pub raw: u64,
    /// The mem domain.
    pub mem: u64,
    /// The obj domain.
    pub obj: u64,
    /// The arena allocator, {ctx, alloc, free}.
    pub arena: u64,
}

/// Offsets in `PyInterpreterState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterState {
    /// The next interpreter in the list.
    pub next: u64,
    /// The first thread state.
    pub threads_head: u64,
    /// `_code_object_generation`, u64: changes whenever a code object dies (3.14+).
    pub code_object_generation: Option<u64>,
}

/// Offsets in `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// The next thread state in the list.
    pub next: u64,
    /// `cframe`, through which the frame is found (3.11, 3.12).
    pub cframe: Option<u32>,
    /// The current frame, in the cframe where there is one.
    pub frame: u32,
    /// `thread_id`: pthread_self, which is fs base on glibc and musl.
    pub thread_id: u32,
    /// `native_thread_id` (3.11+): a tid of the target's pid namespace, stale after a fork outside Python.
    pub native_thread_id: Option<u64>,
}

/// Offsets in `PyFrameObject` (3.10 and earlier) or `_PyInterpreterFrame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes that hold all the fields below.
    pub size: u32,
    /// The code object.
    pub code: u32,
    /// The caller's frame.
    pub previous: u32,
    /// `f_lasti`, `prev_instr` or `instr_ptr`.
    pub lasti: u32,
    /// How to read it: one of [`lasti_rule`].
    pub lasti_rule: u32,
    /// `owner`, u8 (3.11+).
    pub owner: Option<u32>,
    /// Frames of this owner and above are the interpreter's own: not shown, but walked through.
    pub skip_owner_from: u32,
    /// `tlbc_index`, i32 (free-threaded 3.14+).
    pub tlbc_index: Option<u32>,
    /// Bits of the code pointer that are the pointer.
    pub pointer_mask: u64,
}

/// Offsets in `PyCodeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `co_firstlineno`, i32.
    pub firstlineno: u32,
    /// `co_filename`.
    pub filename: u32,
    /// `co_qualname`; `co_name` before 3.11.
    pub qualname: u32,
    /// `co_linetable`; `co_lnotab` before 3.10.
    pub linetable: u32,
    /// `_co_firsttraceable`, i32, in code units of two bytes (3.11+).
    pub firsttraceable: Option<u32>,
    /// `co_code_adaptive`: the bytecode itself (3.11+).
    pub adaptive: Option<u32>,
    /// `co_tlbc` (free-threaded 3.14+).
    pub tlbc: Option<u32>,
    /// `co_version`, u32: new for every code object (3.12+).
    pub version: Option<u64>,
}

/// Owners of frames run from 0 to 4; no frame has this one.
const NO_OWNER: u32 = 256;

/// `FRAME_OWNED_BY_CSTACK` in 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` in 3.14+ (4 is C stack there).
const INTERPRETER_OWNERS: u32 = 3;

const V3_8: Layout = Layout {
    minor: 8,
    free_threaded: false,
    verified: true,
    runtime: Runtime { interpreters_head: 32, current_state: Some(1368), auto_tss_key: Some(1392), allocators: None },
    interpreter: InterpreterState { next: 0, threads_head: 8, code_object_generation: None },
    thread: ThreadState { next: 8, cframe: None, frame: 24, thread_id: 176, native_thread_id: None },
    frame: Frame {
        size: 112,
        code: 32,
        previous: 24,
        lasti: 104,
        lasti_rule: lasti_rule::BYTES,
        owner: None,
        skip_owner_from: NO_OWNER,
        tlbc_index: None,
        pointer_mask: u64::MAX,
    },
    code: Code {
        firstlineno: 40,
        filename: 104,
        qualname: 112,
        linetable: 120,
        firsttraceable: None,
        adaptive: None,
        tlbc: None,
        version: None,
    },
    string: StringLayout { length: 16, state: 32, kind_shift: 2, ascii_data: 48, compact_data: 72 },
    bytes: BytesLayout { length: 16, data: 32 },
    object_type: 8,
    type_dealloc: 48,
    lines: Format::Lnotab,
    pool_size: 4 << 10,
    arena_size: 256 << 10,
};

const V3_9: Layout =
    Layout { minor: 9, runtime: Runtime { current_state: Some(568), auto_tss_key: Some(584), ..V3_8.runtime }, ..V3_8 };

const V3_10: Layout = Layout {
    minor: 10,
    frame: Frame { lasti: 96, lasti_rule: lasti_rule::UNITS, ..V3_9.frame },
    lines: Format::Ranges,
    pool_size: 16 << 10,
    arena_size: 1 << 20,
    ..V3_9
};

const V3_11: Layout = Layout {
    minor: 11,
    runtime: Runtime { interpreters_head: 40, current_state: Some(576), auto_tss_key: Some(592), allocators: None },
    interpreter: InterpreterState { threads_head: 16, ..V3_10.interpreter },
    thread: ThreadState { cframe: Some(56), frame: 8, thread_id: 152, native_thread_id: Some(160), ..V3_10.thread },
    frame: Frame {
        size: 80,
        code: 32,
        previous: 48,
        lasti: 56,
        lasti_rule: lasti_rule::POINTER,
        owner: Some(69),
        ..V3_10.frame
    },
    code: Code {
        firstlineno: 72,
        filename: 112,
        qualname: 128,
        linetable: 136,
        firsttraceable: Some(168),
        adaptive: Some(184),
        ..V3_10.code
    },
    lines: Format::Locations,
    ..V3_10
};

const V3_12: Layout = Layout {
    minor: 12,
    runtime: Runtime {
        interpreters_head: 40,
        current_state: None,
        auto_tss_key: Some(1544),
        allocators: Some(Allocators { raw: 96, mem: 136, obj: 176, arena: 360 }),
    },
    interpreter: InterpreterState { threads_head: 72, ..V3_11.interpreter },
    thread: ThreadState { frame: 0, thread_id: 136, native_thread_id: Some(144), ..V3_11.thread },
    frame: Frame { code: 0, previous: 8, owner: Some(70), skip_owner_from: INTERPRETER_OWNERS, ..V3_11.frame },
    code: Code { firstlineno: 68, firsttraceable: Some(176), adaptive: Some(192), version: Some(92), ..V3_11.code },
    string: StringLayout { ascii_data: 40, compact_data: 56, ..V3_11.string },
    ..V3_11
};

const V3_13: Layout = Layout {
    minor: 13,
    runtime: Runtime {
        interpreters_head: 632,
        current_state: None,
        auto_tss_key: Some(2160),
        allocators: Some(Allocators { raw: 704, mem: 744, obj: 784, arena: 976 }),
    },
    interpreter: InterpreterState { next: 7264, threads_head: 7344, code_object_generation: None },
    thread: ThreadState { cframe: None, frame: 72, thread_id: 152, native_thread_id: Some(160), ..V3_12.thread },
    code: Code { firsttraceable: Some(184), adaptive: Some(200), ..V3_12.code },
    ..V3_12
};

/// The object header has 16 bytes more in free-threaded builds.
const V3_13T: Layout = Layout {
    free_threaded: true,
    code: Code {
        firstlineno: 84,
        filename: 128,
        qualname: 144,
        linetable: 152,
        firsttraceable: Some(200),
        adaptive: Some(216),
        tlbc: None,
        version: Some(108),
    },
    string: StringLayout { length: 32, state: 48, kind_shift: 2, ascii_data: 56, compact_data: 72 },
    bytes: BytesLayout { length: 32, data: 48 },
    object_type: 24,
    type_dealloc: 64,
    ..V3_13
};

const V3_14: Layout = Layout {
    minor: 14,
    runtime: Runtime {
        interpreters_head: 808,
        current_state: None,
        auto_tss_key: Some(2336),
        allocators: Some(Allocators { raw: 880, mem: 920, obj: 960, arena: 1152 }),
    },
    interpreter: InterpreterState { next: 7272, threads_head: 7344, code_object_generation: Some(7992) },
    frame: Frame { owner: Some(74), pointer_mask: !3, ..V3_13.frame },
    code: Code { firsttraceable: Some(192), adaptive: Some(208), ..V3_13.code },
    ..V3_13
};

const V3_14T: Layout = Layout {
    minor: 14,
    runtime: V3_14.runtime,
    interpreter: InterpreterState { code_object_generation: Some(8024), ..V3_14.interpreter },
    thread: V3_14.thread,
    frame: Frame { owner: Some(78), tlbc_index: Some(72), lasti_rule: lasti_rule::POINTER_PER_THREAD, ..V3_14.frame },
    code: Code { firsttraceable: Some(208), adaptive: Some(232), tlbc: Some(224), ..V3_13T.code },
    string: StringLayout { kind_shift: 8, ..V3_13T.string },
    ..V3_13T
};

const V3_15: Layout = Layout {
    minor: 15,
    runtime: Runtime {
        interpreters_head: 936,
        current_state: None,
        auto_tss_key: None,
        allocators: Some(Allocators { raw: 1008, mem: 1048, obj: 1088, arena: 1280 }),
    },
    interpreter: InterpreterState { next: 7264, threads_head: 7336, code_object_generation: Some(7944) },
    thread: ThreadState { thread_id: 176, native_thread_id: Some(184), ..V3_14.thread },
    ..V3_14
};

const V3_15T: Layout = Layout {
    minor: 15,
    runtime: V3_15.runtime,
    interpreter: InterpreterState { code_object_generation: Some(7952), ..V3_15.interpreter },
    thread: V3_15.thread,
    ..V3_14T
};

/// Every version whose layout is known.
pub const LAYOUTS: [Layout; 11] = [V3_8, V3_9, V3_10, V3_11, V3_12, V3_13, V3_13T, V3_14, V3_14T, V3_15, V3_15T];

impl Layout {
    /// The row of a version.
    pub fn of(version: &Version) -> Option<&'static Self> {
        LAYOUTS
            .iter()
            .find(|row| (row.minor, row.free_threaded) == (version.minor, version.free_threaded))
            .filter(|_| version.released)
    }

    /// The versions that `trace` may attach to, for messages: "3.11, 3.12, 3.13".
    pub fn verified_versions() -> String {
        let name = |row: &Self| format!("3.{}{}", row.minor, if row.free_threaded { "t" } else { "" });
        let names: Vec<_> = LAYOUTS.iter().filter(|row| row.verified).map(name).collect();
        names.join(", ")
    }

    /// What the kernel side's walker needs of it.
    pub fn walker(&self) -> PythonLayout {
        let optional = |offset: Option<u32>| offset.unwrap_or(ABSENT);
        PythonLayout {
            tstate_cframe: optional(self.thread.cframe),
            tstate_frame: self.thread.frame,
            tstate_thread_id: self.thread.thread_id,
            frame_size: self.frame.size,
            frame_code: self.frame.code,
            frame_previous: self.frame.previous,
            frame_lasti: self.frame.lasti,
            frame_owner: optional(self.frame.owner),
            owner_skip_from: self.frame.skip_owner_from,
            frame_tlbc_index: optional(self.frame.tlbc_index),
            lasti_rule: self.frame.lasti_rule,
            code_adaptive: optional(self.code.adaptive),
            code_tlbc: optional(self.code.tlbc),
            code_firstlineno: self.code.firstlineno,
            code_filename: self.code.filename,
            code_qualname: self.code.qualname,
            code_linetable: self.code.linetable,
            code_firsttraceable: optional(self.code.firsttraceable),
            // Below 16 in the versions where the kernel side follows these lists.
            interpreter_next: u32::try_from(self.interpreter.next).unwrap_or(ABSENT),
            interpreter_threads: u32::try_from(self.interpreter.threads_head).unwrap_or(ABSENT),
            tstate_next: u32::try_from(self.thread.next).unwrap_or(ABSENT),
            code_version: self.code.version.and_then(|offset| u32::try_from(offset).ok()).unwrap_or(ABSENT),
            pointer_mask: self.frame.pointer_mask,
        }
    }

    /// Holds this row against what the interpreter says of itself (`_Py_DebugOffsets`, 3.13+).
    ///
    /// `bytes` start at `_PyRuntime`.
    pub fn check(&self, bytes: &[u8]) -> Result<(), debug_offsets::Mismatch> {
        debug_offsets::check(self, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_fits_the_bytes_the_walker_reads() {
        for row in &LAYOUTS {
            let frame = row.frame;
            let ends = [
                frame.code + 8,
                frame.previous + 8,
                frame.lasti + 8,
                frame.owner.map_or(0, |at| at + 1),
                frame.tlbc_index.map_or(0, |at| at + 4),
            ];
            assert!(ends.iter().all(|&end| end <= frame.size), "3.{} {}", row.minor, row.free_threaded);
            assert_eq!(frame.size % 8, 0);
        }
    }

    #[test]
    fn rows_are_told_apart_and_the_gate_names_them() {
        let of = |minor, free_threaded| Layout::of(&Version::new(minor, None, free_threaded));
        assert_eq!(of(11, false).unwrap().frame.previous, 48);
        assert_eq!(of(14, true).unwrap().code.tlbc, Some(224));
        assert!(of(7, false).is_none() && of(12, true).is_none() && of(16, false).is_none());
        assert!(Layout::of(&Version::from_hex(0x030d_00a1, false).unwrap()).is_none());
        assert_eq!(Layout::verified_versions(), "3.8, 3.9, 3.10, 3.11, 3.12, 3.13, 3.13t, 3.14, 3.14t, 3.15, 3.15t");
    }

    #[test]
    fn absent_fields_reach_the_walker_as_absent() {
        let walker = V3_8.walker();
        assert_eq!((walker.tstate_cframe, walker.frame_owner, walker.code_adaptive), (ABSENT, ABSENT, ABSENT));
        assert_eq!(walker.lasti_rule, lasti_rule::BYTES);
        let walker = V3_15T.walker();
        assert_eq!((walker.frame_tlbc_index, walker.code_tlbc, walker.pointer_mask), (72, 224, !3));
    }
}
