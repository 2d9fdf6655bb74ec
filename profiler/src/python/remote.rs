//! A walk through a thread's Python frames from outside: what the kernel side does, for checks and tests.
//!
//! The target is not stopped, so a walk of a running thread may see two moments; it never goes astray, because
//! every code object must be one by its type.

use std::io;

use bytemuck::Zeroable as _;
use profiler_common::config::lasti_rule;
use profiler_common::event::NewCode;

use super::layout::Layout;
use crate::process::memory::Memory;

/// Most frames walked, those not shown included.
const MAX_FRAMES: usize = 1 << 14;

/// Offsets into bytecode are below this; more is no offset (CPython has no limit, the kernel's records do).
const MAX_LASTI: u64 = 1 << 25;

/// A Python frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Address of its code object.
    pub code: u64,
    /// Byte offset of the instruction; `None` before the first.
    pub lasti: Option<u32>,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame.
    Complete,
    /// After more frames than we follow.
    TooDeep,
    /// At memory that cannot be read.
    Unreadable,
    /// At a frame without a code object.
    NotCode,
}

/// The frames of a thread, innermost first; the interpreter's own are left out.
///
/// What CPython 3.12+ pushes for specialised constructor calls (`_Py_InitCleanup`) is still in it:
/// `symbol::CodeTable` drops it, for the kernel's stacks too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

/// Walks the frames of a thread state; `code_type` is the address of `PyCode_Type`.
pub fn walk(memory: &dyn Memory, layout: &Layout, code_type: u64, state: u64) -> Walk {
    let mut frames = Vec::new();
    let end = match first_frame(memory, layout, state) {
        Ok(first) => follow(memory, layout, code_type, first, &mut frames).unwrap_or_else(|end| end),
        Err(_) => End::Unreadable,
    };
    Walk { frames, end }
}

/// The record of a code object that the kernel side would send if it could copy nothing.
pub fn record(memory: &dyn Memory, layout: &Layout, code: u64, serial: u64) -> io::Result<NewCode> {
    let at = |offset: u32| code.wrapping_add(offset.into());
    let firsttraceable = layout.code.firsttraceable.map(|offset| memory.i32(at(offset)));
    Ok(NewCode {
        serial,
        code,
        filename: memory.u64(at(layout.code.filename))?,
        qualname: memory.u64(at(layout.code.qualname))?,
        linetable: memory.u64(at(layout.code.linetable))?,
        firstlineno: memory.i32(at(layout.code.firstlineno))?,
        firsttraceable: firsttraceable.transpose()?.unwrap_or(0),
        ..NewCode::zeroed()
    })
}

fn first_frame(memory: &dyn Memory, layout: &Layout, state: u64) -> io::Result<u64> {
    let holder = match layout.thread.cframe {
        Some(cframe) => memory.u64(state.wrapping_add(cframe.into()))?,
        None => state,
    };
    memory.u64(holder.wrapping_add(layout.thread.frame.into()))
}

fn follow(
    memory: &dyn Memory,
    layout: &Layout,
    code_type: u64,
    first: u64,
    frames: &mut Vec<Frame>,
) -> Result<End, End> {
    let mut address = first;
    for _ in 0..MAX_FRAMES {
        if address == 0 {
            return Ok(End::Complete);
        }
        let raw = RawFrame::read(memory, layout, address).map_err(|_| End::Unreadable)?;
        if raw.shown(layout) {
            let code = raw.u64(layout.frame.code) & layout.frame.pointer_mask;
            let kind = memory.u64(code.wrapping_add(layout.object_type));
            if !kind.is_ok_and(|kind| kind == code_type) {
                return Err(End::NotCode);
            }
            let lasti = raw.lasti(memory, layout, code);
            frames.push(Frame { code, lasti });
        }
        address = raw.u64(layout.frame.previous);
    }
    Ok(End::TooDeep)
}

/// A copy of a frame's fixed part.
struct RawFrame(Vec<u8>);

impl RawFrame {
    fn read(memory: &dyn Memory, layout: &Layout, address: u64) -> io::Result<Self> {
        let size = layout.frame.size as usize;
        memory.bytes(address, size, size).map(Self)
    }

    fn shown(&self, layout: &Layout) -> bool {
        let owner = layout.frame.owner.and_then(|at| self.0.get(at as usize));
        owner.is_none_or(|&owner| u32::from(owner) < layout.frame.skip_owner_from)
    }

    /// The field at an offset of the layout, which lies in the frame (a test of the layouts says so).
    fn u64(&self, at: u32) -> u64 {
        let bytes = self.0.get(at as usize..).and_then(<[u8]>::first_chunk);
        bytes.copied().map_or(0, u64::from_le_bytes)
    }

    fn i32(&self, at: u32) -> i32 {
        let bytes = self.0.get(at as usize..).and_then(<[u8]>::first_chunk);
        bytes.copied().map_or(0, i32::from_le_bytes)
    }

    fn lasti(&self, memory: &dyn Memory, layout: &Layout, code: u64) -> Option<u32> {
        let units = match layout.frame.lasti_rule {
            lasti_rule::BYTES => Some(1),
            lasti_rule::UNITS => Some(2),
            _ => None,
        };
        let bytes = match units {
            Some(unit) => u64::try_from(self.i32(layout.frame.lasti)).ok()? * unit,
            None => {
                let base = self.bytecode(memory, layout, code)?;
                self.u64(layout.frame.lasti).checked_sub(base)?
            }
        };
        u32::try_from(bytes).ok().filter(|_| bytes < MAX_LASTI)
    }

    /// Where the bytecode that the frame runs begins: in the code object, or in the thread's copy of it.
    fn bytecode(&self, memory: &dyn Memory, layout: &Layout, code: u64) -> Option<u64> {
        let copy = layout.frame.tlbc_index.map_or(0, |at| self.i32(at));
        match (u64::try_from(copy), layout.code.tlbc) {
            (Ok(index @ 1..), Some(tlbc)) => {
                // {i64 size; char *entries[size]}
                let array = memory.u64(code.wrapping_add(tlbc.into())).ok()?;
                memory.u64(array.wrapping_add(8 + 8 * index)).ok()
            }
            _ => Some(code.wrapping_add(layout.code.adaptive?.into())),
        }
    }
}
