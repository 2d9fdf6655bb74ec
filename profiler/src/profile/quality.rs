//! What a profile says about itself: losses, unknowns, and what the trace cost.

use profiler_common::counter::Counter;
use serde::{Deserialize, Serialize};

use super::bounds::{self, FEW};

/// The quality of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Events counted, by the kernel side and by userspace.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
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
    /// Cost of a function's return that is probed too, ns, measured at the start; 0 if it could not be measured.
    pub return_cost_ns: u64,
    /// CPU time that recording page faults took of the target, ms, as measured.
    #[serde(default)]
    pub faults_cost_ms: u64,
    /// The same for one page fault, ns; 0 if there was none.
    #[serde(default)]
    pub fault_cost_ns: u64,
    /// Why it could not be watched at all who fills the pools of small objects; `None` if it could, or was not wanted.
    #[serde(default)]
    pub unwatched: Option<String>,
    /// Cost of a hit of a watchpoint, ns, beside the program that it runs, measured at the start; 0 if none was set.
    #[serde(default)]
    pub write_cost_ns: u64,
    /// CPU time that watched slots of pools took of the target, ms: hits by their cost, and their programs as timed.
    #[serde(default)]
    pub watch_cost_ms: u64,
    /// Milliseconds it took to attach.
    pub attach_ms: u64,
    /// How probes were linked: "uprobe_multi with sessions", "perf events", ...
    pub links: String,
    /// Milliseconds between the last reading of the pool headers and the end; `None` if they were read at the end.
    pub pools_read_before_end_ms: Option<u64>,
    /// Whether the kernel tells which processes its OOM killer chooses; `None` in profiles from before that was asked.
    #[serde(default)]
    pub tells_oom_kills: Option<bool>,
}

impl Quality {
    /// The count of this name; 0 if there is none.
    pub fn value(&self, name: &str) -> u64 {
        self.counts.iter().find(|count| count.name == name).map_or(0, |count| count.value)
    }

    /// CPU time of the target for its probes, ms: traps by what one was measured to cost, programs as they were timed.
    pub fn cost_of(&self, hits: u64, returns: u64, program_ns: u64) -> u64 {
        let traps = hits.saturating_mul(self.hit_cost_ns).saturating_add(returns.saturating_mul(self.return_cost_ns));
        traps.saturating_add(program_ns) / 1_000_000
    }
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

/// How a counter of the kernel side appears in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Stable name, snake_case.
    pub name: &'static str,
    /// What it means for the report.
    pub class: CountClass,
    /// The sentence that tells a user what it means.
    pub sentence: &'static str,
}

/// What the kernel side's counters say, one [`Count`] each; `value` gives a counter's sum over all CPUs.
///
/// `BodyNanos` is a time and not a count: it is left out here and goes into [`Quality::target_cost_ms`].
pub fn counts(value: impl Fn(Counter) -> u64) -> Vec<Count> {
    let count = |counter| {
        let Meaning { name, class, sentence } = meaning(counter)?;
        Some(Count { name: name.to_owned(), class, value: value(counter), meaning: sentence.to_owned() })
    };
    Counter::ALL.into_iter().filter_map(count).collect()
}

