//! A process whose objects are looked at, more than once.

use super::{Options, Reader};
use crate::process::memory::ProcessMemory;
use crate::process::{Pid, maps};
use crate::profile::objects::ObjectLook;
use crate::python::Interpreter;

/// A process, and what it is read with.
#[derive(Debug)]
pub struct Subject {
    pid: Pid,
    memory: ProcessMemory,
    reader: Reader,
}

impl Subject {
    /// Prepares for a process.
    ///
    /// # Errors
    /// In a sentence: it is no Python process, or its memory may not be read.
    pub fn open(pid: Pid) -> Result<Self, String> {
        let python = Interpreter::discover(pid).map_err(|error| error.to_string())?;
        let memory = ProcessMemory::open(pid).map_err(|error| error.to_string())?;
        let regions = maps::read(pid).map_err(|error| error.to_string())?;
        let reader = Reader::new(&memory, &python, &regions);
        Ok(Self { pid, memory, reader })
    }

    /// Makes a look, see [`Reader::look`].
    ///
    /// # Errors
    /// In a sentence: its mappings cannot be read.
    pub fn look(&mut self, options: &Options) -> Result<ObjectLook, String> {
        let regions = maps::read(self.pid).map_err(|error| error.to_string())?;
        // If they cannot be read again it has ended, and its memory cannot either.
        let again = || maps::read(self.pid).unwrap_or_default();
        Ok(self.reader.look(&self.memory, &regions, again, options))
    }
}
