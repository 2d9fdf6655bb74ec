//! Which part of an object an address is: a reference count, the garbage collector's header, or anything else.
//!
//! Layouts from CPython 3.8 to 3.15 with the GIL: `Include/object.h` (count u64 at 0, type at 8), `Include/cpython/object.h`
//! (`tp_flags` at 168), `Include/internal/pycore_gc.h` (16 bytes before an object of the collector), and the managed
//! dict's and weak references' 16 bytes before those (3.11+). Free-threaded builds have other headers.

use std::collections::HashMap;

use super::pool::{self, HEADER_BYTES};
use crate::process::memory::Memory;

const GC_HEADER: u64 = 16;
const MANAGED: u64 = 16;
const COUNT: u64 = 8;
const TYPE: u64 = 8;
const FLAGS: u64 = 168;
/// `Py_TPFLAGS_READY` and `Py_TPFLAGS_HAVE_GC`.
const READY: u64 = 1 << 12;
const HAVE_GC: u64 = 1 << 14;
/// `Py_TPFLAGS_TYPE_SUBCLASS`: what the type of a type has.
const IS_TYPE: u64 = 1 << 31;

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its reference count.
    ReferenceCount,
    /// The garbage collector's header before it.
    GcHeader,
    /// Something else of an object, or of no object.
    Other,
}

/// What a block begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// An object.
    Object,
    /// The garbage collector's header, or what stands before it, and an object.
    Collected,
    /// No object.
    Other,
}

/// Tells parts of objects in one process.
#[derive(Debug, Default)]
pub struct Headers {
    /// By address of a type: whether its objects belong to the collector; `None` for what is no type.
    types: HashMap<u64, Option<bool>>,
}

impl Headers {
    /// Which part of an object an address is, in a process of CPython 3.`minor` with the GIL.
    pub fn part(&mut self, memory: &dyn Memory, minor: u8, address: u64) -> Part {
        let objects = match block_of(memory, minor, address) {
            Some(block) => [(block, false), (block + GC_HEADER, true), (block + MANAGED + GC_HEADER, true)].to_vec(),
            // A block of its own: all that can be told is whether an object starts around here.
            None => {
                vec![(address, false), (address, true), (address + GC_HEADER, true), (address + GC_HEADER / 2, true)]
            }
        };
        let is_object = |(object, collected): &(u64, bool)| {
            let kind = memory.u64(object + TYPE).ok()?;
            (self.collects(memory, kind)? == *collected).then_some((*object, *collected))
        };
        match objects.iter().find_map({
            let mut is_object = is_object;
            move |object| is_object(object)
        }) {
            Some((object, true)) if (object - GC_HEADER..object).contains(&address) => Part::GcHeader,
            Some((object, _)) if (object..object + COUNT).contains(&address) => Part::ReferenceCount,
            _ => Part::Other,
        }
    }

    /// What a block of pymalloc's begins with, in a process with the GIL.
    pub fn head(&mut self, memory: &dyn Memory, block: u64) -> Head {
        let mut collects = |object: u64| self.collects(memory, memory.u64(object.checked_add(TYPE)?).ok()?);
        match () {
            () if collects(block) == Some(false) => Head::Object,
            () if collects(block + GC_HEADER) == Some(true) => Head::Collected,
            () if collects(block + MANAGED + GC_HEADER) == Some(true) => Head::Collected,
            () => Head::Other,
        }
    }

    /// Whether the collector has the objects of a type; `None` if there is no type at this address.
    fn collects(&mut self, memory: &dyn Memory, kind: u64) -> Option<bool> {
        let flags = |kind: u64| memory.u64(kind.checked_add(FLAGS)?).ok();
        *self.types.entry(kind).or_insert_with(|| {
            let metatype = memory.u64(kind.checked_add(TYPE)?).ok()?;
            // The collector's list leads from header to header: read as types, its flags may look right by chance.
            is_under_type(memory, metatype)?.then_some(())?;
            let (own, above) = (flags(kind)?, flags(metatype)?);
            (own & READY != 0 && above & READY != 0 && above & IS_TYPE != 0).then_some(own & HAVE_GC != 0)
        })
    }
}

/// Whether a chain of metatypes ends, as every one does, in `type`, which is its own type.
fn is_under_type(memory: &dyn Memory, mut kind: u64) -> Option<bool> {
    const MOST: usize = 4;
    for _ in 0..MOST {
        let above = memory.u64(kind.checked_add(TYPE)?).ok()?;
        if above == kind {
            return Some(true);
        }
        kind = above;
    }
    Some(false)
}

/// The pymalloc block that an address lies in; `None` if it lies in no pool.
fn block_of(memory: &dyn Memory, minor: u8, address: u64) -> Option<u64> {
    let size = pool::pool_size(minor);
    let start = address & !(size - 1);
    let mut header = [0; HEADER_BYTES];
    memory.read(start, &mut header).ok()?;
    let content = pool::decode(&header, size).filter(|content| content.blocks > 0)?;
    let first = start + HEADER_BYTES as u64;
    let offset = address.checked_sub(first)?;
    Some(first + offset / content.block_size * content.block_size)
}
