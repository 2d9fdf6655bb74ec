//! One traced process: who it is, its vital signs over time, and its pools.

use std::collections::HashMap;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use profiler_common::event::Lifecycle;
use profiler_common::ledger::{Block, BlockKey, Pool};

use super::held::Books;
use super::pools::Watching;
use super::residence::{Faults, Residence, Subject, own_mappings, sorted};
use super::unshared::{self, UnsharedSum};
use crate::kernel::plan::SmallObjects;
use crate::ledger::fillers::Charge;
use crate::ledger::mapping::MappingLedger;
use crate::ledger::resident::{Allocation, Estimate, Owner};
use crate::process::memory::{Memory, ProcessMemory};
use crate::process::{Identity, Pid, namespace, status};
use crate::profile::{self, End, EstimateOf, KilledBy, UnsharedCause};
use crate::python::header::{Headers, Part};
use crate::python::layout::Layout;
use crate::python::pool;

/// Longer than the ring is left unread.
const SETTLING_MS: u64 = 1000;

/// What is known of a process when its trace starts.
pub struct Start {
    /// Who it is.
    pub identity: Identity,
    /// The interpreter's layout.
    pub layout: Option<&'static Layout>,
    /// Its version, for people.
    pub python: String,
    /// The file that holds the interpreter.
    pub interpreter: String,
    /// What is special about it.
    pub notes: Vec<String>,
    /// How its small objects are seen.
    pub small_objects: SmallObjects,
    /// Its memory.
    pub memory: Option<ProcessMemory>,
    /// The end of its heap.
    pub program_break: Option<u64>,
}

impl Start {
    /// A process of which nothing is known but that it is there.
    pub fn unknown(identity: Identity) -> Self {
        Self {
            identity,
            layout: None,
            python: String::new(),
            interpreter: String::new(),
            notes: Vec::new(),
            small_objects: SmallObjects::default(),
            memory: None,
            program_break: None,
        }
    }
}

/// What /proc says of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Resident set size, bytes.
    pub rss: u64,
    /// Threads.
    pub threads: u32,
    /// CPU time since its start, ms.
    cpu_total_ms: u64,
    cpu_at_start_ms: u64,
}

impl Vitals {
    /// CPU time since the trace started, ms.
    pub fn cpu_ms(&self) -> u64 {
        self.cpu_total_ms.saturating_sub(self.cpu_at_start_ms)
    }

    /// Reads them; an error when the process has gone.
    fn read(identity: Identity) -> io::Result<Self> {
        let stat = stat(identity)?;
        let ms_per_tick = 1000 / procfs::ticks_per_second().max(1);
        Ok(Self {
            rss: stat.rss * procfs::page_size(),
            threads: u32::try_from(stat.num_threads).unwrap_or(0),
            cpu_total_ms: (stat.utime + stat.stime) * ms_per_tick,
            cpu_at_start_ms: 0,
        })
    }
}

/// /proc/PID/stat of this very process, not of a later one with its pid.
fn stat(identity: Identity) -> io::Result<procfs::process::Stat> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the process has gone");
    let process = procfs::process::Process::new(identity.pid.0.cast_signed()).map_err(|_| gone())?;
    let stat = process.stat().map_err(|_| gone())?;
    if stat.starttime == identity.start_time { Ok(stat) } else { Err(gone()) }
}

