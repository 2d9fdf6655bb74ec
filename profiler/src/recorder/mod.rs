//! The recorder joins the stages: events and map readings in, a profile out. It owns every table of ids.

mod chance;
mod ended;
mod evidence;
mod fillers;
mod held;
mod limits;
mod looks;
mod pools;
mod process;
mod residence;
mod room;
mod rows;
mod running;
mod stacks;
mod unshared;
mod verdict;
mod watch_budget;

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use profiler_common::config::NO_SLOT;
use profiler_common::counter::Counter;
use profiler_common::event::{Lifecycle, Mapping, lifecycle, mapping};
use profiler_common::ledger::{BlockKey, StackSums};
use profiler_common::sampling::ONE;

pub use looks::Looks;
pub use process::{Start, Traced};

use crate::event::{self, Event};
use crate::kernel::{CodeState, Kernel, KernelError, monotonic_ns};
use crate::ledger::resident::Owner;
use crate::process::{Pid, maps, pagemap};
use crate::profile::builder::{ProfileBuilder, Readings};
use crate::profile::evidence::Evidence;
use crate::profile::path_timeline::PathFollower;
use crate::profile::quality::{self, Count, CountClass, Quality};
use crate::profile::timeline::Timeline;
use crate::profile::{End, Profile, TimelinePoint, Trace};
use crate::python::identity::is_same_code;
use crate::symbol::Source;
use ended::Ended;
use limits::Limits;
use residence::Faults;
use room::DeadCodes;
use stacks::{Names, Stacks};
use watch_budget::WatchBudget;

/// Everything that one trace has learned.
pub struct Recorder {
    started: Instant,
    trace: Trace,
    processes: Vec<Traced>,
    /// Index into `processes` by slot.
    slots: HashMap<u32, usize>,
    names: Names,
    stacks: Stacks,
    builder: ProfileBuilder,
    timeline: Timeline,
    paths: PathFollower,
    evidence: Evidence,
    quality: Quality,
    limits: Limits,
    undecodable: u64,
    homeless: u64,
    /// Slots whose sums mean nothing any more.
    discarded: HashSet<u32>,
    /// The physical page of zeroes, which is present and not resident.
    zero_frame: Option<u64>,
    /// Of these, those whose room has not been given to others yet.
    to_clear: HashSet<u32>,
    ended: Ended,
    dead_codes: DeadCodes,
    watch_budget: WatchBudget,
    /// Index of the process whose pools were looked at last.
    watched_last: usize,
}

/// What a running trace shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Resident set size of all traced processes, bytes.
    pub rss: u64,
    /// Blocks allocated so far.
    pub allocations: u64,
    /// Bytes allocated since the start and still live.
    pub live: u64,
    /// Events lost so far.
    pub dropped: u64,
    /// Processes that run.
    pub processes: u64,
}

impl Recorder {
    /// Starts with nothing.
    pub fn new(trace: Trace) -> Self {
        Self {
            started: Instant::now(),
            trace,
            processes: Vec::new(),
            slots: HashMap::new(),
            names: Names::default(),
            stacks: Stacks::default(),
            builder: ProfileBuilder::new(),
            timeline: Timeline::default(),
            paths: PathFollower::default(),
            evidence: Evidence::default(),
            quality: Quality::default(),
            limits: Limits::new(),
            undecodable: 0,
            homeless: 0,
            discarded: HashSet::new(),
            zero_frame: pagemap::zero_frame(),
            to_clear: HashSet::new(),
            ended: Ended::default(),
            dead_codes: DeadCodes::default(),
            watch_budget: WatchBudget::default(),
            watched_last: 0,
        }
    }

    /// Adds a process that was there when the trace started, or was launched by it.
    pub fn add_found(&mut self, slot: u32, start: Start) {
        let parent = start.identity.parent().ok().and_then(|parent| self.running(parent));
        let mut found = Traced::new(slot, start, 0);
        found.info.parent = parent.and_then(|index| u32::try_from(index).ok());
        found.group = self.limits.watch(found.identity().pid);
        self.slots.insert(slot, self.processes.len());
        self.processes.push(found);
    }

    /// Takes back the last that was added by [`Self::add_found`]: it has gone before its trace began.
    pub fn forget_found(&mut self, slot: u32) {
        let last = self.processes.len().checked_sub(1);
        if last.is_some() && self.slots.get(&slot).copied() == last {
            self.slots.remove(&slot);
            self.processes.pop();
        }
    }

