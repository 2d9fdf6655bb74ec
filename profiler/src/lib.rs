//! pyalloc: which process, why, and which code makes a Python service use too much memory.
//!
//! The line, one room a stage: `kernel` (probes, maps, ring) -> `event` -> `process` -> `symbol` ->
//! `ledger` -> `profile` -> `render`. `ARCHITECTURE.md` says what each room may not do.

pub mod event;
pub mod kernel;
pub mod ledger;
pub mod process;
pub mod profile;
pub mod symbol;
pub mod unwind;
