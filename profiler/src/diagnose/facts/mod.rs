//! What a profile says, before anybody judges it: the layer that all rules share. Pure.

pub mod copied;
pub mod growth;
pub mod objects;
pub mod paths;
pub mod process;
pub mod series;
pub mod whose;

use growth::Growth;
use objects::{GrowingContainer, ObjectFacts};
use paths::Paths;
use process::{ProcessFacts, Role, Trend};
use whose::Whose;

use super::thresholds::{FEWEST_READINGS, FLOOR_TO_ALL, MOST, PART};
use super::words::{list, percent, whole};
use crate::profile::tree::Tree;
use crate::profile::verdict::Culprit;
use crate::profile::{Process, Profile};
use crate::render::path::{NAME_COLUMNS, Names};
use crate::render::sanitize;

/// Widest command line in a sentence, columns.
const COMMAND_COLUMNS: usize = 40;

/// The facts of one profile.
pub struct Facts<'p> {
    /// What they are of.
    pub profile: &'p Profile,
    /// Short names of code.
    pub names: Names<'p>,
    /// The processes as a tree.
    pub tree: Tree,
    /// Each process.
    pub processes: Vec<ProcessFacts>,
    /// The growth of the whole.
    pub growth: Growth,
    /// Its trend.
    pub trend: Trend,
    /// What survives in the processes that grow; in all that count if none does.
    pub surviving: Paths,
    /// The code that allocates most of that.
    pub culprit: Option<Culprit>,
    /// The most that was live at once and was given back, in all that count.
    pub bursts: Paths,
    /// What the looks at the objects tell.
    pub objects: Vec<ObjectFacts>,
}

impl<'p> Facts<'p> {
    /// Works them out.
    pub fn of(profile: &'p Profile) -> Self {
        let names = Names::new(profile, NAME_COLUMNS);
        let tree = Tree::new(profile);
        let processes = process::all(profile, &tree);
        let grows = |index: u32| {
            processes.get(index as usize).is_some_and(|process| process.counts && process.trend == Trend::Grows)
        };
        let any = processes.iter().any(|process| grows(process.index));
        let surviving = Paths::surviving(profile, |index| if any { grows(index) } else { tree.counts(index) });
        let culprit = surviving.culprit(profile, &names);
        Self {
            growth: growth::of(profile, &processes),
            trend: growth::trend(&processes),
            objects: objects::all(profile),
            bursts: Paths::bursts(profile, |index| tree.counts(index)),
            culprit,
            surviving,
            processes,
            names,
            tree,
            profile,
        }
    }

    /// The processes that count at the end.
    pub fn counted(&self) -> impl Iterator<Item = &ProcessFacts> {
        self.processes.iter().filter(|process| process.counts)
    }

    /// Those that grow, the fastest first.
    pub fn growing(&self) -> Vec<&ProcessFacts> {
        let mut growing: Vec<_> = self.counted().filter(|process| process.trend == Trend::Grows).collect();
        growing.sort_by(|a, b| b.growth.total_cmp(&a.growth));
        growing
    }

    /// What survives in one process.
    pub fn paths_of(&self, process: u32) -> Paths {
        Paths::surviving(self.profile, |index| index == process)
    }

    /// The code that allocates most, if so many bytes are most of what is live: else it may fill something else.
    pub fn culprit_of(&self, part: u64) -> Culprit {
        let is_most = part as f64 >= self.live() as f64 * MOST;
        self.culprit.clone().filter(|_| is_most).unwrap_or_default()
    }

    /// The code that allocates what survives, in a line: of a mixture, where it is not known what fills what.
    pub fn surviving_at(&self) -> Option<String> {
        const MOST_LINES: usize = 3;
        let lines = self.surviving.lines(self.profile, MOST_LINES).into_iter();
        let told: Vec<String> = lines
            .filter_map(|(frame, space)| {
                let share = percent(space as f64 / self.surviving.total.max(1) as f64);
                Some(format!("{} ({share})", self.names.code(self.profile.frame(frame)?)))
            })
            .collect();
        (!told.is_empty()).then(|| format!("what survives is allocated at {}", list(&told)))
    }

