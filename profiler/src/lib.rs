//! pyalloc: which process, why, and which code makes a Python service use too much memory.
//!
//! The line, one room a stage: `kernel` (probes, maps, ring) -> `event` -> `process` -> `symbol` ->
//! `ledger` -> `profile` -> `render`. `ARCHITECTURE.md` says what each room may not do.

pub mod allocator;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod diagnose;
pub mod event;
pub mod exit;
pub mod kernel;
pub mod ledger;
pub mod objects;
pub mod output;
pub mod process;
pub mod profile;
pub mod python;
pub mod recorder;
pub mod render;
pub mod symbol;
pub mod terminal;
pub mod tui;
pub mod unwind;
