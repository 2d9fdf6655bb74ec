//! From a stack's key to its id in the profile: frames are named once, as soon as their code objects are known.

use std::collections::{HashMap, HashSet};

use profiler_common::event::{frame, walk};

use crate::event::StackEvent;
use crate::profile::builder::ProfileBuilder;
use crate::profile::{FrameId, FrameKind, StackId};
use crate::symbol::native::NativeNames;
use crate::symbol::{CodeTable, Missing, Name, ResolvedFrame};
use crate::unwind::Unwinder;

/// How often a stack may wait for the record of one of its code objects, which another CPU sends.
pub(super) const PATIENCE: u32 = 4;

/// For people; said in [`marker`].
const _: () = assert!(profiler_common::MAX_FRAMES == 512);

/// What frames are named from.
#[derive(Default)]
pub struct Names {
    /// Python code.
    pub codes: CodeTable,
    /// Native functions.
    pub native: NativeNames,
    /// The files mapped into each process.
    pub unwinder: Unwinder,
}

/// The stacks seen so far.
#[derive(Default)]
pub struct Stacks {
    ids: HashMap<u64, StackId>,
    waiting: Vec<(StackEvent, u32)>,
    /// Ids of frames by (serial, lasti), `None` for one that is not shown.
    frames: HashMap<u64, Option<FrameId>>,
}

impl Stacks {
    /// A stack arrived.
    pub fn add(&mut self, stack: StackEvent) {
        self.waiting.push((stack, 0));
    }

    /// Names the stacks whose code objects are all known.
    pub fn settle(&mut self, names: &mut Names, builder: &mut ProfileBuilder) {
        for (stack, waited) in std::mem::take(&mut self.waiting) {
            let known = |packed: &u64| {
                let serial = frame::serial(*packed);
                serial == frame::UNKNOWN_SERIAL || names.codes.contains(serial)
            };
            if waited < PATIENCE && !stack.frames.iter().all(known) {
                self.waiting.push((stack, waited + 1));
            } else {
                self.name(&stack, names, builder);
            }
        }
    }

    /// Names what still waits of some processes, with unknown frames where nothing is known.
    pub fn give_up_on(&mut self, slots: &HashSet<u32>, names: &mut Names, builder: &mut ProfileBuilder) {
        let (given_up, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(stack, _)| slots.contains(&stack.head.header.slot));
        self.waiting = waiting;
        let given_up: Vec<(StackEvent, u32)> = given_up;
        given_up.iter().for_each(|(stack, _)| self.name(stack, names, builder));
    }

    /// The numbers mean nothing any more: they are given anew.
    pub fn forget(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.ids.remove(number);
        }
    }

    /// Frames of these code objects will not be asked for again.
    pub fn forget_codes(&mut self, serials: &HashSet<u64>) {
        self.frames.retain(|packed, _| !serials.contains(&frame::serial(*packed)));
    }

    /// Names what still waits, with unknown frames where nothing is known.
    pub fn give_up_waiting(&mut self, names: &mut Names, builder: &mut ProfileBuilder) {
        for (stack, _) in std::mem::take(&mut self.waiting) {
            self.name(&stack, names, builder);
        }
    }

    /// The id of a stack whose record has come and is named.
    pub fn known(&self, key: u64) -> Option<StackId> {
        self.ids.get(&key).copied()
    }

    /// The id of a stack; a marker's for one whose record was lost or is not here yet.
    pub fn id(&self, key: u64, builder: &mut ProfileBuilder) -> StackId {
        match self.ids.get(&key) {
            Some(&id) => id,
            None => {
                let marker = builder.marker("[call path not recorded]");
                builder.stack(&[marker])
            }
        }
    }

    fn name(&mut self, stack: &StackEvent, names: &mut Names, builder: &mut ProfileBuilder) {
        let Names { codes, native, unwinder } = names;
        let mut outermost_first: Vec<FrameId> = Vec::with_capacity(stack.frames.len() + 1);
        outermost_first.extend(marker(stack).map(|text| builder.marker(text)));
        for &packed in stack.frames.iter().rev() {
            outermost_first.extend(self.frame(packed, codes, builder));
        }
        for &address in stack.native.iter().rev() {
            let name = native.name(unwinder, stack.head.header.slot, address);
            outermost_first.push(builder.frame(FrameKind::Native, &name.to_string(), &name.object, 0, 0));
        }
        self.ids.insert(stack.head.key, builder.stack(&outermost_first));
    }

    fn frame(&mut self, packed: u64, codes: &mut CodeTable, builder: &mut ProfileBuilder) -> Option<FrameId> {
        if let Some(&known) = self.frames.get(&packed) {
            return known;
        }
        let resolved = codes.frame(frame::serial(packed), frame::lasti_bytes(packed));
        let id = resolved.map(|resolved| frame_id(&resolved, builder));
        // An unknown frame must be asked for again: its code object may yet be named.
        if codes.contains(frame::serial(packed)) {
            self.frames.insert(packed, id);
        }
        id
    }
}

/// Why a stack is not whole.
fn marker(stack: &StackEvent) -> Option<&'static str> {
    match (stack.head.status, stack.frames.is_empty()) {
        (walk::COMPLETE, _) => None,
        (walk::TRUNCATED, _) => Some("[outer frames cut: stack deeper than 512]"),
        (walk::NOT_PYTHON, _) => Some("[native thread, no Python stack]"),
        (walk::NO_INTERPRETER, _) => Some("[before the interpreter starts]"),
        (walk::READ_FAILED, false) => Some("[outer frames unknown: memory could not be read]"),
        (walk::READ_FAILED, true) => Some("[stack unknown: memory could not be read]"),
        (walk::THREAD_MISMATCH, _) => Some("[stack unknown: thread state of another thread]"),
        (walk::NO_FRAME, _) => Some("[no Python frame: between calls into Python]"),
        (walk::OTHER_INTERPRETER, _) => Some("[stack unknown: in one of several interpreters, without the GIL]"),
        _ => Some("[stack unknown]"),
    }
}

fn frame_id(frame: &ResolvedFrame, builder: &mut ProfileBuilder) -> FrameId {
    if frame.kind == FrameKind::Marker {
        let reason = match &frame.function {
            Name::Unknown(reason) => *reason,
            Name::Known(_) => Missing::Malformed,
        };
        return builder.marker(&format!("[unknown: {reason}]"));
    }
    builder.frame(frame.kind, &frame.function.to_string(), &frame.file.to_string(), frame.line, frame.first_line)
}
