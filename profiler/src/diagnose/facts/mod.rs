//! What a profile says, before anybody judges it: the layer that all rules share. Pure.

pub mod growth;
pub mod objects;
pub mod paths;
pub mod process;
pub mod series;

use growth::Growth;
use objects::ObjectFacts;
use paths::Paths;
use process::{ProcessFacts, Role, Trend};

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

    /// Bytes of growth that are live: blocks and objects in use, and what is mapped outside of allocators.
    pub fn live(&self) -> u64 {
        let growth = self.growth;
        let known = growth.live.max(0).saturating_add(growth.other.max(0)).unsigned_abs();
        // Without a look at the pages: what survives, at most the growth.
        if growth.live == 0 && growth.other == 0 {
            return self.surviving.total.min(growth.total.max(0).unsigned_abs());
        }
        known
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
