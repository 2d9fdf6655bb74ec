//! The corpus: programs whose memory trouble is known, or that have none, and what a diagnosis says of each.
//!
//! A workload is a file of `workloads/corpus` with its label in its head; a case from elsewhere is a folder with a
//! `case.toml`, started by the `run_case.sh` beside it.

pub mod cases;
pub mod label;
pub mod page;
pub mod run;
pub mod score;
pub mod start;
pub mod workloads;