/// A process under trace.
pub struct Traced {
    pub(super) identity: Identity,
    /// Its number in the kernel side.
    pub slot: u32,
    /// The row in the profile.
    pub info: profile::Process,
    /// The interpreter's layout.
    pub layout: Option<&'static Layout>,
    /// Its mapping ledger.
    pub mappings: MappingLedger,
    /// Small objects by stack key, as last read.
    pub pools: HashMap<u64, Charge>,
    /// Its resident ledger, if it has one.
    pub residence: Option<Residence>,
    /// Shared pages that it wrote to, by stack and cause.
    pub unshared: HashMap<(u64, UnsharedCause), UnsharedSum>,
    /// Code was mapped since native frames were last prepared for it.
    pub code_mapped: bool,
    pub(super) memory: Option<ProcessMemory>,
    /// PSS and USS of a reading that nobody has taken yet.
    new_shares: Option<(u64, u64)>,
    /// `rchar` of /proc/PID/io when its trace started.
    chars_at_start: u64,
    vitals: Vitals,
    /// The largest RSS before the trace, bytes.
    peak_at_start: u64,
    pub(super) pools_read_ms: Option<u64>,
    /// How its small objects are seen.
    pub(super) small_objects: SmallObjects,
    /// Who fills its pools.
    pub(super) watching: Watching,
    /// How often it was looked for its pools.
    pub(super) asked: u32,
    /// Its pools were swapped out in part when they were last read.
    pub(super) swapped: bool,
    pub(super) end_reading: EndReading,
    /// The memory control group it is in.
    pub group: Option<String>,
    /// It was chosen by the kernel's OOM killer.
    oom: Option<KilledBy>,
    /// The last deadly signals sent to it, and by whom.
    signals: HashMap<i32, KilledBy>,
    /// When its last thread ended.
    last_thread_ended_ms: Option<u64>,
    /// Its probes are on, and nobody was told.
    untold: bool,
    pub(super) gone: bool,
    /// Its rows are made: see [`super::ended`].
    pub settled: bool,
}

/// What the kernel side has read of the pools when the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReading {
    None,
    /// It is in the map.
    Ready,
    Taken,
}

impl Traced {
    /// Takes the first reading.
    pub fn new(slot: u32, start: Start, at_ms: u64) -> Self {
        let mut vitals = Vitals::read(start.identity).unwrap_or_default();
        vitals.cpu_at_start_ms = vitals.cpu_total_ms;
        let info = profile::Process {
            pid: start.identity.pid.0,
            start_time: start.identity.start_time,
            container_pid: namespace::pid_inside(start.identity.pid),
            command: command_line(start.identity.pid).unwrap_or_default(),
            python: start.python,
            interpreter: start.interpreter,
            notes: start.notes,
            threads_start: vitals.threads,
            threads_end: vitals.threads,
            rss_start: vitals.rss,
            rss_end: vitals.rss,
            rss_peak: vitals.rss,
            end: profile::End::Detached,
            seen_at_ms: at_ms,
            ..profile::Process::default()
        };
        Self {
            identity: start.identity,
            peak_at_start: peak(start.identity.pid),
            slot,
            info,
            layout: start.layout,
            mappings: MappingLedger::new(start.program_break),
            pools: HashMap::new(),
            residence: None,
            unshared: HashMap::new(),
            code_mapped: true,
            memory: start.memory,
            new_shares: None,
            chars_at_start: read_chars(start.identity.pid),
            vitals,
            pools_read_ms: None,
            small_objects: start.small_objects,
            watching: Watching::Unknown,
            asked: 0,
            swapped: false,
            end_reading: EndReading::None,
            group: None,
            oom: None,
            signals: HashMap::new(),
            last_thread_ended_ms: None,
            untold: false,
            gone: false,
            settled: false,
        }
    }

