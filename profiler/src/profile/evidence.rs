//! What a diagnosis looks at beside the ledgers: what the processes received and did over time, and what their memory
//! held. Plain data; the rules that judge it are in `diagnose`.

use serde::{Deserialize, Serialize};

use super::bounds::{self, FEW, ROWS};
use super::objects::ObjectLook;

/// Everything that a diagnosis has beside the ledgers. Empty in a profile that no diagnosis made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What each process had and had done at each reading, in the order of time.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub readings: Vec<Reading>,
    /// Looks at the objects of processes, in the order of time: at least two where growth is to be told.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub looks: Vec<ObjectLook>,
    /// What could not be had, and why.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub notes: Vec<String>,
}

/// One reading of one process. Counts are sums since the trace of the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Index into [`super::Profile::processes`].
    pub process: u32,
    /// Milliseconds from the start of the trace.
    pub at_ms: u64,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Proportional set size, bytes; 0 if not read.
    pub pss: u64,
    /// Unique set size, bytes: pages of this process alone; 0 if not read.
    pub uss: u64,
    /// Bytes of blocks of the C allocator, allocated since the start, that live; an estimate where blocks are sampled.
    pub live: u64,
    /// Bytes of such blocks allocated.
    pub allocated: u64,
    /// Threads.
    pub threads: u32,
    /// CPU time, ms.
    pub cpu_ms: u64,
    /// Bytes received from sockets.
    pub received: u64,
    /// Receives that brought data.
    pub receives: u64,
    /// Bytes sent to sockets.
    pub sent: u64,
    /// Sends.
    pub sends: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes read from files and pipes (`rchar` of /proc/PID/io, less what came from sockets).
    pub files_read: u64,
    /// Processes forked.
    pub forks: u64,
}
