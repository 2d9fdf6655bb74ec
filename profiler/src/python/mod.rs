//! CPython in another process: which version, where it keeps its threads, frames, code objects and small objects.
//!
//! Everything that depends on the version is in [`layout`]; the kernel side gets it from there too.
//! Facts are CPython's sources and what was measured on real builds from 3.8 to 3.15.

pub mod allocators;
pub mod arenas;
pub mod debug_offsets;
pub mod discover;
pub mod header;
pub mod identity;
pub mod layout;
pub mod linetable;
pub mod locate;
pub mod nudge;
pub mod object;
pub mod object_layout;
pub mod pool;
pub mod remote;
#[cfg(test)]
pub(crate) mod running;
pub mod slot;
pub mod slots;
pub mod threads;
pub mod tls;
pub mod used_blocks;
pub mod version;

pub use discover::Interpreter;
pub use locate::NotPython;
