//! The ledgers: ids and bytes, no strings and no I/O.

pub mod fillers;
mod join;
pub mod mapping;
mod pages;
pub mod resident;
pub mod share;
