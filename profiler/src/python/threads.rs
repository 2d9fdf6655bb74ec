//! The thread states of a process, over all its interpreters.

use std::collections::HashSet;
use std::io;

use super::layout::Layout;
use crate::process::memory::Memory;

/// Most interpreters followed in one process.
const MAX_INTERPRETERS: usize = 1024;
/// Most thread states followed in one interpreter.
const MAX_THREADS: usize = 1 << 16;

/// A `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its address.
    pub state: u64,
    /// Address of its `PyInterpreterState`.
    pub interpreter: u64,
    /// `thread_id`: pthread_self and fs base of the thread that has it; 0 until a thread took it up (3.12+).
    pub fs_base: u64,
    /// `native_thread_id` (3.11+): a tid as the target's pid namespace has it.
    pub native_id: Option<u32>,
}

/// The lists could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A pointer led nowhere.
    #[error("{what} at {address:#x} cannot be read ({source})")]
    Unreadable {
        /// What was expected there.
        what: &'static str,
        /// Address.
        address: u64,
        /// The system's word.
        source: io::Error,
    },
    /// It does not end, or comes back to itself.
    #[error("the list of {what} does not end")]
    Endless {
        /// What it lists.
        what: &'static str,
    },
}

/// The first interpreter; 0 in a process that has not initialized it yet.
pub fn head(memory: &dyn Memory, layout: &Layout, runtime: u64) -> Result<u64, ListError> {
    pointer(memory, "_PyRuntime.interpreters.head", runtime.wrapping_add(layout.runtime.interpreters_head))
}

/// All thread states; empty if the interpreter is not initialized.
pub fn read(memory: &dyn Memory, layout: &Layout, runtime: u64) -> Result<Vec<Thread>, ListError> {
    let mut threads = Vec::new();
    let first = head(memory, layout, runtime)?;
    let next = |address: u64| address.wrapping_add(layout.interpreter.next);
    for interpreter in list(memory, "interpreters", first, next, MAX_INTERPRETERS)? {
        let head = interpreter.wrapping_add(layout.interpreter.threads_head);
        let first = pointer(memory, "the interpreter's first thread", head)?;
        let next = |address: u64| address.wrapping_add(layout.thread.next);
        for state in list(memory, "threads", first, next, MAX_THREADS)? {
            threads.push(thread(memory, layout, interpreter, state)?);
        }
    }
    Ok(threads)
}

/// Whether a thread's block lies at this fs base: its first word points to itself (glibc and musl).
pub fn is_fs_base(memory: &dyn Memory, address: u64) -> bool {
    address != 0 && memory.u64(address).is_ok_and(|own| own == address)
}

fn thread(memory: &dyn Memory, layout: &Layout, interpreter: u64, state: u64) -> Result<Thread, ListError> {
    let thread_id = state.wrapping_add(layout.thread.thread_id.into());
    let native_id = layout.thread.native_thread_id.map(|offset| {
        let id = pointer(memory, "native_thread_id", state.wrapping_add(offset))?;
        Ok(u32::try_from(id).unwrap_or(0))
    });
    Ok(Thread {
        state,
        interpreter,
        fs_base: pointer(memory, "thread_id", thread_id)?,
        native_id: native_id.transpose()?,
    })
}

fn list(
    memory: &dyn Memory,
    what: &'static str,
    first: u64,
    next: impl Fn(u64) -> u64,
    most: usize,
) -> Result<Vec<u64>, ListError> {
    let mut members = Vec::new();
    let mut seen = HashSet::new();
    let mut member = first;
    while member != 0 {
        if members.len() == most || !seen.insert(member) {
            return Err(ListError::Endless { what });
        }
        members.push(member);
        member = pointer(memory, what, next(member))?;
    }
    Ok(members)
}

fn pointer(memory: &dyn Memory, what: &'static str, address: u64) -> Result<u64, ListError> {
    memory.u64(address).map_err(|source| ListError::Unreadable { what, address, source })
}
