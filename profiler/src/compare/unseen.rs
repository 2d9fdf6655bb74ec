//! By how much a forked process's numbers may be wrong: it runs a moment before its probes are on.

use crate::profile::{BlockRow, Process, Profile};

/// Most blocks of one call path that are taken for kept, because their free fell between the probes' coming.
const BLOCKS: f64 = 2.0;
const US_PER_MS: f64 = 1000.0;

/// Bytes that a path's numbers may be wrong by. Measured in `docs/ci.md`; an allowance, and no bound that always holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unseen {
    /// Allocated without being counted.
    pub allocated: f64,
    /// Counted as kept without being so.
    pub kept: f64,
}

impl Unseen {
    /// Of one path of one process. What it allocated in the time without probes is taken to be what it allocated in as much
    /// other time.
    pub fn of_row(profile: &Profile, row: &BlockRow) -> Self {
        let process = profile.processes.get(row.process as usize).filter(|process| is_forked(profile, process));
        let Some(process) = process else { return Self::default() };
        let end_ms = process.ended_at_ms.unwrap_or(profile.trace.duration_ms);
        let unprobed = process.unprobed_us as f64;
        let lived = (end_ms.saturating_sub(process.seen_at_ms) as f64 * US_PER_MS).max(unprobed);
        Self {
            allocated: row.alloc_space as f64 * unprobed / lived,
            kept: row.largest as f64 * (unprobed / US_PER_MS).min(BLOCKS),
        }
    }
}

/// A forked process goes on with its parent's code at once. An executed one, which has a command line of its own, starts its
/// interpreter first: no function that is judged runs without probes.
fn is_forked(profile: &Profile, process: &Process) -> bool {
    let parent = process.parent.and_then(|parent| profile.processes.get(parent as usize));
    process.unprobed_us > 0 && parent.is_none_or(|parent| parent.command == process.command)
}