/// What a counter means; `None` for the one that is not a count.
pub const fn meaning(counter: Counter) -> Option<Meaning> {
    use CountClass::{Dropped, Seen, Truncated, Unknown, Unmatched};
    let (name, class, sentence) = match counter {
        Counter::EntryHits => ("entry_hits", Seen, "calls of probed functions, calls inside others included"),
        Counter::ReturnHits => ("return_hits", Seen, "returns of probed functions"),
        Counter::Allocations => ("allocations", Seen, "blocks counted as allocated"),
        Counter::Frees => ("frees", Seen, "blocks given back that were counted as allocated"),
        Counter::UnmatchedFrees => (
            "unmatched_frees",
            Unmatched,
            "frees of blocks allocated before the trace started, or whose allocation was dropped; they change no sum",
        ),
        Counter::UnseenFrees => (
            "unseen_frees",
            Seen,
            "frees of blocks that were not drawn, or allocated while the probes rested or before the trace; they change no \
             sum",
        ),
        Counter::Nested => {
            ("nested", Seen, "calls made inside another allocation function, counted there and not twice")
        }
        Counter::Refused => ("refused", Seen, "allocations that the allocator refused for want of memory"),
        Counter::BlockMapFull => (
            "block_map_full",
            Dropped,
            "allocations lost because more blocks were live at once than --max-live-blocks allows; all sums are too low by \
             them",
        ),
        Counter::StackMapFull => (
            "stack_map_full",
            Dropped,
            "events lost because there were too many distinct call paths; all sums are too low by them",
        ),
        Counter::RingFull => (
            "ring_full",
            Dropped,
            "records lost because pyalloc did not read them in time; they are sent again when seen again, so a path \
             or a mapping may be missing",
        ),
        Counter::ThreadMapFull => (
            "thread_map_full",
            Dropped,
            "events lost because too many threads were inside the allocator at once; all sums are too low by them",
        ),
        Counter::CodeUnknown => (
            "code_unknown",
            Unknown,
            "frames without a name, because there was no room to record their code; their bytes are counted",
        ),
        Counter::MissedFrees => (
            "missed_frees",
            Seen,
            "blocks given back by a function that is not probed, noticed when their address was handed out again",
        ),
        Counter::InheritedFrees => (
            "inherited_frees",
            Seen,
            "frees of blocks inherited from a parent process, which still has its own; they change no sum",
        ),
        Counter::ForksNotFollowed => {
            ("forks_not_followed", Dropped, "forked processes that are not traced, because there were too many")
        }
        Counter::AtExit => (
            "at_exit",
            Seen,
            "calls by interpreters that were shutting down, left out so that what a process held until then is known",
        ),
        Counter::NativeWalks => ("native_walks", Seen, "call paths whose native frames were walked"),
        Counter::NativeFrames => ("native_frames", Seen, "native frames walked"),
        Counter::NativeUnmapped => (
            "native_unmapped",
            Unknown,
            "native frames missing above code that was mapped after the last look at the process",
        ),
        Counter::NativeNoTable => {
            ("native_no_table", Unknown, "native frames missing above code that carries no unwinding information")
        }
        Counter::NativeUnsupported => {
            ("native_unsupported", Unknown, "native frames missing above code whose unwinding rules are of a rare kind")
        }
        Counter::NativeReadFailed => {
            ("native_read_failed", Unknown, "native frames missing because the stack could not be read")
        }
        Counter::NativeTruncated => {
            ("native_truncated", Truncated, "events with more native frames than are walked: the innermost are right")
        }
        Counter::PoolsOpened => ("pools_opened", Seen, "pools for small objects opened by CPython's object allocator"),
        Counter::PoolMapFull => (
            "pool_map_full",
            Dropped,
            "pools lost because too many were in use; surviving small objects are too low by them",
        ),
        Counter::MappingEvents => ("mapping_events", Seen, "changes of the address space: mmap, munmap, mremap, brk"),
        Counter::Walks => ("walks", Seen, "call paths walked"),
        Counter::Frames => ("frames", Seen, "Python frames walked"),
        Counter::Truncated => (
            "truncated",
            Truncated,
            "events whose call path was too deep: the innermost frames are right, the outermost are missing",
        ),
        Counter::NotPython => (
            "not_python",
            Unknown,
            "events in threads that do not run Python (a library's own threads); counted without a Python path",
        ),
        Counter::NoInterpreter => {
            ("no_interpreter", Unknown, "events before the interpreter was up; counted without a Python path")
        }
        Counter::ReadFailed => {
            ("read_failed", Unknown, "events whose call path could not be read to its end; the frames shown are right")
        }
        Counter::ThreadMismatch => (
            "thread_mismatch",
            Unknown,
            "events whose interpreter state belonged to another thread; counted without a Python path",
        ),
        Counter::OtherInterpreter => (
            "other_interpreter",
            Unknown,
            "events in threads that were in code of several interpreters, without the GIL: which of them allocated cannot \
             be told; counted without a Python path",
        ),
        Counter::NoFrame => (
            "no_frame",
            Unknown,
            "events in Python threads that were between two calls into Python; counted without a Python path",
        ),
        Counter::CodeDeaths => {
            ("code_deaths", Seen, "code objects that died; their addresses are told apart from then on")
        }
        Counter::Faults => ("faults", Seen, "page faults recorded"),
        Counter::FaultsLeftOut => {
            ("faults_left_out", Seen, "page faults left out, so that they stay cheap: those recorded stand for them")
        }
        Counter::FaultsInRuns => {
            ("faults_in_runs", Seen, "page faults right above the last one, in the same call: counted to its call path")
        }
        Counter::TouchMapFull => (
            "touch_map_full",
            Dropped,
            "page faults lost because there were too many between two readings; their pages have no call path",
        ),
        Counter::WatchHits => ("watch_hits", Seen, "writes to watched slots of pools, which tell who fills them"),
        Counter::BodyNanos | Counter::FaultNanos | Counter::WatchNanos => return None,
    };
    Some(Meaning { name, class, sentence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_name_of_its_own_and_a_sentence() {
        let counts = counts(|counter| counter as u64);
        let names: std::collections::BTreeSet<_> = counts.iter().map(|count| count.name.clone()).collect();
        assert_eq!(names.len(), counts.len());
        assert_eq!(counts.len(), Counter::ALL.len() - 3, "only the times spent are no counts");
        assert!(counts.iter().all(|count| count.meaning.len() > 10));
        assert_eq!(counts[7].name, "block_map_full");
        assert_eq!(counts[7].value, Counter::BlockMapFull as u64);
    }
}
