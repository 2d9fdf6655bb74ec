//! What a profile says about itself: losses, unknowns, and what the trace cost.

use serde::{Deserialize, Serialize};

/// The quality of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Events counted, by the kernel side and by userspace.
    pub counts: Vec<Count>,
    /// CPU time pyalloc itself used, ms.
    pub own_cpu_ms: u64,
    /// Estimated CPU time that the probes cost the target, ms: hits times the cost of a hit measured on this
    /// machine at the start.
    pub target_cost_ms: u64,
    /// CPU time the target used during the trace, ms, the probes' cost included.
    pub target_cpu_ms: u64,
    /// Cost of a probe hit at an emulated site, ns, measured at the start; 0 if it could not be measured.
    pub hit_cost_ns: u64,
    /// Milliseconds it took to attach.
    pub attach_ms: u64,
    /// How probes were linked: "uprobe_multi with sessions", "perf events", ...
    pub links: String,
    /// Seconds between the last reading of the pool headers and the end; `None` if they were read at the end.
    pub pools_read_before_end_ms: Option<u64>,
}

/// What a count means for the reader of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountClass {
    /// Normal work: how much was seen.
    Seen,
    /// No room: something was lost.
    Dropped,
    /// A free without its allocation.
    Unmatched,
    /// A stack that was cut.
    Truncated,
    /// No name, or no stack, for a stated reason.
    Unknown,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Stable name, snake_case.
    pub name: String,
    /// What it means for the report.
    pub class: CountClass,
    /// How many.
    pub value: u64,
    /// The sentence that tells a user what it means.
    pub meaning: String,
}
