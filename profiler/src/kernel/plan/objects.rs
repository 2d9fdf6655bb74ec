//! How the small objects of a process are seen.

use profiler_common::probe::Function;

use super::{Planner, Python, Target};
use crate::process::memory::Memory;
use crate::python::allocators::{self, Allocators, NoPools, NoTables, ObjectAllocator};
use crate::python::nudge::{self, NoNudge, Pointer};

/// How small objects are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmallObjects {
    /// Not at all: no interpreter, or an allocator of somebody else's.
    #[default]
    Unseen,
    /// By the pools that are opened for them.
    Pools,
    /// By what pymalloc's arenas hold: the opening of pools is not seen.
    Arenas,
    /// Each is counted at its call.
    Each,
}

/// What a plan says of small objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// How they are seen.
    pub seen: SmallObjects,
    /// What is to be written to the process so that each can be counted; empty if nothing.
    pub nudge: Vec<Pointer>,
    /// Each was to be counted, and cannot be.
    pub refused: Option<NoNudge>,
}

/// The roles of a table's functions, in its order, and how their names end.
const ROLES: [(&str, Function); 4] = [
    ("Malloc", Function::Malloc),
    ("Calloc", Function::Calloc),
    ("Realloc", Function::Realloc),
    ("Free", Function::Free),
];

impl Planner<'_> {
    /// Probes what serves small objects; and what the reader should know of it.
    pub(super) fn objects<M: Memory>(&mut self, python: &Python<'_>, target: &Target<'_, M>) {
        let interpreter = &python.interpreter;
        let allocators = Allocators::read(interpreter, target.memory, target.regions);
        if let Ok(Allocators { hooks, .. }) = allocators {
            self.notes.extend(super::hooks_note(hooks, target.images));
        }
        if python.exact_objects
            && let Ok(allocators) = &allocators
            && self.each(allocators, python)
        {
            return;
        }
        let pymalloc = matches!(&allocators, Ok(found) if found.object_allocator == ObjectAllocator::Pymalloc);
        if pymalloc && allocators::inlines_pymalloc(interpreter.image) {
            self.notes.push(allocators::INLINED_NOTE.to_owned());
        }
        let open = |found: &Allocators| found.pool_open(interpreter);
        match allocators.as_ref().map_err(|&error: &NoTables| NoPools::from(error)).and_then(open) {
            Ok(vaddr) => {
                self.objects.seen = SmallObjects::Pools;
                let address = interpreter.image.bias.wrapping_add(vaddr);
                self.at_address(Function::PoolOpen, "allocate_from_new_pool", address, 0);
            }
            Err(NoPools::Mimalloc) => {
                self.objects.seen = SmallObjects::Each;
                self.notes.push(allocators::MIMALLOC_NOTE.to_owned());
                for (domain, table) in allocators.map(|found| found.mimalloc_tables(interpreter)).unwrap_or_default() {
                    self.table(domain, &table.functions);
                }
            }
            Err(reason) => {
                self.objects.seen = match reason {
                    NoPools::CLibrary => SmallObjects::Each,
                    _ if pymalloc => SmallObjects::Arenas,
                    _ => SmallObjects::Unseen,
                };
                self.notes.push(reason.to_string());
            }
        }
    }

    /// Probes pymalloc's own functions, each of whose calls is then seen; false if that is not needed, or cannot be done.
    fn each(&mut self, allocators: &Allocators, python: &Python<'_>) -> bool {
        let image = python.interpreter.image;
        if matches!(allocators.object_allocator, ObjectAllocator::CLibrary | ObjectAllocator::Mimalloc) {
            return false;
        }
        let pointers = nudge::check(allocators).and_then(|()| nudge::pointers(allocators, image));
        let nudge = match (allocators::inlines_pymalloc(image), pointers) {
            (true, Ok(pointers)) => pointers,
            // A plain build calls them for each object as it is; hooks call something else.
            (false, Ok(_) | Err(NoNudge::NoRoom(_))) => Vec::new(),
            (_, Err(reason)) => {
                self.notes.push(format!("not every small object is counted: {reason}"));
                self.objects.refused = Some(reason);
                return false;
            }
        };
        let mut functions = allocators.object.functions.map(|function| nudge::entry(image, function));
        for ((_, role), function) in ROLES.into_iter().zip(&mut functions) {
            let nudged = nudge.iter().find(|pointer| pointer.entry == *function).map(|pointer| pointer.nudged);
            *function = self.cheaper(role, *function, nudged);
        }
        let before = self.points.len();
        self.table("_PyObject_", &functions);
        for point in self.points.iter_mut().skip(before) {
            point.cookie = point.cookie.with_objects();
        }
        self.notes.push(if nudge.is_empty() { EXACT_NOTE } else { NUDGED_NOTE }.to_owned());
        self.objects = Objects { seen: SmallObjects::Each, nudge, refused: None };
        true
    }

    /// Where a probe of a function costs less: at its entry, or where it is entered while its table is changed. There stands a
    /// `nop`, which the kernel need not step over, where the function itself may begin with what it must.
    fn cheaper(&self, role: Function, entry: u64, nudged: Option<u64>) -> u64 {
        let class = |address: &u64| {
            let index = self.images.iter().position(|image| image.is_code(*address))?;
            let placement = self.sites.get(index)?.place_after(role, self.images.get(index)?.vaddr_of(*address)?, 1);
            placement.ok().map(|placement| placement.site().class())
        };
        let known = nudged.into_iter().chain([entry]).filter_map(|address| Some((class(&address)?, address)));
        known.min_by_key(|(class, _)| *class).map_or(entry, |(_, address)| address)
    }

    /// Every call of these functions, as of the C allocator's: each has a context before its arguments.
    fn table(&mut self, domain: &str, functions: &[u64; 4]) {
        for ((suffix, function), &address) in ROLES.into_iter().zip(functions) {
            self.at_address(function, &format!("{domain}{suffix}"), address, 1);
        }
    }
}

/// Each object is counted and nothing had to be changed.
const EXACT_NOTE: &str =
    "every small object is counted at its call (--exact-objects); nothing was written to the process";

/// Each object is counted, and something had to be changed.
const NUDGED_NOTE: &str = "every small object is counted at its call (--exact-objects): for that the lowest byte of eight \
    pointers in the process's allocator tables was changed, and changed back at the end";
