//! Traced processes: identity, memory, mapped files, and what /proc tells about them.

pub mod image;
pub mod launch;
pub mod link_map;
pub mod maps;
pub mod memory;

use std::fmt;

/// The user's process id: what the kernel calls tgid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process, told apart from a later one that got the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its pid.
    pub pid: Pid,
    /// Start time in clock ticks after boot: field 22 of /proc/PID/stat.
    pub start_time: u64,
}