    /// Adds a process that came since: it has executed another program.
    pub fn add_process(&mut self, slot: u32, start: Start) {
        let at_ms = self.elapsed_ms();
        self.slots.insert(slot, self.processes.len());
        let mut executed = Traced::new(slot, start, at_ms);
        executed.group = self.limits.watch(executed.identity().pid);
        self.processes.push(executed);
    }

    /// Where the running process with this pid is.
    fn running(&self, pid: Pid) -> Option<usize> {
        self.processes.iter().rposition(|process| process.is_running() && process.identity().pid == pid)
    }

    /// Adds a process that one of ours has forked: it is what its parent is.
    fn add_forked(&mut self, event: &Lifecycle) {
        let parent = self.slots.get(&event.code).copied();
        let at_ms = self.elapsed_ms();
        self.slots.insert(event.header.slot, self.processes.len());
        let parent_row = parent.and_then(|index| self.processes.get(index));
        let group = parent_row.and_then(|parent| parent.group.clone());
        let mut forked = Traced::forked(event, parent_row, parent, at_ms);
        forked.group = group;
        self.processes.push(forked);
    }

    /// A process that was forked during the trace executes a program: what it was before, a copy of its parent for a
    /// moment, is not worth a row, and the kernel has given its memory back.
    pub fn re_slot(&mut self, old: u32, new: u32) {
        if let Some(index) = self.slots.remove(&old) {
            self.discarded.insert(old);
            self.to_clear.insert(old);
            self.slots.insert(new, index);
            if let Some(process) = self.processes.get_mut(index) {
                process.executed(new);
            }
        }
    }

    /// A process, by its slot.
    pub fn process_mut(&mut self, slot: u32) -> Option<&mut Traced> {
        self.processes.get_mut(*self.slots.get(&slot)?)
    }

    fn process(&self, slot: u32) -> Option<&Traced> {
        self.processes.get(*self.slots.get(&slot)?)
    }

    /// Where a slot's rows go.
    fn index(&self, slot: u32) -> Option<u32> {
        self.slots.get(&slot).and_then(|&index| u32::try_from(index).ok())
    }

    /// The processes that came since and got their probes since this was last asked.
    pub fn newly_probed(&mut self) -> Vec<Pid> {
        let new = self.processes.iter_mut().filter(|process| process.is_running());
        new.filter_map(|process| process.take_untold().then(|| process.identity().pid)).collect()
    }

    /// What the trace costs and how it is linked; shown in the report.
    pub fn quality_mut(&mut self) -> &mut Quality {
        &mut self.quality
    }

    /// What a diagnosis looks at beside the ledgers.
    pub fn evidence_mut(&mut self) -> &mut Evidence {
        &mut self.evidence
    }

    /// How the trace of a process ended.
    pub fn set_end(&mut self, slot: u32, end: End) {
        let at_ms = self.elapsed_ms();
        if let Some(process) = self.process_mut(slot) {
            process.ended(end, at_ms);
        }
    }

    /// Takes a record from the ring; gives back what the caller must act on.
    pub fn take(&mut self, record: &[u8], kernel: &Kernel) -> Option<Lifecycle> {
        match event::decode(record) {
            Some(Event::Stack(stack)) => self.stacks.add(stack),
            Some(Event::Code(code)) => {
                let slot = code.header.slot;
                let index = *self.slots.get(&slot)?;
                let process = self.processes.get(index)?;
                let source = Source { layout: process.layout?, memory: process.memory() };
                self.names.codes.insert(&code, source, || match kernel.code_state(slot, code.code, code.serial) {
                    CodeState::Alive => true,
                    CodeState::Dead => false,
                    CodeState::Unwatched => {
                        source.memory.is_some_and(|memory| is_same_code(&code, source.layout, memory))
                    }
                });
            }
            Some(Event::Mapping(mapping)) => {
                let process = self.process_mut(mapping.header.slot)?;
                process.code_mapped |= maps_code(&mapping);
                process.mappings.apply(&mapping);
                if let Some(residence) = &mut process.residence {
                    residence.map(&mapping);
                }
            }
            Some(Event::Lifecycle(event)) => {
                // Now and not later: the next record may be the new process's own.
                if matches!(event.what, lifecycle::FORKED | lifecycle::VFORKED) {
                    self.add_forked(&event);
                }
                self.note_end(&event);
                // What it forks next names it by its new slot.
                if event.what == lifecycle::EXECUTED
                    && event.code != NO_SLOT
                    && let Some(&index) = self.slots.get(&event.header.slot)
                {
                    self.slots.insert(event.code, index);
                }
                return Some(event);
            }
            None => self.undecodable += 1,
        }
        None
    }

