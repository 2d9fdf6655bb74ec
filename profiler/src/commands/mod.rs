//! The subcommands, one per file: what each is given, and what it does.

pub mod bench_probes;
pub mod check;
pub mod completions;
pub mod diagnose;
pub mod diff;
pub mod doctor;
pub mod man;
pub mod objects;
pub mod report;
pub mod top;
pub mod trace;
mod whom;
