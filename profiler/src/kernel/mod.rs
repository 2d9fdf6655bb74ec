//! Probes: where they stand, and in which files.

pub mod plan;
pub mod release;
pub mod site;
