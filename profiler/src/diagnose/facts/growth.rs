//! How much the resident memory of the tree grew, and of what it is made: the parts add up.

use super::process::{ProcessFacts, Trend};
use crate::profile::Profile;
use crate::profile::reconcile::{Part, Reconciliation};

/// The growth of the tree, bytes; each part may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Of RSS, over all processes that count, with those that came and those that went.
    pub total: i64,
    /// Blocks and objects in use, in the processes that were there all the time.
    pub live: i64,
    /// Free memory that allocators hold.
    pub held: i64,
    /// Mapped without a file and not by an allocator; stacks; variables of libraries.
    pub other: i64,
    /// Files and shared memory.
    pub shared: i64,
    /// What processes brought that came during the watch: their own pages.
    pub new_processes: i64,
    /// What processes had that have ended: given back.
    pub ended: i64,
    /// What the kernel counts and the page tables do not show, or what was not looked at.
    pub unexplained: i64,
    /// What is live and what is held free could not be told apart.
    pub held_unknown: bool,
}

/// Sums it up.
pub fn of(profile: &Profile, processes: &[ProcessFacts]) -> Growth {
    let mut growth = Growth::default();
    for process in processes {
        let info = &profile.processes[process.index as usize];
        if process.counts && process.is_new {
            growth.new_processes += signed(process.own);
            growth.shared += signed(info.rss_end.saturating_sub(process.own));
            growth.total += signed(info.rss_end);
        } else if process.counts {
            growth.add(profile, process);
        } else if !process.is_new {
            growth.ended -= signed(info.rss_start);
            growth.total -= signed(info.rss_start);
        }
    }
    let known = growth.live + growth.held + growth.other + growth.shared + growth.new_processes + growth.ended;
    growth.unexplained = growth.total - known;
    growth
}

impl Growth {
    fn add(&mut self, profile: &Profile, process: &ProcessFacts) {
        let info = &profile.processes[process.index as usize];
        let Some(parts) = Reconciliation::of_process(profile, process.index as usize) else {
            self.total += signed(info.rss_end) - signed(info.rss_start);
            return;
        };
        // Of the moments at which the pages were looked at, so that the parts are of the same moments.
        self.total += parts.rss_change();
        self.held_unknown |= parts.held_unknown;
        self.live += parts.change(Part::LiveHeap);
        self.held += parts.change(Part::HeldByAllocator);
        self.other += parts.change(Part::Other);
        self.shared += parts.change(Part::Files) + parts.change(Part::Shared);
    }
}

/// The trend of the whole: that of the processes that count, the most telling first.
pub fn trend(processes: &[ProcessFacts]) -> Trend {
    let counted = || processes.iter().filter(|process| process.counts && !process.is_new);
    let is = |wanted: Trend| counted().any(|process| process.trend == wanted);
    if is(Trend::Grows) {
        Trend::Grows
    } else if is(Trend::LevelsOff) {
        Trend::LevelsOff
    } else if is(Trend::Unclear) {
        Trend::Unclear
    } else if is(Trend::Flat) {
        Trend::Flat
    } else {
        Trend::Unknown
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4)
}
