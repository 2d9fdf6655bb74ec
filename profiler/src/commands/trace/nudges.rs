//! The processes that were written to so that each of their small objects can be counted (`--exact-objects`).

use std::collections::HashMap;
use std::io::{self, Write as _};

use super::keeper::Keeper;
use crate::kernel::nudge::Nudged;
use crate::process::Pid;
use crate::python::nudge::Pointer;

/// Them, by slot. Dropping it puts back what was changed.
#[derive(Debug, Default)]
pub struct Nudges {
    by_slot: HashMap<u32, Nudged>,
    /// Puts them back should we be killed. Dropped after the above: then there is nothing left for it to do.
    keeper: Option<Keeper>,
}

impl Nudges {
    /// Says what will be written to a process, and writes it; nothing if there are no pointers.
    ///
    /// # Errors
    /// The process cannot be written to, or is not as it was looked at. It is left as it was.
    pub fn apply(&mut self, slot: u32, pid: Pid, pointers: Vec<Pointer>) -> io::Result<()> {
        if pointers.is_empty() {
            return Ok(());
        }
        let keeper = match &mut self.keeper {
            Some(keeper) => keeper,
            none => none.insert(Keeper::start()?),
        };
        // Should somebody have killed it, what a killed pyalloc leaves is still harmless.
        let _ = keeper.keep(slot, pid, &pointers);
        // Who has closed standard error does not want to know.
        let _ = writeln!(io::stderr(), "pyalloc: {}", announcement(pid, &pointers));
        self.by_slot.insert(slot, Nudged::apply(pid, pointers)?);
        Ok(())
    }

    /// A process was forked from one of them: it has its parent's changes.
    pub fn inherit(&mut self, parent: u32, slot: u32, pid: Pid) {
        let Some(parent) = self.by_slot.get(&parent) else { return };
        let pointers = parent.pointers().to_vec();
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.keep(slot, pid, &pointers);
        }
        // One that has ended meanwhile needs nothing put back.
        self.by_slot.extend(Nudged::inherited(pid, pointers).ok().map(|nudged| (slot, nudged)));
    }

    /// The same for one that is not traced: what it has of its parent's is put back at once.
    pub fn free(&self, parent: u32, pid: Pid) {
        if let Some(parent) = self.by_slot.get(&parent) {
            drop(Nudged::inherited(pid, parent.pointers().to_vec()));
        }
    }

    /// A process has gone, or executed another program.
    pub fn forget(&mut self, slot: u32) {
        if let (Some(nudged), Some(keeper)) = (self.by_slot.remove(&slot), &mut self.keeper) {
            drop(nudged);
            keeper.forget(slot);
        }
    }

    /// Puts back what was changed; gives the slots of the processes in which somebody else had changed it, each once. What
    /// was forked just before is known by [`Self::inherit`] a little later, and takes another call.
    pub fn restore(&mut self) -> Vec<u32> {
        let others = |(slot, nudged): (&u32, &mut Nudged)| (!nudged.restore()).then_some(*slot);
        self.by_slot.iter_mut().filter_map(others).collect()
    }
}

fn announcement(pid: Pid, pointers: &[Pointer]) -> String {
    let first = pointers.iter().map(|pointer| pointer.address).min().unwrap_or(0);
    format!(
        "--exact-objects: changes the lowest byte of {} pointers of process {pid}, in CPython's allocator tables from \
         {first:#x} on, so that every small object is made and given back by calls that can be seen; changed back when the \
         trace ends",
        pointers.len()
    )
}
