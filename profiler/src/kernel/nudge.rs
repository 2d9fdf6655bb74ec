//! The only thing that pyalloc writes to a process, and only when asked to: eight pointers of its allocators' tables, so
//! that it calls functions that can be probed (`python::nudge`). They are put back when the trace ends, in whatever way;
//! should even that fail, what is left leads to the same code, and the next trace with that option puts it back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::process::Pid;
use crate::python::nudge::Pointer;

/// Changed pointers of one process. Dropping it puts them back.
#[derive(Debug)]
pub struct Nudged {
    memory: File,
    pointers: Vec<Pointer>,
    restored: bool,
}

impl Nudged {
    /// Changes them.
    ///
    /// # Errors
    /// The process has gone or may not be written to; or a pointer is not what it was when it was looked at. What has been
    /// changed by then is put back.
    pub fn apply(pid: Pid, pointers: Vec<Pointer>) -> io::Result<Self> {
        let nudged = Self::inherited(pid, pointers)?;
        for pointer in &nudged.pointers {
            nudged.change(pointer.address, pointer.entry, pointer.nudged)?;
        }
        Ok(nudged)
    }

    /// Of a process that has its parent's: they need only be put back.
    ///
    /// # Errors
    /// The process has gone.
    pub fn inherited(pid: Pid, pointers: Vec<Pointer>) -> io::Result<Self> {
        // Bound to the address space of this moment: a program that is executed later is another one.
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Self { memory, pointers, restored: false })
    }

    /// Lets go of them as they are.
    pub fn leave(mut self) {
        self.pointers.clear();
    }

    /// Puts them back. False, at the first time, if one was not what it was changed to: somebody else has changed it since,
    /// and it is left.
    pub fn restore(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.restored, true);
        let mut ours = true;
        for pointer in &self.pointers {
            ours &= match self.change(pointer.address, pointer.nudged, pointer.entry) {
                Ok(changed) => changed,
                // A process that has gone needs it no more.
                Err(error) => error.kind() != io::ErrorKind::Other,
            };
        }
        ours || !first
    }

    /// The changed pointers.
    pub fn pointers(&self) -> &[Pointer] {
        &self.pointers
    }

    /// Writes the lowest byte, which is seen whole or not at all; false if it needs not be.
    fn change(&self, address: u64, from: u64, to: u64) -> io::Result<bool> {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, address)?;
        match u64::from_le_bytes(bytes) {
            now if now == to => Ok(false),
            now if now == from && now >> 8 == to >> 8 => {
                self.memory.write_all_at(&to.to_le_bytes()[..1], address)?;
                Ok(true)
            }
            _ => Err(io::Error::other("python's allocator tables have been changed meanwhile")),
        }
    }
}

impl Drop for Nudged {
    fn drop(&mut self) {
        // A table that somebody else has changed is theirs.
        self.restore();
    }
}
