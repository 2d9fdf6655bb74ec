//! Who fills the pools of a process: free slots are watched, and who wrote to one last is the path whose object is in it.
//!
//! A watched slot is one of those that pymalloc hands out next in its size class, chosen at random. When an object has
//! stayed in it for a moment, its path is a sample, and another slot is watched. A slot that is taken and given back all
//! the time ends its watch by itself after some hits: it says nothing, and the class's next slot may be hit more often.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use profiler_common::ledger::{BlockKey, Watch};

use super::chance::Chance;
use super::running::Running;
use super::verdict::{PATIENCE, Seen, Verdict, verdict};
use crate::kernel::watch::{PER_THREAD, Watchpoint};
use crate::kernel::{Kernel, monotonic_ns};
use crate::ledger::fillers::{Live, Sample, size};
use crate::process::bounded::{Bounded, Budget};
use crate::process::memory::{Memory, ProcessMemory};
use crate::process::{Pid, maps, status};
use crate::profile::Filling;
use crate::python::Interpreter;
use crate::python::arenas::{self, CLASSES, Place};
use crate::python::header::Headers;
use crate::python::pool::{self, HEADER_BYTES};
use crate::python::slots::{Slots, watched_word};

/// Hits after which a watch ends, at first and at most: 3 ms of the target's time.
const FIRST_HITS: u32 = 64;
const MOST_HITS: u32 = 512;

/// Most of the slots handed out next from which one is chosen.
const REACH: usize = 256;
const SHORTEST_REACH: usize = 4;

/// Slots that are tried in one turn before a class is left alone.
const TRIES: usize = 4;

/// Pools that are looked ahead at most: at more than 100 000 pools a second no slot would be watched in time.
const FARTHEST: usize = 32;

/// Most samples kept of a process; of more every second one goes.
const MOST_SAMPLES: usize = 2048;

/// Threads watched at most: three descriptors each.
const MOST_THREADS: usize = 256;

/// After this time it is tried again whether threads can be watched.
const REST: Duration = Duration::from_secs(10);

/// A process to look at.
pub struct Process<'a> {
    /// Its number in the kernel side.
    pub slot: u32,
    /// Its pid.
    pub pid: Pid,
    /// Its memory.
    pub memory: &'a ProcessMemory,
}

/// What is known of who fills the pools of one process.
pub struct Fillers {
    place: Place,
    /// The kernel side sees pools being opened; else what is live is told by the arenas, and openers are not known.
    sees_openings: bool,
    /// Live blocks by size class when the trace began.
    before: Vec<u64>,
    armed: Vec<Armed>,
    samples: Vec<Filled>,
    classes: Vec<Class>,
    chance: Chance,
    filling: Filling,
    resting: Option<Instant>,
    running: Running,
}

struct Armed {
    watch: Watchpoint,
    pool: u64,
    slot: u64,
    class: u32,
    /// Threads that the process had made when the watch was set.
    threads_made: u64,
    since: Instant,
}

/// A slot that an object was seen to stay in.
#[derive(Clone, Copy)]
struct Filled {
    pool: u64,
    slot: u64,
    sample: Sample,
}

#[derive(Clone, Copy)]
struct Class {
    /// The pool that blocks come from, and how many of its slots were used, when it was last looked at.
    head: (u64, u64),
    /// Bytes handed out lately.
    activity: u64,
    /// Bytes that were live at the last reading.
    live: u64,
    hits: u32,
    reach: usize,
    /// How many pools ahead slots are watched: 0 for the one that blocks come from.
    ahead: usize,
    /// Pools opened so far.
    openings: u64,
}

impl Fillers {
    /// Finds where the process keeps its pools; `None` if it has none that can be read, or not yet.
    pub fn find(pid: Pid, memory: &ProcessMemory, sees_openings: bool) -> Option<Self> {
        let python = Interpreter::discover(pid).ok().filter(|python| python.initialized)?;
        let regions = maps::read(pid).ok()?;
        let place = arenas::find(&python.allocators(), python.layout, memory, &regions).ok()?;
        Some(Self::at(place, sees_openings, memory))
    }

    /// As its parent's, for a process just forked.
    pub fn of_child(&self, memory: &ProcessMemory) -> Self {
        Self::at(self.place.clone(), self.sees_openings, memory)
    }

    fn at(place: Place, sees_openings: bool, memory: &ProcessMemory) -> Self {
        let before = if sees_openings { Vec::new() } else { live_by_class(&place, memory).unwrap_or_default() };
        let class = Class { head: (0, 0), activity: 0, live: 0, hits: FIRST_HITS, reach: REACH, ahead: 0, openings: 0 };
        Self {
            place,
            sees_openings,
            before,
            armed: Vec::new(),
            samples: Vec::new(),
            classes: vec![class; CLASSES],
            chance: Chance::new(),
            filling: Filling::default(),
            resting: None,
            running: Running::default(),
        }
    }

