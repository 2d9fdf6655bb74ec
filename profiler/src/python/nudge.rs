//! How a build that has pymalloc inlined into its callers is made to call it for every block.
//!
//! Compilers with a profile of the interpreter copy pymalloc into its callers, behind a comparison: is the domain's table
//! (`PyMemAllocatorEx`) still that of pymalloc? If not, the table's function is called. So a table that points to a `nop`
//! right before the function, or behind the landing pad it begins with, leads to the same code and fails the comparison.
//! Only the lowest byte of each pointer is changed, so that no thread can see half of a change.

use super::allocators::{Allocators, Hooks, ObjectAllocator, Table};
use crate::process::image::Image;

/// `endbr64`, which functions begin with in builds for shadow stacks.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Instructions that do nothing and fill the room before a function, the shortest first (x86-64 manuals, table of `nop`).
const NOPS: [&[u8]; 6] = [
    &[0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// Functions are aligned to this.
const ALIGNMENT: u64 = 16;

/// In a table: from its start to its first function.
const FUNCTIONS: u64 = 8;

/// A pointer of a table, and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pointer {
    /// Where it lies in the target.
    pub address: u64,
    /// The function's entry: what it holds without us.
    pub entry: u64,
    /// What it holds while every block is to be seen; differs from `entry` in the lowest byte only.
    pub nudged: u64,
}

/// Why the tables are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNudge {
    /// Debug hooks, tracemalloc, memray.
    #[error("python's allocator is hooked (debug hooks, tracemalloc, memray or another): its tables are left alone")]
    Hooked,
    /// Not pymalloc's functions.
    #[error("python's small objects do not come from pymalloc: its tables are left alone")]
    NotPymalloc,
    /// Nowhere to point to.
    #[error(
        "this build has neither a landing pad at the beginning of {0} nor a nop before it that a change of one byte leads \
         to: its tables are left alone"
    )]
    NoRoom(&'static str),
}

/// The pointers that are changed: of the domains mem and obj.
///
/// # Errors
/// The tables are not the plain ones, or a function leaves no room.
pub fn pointers(allocators: &Allocators, image: &Image) -> Result<Vec<Pointer>, NoNudge> {
    check(allocators)?;
    let tables = [&allocators.mem, &allocators.object];
    tables.into_iter().flat_map(|table| of_table(table, image)).collect()
}

/// Whether pymalloc serves the domains mem and obj, without hooks.
///
/// # Errors
/// It does not.
pub fn check(allocators: &Allocators) -> Result<(), NoNudge> {
    match allocators {
        Allocators { hooks: Hooks::Interpreter | Hooks::Foreign(_), .. } => Err(NoNudge::Hooked),
        Allocators { object_allocator: ObjectAllocator::Pymalloc, .. } => Ok(()),
        _ => Err(NoNudge::NotPymalloc),
    }
}

fn of_table<'a>(table: &'a Table, image: &'a Image) -> impl Iterator<Item = Result<Pointer, NoNudge>> + 'a {
    const NAMES: [&str; 4] = ["_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyObject_Free"];
    (0..).zip(table.functions).zip(NAMES).map(move |((index, function), name)| {
        let entry = entry(image, function);
        let nudged = beside(image, entry).ok_or(NoNudge::NoRoom(name))?;
        Ok(Pointer { address: table.address + FUNCTIONS + index * 8, entry, nudged })
    })
}

/// The entry of the function that a table points to: the pointer itself, unless a pyalloc that was killed has left it
/// changed.
pub fn entry(image: &Image, pointer: u64) -> u64 {
    let before = pointer.wrapping_sub(ENDBR64.len() as u64);
    if before.is_multiple_of(ALIGNMENT) && code(image, before, ENDBR64.len()) == Some(&ENDBR64) {
        return before;
    }
    let leads_to = |nop: &&[u8]| {
        let entry = pointer.wrapping_add(nop.len() as u64);
        (entry.is_multiple_of(ALIGNMENT) && code(image, pointer, nop.len()) == Some(*nop)).then_some(entry)
    };
    NOPS.iter().find_map(leads_to).unwrap_or(pointer)
}

/// An address from which the same code runs, and whose lowest byte alone is another.
fn beside(image: &Image, entry: u64) -> Option<u64> {
    let after = (code(image, entry, ENDBR64.len()) == Some(&ENDBR64)).then(|| entry + ENDBR64.len() as u64);
    let before = NOPS.iter().filter_map(|nop| {
        let start = entry.checked_sub(nop.len() as u64)?;
        (code(image, start, nop.len()) == Some(*nop)).then_some(start)
    });
    after.into_iter().chain(before).find(|nudged| nudged >> 8 == entry >> 8)
}

fn code(image: &Image, address: u64, length: usize) -> Option<&[u8]> {
    image.bytes_at(image.vaddr_of(address)?)?.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::running::{Running, interpreters};

    #[test]
    fn every_interpreter_at_hand_can_be_nudged_or_says_why_not() {
        for program in interpreters() {
            let running = Running::start(&program, &[]);
            let interpreter = running.interpreter();
            let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
            let found = pointers(&allocators, interpreter.image);
            println!("{}: {found:x?}", program.display());
            match found {
                Ok(found) => {
                    assert_eq!(found.len(), 8, "{program:?}");
                    for pointer in found {
                        assert_ne!(pointer.nudged, pointer.entry);
                        assert_eq!(entry(interpreter.image, pointer.nudged), pointer.entry, "{program:?}");
                    }
                }
                Err(reason) => assert!(matches!(reason, NoNudge::NoRoom(_)), "{program:?}: {reason}"),
            }
        }
    }

    #[test]
    fn tables_with_hooks_are_left_alone() {
        let Some(program) = interpreters().pop() else { return };
        let check = |environment: &[(&str, &str)], expected: NoNudge| {
            let running = Running::start(&program, environment);
            let interpreter = running.interpreter();
            let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
            assert_eq!(pointers(&allocators, interpreter.image), Err(expected), "{environment:?}");
        };
        check(&[("PYTHONMALLOC", "debug")], NoNudge::Hooked);
        check(&[("PYTHONTRACEMALLOC", "1")], NoNudge::Hooked);
        check(&[("PYTHONMALLOC", "malloc")], NoNudge::NotPymalloc);
    }
}