    /// Notes what a record tells of the end of a process. It may come after the process was found gone.
    fn note_end(&mut self, event: &Lifecycle) {
        let slot = event.header.slot;
        let since_ms = monotonic_ns().saturating_sub(event.header.time_ns) / 1_000_000;
        let at_ms = self.elapsed_ms().saturating_sub(since_ms);
        let Some(process) = self.slots.get(&slot).and_then(|&index| self.processes.get_mut(index)) else { return };
        match event.what {
            lifecycle::ENDED => process.last_thread_ended(at_ms, event),
            lifecycle::SIGNALLED => process.signalled(event),
            // At once: a service manager removes the group of a service that has ended.
            lifecycle::OOM_VICTIM => {
                process.chosen_by_oom_killer(self.limits.blame(event.header.pid, process.group.as_deref()))
            }
            _ => {}
        }
    }

    /// Tells the kernel side which code is mapped into the processes, so that it can walk native frames: at first, and
    /// where a library was opened since.
    pub fn refresh_native(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        for process in self.processes.iter_mut().filter(|process| process.is_running()) {
            if !std::mem::take(&mut process.code_mapped) {
                continue;
            }
            let slot = process.slot;
            // A process that has gone maps nothing any more.
            let Ok(regions) = maps::read(Pid(process.info.pid)) else { continue };
            self.names.unwinder.refresh(kernel, slot, Pid(process.info.pid), &regions)?;
        }
        Ok(())
    }

    /// Reads the processes and the kernel's sums once: a point of the timeline, what the user is shown, and the readings for
    /// a diagnosis if they are wanted.
    pub fn sample(&mut self, kernel: &Kernel, for_diagnosis: bool) -> Result<Progress, KernelError> {
        self.stacks.settle(&mut self.names, &mut self.builder);
        let sums = kernel.stacks()?;
        let counters = kernel.counters()?;
        let mut progress = Progress {
            allocations: sums.iter().map(|(_, sums)| sums.alloc_weight / ONE).sum(),
            dropped: dropped(&quality::counts(|counter| counters[counter as usize])),
            ..Progress::default()
        };
        let at_ms = self.elapsed_ms();
        let by_slot = live_and_allocated(&sums);
        for (index, process) in self.processes.iter_mut().enumerate().filter(|(_, process)| process.is_running()) {
            process.read_vitals();
            // One that has ended in this moment may have left its pid to another.
            if process.is_running()
                && let Some(path) = self.limits.watch(process.identity().pid)
            {
                process.group = Some(path);
            }
            let (live, allocated) = by_slot.get(&process.slot).copied().unwrap_or_default();
            let rss = process.info.rss_end;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.timeline.push(TimelinePoint { process: index, at_ms, rss, live, allocated });
            progress.rss += rss;
            progress.live += live;
            progress.processes += 1;
        }
        self.limits.read();
        if for_diagnosis {
            self.read_evidence(kernel, at_ms, &by_slot)?;
        }
        if self.paths.is_due() {
            let mut paths = std::mem::take(&mut self.paths);
            paths.push(at_ms, self.path_readings(&sums));
            self.paths = paths;
        }
        Ok(progress)
    }

    /// Looks at the pages of a process for the first time; `owner` had what is there now.
    pub fn start_residence(&mut self, slot: u32, owner: Owner) {
        let (at_ms, zero) = (self.elapsed_ms(), self.zero_frame);
        let parent = self.process(slot).and_then(|process| process.info.parent).filter(|_| owner == Owner::Inherited);
        let parent = parent.and_then(|index| self.processes.get(index as usize));
        let books = parent.and_then(|parent| parent.residence.as_ref()).map(|parent| parent.books.clone());
        if let Some(process) = self.process_mut(slot) {
            process.start_residence(owner, books.unwrap_or_default(), zero, at_ms);
        }
    }

