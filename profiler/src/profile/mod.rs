//! The profile: plain data, what a trace leaves behind and what every renderer reads.
//!
//! It grows with the number of distinct call paths, never with time. Ids are indices into the tables of the
//! same profile. The file format is in [`file`] and `docs/profile-format.md`.

#![forbid(unsafe_code)]

mod bounds;
pub mod builder;
pub mod evidence;
pub mod file;
pub mod objects;
pub mod path_timeline;
pub mod place;
pub mod quality;
pub mod reconcile;
pub mod timeline;
pub mod tree;
mod validate;
pub mod verdict;
pub mod view;

use bounds::{FEW, PROCESSES, ROWS};
use serde::{Deserialize, Serialize};

/// Version of the data below; a reader refuses a later one.
pub const FORMAT_VERSION: u32 = 1;

/// Index into [`Profile::strings`].
pub type StringId = u32;
/// Index into [`Profile::frames`].
pub type FrameId = u32;
/// Index into [`Profile::stacks`]; node 0 is the root, an empty stack.
pub type StackId = u32;

/// Everything known about one trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// How the trace was made.
    pub trace: Trace,
    /// The traced processes, by slot.
    #[serde(deserialize_with = "bounds::vec::<_, _, PROCESSES>")]
    pub processes: Vec<Process>,
    /// Every text in the profile, once. Texts come from the target and may hold anything but invalid UTF-8.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub strings: Vec<String>,
    /// Every distinct frame.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub frames: Vec<Frame>,
    /// The stacks, as a tree: the path from the root to a node is a stack, outermost frame first.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub stacks: Vec<StackNode>,
    /// Heap ledger: blocks of the C allocator, by process and stack.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub blocks: Vec<BlockRow>,
    /// Heap ledger: small objects in pymalloc's pools, by process and stack that opened the pool.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub pools: Vec<PoolRow>,
    /// Mapping ledger: address space asked for, by process, stack and origin.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub mappings: Vec<MappingRow>,
    /// Resident ledger: pages brought into memory during the trace and still there, by process, by the stack that touched
    /// them and by the one that allocated them.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub resident: Vec<ResidentRow>,
    /// Pages shared since a fork that a process got for itself by writing to them.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub unshared: Vec<UnsharedRow>,
    /// What is estimated of the two tables above, since not every page fault was recorded; empty where each one was.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub estimates: Vec<EstimateRow>,
    /// Memory over time; bounded: neighbours are merged when it grows over [`TIMELINE_POINTS`].
    #[serde(deserialize_with = "bounds::vec::<_, _, PROCESSES>")]
    pub timeline: Vec<TimelinePoint>,
    /// The biggest call paths over time; empty in profiles from before they were followed.
    #[serde(default)]
    pub path_timeline: path_timeline::PathTimeline,
    /// What a diagnosis looks at beside the ledgers; empty where none was asked for.
    #[serde(default)]
    pub evidence: evidence::Evidence,
    /// What the diagnosis concluded, if one was asked for.
    #[serde(default)]
    pub diagnosis: Option<verdict::Diagnosis>,
    /// What was lost, unknown or estimated, and what the trace cost.
    pub quality: quality::Quality,
    /// What a filter has left out of this profile, in sentences; never in a file.
    #[serde(skip)]
    pub left_out: Vec<String>,
}

/// Most points in a timeline.
pub const TIMELINE_POINTS: usize = 600;

/// Most frames in a stack: a reader refuses deeper ones, so that no profile makes a renderer walk without end.
pub const MAX_DEPTH: usize = 1024;

/// How the trace was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Version of pyalloc that recorded it.
    pub pyalloc_version: String,
    /// Wall clock at the start, milliseconds since 1970 (UTC).
    pub started_unix_ms: u64,
    /// Milliseconds from start to the last reading.
    pub duration_ms: u64,
    /// True for `trace -- COMMAND`: every allocation since the start of the process was seen.
    pub launched: bool,
    /// True when native frames were walked.
    pub native: bool,
    /// True if the heap ledger was left out: no allocation was probed.
    #[serde(default)]
    pub without_heap: bool,
    /// False in the periodic copies that a running trace writes; true once it ended in order.
    pub complete: bool,
    /// Kernel release of the machine, as `uname -r` gives it.
    pub kernel: String,
}

