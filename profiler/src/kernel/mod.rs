//! Probes: where they stand.

pub mod site;