    /// Looks at the watched slots, and watches others if there is the time for more hits.
    ///
    /// `openings` are the pools opened so far, by size class.
    pub fn turn(&mut self, kernel: &mut Kernel, process: &Process<'_>, openings: &[(u32, u64)], more: bool) {
        let Process { slot, pid, memory } = *process;
        self.look_for_activity(memory, openings);
        let quiet = !self.classes.iter().any(|class| class.activity > 0);
        if self.armed.is_empty() && (quiet || !more) {
            return;
        }
        self.running.look(pid, monotonic_ns());
        let threads_made = kernel.threads_made(slot);
        let Ok(mut threads) = status::threads(pid) else { return };
        threads.truncate(MOST_THREADS);
        for mut armed in std::mem::take(&mut self.armed) {
            kernel.watch_threads(&mut armed.watch, &threads);
            let mut verdict = self.judge(&armed, &kernel.written(&armed.watch), memory);
            if verdict == Verdict::Wait {
                self.armed.push(armed);
                continue;
            }
            // Threads came and went in between, and any of them may have been the last to write.
            if matches!(verdict, Verdict::Filled(_)) && threads_made > armed.threads_made + armed.watch.joined() {
                verdict = Verdict::Unseen;
            }
            self.take(verdict, &armed, opener(kernel, slot, armed.pool));
            kernel.unwatch(armed.watch);
        }
        if more && self.resting.is_none_or(|since| since.elapsed() > REST) {
            self.resting = None;
            for _ in self.armed.len()..PER_THREAD {
                self.arm(kernel, process, &threads, threads_made);
            }
        }
    }

    /// Ends all watches.
    pub fn stop(&mut self, kernel: &mut Kernel) {
        self.armed.drain(..).for_each(|armed| kernel.unwatch(armed.watch));
    }

    /// Notes where blocks were handed out since the last turn.
    fn look_for_activity(&mut self, memory: &ProcessMemory, openings: &[(u32, u64)]) {
        self.classes.iter_mut().for_each(|class| class.activity -= class.activity.div_ceil(4));
        for &(class, opened) in openings {
            if let Some(class) = self.classes.get_mut(class as usize) {
                class.activity += opened.saturating_sub(class.openings) * self.place.pool_size();
                class.openings = opened;
            }
        }
        for head in self.place.heads(memory) {
            let mut header = [0; HEADER_BYTES];
            let content =
                memory.read(head, &mut header).ok().and_then(|()| pool::decode(&header, self.place.pool_size()));
            let Some(content) = content else { continue };
            let Some(class) = self.classes.get_mut((content.block_size / 16 - 1) as usize) else { continue };
            let (pool, used) = std::mem::replace(&mut class.head, (head, content.blocks));
            class.activity += match pool {
                0 => 0,
                pool if pool == head => content.blocks.saturating_sub(used) * content.block_size,
                _ if self.sees_openings => 0,
                _ => self.place.pool_size(),
            };
        }
    }

    fn judge(&self, armed: &Armed, written: &Watch, memory: &ProcessMemory) -> Verdict {
        let age = armed.since.elapsed();
        let Some(slots) = Slots::read(memory, armed.pool, self.place.pool_size()) else {
            // It has never been opened, or is changing.
            return if age > PATIENCE { Verdict::Idle } else { Verdict::Wait };
        };
        if slots.used > 0 && slots.class != armed.class {
            return Verdict::Other;
        }
        let is_held = slots.used > 0 && slots.holds(armed.slot);
        let head = || Headers::default().head(memory, armed.slot);
        let (limit, now_ns) = (armed.watch.hits(), monotonic_ns());
        let ran_since = |time_ns| self.running.since(time_ns);
        verdict(&Seen { written, limit, is_held, now_ns, age, ran_since: &ran_since }, head)
    }

    fn take(&mut self, verdict: Verdict, armed: &Armed, opener: Option<u64>) {
        let Some(class) = self.classes.get_mut(armed.class as usize) else { return };
        match verdict {
            Verdict::Wait => {}
            Verdict::Filled(filler) => {
                class.reach = (class.reach * 2).min(REACH);
                self.filling.seen += 1;
                let sample = Sample { class: armed.class, opener: opener.unwrap_or(0), filler };
                self.samples.push(Filled { pool: armed.pool, slot: armed.slot, sample });
                self.thin_out();
            }
            Verdict::Idle => {
                class.reach = (class.reach / 2).max(SHORTEST_REACH);
                class.ahead /= 2;
            }
            Verdict::Other => {}
            Verdict::Churned => {
                class.hits = (class.hits * 2).min(MOST_HITS);
                self.filling.churned += 1;
            }
            Verdict::Unseen => self.filling.unseen += 1,
        }
    }