/// A traced process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The user's process id.
    pub pid: u32,
    /// Start time in clock ticks after boot (field 22 of /proc/PID/stat): with the pid it identifies it.
    pub start_time: u64,
    /// Its pid in its own pid namespace, a container's, where that is not the one that pyalloc ran in.
    #[serde(default)]
    pub container_pid: Option<u32>,
    /// Command line, arguments joined by blanks.
    pub command: String,
    /// The interpreter's version, "3.11.7".
    pub python: String,
    /// Path of the file that holds the interpreter, as the target sees it.
    pub interpreter: String,
    /// What is special about this build, for people ("pymalloc is inlined: ..."); empty if nothing.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub notes: Vec<String>,
    /// Threads at the start and at the end.
    pub threads_start: u32,
    /// See `threads_start`.
    pub threads_end: u32,
    /// Resident set size at the start, bytes.
    pub rss_start: u64,
    /// Resident set size at the last reading, bytes.
    pub rss_end: u64,
    /// Largest resident set size read during the trace, bytes.
    pub rss_peak: u64,
    /// How the trace of this process ended.
    pub end: End,
    /// The process that made it, if that is traced too: index into [`Profile::processes`].
    #[serde(default)]
    pub parent: Option<u32>,
    /// Milliseconds from the start of the trace to when this process was seen first; 0 if it was there already.
    #[serde(default)]
    pub seen_at_ms: u64,
    /// Milliseconds from the start of the trace to its end; `None` while it runs.
    #[serde(default)]
    pub ended_at_ms: Option<u64>,
    /// For a process forked or executed during the trace: microseconds until its probes were on. What it allocated
    /// in between is not counted.
    #[serde(default)]
    pub unprobed_us: u64,
    /// Why no probe is in it: then its pages and mappings are known, and its allocations are not. `None` if there are
    /// probes, or it is no Python.
    #[serde(default)]
    pub without_probes: Option<String>,
    /// Proportional set size at the last reading, bytes: shared pages divided among their users; 0 if not read.
    #[serde(default)]
    pub pss_end: u64,
    /// Unique set size at the last reading, bytes: pages of this process alone; 0 if not read.
    #[serde(default)]
    pub uss_end: u64,
    /// What was resident when its trace started; `None` if it was not looked at.
    #[serde(default)]
    pub residency_start: Option<Residency>,
    /// What was resident at the last look.
    #[serde(default)]
    pub residency_end: Option<Residency>,
    /// What its allocators hold free; `None` if its pages were not looked at.
    #[serde(default)]
    pub allocators: Option<Allocators>,
    /// What is known of the signal that ended it, beside its number.
    #[serde(default)]
    pub killed_by: Option<KilledBy>,
    /// Milliseconds between the last reading of its pools and its end; `None` if they were read at its end, or it runs.
    #[serde(default)]
    pub pools_read_before_end_ms: Option<u64>,
    /// How well it is known who filled its pools; `None` if none was opened, or in profiles from before that was asked.
    #[serde(default)]
    pub filling: Option<Filling>,
}

/// What was resident in a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Residency {
    /// Milliseconds from the start of the trace.
    pub at_ms: u64,
    /// Resident set size at that moment, bytes, as the kernel says (smaps_rollup).
    pub rss: u64,
    /// Bytes in swap.
    pub swapped: u64,
    /// Of the resident bytes, those that the program has given back and the kernel has not taken yet (`MADV_FREE`).
    #[serde(default)]
    pub given_back: u64,
    /// What the pages are; their sum is what the ledger can account for.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub lines: Vec<ResidencyLine>,
}

/// Resident bytes of one kind of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResidencyLine {
    /// What memory it is.
    pub kind: ResidentKind,
    /// Bytes.
    pub space: u64,
    /// Of these, bytes that an allocator holds free; `None` if its state could not be read.
    pub free: Option<u64>,
    /// Of these, bytes in pages that other processes have too.
    pub shared: u64,
}

/// Where a deadly signal came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KilledBy {
    /// The kernel's OOM killer.
    OomKiller {
        /// False if the limits could not be read.
        limits_known: bool,
        /// The limits of control groups that were reached: the nearest first. None was: the machine itself was out of
        /// memory.
        #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
        limits: Vec<MemoryLimit>,
    },
    /// The kernel, for another reason.
    Kernel,
    /// A process sent the signal; it may be the killed one itself.
    Process {
        /// Its pid.
        pid: u32,
        /// The name of its thread.
        name: String,
    },
}

