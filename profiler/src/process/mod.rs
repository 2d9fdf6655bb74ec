//! Traced processes: identity, memory, mapped files, and what /proc tells about them.

pub mod bounded;
pub mod cgroup;
pub mod image;
pub mod kernel_log;
pub mod launch;
pub mod link_map;
pub mod maps;
pub mod memory;
pub mod namespace;
pub mod oom_score;
pub mod pagemap;
pub mod status;
pub mod subject;

use std::{fmt, io};

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

impl Identity {
    /// The process that has this pid now.
    ///
    /// # Errors
    /// There is none, or /proc cannot be read.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let process = procfs::process::Process::new(pid.0.cast_signed()).map_err(io::Error::other)?;
        let stat = process.stat().map_err(io::Error::other)?;
        Ok(Self { pid, start_time: stat.starttime })
    }

    /// The process that made it, or adopted it.
    ///
    /// # Errors
    /// It has gone, or /proc cannot be read.
    pub fn parent(self) -> io::Result<Pid> {
        let process = procfs::process::Process::new(self.pid.0.cast_signed()).map_err(io::Error::other)?;
        let stat = process.stat().map_err(io::Error::other)?;
        Ok(Pid(stat.ppid.cast_unsigned()))
    }

    /// Whether any thread of the process still runs. Its first thread may have ended before the others.
    pub fn is_alive(self) -> bool {
        let Ok(process) = procfs::process::Process::new(self.pid.0.cast_signed()) else { return false };
        let Ok(stat) = process.stat() else { return false };
        let ended = |state: char| matches!(state, 'Z' | 'X');
        if stat.starttime != self.start_time {
            return false;
        }
        let runs = |task: procfs::process::Task| task.stat().is_ok_and(|stat| !ended(stat.state));
        !ended(stat.state) || process.tasks().is_ok_and(|mut tasks| tasks.any(|task| task.is_ok_and(runs)))
    }
}