    /// A process that `parent` has forked just now. It may have ended already.
    pub fn forked(event: &Lifecycle, parent: Option<&Self>, parent_index: Option<usize>, at_ms: u64) -> Self {
        let pid = Pid(event.header.pid);
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        let start = Start {
            identity,
            layout: parent.and_then(|parent| parent.layout),
            python: parent.map(|parent| parent.info.python.clone()).unwrap_or_default(),
            interpreter: parent.map(|parent| parent.info.interpreter.clone()).unwrap_or_default(),
            notes: Vec::new(),
            small_objects: parent.map(|parent| parent.small_objects).unwrap_or_default(),
            memory: ProcessMemory::open(pid).ok(),
            program_break: parent.and_then(|parent| parent.mappings.program_break()),
        };
        let mut forked = Self::new(event.header.slot, start, at_ms);
        forked.info.without_probes = parent.and_then(|parent| parent.info.without_probes.clone());
        if let Some(parent) = parent {
            forked.watching = parent.watching.of_child(forked.memory.as_ref());
        }
        forked.info.parent = parent_index.and_then(|index| u32::try_from(index).ok());
        if forked.info.command.is_empty() {
            forked.info.command = parent.map(|parent| parent.info.command.clone()).unwrap_or_default();
        }
        forked
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// It has executed a program, of which nothing is known yet.
    pub fn executed(&mut self, slot: u32) {
        self.slot = slot;
        self.layout = None;
        self.mappings = MappingLedger::default();
        self.pools.clear();
        (self.watching, self.asked) = (Watching::Unknown, 0);
        self.residence = None;
        self.unshared.clear();
        self.memory = None;
        self.code_mapped = true;
        self.info.python.clear();
        self.info.interpreter.clear();
        self.info.without_probes = None;
        self.info.command = command_line(self.identity.pid).unwrap_or_else(|| self.info.command.clone());
        self.vitals.rss = 0;
        self.peak_at_start = 0;
        self.info.rss_peak = 0;
    }

    /// Its interpreter is known only now: it has executed a program.
    pub fn became_python(&mut self, start: Start) {
        self.info.command = command_line(self.identity.pid).unwrap_or_else(|| self.info.command.clone());
        self.info.python = start.python;
        self.info.interpreter = start.interpreter;
        self.info.notes = start.notes;
        self.layout = start.layout;
        self.memory = start.memory;
        self.small_objects = start.small_objects;
    }

    /// Something that the reader should know of it.
    pub fn note(&mut self, sentence: String) {
        self.info.notes.push(sentence);
    }

    /// Its probes were on this long after it began, microseconds.
    pub fn probed_after(&mut self, unprobed_us: u64) {
        // 0 stands for a process that never had any.
        self.info.unprobed_us = unprobed_us.max(1);
        self.untold = true;
    }

    /// Whether its probes are on since this was last asked.
    pub fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// It has ended, or its trace has.
    pub fn ended(&mut self, end: End, at_ms: u64) {
        if !matches!(end, End::Detached) {
            self.info.ended_at_ms = Some(self.last_thread_ended_ms.filter(|_| end != End::Executed).unwrap_or(at_ms));
            self.gone = true;
            // A trace may see very many processes, and each descriptor is one of a limited number.
            self.memory = None;
        }
        self.info.end = end;
        self.blame();
    }

    /// Its last thread has ended. Its memory was read by the kernel side, if that was still there; its CPU time is as
    /// long as nobody has waited for it.
    pub fn last_thread_ended(&mut self, at_ms: u64, event: &Lifecycle) {
        self.read_vitals();
        self.last_thread_ended_ms = Some(at_ms);
        if event.code == 1 {
            self.end_reading = EndReading::Ready;
        }
        if event.rss > 0 {
            self.info.rss_end = event.rss;
            self.info.rss_peak = self.info.rss_peak.max(event.rss);
        }
    }

    /// The kernel's OOM killer has chosen it.
    pub fn chosen_by_oom_killer(&mut self, blame: KilledBy) {
        self.oom = Some(blame);
        self.blame();
    }

    /// A deadly signal was sent to it.
    pub fn signalled(&mut self, event: &Lifecycle) {
        let name = event.name.split(|&byte| byte == 0).next().unwrap_or_default();
        let by = match event.sender {
            0 => KilledBy::Kernel,
            pid => KilledBy::Process { pid, name: String::from_utf8_lossy(name).into_owned() },
        };
        self.signals.insert(event.code.cast_signed(), by);
        self.blame();
    }

    /// Who killed it: records come in any order.
    fn blame(&mut self) {
        const SIGKILL: i32 = 9;
        let End::Killed(signal) = self.info.end else { return };
        let oom = self.oom.as_ref().filter(|_| signal == SIGKILL);
        self.info.killed_by = oom.or_else(|| self.signals.get(&signal)).cloned();
    }

    /// Its rows are made: what they were made from goes.
    pub fn settle(&mut self) {
        self.settled = true;
        self.residence = None;
        self.unshared = HashMap::new();
        self.mappings = MappingLedger::default();
        self.pools = HashMap::new();
    }

    /// Whether it ended so long ago that all its records have come.
    pub fn has_settled(&self, now_ms: u64) -> bool {
        !self.settled && self.info.ended_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) >= SETTLING_MS)
    }

    /// False once it has ended.
    pub fn is_running(&self) -> bool {
        !self.gone
    }

    /// Reads what it has alone and what it shares. Walks its page tables: a few ms for a large process.
    pub fn read_shares(&mut self) {
        self.read_peak();
        let Ok(text) = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.identity.pid)) else { return };
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.info.pss_end = kib("Pss:") * 1024;
        self.info.uss_end = (kib("Private_Clean:") + kib("Private_Dirty:")) * 1024;
        self.new_shares = Some((self.info.pss_end, self.info.uss_end));
    }

    /// PSS and USS, bytes, if they were read since this was last asked; else zeroes.
    pub fn take_shares(&mut self) -> (u64, u64) {
        self.new_shares.take().unwrap_or_default()
    }

    /// Bytes that it read from files and pipes since its trace started.
    pub fn read_from_files(&self) -> u64 {
        read_chars(self.identity.pid).saturating_sub(self.chars_at_start)
    }

    /// The kernel keeps the largest RSS that there ever was: it says what was between two readings, if that was more
    /// than before the trace.
    fn read_peak(&mut self) {
        let peak = peak(self.identity.pid);
        if peak > self.peak_at_start {
            self.info.rss_peak = self.info.rss_peak.max(peak);
        }
    }

    /// The last reading.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Its memory, as long as it is there.
    pub fn memory(&self) -> Option<&dyn Memory> {
        self.memory.as_ref().map(|memory| memory as &dyn Memory)
    }

    /// Its end was told, and its parent may not know of it yet: takes what /proc says a last time.
    pub fn read_last(&mut self) {
        if let Ok(now) = Vitals::read(self.identity) {
            self.vitals = Vitals { cpu_at_start_ms: self.vitals.cpu_at_start_ms, ..now };
        }
    }

    /// Reads what /proc says; when the process has gone the last reading stays.
    pub fn read_vitals(&mut self) {
        let Ok(now) = Vitals::read(self.identity) else {
            self.gone = true;
            return;
        };
        // A zombie has no memory any more; what it had before is what counts.
        if now.rss > 0 {
            self.info.rss_end = now.rss;
            self.info.rss_peak = self.info.rss_peak.max(now.rss);
            self.info.threads_end = now.threads;
            // Servers give their workers names of their own, some time after the fork.
            self.info.command =
                command_line(self.identity.pid).unwrap_or_else(|| std::mem::take(&mut self.info.command));
        }
        self.vitals = Vitals { cpu_at_start_ms: self.vitals.cpu_at_start_ms, ..now };
    }

    /// Looks at its pages for the first time, and keeps a resident ledger from now on; `owner` had what is there now.
    pub fn start_residence(&mut self, owner: Owner, books: Books, zero: Option<u64>, at_ms: u64) {
        let (pid, memory) = (self.identity.pid, self.memory.as_ref());
        let subject = Subject { pid, memory, mappings: &self.mappings };
        self.residence = Residence::first_look(&subject, owner, books, zero, at_ms).ok();
        self.info.residency_start = self.residence.as_ref().map(|residence| residence.start.clone());
    }

    /// Looks at its pages again. If the process has gone, what was known before stays.
    pub fn read_residence(
        &mut self,
        faults: &mut Faults,
        blocks: &[(BlockKey, Block)],
        pools: &[(BlockKey, Pool)],
        at_ms: u64,
    ) {
        let Some(residence) = &mut self.residence else { return };
        let pool_size = self.layout.map_or(0, |layout| pool::pool_size(layout.minor));
        let block = |(key, block): &(BlockKey, Block)| {
            let start = key.address();
            Allocation { start, end: start.saturating_add(block.size), stack: block.stack }
        };
        let pool = |(key, pool): &(BlockKey, Pool)| {
            let start = key.address();
            Allocation { start, end: start + pool_size, stack: pool.stack }
        };
        let mappings = &self.mappings;
        let allocations = || {
            let all = blocks.iter().map(block).chain(pools.iter().map(pool)).chain(own_mappings(mappings));
            sorted(all.collect())
        };
        let subject = Subject { pid: self.identity.pid, memory: self.memory.as_ref(), mappings };
        if residence.look(&subject, faults, allocations, at_ms).is_err() {
            return;
        }
        self.info.residency_end = Some(residence.end.clone());
        self.info.allocators = Some(residence.allocators.clone());
        self.book_unshared();
    }

    /// Says of each page that was un-shared what was written to.
    fn book_unshared(&mut self) {
        let Some(residence) = &mut self.residence else { return };
        let mut headers = Headers::default();
        for unshared in residence.take_unshared() {
            let cause = match (&self.memory, self.layout) {
                (Some(memory), Some(layout)) if !layout.free_threaded => {
                    match headers.part(memory, layout.minor, unshared.address) {
                        Part::ReferenceCount => UnsharedCause::ReferenceCount,
                        Part::GcHeader => UnsharedCause::GcHeader,
                        Part::Other => UnsharedCause::Data,
                    }
                }
                _ => UnsharedCause::Unknown,
            };
            self.unshared.entry((unshared.stack, cause)).or_default().add(unshared.pages);
        }
    }

    /// What is estimated of the pages that each stack touched and un-shared.
    pub fn estimates(&self) -> Vec<(EstimateOf, (u64, Estimate))> {
        let resident = self.residence.iter().flat_map(Residence::estimates).map(|row| (EstimateOf::Resident, row));
        let unshared = unshared::estimates(&self.unshared).into_iter().map(|row| (EstimateOf::Unshared, row));
        resident.chain(unshared).collect()
    }

    /// It was held at its exit for the last reading of its pools.
    pub fn pools_read_at_exit(&mut self) {
        self.pools_read_ms = None;
    }

    /// The row in the profile, as of now.
    pub fn row(&self, now_ms: u64) -> profile::Process {
        profile::Process { pools_read_before_end_ms: self.pools_read_before_end_ms(now_ms), ..self.info.clone() }
    }

    /// How long before its end its pools were last read, ms; `None` if they were at its end, or it runs.
    pub fn pools_read_before_end_ms(&self, now_ms: u64) -> Option<u64> {
        let at_ms = self.pools_read_ms.filter(|_| self.gone)?;
        Some(self.info.ended_at_ms.unwrap_or(now_ms).saturating_sub(at_ms))
    }
}