/// The memory limit of a control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// The group's path, as /proc/PID/cgroup has it.
    pub cgroup: String,
    /// The limit, bytes; 0 if it could not be read.
    pub bytes: u64,
}

/// What the allocators of a process hold free in private resident pages, at the last look. Bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocators {
    /// glibc's release; empty if its malloc was not read.
    pub glibc: String,
    /// Its arenas.
    pub arenas: u64,
    /// `M_ARENA_MAX`; `None` for the default, eight for each processor.
    pub arena_max: Option<u64>,
    /// Free at the ends of the arenas.
    pub top_space: u64,
    /// Free between blocks in use.
    pub bin_space: u64,
    /// Free in fast bins and in the threads' caches.
    pub cached_space: u64,
    /// What `malloc_trim(0)` would give back.
    pub trim_gives_back: u64,
    /// What `MALLOC_TRIM_THRESHOLD_=131072` would give back: the tops over it.
    pub threshold_gives_back: u64,
    /// What `MALLOC_ARENA_MAX=2` would give back, at most.
    pub two_arenas_give_back: u64,
    /// Free blocks in pools of pymalloc that are in use.
    pub pool_free_space: u64,
    /// Free pools of pymalloc.
    pub free_pool_space: u64,
    /// What could not be read, and why.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub notes: Vec<String>,
}

/// How the trace of a process ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It still runs; the trace was ended by its duration or by the user.
    #[default]
    Detached,
    /// It ended with this exit code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// It executed another program.
    Executed,
    /// It ended, and how is not known.
    Vanished,
}

/// What kind of code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// Python code that is neither the standard library's nor an installed package's.
    Own,
    /// A package in site-packages or dist-packages.
    Package,
    /// The standard library, and frozen modules.
    Stdlib,
    /// A native function of a library or extension.
    Native,
    /// No frame: a marker that says why there is none ("[native thread, no Python stack]").
    Marker,
}

/// A frame: one line of one function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// What kind of code it is.
    pub kind: FrameKind,
    /// Qualified name of the function (`co_qualname`), symbol, or the marker's text.
    pub function: StringId,
    /// Path of the source file as the interpreter knows it, or of the native object; empty for a marker.
    pub file: StringId,
    /// Line; 0 where there is none.
    pub line: u32,
    /// First line of the function; 0 where there is none.
    pub first_line: u32,
}

/// A node of the stack tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StackNode {
    /// The caller's node; the root's parent is itself.
    pub parent: StackId,
    /// The frame; meaningless for the root.
    pub frame: FrameId,
}

/// Sums over the C allocator's blocks of one stack in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack.
    pub stack: StackId,
    /// Blocks allocated during the trace.
    pub alloc_objects: u64,
    /// Bytes allocated during the trace.
    pub alloc_space: u64,
    /// Of these, blocks still live at the end.
    pub inuse_objects: u64,
    /// Of these, bytes still live at the end.
    pub inuse_space: u64,
    /// Blocks given back within `profiler_common::ledger::TEMPORARY_MS`.
    pub temporary_objects: u64,
    /// Bytes of these.
    pub temporary_space: u64,
    /// Largest single block, bytes.
    pub largest: u64,
    /// Most bytes of this stack live at once; of what was seen, where not everything was.
    pub peak_space: u64,
    /// Blocks that were seen: what the estimates rest on. 0 in profiles from before there was sampling.
    #[serde(default)]
    pub samples: u64,
    /// Variance of `alloc_space`, bytes squared: its root is the standard error. 0: each block was seen.
    #[serde(default)]
    pub alloc_variance: f64,
    /// Variance of `inuse_space`.
    #[serde(default)]
    pub inuse_variance: f64,
    /// Variance of `alloc_objects`.
    #[serde(default)]
    pub alloc_objects_variance: f64,
    /// Variance of `inuse_objects`.
    #[serde(default)]
    pub inuse_objects_variance: f64,
}

/// Small objects of one stack in one process: those that it was seen to make, or in pools that it opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack that filled the pools, or opened them: see [`Filling`].
    pub stack: StackId,
    /// Pools that it opened during the trace.
    pub opened: u64,
    /// Pools of these that are still in use.
    pub live_pools: u64,
    /// Live objects.
    pub inuse_objects: u64,
    /// Bytes of these, rounded up to the size class.
    pub inuse_space: u64,
    /// Bytes of live objects in the pools that it opened, whoever filled them.
    #[serde(default)]
    pub opened_space: u64,
    /// Variance of `inuse_space`, bytes squared, where samples say who filled the pools; else 0: not known.
    #[serde(default)]
    pub inuse_variance: f64,
    /// Variance of `inuse_objects`.
    #[serde(default)]
    pub inuse_objects_variance: f64,
}