    /// Reads what only the memory of the processes tells, of those that are still there: the headers of all pools opened
    /// during the trace, and which pages are resident; and takes what the kernel side has read in those that have ended.
    pub fn read_memory(&mut self, kernel: &Kernel) -> Result<(), KernelError> {
        let pools = by_slot(kernel.pools()?);
        let mut touches = by_slot(kernel.take_touches()?);
        let blocks = by_slot(kernel.blocks()?);
        let at_ms = self.elapsed_ms();
        for process in &mut self.processes {
            let own = pools.get(&process.slot).map_or(&[][..], Vec::as_slice);
            if process.is_running() {
                process.read_pools(own, at_ms);
                let blocks = blocks.get(&process.slot).map_or(&[][..], Vec::as_slice);
                let touches = touches.remove(&process.slot).unwrap_or_default();
                let sampling = kernel.fault_sampling(process.identity().pid, process.slot);
                let protected_left_out = sampling.map(|sampling| sampling.protected_left_out);
                process.read_residence(&mut Faults { touches, protected_left_out }, blocks, own, at_ms);
            }
            process.take_end_reading(own);
        }
        Ok(())
    }

    /// Finds the pools of the processes that have not been asked for them yet.
    pub fn find_pools(&mut self) {
        self.processes.iter_mut().filter(|process| process.is_running()).for_each(Traced::find_pools);
    }

    /// Looks who fills the pools of the processes: some of them in each turn, so that a turn stays short.
    pub fn watch_pools(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let more = self.watch_budget.has_room(kernel, self.quality.write_cost_ns, self.started.elapsed())?;
        let (began, cpu) = (Instant::now(), watch_budget::cpu_time());
        let mut openings: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
        for (key, opened) in kernel.openings()? {
            openings.entry(key.slot()).or_default().push((u32::try_from(key.address()).unwrap_or(u32::MAX), opened));
        }
        let count = self.processes.len();
        for _ in 0..count {
            self.watched_last = (self.watched_last + 1) % count;
            if let Some(process) = self.processes.get_mut(self.watched_last).filter(|process| process.is_running()) {
                let openings = openings.get(&process.slot).map_or(&[][..], Vec::as_slice);
                process.watch_pools(kernel, openings, more);
            }
            if began.elapsed() > watch_budget::LONGEST_TURN {
                break;
            }
        }
        self.watch_budget.took(watch_budget::cpu_time().saturating_sub(cpu), self.started.elapsed());
        Ok(())
    }

    /// Whether it is time to look again who fills the pools.
    pub fn is_time_to_watch(&self) -> bool {
        self.watch_budget.is_time()
    }

    /// Ends all watches.
    pub fn stop_watching(&mut self, kernel: &mut Kernel) {
        self.processes.iter_mut().for_each(|process| process.stop_watching(kernel));
    }

    /// Reads what each running process has alone, and what it shares.
    pub fn read_shares(&mut self) {
        self.processes.iter_mut().filter(|process| process.is_running()).for_each(Traced::read_shares);
    }

    /// The profile as it is now.
    pub fn snapshot(&mut self, kernel: &Kernel, complete: bool) -> Result<&Profile, KernelError> {
        self.homeless = 0;
        self.stacks.settle(&mut self.names, &mut self.builder);
        if complete {
            self.stacks.give_up_waiting(&mut self.names, &mut self.builder);
        }
        let sums = kernel.stacks()?;
        let counters = kernel.counters()?;
        let (mut blocks, opened) = self.block_rows(&sums);
        let (mut pools, mut mappings) = (self.pool_rows(&opened, |_| true), self.mapping_rows(|_| true));
        blocks.extend_from_slice(&self.ended.blocks);
        pools.extend_from_slice(&self.ended.pools);
        mappings.extend_from_slice(&self.ended.mappings);
        let (mut resident, mut unshared) = (self.resident_rows(|_| true), self.unshared_rows(|_| true));
        resident.extend_from_slice(&self.ended.resident);
        unshared.extend_from_slice(&self.ended.unshared);
        let mut estimates = self.estimate_rows(|_| true);
        estimates.extend_from_slice(&self.ended.estimates);
        estimates.sort_by_key(|row| (row.process, row.stack, row.of));
        resident.sort_by_key(|row| (row.process, row.stack, row.allocated_by, row.kind));
        unshared.sort_by_key(|row| (row.process, row.stack, row.cause));
        blocks.sort_by_key(|row| (row.process, row.stack));
        pools.sort_by_key(|row| (row.process, row.stack));
        mappings.sort_by_key(|row| (row.process, row.stack, row.origin));
        let readings = Readings {
            trace: Trace {
                duration_ms: self.elapsed_ms(),
                complete,
                without_heap: self.trace.without_heap || self.is_without_probes(),
                ..self.trace.clone()
            },
            processes: self.processes.iter().map(|process| process.row(self.elapsed_ms())).collect(),
            blocks,
            pools,
            mappings,
            resident,
            unshared,
            estimates,
            timeline: self.timeline.points().to_vec(),
            path_timeline: self.paths.finish(self.elapsed_ms(), self.path_readings(&sums)),
            evidence: self.evidence.clone(),
            quality: self.quality_now(kernel, &counters),
        };
        Ok(self.builder.snapshot(readings))
    }