/// Whether any of its memory is swapped out.
pub(super) fn is_swapped(pid: Pid) -> bool {
    let status = procfs::process::Process::new(pid.0.cast_signed()).and_then(|process| process.status());
    status.is_ok_and(|status| status.vmswap.is_some_and(|kib| kib > 0))
}

/// The arguments, joined by blanks; the name in brackets for a process without any; `None` for one that has gone.
fn command_line(pid: Pid) -> Option<String> {
    match status::command_line(pid).ok()? {
        line if line.is_empty() => {
            let process = procfs::process::Process::new(pid.0.cast_signed()).ok()?;
            Some(format!("[{}]", process.stat().ok()?.comm))
        }
        line => Some(line),
    }
}

/// Bytes that a process has read by read(2) and the like; 0 if it has gone.
fn read_chars(pid: Pid) -> u64 {
    let process = procfs::process::Process::new(pid.0.cast_signed());
    process.and_then(|process| process.io()).map_or(0, |io| io.rchar)
}

/// The largest RSS that a process ever had, bytes; 0 if it has gone.
fn peak(pid: Pid) -> u64 {
    let status = status::read(pid).unwrap_or_default();
    let kib =
        status::field(&status, "VmHWM").and_then(|field| field.trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time of this process, ms.
pub fn own_cpu_ms() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0 };
    let total = usage.user_time() + usage.system_time();
    u64::try_from(total.num_milliseconds()).unwrap_or(0)
}