/// How well it is known who filled a process's pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    /// Bytes of small objects that are charged as samples say.
    pub sampled_space: u64,
    /// Bytes that are charged to the path that opened their pool, for want of samples.
    pub opener_space: u64,
    /// Bytes that are known in total only: nobody was seen to make them, and this Python does not say who opens pools.
    #[serde(default)]
    pub unknown_space: u64,
    /// The largest standard error of what one path is charged with by samples, bytes.
    #[serde(default)]
    pub standard_error_space: u64,
    /// Samples: slots in which an object was seen to stay, and that hold one at the last reading.
    pub samples: u64,
    /// Slots in which an object was seen to stay for a moment.
    pub seen: u64,
    /// Watched slots that were taken and given back too often.
    pub churned: u64,
    /// Watched slots that were filled and nobody was seen.
    pub unseen: u64,
    /// Why no slot could be watched, the last time that happened.
    pub refused: Option<String>,
}

/// Who asked the kernel for address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MappingOrigin {
    /// The program or a library, by mmap without a file.
    Anonymous,
    /// The program or a library, by mmap of a file.
    File,
    /// A thread's stack (mmap with MAP_STACK): reserved, mostly never touched.
    ThreadStack,
    /// The C allocator, by mmap.
    AllocatorMmap,
    /// The C allocator, by brk.
    AllocatorBrk,
    /// pymalloc, for an arena.
    PymallocArena,
}

/// Address space asked for by one stack in one process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack.
    pub stack: StackId,
    /// Who asked.
    pub origin: MappingOrigin,
    /// Mappings made during the trace.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Of these, mappings still there at the end, whole or in part.
    pub inuse_objects: u64,
    /// Bytes still there at the end.
    pub inuse_space: u64,
}

/// What kind of memory a resident page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidentKind {
    /// The C allocator's: the program break, its arenas, blocks with a mapping of their own.
    CHeap,
    /// CPython's small objects: pymalloc's arenas.
    Objects,
    /// Mapped by the program or a library without a file, or by whom is not known.
    #[default]
    Anonymous,
    /// Stacks of threads, the first one's included.
    Stack,
    /// Pages of files.
    File,
    /// Pages of mapped files that were written to: variables of programs and libraries.
    Image,
    /// Shared memory.
    Shared,
    /// Pages of hugetlbfs, which the kernel does not count as resident.
    HugeTlb,
}

/// Resident bytes by who touched them and who allocated them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResidentRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack that touched the pages first.
    pub stack: StackId,
    /// The stack that allocated the block, pool or mapping that the bytes belong to; `None` where no live one is known.
    pub allocated_by: Option<StackId>,
    /// What memory it is.
    pub kind: ResidentKind,
    /// Bytes resident at the last look.
    pub inuse_space: u64,
}

/// Why a shared page was written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsharedCause {
    /// An object's reference count.
    ReferenceCount,
    /// The garbage collector's header of an object.
    GcHeader,
    /// Data, or an allocator's own notes.
    Data,
    /// The memory could not be read any more, or the build's objects are not known.
    #[default]
    Unknown,
}

/// Pages that one stack un-shared in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnsharedRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack that wrote.
    pub stack: StackId,
    /// What it wrote to.
    pub cause: UnsharedCause,
    /// Bytes of the pages.
    pub space: u64,
}

/// Of which table something is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimateOf {
    /// [`Profile::resident`], by the stack that touched.
    #[default]
    Resident,
    /// [`Profile::unshared`].
    Unshared,
}

/// How sure the sums of one stack in one process are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EstimateRow {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// The stack that touched or wrote.
    pub stack: StackId,
    /// Which of its sums.
    pub of: EstimateOf,
    /// Bytes of that sum of which no page fault was recorded.
    pub space: u64,
    /// Standard error of the sum, bytes.
    pub standard_error: u64,
}

/// One reading of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// Milliseconds from the start of the trace.
    pub at_ms: u64,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Bytes allocated from the C allocator since the start and still live.
    pub live: u64,
    /// Bytes allocated from the C allocator since the start.
    pub allocated: u64,
}