    /// The container that keeps what is live and not explained, if it holds a fair part of so many bytes, or what it holds
    /// may have memory that is not seen.
    pub fn keeper<'f>(&self, objects: Option<&'f ObjectFacts>, left: u64) -> Option<&'f GrowingContainer> {
        let objects = objects?;
        let all = self.growing().len().max(1) as u64;
        let hides = objects.may_hide(self.surviving.objects);
        let holds = |row: &GrowingContainer| row.bytes.saturating_mul(all) as f64 >= left as f64 * PART;
        objects.keeper().filter(|row| hides || holds(row))
    }

    /// Whose a container is.
    pub fn whose(&self, row: &GrowingContainer) -> Whose {
        whose::of(self.profile, &self.names, &row.now.owner)
    }

    /// "pid 4242 (app.py) grows", "all 3 workers grow".
    pub fn who_grows(&self) -> String {
        let growing = self.growing();
        format!("{} {}", self.names_of(&growing), if growing.len() == 1 { "grows" } else { "grow" })
    }

    /// Bytes of growth that are live and stay: blocks and objects in use, and what is mapped outside of allocators, but for
    /// blocks that are there only at the moment at which the watch ended.
    pub fn live(&self) -> u64 {
        let (growth, known) = (self.growth, self.grown_live());
        // The lows of a growth that is not even are less than it; half of it and less is a burst.
        let known = if self.has_lows() && self.staying() < known / 2 { self.staying() } else { known };
        // Without a look at the pages: what survives, at most the growth.
        if growth.live == 0 && growth.other == 0 {
            return self.surviving.total.min(growth.total.max(0).unsigned_abs());
        }
        known
    }

    /// Bytes of growth that are live at the end, for however long.
    pub fn grown_live(&self) -> u64 {
        self.growth.live.max(0).saturating_add(self.growth.other.max(0)).unsigned_abs()
    }

    /// Whether the lows of what is live are known.
    fn has_lows(&self) -> bool {
        let growing = self.growing();
        !self.profile.trace.without_heap
            && !growing.is_empty()
            && growing.iter().all(|process| process.live.number() >= FEWEST_READINGS)
    }

    /// What survives: of blocks no more than their lows say, of small objects no more than the looks at them.
    fn staying(&self) -> u64 {
        let growing = self.growing();
        let grows = |process: u32| growing.iter().any(|other| other.index == process);
        let blocks = self.profile.blocks.iter().filter(|row| grows(row.process));
        let blocks = blocks.fold(0u64, |sum, row| sum.saturating_add(row.inuse_space));
        let pools = self.profile.pools.iter().filter(|row| grows(row.process));
        let pools = pools.fold(0u64, |sum, row| sum.saturating_add(row.inuse_space));
        let lows: f64 = growing.iter().map(|process| process.live.floor_growth().max(0.0)).sum();
        let seen = self.objects_of(&growing).and_then(|objects| objects.gained_in(self.seconds()));
        let seen = seen.map_or(pools, |gained| whole(gained * growing.len() as f64 * FLOOR_TO_ALL));
        let rest = self.surviving.total.saturating_sub(blocks).saturating_sub(pools);
        rest.saturating_add(pools.min(seen)).saturating_add(blocks.min(whole(lows * FLOOR_TO_ALL)))
    }

    /// The pids of the growing processes.
    pub fn pids_growing(&self) -> Vec<u32> {
        const MOST: usize = 64;
        self.growing().iter().take(MOST).map(|process| self.info(process).pid).collect()
    }

    /// The workers that count.
    pub fn workers(&self) -> Vec<&ProcessFacts> {
        self.counted().filter(|process| process.role == Role::Worker).collect()
    }

    /// How much the growing processes gain in a second, bytes.
    pub fn rate(&self) -> f64 {
        self.growing().iter().map(|process| process.rate()).sum()
    }

    /// How long it was watched, s.
    pub fn seconds(&self) -> f64 {
        self.profile.trace.duration_ms as f64 / 1000.0
    }

    /// The resident memory of the processes that count, at the end, bytes; shared pages count in each.
    pub fn rss(&self) -> u64 {
        self.tree.rss_at_end(self.profile).1
    }

    /// A process's row.
    pub fn info(&self, process: &ProcessFacts) -> &'p Process {
        &self.profile.processes[process.index as usize]
    }

    /// "pid 4242 (gunicorn: worker)".
    pub fn name(&self, process: &ProcessFacts) -> String {
        let info = self.info(process);
        format!("pid {} ({})", info.pid, sanitize::name(&short(&info.command), COMMAND_COLUMNS))
    }

    /// The processes in words: one by name, several by number.
    pub fn names_of(&self, processes: &[&ProcessFacts]) -> String {
        match processes {
            [] => "no process".to_owned(),
            [one] => self.name(one),
            many => {
                let workers = many.iter().all(|process| process.role == Role::Worker);
                let of = self.workers().len();
                match (workers, many.len() == of) {
                    (true, true) => format!("all {of} workers"),
                    (true, false) => format!("{} of {of} workers", many.len()),
                    _ => format!("{} processes", many.len()),
                }
            }
        }
    }

    /// What two looks at one of these processes tell, the one with the most growing containers' bytes.
    pub fn objects_of(&self, processes: &[&ProcessFacts]) -> Option<&ObjectFacts> {
        let known = self.objects.iter().filter(|facts| processes.iter().any(|one| one.index == facts.process));
        known.max_by_key(|facts| facts.containers.first().map_or(0, |container| container.bytes))
    }
}

/// A command line without the interpreter's path: what a person calls it.
fn short(command: &str) -> String {
    let mut words = command.split(' ');
    let first = words.next().unwrap_or_default();
    let program = first.rsplit('/').next().unwrap_or(first);
    let rest: Vec<&str> = words.collect();
    if program.starts_with("python") && !rest.is_empty() {
        let mut rest = rest;
        rest[0] = rest[0].rsplit('/').next().unwrap_or(rest[0]);
        return rest.join(" ");
    }
    std::iter::once(program).chain(rest).collect::<Vec<_>>().join(" ")
}
