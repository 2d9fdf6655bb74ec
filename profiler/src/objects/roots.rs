//! Where references begin: modules, types, the variables of running functions, the interpreter's own state, and the static
//! variables of C code.

use std::collections::HashMap;
use std::ops::Range;

use super::address::AddressMap;
use super::heap::Heap;
use super::kinds::{Shape, text};
use super::references::{Reference, Slot};
use super::table;
use crate::python::object_layout as at;
use crate::python::threads::Thread;

/// Frames of one thread.
const MOST_FRAMES: usize = 4096;
/// Bytes of a thread's state that are searched.
const THREAD_STATE: u64 = 320;

/// What something begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// It is a module.
    Module,
    /// It is a type.
    Type,
    /// In the frame of a running function, in this place.
    Frame(Slot),
    /// In the state of a thread.
    Thread,
    /// In the interpreter's state, or a static variable of it.
    Interpreter,
    /// A static variable of the file of this region.
    File(usize),
    /// Nothing that was found refers to it.
    NoReferrer,
    /// Only what it refers to refers to it.
    Cycle,
}

impl Root {
    /// Whether it is one for certain: the others are found by looking at any word of memory.
    pub const fn is_named(self) -> bool {
        matches!(self, Self::Module | Self::Type | Self::Frame(Slot::Variable(..)))
    }

    /// A root is taken to be this many references away: named ones come before others.
    pub const fn level(self) -> usize {
        match self {
            Self::Module => 0,
            Self::Type => 1,
            Self::Frame(Slot::Variable(..)) => 3,
            Self::Thread => 4,
            Self::Frame(_) | Self::Interpreter => 5,
            Self::File(_) => 6,
            Self::NoReferrer | Self::Cycle => usize::MAX,
        }
    }
}

/// The roots found, and the modules of the code that runs.
#[derive(Default)]
pub struct Roots {
    /// An object's index, and what it begins with.
    pub list: Vec<(u32, Root)>,
    /// By address of a code object that runs: the name of its module.
    pub modules: AddressMap<String>,
    names: HashMap<u64, String>,
}

impl Roots {
    /// Adds what the frames of a thread hold, and its state.
    pub fn thread(&mut self, heap: &mut Heap<'_>, thread: &Thread) {
        let frames = heap.layouts.base.frame;
        let holder = match heap.layouts.base.thread.cframe {
            Some(offset) => heap.copy.word(thread.state.wrapping_add(offset.into())),
            None => Some(thread.state),
        };
        let first = holder.and_then(|at| heap.copy.word(at.wrapping_add(heap.layouts.base.thread.frame.into())));
        let mut frame = first.unwrap_or(0);
        for _ in 0..MOST_FRAMES {
            if frame == 0 {
                break;
            }
            let owner = frames.owner.and_then(|offset| heap.copy.byte(frame.wrapping_add(offset.into())));
            if owner.is_none_or(|owner| u32::from(owner) < frames.skip_owner_from) {
                self.frame(heap, frame);
            }
            frame = heap.copy.word(frame.wrapping_add(frames.previous.into())).unwrap_or(0);
        }
        self.words(heap, thread.state..thread.state + THREAD_STATE, Root::Thread);
    }

    fn frame(&mut self, heap: &mut Heap<'_>, frame: u64) {
        let mut held = Vec::new();
        // What is no frame any more holds nothing.
        let _ = heap.view().frame(frame, &mut |Reference { slot, target, .. }| held.push((slot, target)));
        for (slot, target) in held {
            if target != 0
                && let Some(object) = heap.add(target)
            {
                self.list.push((object, Root::Frame(slot)));
            }
        }
        let code = heap.copy.word(frame.wrapping_add(heap.layouts.base.frame.code.into()));
        let globals = heap.copy.word(frame.wrapping_add(heap.layouts.objects.frame_globals));
        if let (Some(code), Some(globals)) = (code, globals)
            && let Some(name) = self.module_of(heap, globals)
        {
            self.modules.insert(code & heap.layouts.base.frame.pointer_mask, name);
        }
    }

    /// `__name__` in a module's globals.
    fn module_of(&mut self, heap: &Heap<'_>, globals: u64) -> Option<String> {
        if let Some(known) = self.names.get(&globals) {
            return Some(known.clone());
        }
        let name = name_in(heap, globals)?;
        self.names.insert(globals, name.clone());
        Some(name)
    }

    /// Adds the objects that words of memory refer to.
    pub fn words(&mut self, heap: &mut Heap<'_>, range: Range<u64>, root: Root) {
        for address in (range.start.next_multiple_of(8)..range.end).step_by(8) {
            let Some(word) = heap.copy.word(address) else { continue };
            if word < 4096 || range.contains(&word) && root != Root::Interpreter {
                continue;
            }
            if let Some(object) = heap.add(word) {
                self.list.push((object, root));
            }
        }
    }

    /// Adds the modules and types among the objects found.
    pub fn named(&mut self, heap: &mut Heap<'_>) {
        for index in 0..heap.objects.len() as u32 {
            match heap.kind(index).shape {
                Shape::Module => self.list.push((index, Root::Module)),
                Shape::Type => {
                    self.list.push((index, Root::Type));
                    // One without instances has a name too.
                    heap.kinds.at(heap.copy, heap.layouts, heap.address(index));
                }
                _ => {}
            }
        }
    }
}

/// The name of a module.
pub fn module_name(heap: &Heap<'_>, module: u32) -> Option<String> {
    name_in(heap, heap.copy.word(heap.address(module) + at::MODULE_DICT)?)
}

/// `__name__` in the dict at an address.
fn name_in(heap: &Heap<'_>, dict: u64) -> Option<String> {
    let table = table::read(heap.copy, heap.layouts.objects, dict)?;
    text(heap.copy, heap.layouts, table.value_of(heap.copy, heap.layouts, "__name__")?)
}
