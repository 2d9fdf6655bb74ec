//! The subcommands, one per file: what each is given, and what it does.

#![forbid(unsafe_code)]

pub mod report;