    fn thin_out(&mut self) {
        if self.samples.len() > MOST_SAMPLES {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
    }

    /// Watches one more slot, if there is one that is free still when it is watched.
    fn arm(&mut self, kernel: &mut Kernel, process: &Process<'_>, threads: &[u32], threads_made: u64) {
        let Process { slot, memory, .. } = *process;
        let weight = |class: &Class| if class.activity == 0 { 0 } else { class.activity + class.live };
        let weights: Vec<u64> = self.classes.iter().map(weight).collect();
        let Some(index) = self.chance.weighted(&weights) else { return };
        let class = u32::try_from(index).unwrap_or(0);
        for _ in 0..TRIES {
            let Class { ahead, hits, .. } = self.classes[index];
            let next = if ahead == 0 { self.next_slot(kernel, slot, memory, class) } else { None };
            let Some((pool, free)) = next.or_else(|| self.slot_ahead(memory, class)) else { return };
            if self.armed.iter().any(|armed| armed.slot == free) {
                return;
            }
            let watch = match kernel.watch(slot, free + watched_word(size(class)), threads, hits) {
                Ok(watch) => watch,
                Err(error) => {
                    self.filling.refused = Some(error.to_string());
                    self.resting = Some(Instant::now());
                    return;
                }
            };
            let after = Slots::read(memory, pool, self.place.pool_size());
            if after.is_none_or(|slots| slots.used == 0 || slots.class == class && !slots.holds(free)) {
                self.armed.push(Armed { watch, pool, slot: free, class, threads_made, since: Instant::now() });
                return;
            }
            // It was filled while the watch was being set: the next one is further ahead.
            kernel.unwatch(watch);
            self.classes[index].ahead = (ahead * 2).clamp(1, FARTHEST);
        }
    }

    /// One of the slots from which the class's next blocks come, and its pool.
    fn next_slot(&mut self, kernel: &Kernel, slot: u32, memory: &ProcessMemory, class: u32) -> Option<(u64, u64)> {
        let Class { head, reach, .. } = *self.classes.get(class as usize)?;
        let slots = Slots::read(memory, head.0, self.place.pool_size()).filter(|slots| slots.class == class)?;
        if self.sees_openings && opener(kernel, slot, head.0).is_none() {
            return None;
        }
        let near = slots.free.len().min(reach);
        slots.free.get(self.chance.below(near)?).map(|free| (head.0, *free))
    }

    /// A slot of a pool that is opened soon, if it is opened for this class.
    fn slot_ahead(&mut self, memory: &ProcessMemory, class: u32) -> Option<(u64, u64)> {
        let ahead = self.classes.get(class as usize)?.ahead.max(1);
        let pools = self.place.upcoming(memory, 2 * ahead);
        let from = (ahead - 1).min(pools.len());
        let pool = *pools.get(from + self.chance.below(pools.len() - from)?)?;
        let capacity = (self.place.pool_size() - HEADER_BYTES as u64) / size(class);
        let index = self.chance.below(usize::try_from(capacity).ok()?)?;
        Some((pool, pool + HEADER_BYTES as u64 + index as u64 * size(class)))
    }

    /// The samples whose slots hold an object still; all of them if the memory has gone.
    pub fn samples(&self, memory: Option<&ProcessMemory>) -> Vec<Sample> {
        let Some(memory) = memory else { return self.samples.iter().map(|filled| filled.sample).collect() };
        let mut pools: BTreeMap<u64, Option<Slots>> = BTreeMap::new();
        let mut held = Vec::new();
        for filled in &self.samples {
            let read = || Slots::read(memory, filled.pool, self.place.pool_size());
            let slots = pools.entry(filled.pool).or_insert_with(read);
            // A pool that cannot be read at one moment is not one without objects.
            let stays = |slots: &Slots| slots.class == filled.sample.class && slots.holds(filled.slot);
            if slots.as_ref().is_none_or(stays) {
                held.push(filled.sample);
            }
        }
        held
    }

    /// What is live, in the pools that the kernel side saw opened or by how much the arenas hold more than at first.
    pub fn growth(&self, memory: &ProcessMemory) -> Option<Vec<Live>> {
        if self.sees_openings {
            return None;
        }
        let now = live_by_class(&self.place, memory)?;
        let grown = |(class, (now, before)): (u32, (u64, u64))| Live {
            class,
            opener: 0,
            pools: 0,
            objects: now.saturating_sub(before),
        };
        Some((0..).zip(now.into_iter().zip(self.before.iter().copied())).map(grown).collect())
    }

    /// What was live at the last reading: the classes that matter are watched.
    pub fn note_live(&mut self, live: &[Live]) {
        self.classes.iter_mut().for_each(|class| class.live = 0);
        for row in live {
            if let Some(class) = self.classes.get_mut(row.class as usize) {
                class.live += row.objects * size(row.class);
            }
        }
    }

    /// How the watching went.
    pub fn filling(&self) -> Filling {
        self.filling.clone()
    }
}

fn opener(kernel: &Kernel, slot: u32, pool: u64) -> Option<u64> {
    kernel.pool(BlockKey::new(slot, pool)).map(|pool| pool.stack)
}

fn live_by_class(place: &Place, memory: &ProcessMemory) -> Option<Vec<u64>> {
    let found = arenas::look(place, &Bounded::new(memory, Budget::default())).ok()?;
    Some(found.classes.iter().map(|class| class.live_blocks).collect())
}
