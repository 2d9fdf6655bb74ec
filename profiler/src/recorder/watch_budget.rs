//! What watching the pools may cost: the target by the hits of watchpoints, and pyalloc by its turns.

use std::time::{Duration, Instant};

use profiler_common::counter::Counter;

use crate::kernel::{Kernel, KernelError};

/// A turn is ended after this time; the processes that are left come next.
pub(super) const LONGEST_TURN: Duration = Duration::from_millis(2);

/// Turns follow each other after this time, or later: they may take one part in so many of the time, and a little more at
/// first.
const EVERY: Duration = Duration::from_millis(100);
const OWN_SHARE: u32 = 100;
const OWN_AT_FIRST: Duration = Duration::from_millis(50);

/// Hits may take one part in this many of one CPU, and at first a little more: a short trace is to have samples too.
const TARGET_SHARE: u32 = 250;
const AT_FIRST: Duration = Duration::from_millis(10);

/// Keeps it.
#[derive(Default)]
pub(super) struct WatchBudget {
    next: Option<Instant>,
    taken: Duration,
}

impl WatchBudget {
    pub(super) fn is_time(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// A turn took so much CPU time, the trace has lasted so long.
    pub(super) fn took(&mut self, time: Duration, elapsed: Duration) {
        self.taken += time;
        let due = self.taken.saturating_sub(OWN_AT_FIRST) * OWN_SHARE;
        self.next = Some(Instant::now() + EVERY.max(due.saturating_sub(elapsed)));
    }

    /// Whether the target has time for more hits, of which each is a trap of `write_cost_ns`.
    pub(super) fn has_room(&self, kernel: &Kernel, write_cost_ns: u64, elapsed: Duration) -> Result<bool, KernelError> {
        let spent = Duration::from_nanos(cost_ns(&kernel.counters()?, write_cost_ns));
        Ok(spent < elapsed / TARGET_SHARE + AT_FIRST)
    }
}

/// CPU time of the running thread so far.
pub(super) fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// CPU time of the target for the hits of watchpoints so far, ns.
pub(super) fn cost_ns(counters: &[u64], write_cost_ns: u64) -> u64 {
    let value = |counter: Counter| counters.get(counter as usize).copied().unwrap_or(0);
    value(Counter::WatchHits).saturating_mul(write_cost_ns).saturating_add(value(Counter::WatchNanos))
}
