//! The ledgers: ids and bytes, no strings and no I/O.

pub mod mapping;
pub mod resident;
