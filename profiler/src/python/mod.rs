//! What is known of CPython: the interpreter in a process, its structures and its allocators.

pub mod allocators;
#[cfg(test)]
pub(crate) mod running;