    /// Whether no probe is in any process that has an interpreter.
    pub fn is_without_probes(&self) -> bool {
        let mut python = self.processes.iter().filter(|process| process.layout.is_some()).peekable();
        python.peek().is_some() && python.all(|process| process.info.without_probes.is_some())
    }

    /// The profile as of the last snapshot.
    pub fn profile(&self) -> &Profile {
        self.builder.profile()
    }

    /// Milliseconds since the trace started.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn quality_now(&self, kernel: &Kernel, counters: &[u64]) -> Quality {
        let value = |counter: Counter| counters[counter as usize];
        let mut quality = self.quality.clone();
        quality.counts = quality::counts(value);
        quality.counts.extend(self.own_counts());
        quality.own_cpu_ms = process::own_cpu_ms();
        quality.target_cpu_ms = self.processes.iter().map(|process| process.vitals().cpu_ms()).sum();
        quality.target_cost_ms =
            quality.cost_of(value(Counter::EntryHits), value(Counter::ReturnHits), value(Counter::BodyNanos));
        let faults = value(Counter::Faults) + value(Counter::FaultsLeftOut);
        quality.fault_cost_ns = value(Counter::FaultNanos).checked_div(faults).unwrap_or(0);
        quality.faults_cost_ms = value(Counter::FaultNanos) / 1_000_000;
        quality.target_cost_ms += quality.faults_cost_ms;
        quality.watch_cost_ms = watch_budget::cost_ns(counters, quality.write_cost_ns) / 1_000_000;
        quality.target_cost_ms += quality.watch_cost_ms;
        // While one of them runs, the readings of those that have ended are not what the report ranks.
        let all_ended = !self.processes.iter().any(Traced::is_running);
        let ages = self.processes.iter().filter_map(|process| process.pools_read_before_end_ms(self.elapsed_ms()));
        quality.pools_read_before_end_ms = ages.max().filter(|_| all_ended);
        quality.tells_oom_kills = Some(kernel.kill_watch().oom_killer);
        quality
    }

    fn own_counts(&self) -> [Count; 2] {
        let homeless = Count {
            name: "unknown_process".to_owned(),
            class: CountClass::Dropped,
            value: self.homeless,
            meaning: "call paths of processes whose start was not seen; their bytes are in no sum".to_owned(),
        };
        let undecodable = Count {
            name: "undecodable".to_owned(),
            class: CountClass::Dropped,
            value: self.undecodable,
            meaning: "records of the kernel side that could not be decoded; please report this".to_owned(),
        };
        [homeless, undecodable]
    }
}

fn by_slot<T>(all: Vec<(BlockKey, T)>) -> HashMap<u32, Vec<(BlockKey, T)>> {
    let mut by_slot: HashMap<u32, Vec<(BlockKey, T)>> = HashMap::new();
    for found in all {
        by_slot.entry(found.0.slot()).or_default().push(found);
    }
    by_slot
}

/// Whether a mapping brings code of a file: a library was opened.
fn maps_code(event: &Mapping) -> bool {
    const PROT_EXEC: u64 = 4;
    event.operation == mapping::MMAP && event.fd >= 0 && event.prot_flags & PROT_EXEC != 0
}

fn dropped(counts: &[Count]) -> u64 {
    counts.iter().filter(|count| count.class == CountClass::Dropped).map(|count| count.value).sum()
}

fn live_and_allocated(sums: &[(u64, StackSums)]) -> HashMap<u32, (u64, u64)> {
    let mut by_slot: HashMap<u32, (u64, u64)> = HashMap::new();
    for (_, sums) in sums {
        let (live, allocated) = by_slot.entry(sums.slot).or_default();
        *live += sums.alloc_space.saturating_sub(sums.free_space);
        *allocated += sums.alloc_space;
    }
    by_slot
}
