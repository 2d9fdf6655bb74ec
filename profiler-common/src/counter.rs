//! The counters that the kernel side keeps. Each has a sentence in userspace (`profiler/src/profile/quality.rs`).

/// Indices into the per-CPU counter array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Probe hits at a function's entry (of all functions, nested ones included).
    EntryHits = 0,
    /// Probe hits at a function's return.
    ReturnHits = 1,
    /// Blocks counted as allocated.
    Allocations = 2,
    /// Blocks given back that were counted as allocated.
    Frees = 3,
    /// `free` of a block that was allocated before the trace started, or whose allocation was dropped.
    UnmatchedFrees = 4,
    /// Calls made inside another function of the C allocator (counted there).
    Nested = 5,
    /// Allocations that the allocator refused (it returned NULL).
    Refused = 6,
    /// Allocations dropped: the map of live blocks was full.
    BlockMapFull = 7,
    /// Events dropped: the map of stacks was full.
    StackMapFull = 8,
    /// Events dropped: the ring buffer was full.
    RingFull = 9,
    /// Events dropped: no room for another thread's state.
    ThreadMapFull = 10,
    /// Frames recorded as unknown: the map of code objects or the ring buffer was full.
    CodeUnknown = 11,
    /// Pools opened by pymalloc.
    PoolsOpened = 12,
    /// Pool openings dropped: the map of pools was full.
    PoolMapFull = 13,
    /// mmap, munmap, mremap and brk seen.
    MappingEvents = 14,
    /// Stacks walked.
    Walks = 15,
    /// Frames walked.
    Frames = 16,
    /// Stacks that were deeper than `MAX_FRAMES`.
    Truncated = 17,
    /// Stacks of threads without a Python thread state.
    NotPython = 18,
    /// Stacks walked before the interpreter was initialized.
    NoInterpreter = 19,
    /// Stacks cut short by a failed read.
    ReadFailed = 20,
    /// Stacks refused: the thread state found belongs to another thread.
    ThreadMismatch = 21,
    /// Stacks of threads that were between calls into Python.
    NoFrame = 22,
    /// Code objects that died.
    CodeDeaths = 23,
    /// Nanoseconds spent in the programs, measured on 1 hit in 64 and multiplied, and on every mapping event.
    BodyNanos = 24,
    /// Blocks whose free was not seen: their address was handed out again.
    MissedFrees = 25,
    /// Stacks whose native frames were walked.
    NativeWalks = 26,
    /// Native frames walked.
    NativeFrames = 27,
    /// Native walks that ended at an address outside the mappings known to userspace.
    NativeUnmapped = 28,
    /// Native walks that ended in code without unwinding information.
    NativeNoTable = 29,
    /// Native walks that ended in code whose unwinding rule the tables cannot express.
    NativeUnsupported = 30,
    /// Native walks cut short by a failed read of the stack.
    NativeReadFailed = 31,
    /// Native walks that reached `MAX_NATIVE_FRAMES`.
    NativeTruncated = 32,
    /// Frees of blocks that a process inherited from its parent: its parent's are still there.
    InheritedFrees = 33,
    /// Forked processes that are not traced: no slot, or no room in the map of processes.
    ForksNotFollowed = 34,
    /// Stacks not told: the thread runs in one of several interpreters, without the GIL (CPython 3.11 and earlier).
    OtherInterpreter = 35,
    /// Calls of threads that were taking their interpreter down; not counted elsewhere.
    AtExit = 36,
    /// Page faults recorded.
    Faults = 37,
    /// Of these, faults that went on a run of pages and were not walked.
    FaultsInRuns = 38,
    /// Page faults dropped: the map of touched pages was full.
    TouchMapFull = 39,
    /// Nanoseconds spent on page faults: measured on every one that is walked, on 1 in 64 of those in runs and on 1 in
    /// 1024 of those left out.
    FaultNanos = 40,
    /// `free` of a block that is not known, while not every allocation is looked at.
    UnseenFrees = 41,
    /// Page faults left out by sampling: those recorded stand for them.
    FaultsLeftOut = 42,
    /// Writes to watched slots of pools.
    WatchHits = 43,
    /// Nanoseconds spent on these in the programs, measured on every one.
    WatchNanos = 44,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 45;

    /// Every counter, in the order of its index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::EntryHits,
        Self::ReturnHits,
        Self::Allocations,
        Self::Frees,
        Self::UnmatchedFrees,
        Self::Nested,
        Self::Refused,
        Self::BlockMapFull,
        Self::StackMapFull,
        Self::RingFull,
        Self::ThreadMapFull,
        Self::CodeUnknown,
        Self::PoolsOpened,
        Self::PoolMapFull,
        Self::MappingEvents,
        Self::Walks,
        Self::Frames,
        Self::Truncated,
        Self::NotPython,
        Self::NoInterpreter,
        Self::ReadFailed,
        Self::ThreadMismatch,
        Self::NoFrame,
        Self::CodeDeaths,
        Self::BodyNanos,
        Self::MissedFrees,
        Self::NativeWalks,
        Self::NativeFrames,
        Self::NativeUnmapped,
        Self::NativeNoTable,
        Self::NativeUnsupported,
        Self::NativeReadFailed,
        Self::NativeTruncated,
        Self::InheritedFrees,
        Self::ForksNotFollowed,
        Self::OtherInterpreter,
        Self::AtExit,
        Self::Faults,
        Self::FaultsInRuns,
        Self::TouchMapFull,
        Self::FaultNanos,
        Self::UnseenFrees,
        Self::FaultsLeftOut,
        Self::WatchHits,
        Self::WatchNanos,
    ];
}

const _: () = {
    let mut index = 0;
    while index < Counter::ALL.len() {
        assert!(Counter::ALL[index] as usize == index);
        index += 1;
    }
};
