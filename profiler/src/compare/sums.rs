//! Several runs and baselines over one tree of call paths, and the sums that a gate looks at.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Amount;
use super::diff::Lines;
use super::measure::Measure;
use super::merged::{CodeId, Grain, Merged, NodeId};
use super::places::Places;
use super::pytest;
use super::slope::{self, Slope};
use super::unseen::Unseen;
use crate::profile::{FrameKind, Process, Profile};

/// Whose sums they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// All processes together.
    Whole,
    /// A pytest test.
    Test(CodeId),
    /// A function of own code.
    Function(CodeId),
}

/// The sums over call paths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    allocated: Amount,
    peak: Amount,
    surviving: Amount,
    unseen: Unseen,
}

impl Sums {
    /// One of them; nothing for a measure that paths do not have.
    pub fn get(&self, measure: Measure) -> Amount {
        match measure {
            Measure::Allocated => self.allocated,
            Measure::Peak => self.peak,
            Measure::Surviving => self.surviving,
            Measure::RssPeak | Measure::Slope => Amount::default(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.allocated.add(other.allocated);
        self.peak.add(other.peak);
        self.surviving.add(other.surviving);
        self.unseen.allocated += other.unseen.allocated;
        self.unseen.kept += other.unseen.kept;
    }

    /// By how many bytes a number may be wrong because processes ran a moment without probes.
    pub fn unseen(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Allocated => self.unseen.allocated,
            Measure::Peak | Measure::Surviving => self.unseen.kept,
            Measure::RssPeak | Measure::Slope => 0.0,
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// By call path.
    pub paths: HashMap<NodeId, Sums>,
    /// By subject. The whole has every path.
    pub subjects: BTreeMap<Subject, Sums>,
    /// Bytes; see [`Measure::RssPeak`].
    pub rss_peak: u64,
    /// `None` if the run was too short.
    pub slope: Option<Slope>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The call paths of all.
    pub merged: Merged,
    /// For each node the function that names its path.
    pub named: Vec<Option<CodeId>>,
    /// For each node the test that it is in.
    pub tests: Vec<Option<CodeId>>,
    /// For each node whether Python imports a module there: reading folders and compiling is not a function's own doing.
    imports: Vec<bool>,
    /// What is judged.
    pub runs: Vec<Run>,
    /// What it is held against.
    pub baselines: Vec<Run>,
    /// Where in the functions.
    pub lines: Lines,
}

impl Runs {
    /// Sums up. `root` is the folder of the repository, as the profiles name it.
    pub fn new(runs: &[&Profile], baselines: &[&Profile], root: Option<&str>) -> Self {
        let all: Vec<&Profile> = runs.iter().chain(baselines).copied().collect();
        let native = all.iter().filter(|profile| profile.trace.native).count();
        let grain = Grain { by_line: false, without_native: native > 0 && native < all.len() };
        let places = Places::new(&all, root);
        let mut merged = Merged::new(grain);
        let placed: Vec<_> = all.iter().enumerate().map(|(at, profile)| merged.add(profile, &places, at)).collect();
        let (named, tests, imports) = (merged.named(), pytest::tests(&merged), merged.imports());
        let mut lines = Lines::default();
        let mut sums = Vec::new();
        for (at, (profile, placed)) in all.iter().zip(&placed).enumerate() {
            for row in &profile.blocks {
                lines.add(profile, placed, row.stack, row.alloc_space, at < runs.len());
            }
            sums.push(paths(profile, |stack| placed.node(stack)));
        }
        let mut all = Self { merged, named, tests, imports, runs: Vec::new(), baselines: Vec::new(), lines };
        let mut summed = sums.into_iter();
        all.runs = runs.iter().zip(summed.by_ref()).map(|(profile, paths)| all.run(profile, paths)).collect();
        all.baselines = baselines.iter().zip(summed).map(|(profile, paths)| all.run(profile, paths)).collect();
        all
    }

    fn run(&self, profile: &Profile, paths: HashMap<NodeId, Sums>) -> Run {
        let mut subjects: BTreeMap<Subject, Sums> = BTreeMap::new();
        for (node, sums) in &paths {
            for subject in self.subjects(*node) {
                subjects.entry(subject).or_default().add(sums);
            }
        }
        Run { paths, subjects, rss_peak: rss_peak(&profile.processes), slope: slope::of_profile(profile) }
    }

    /// Those that a path counts for.
    fn subjects(&self, node: NodeId) -> impl Iterator<Item = Subject> + '_ {
        let at = node as usize;
        let test = self.tests.get(at).copied().flatten().map(Subject::Test);
        let own = |code: &CodeId| self.merged.code_of(*code).kind == FrameKind::Own;
        let function = self.named.get(at).copied().flatten().filter(own).filter(|_| !self.imports[at]);
        std::iter::once(Subject::Whole).chain(test).chain(function.map(Subject::Function))
    }

    /// True if the path counts for the subject.
    pub fn is_of(&self, node: NodeId, subject: Subject) -> bool {
        self.subjects(node).any(|of| of == subject)
    }

    /// The subjects that any of the runs has.
    pub fn subjects_of(runs: &[Run]) -> BTreeSet<Subject> {
        runs.iter().flat_map(|run| run.subjects.keys().copied()).collect()
    }

    /// Takes the paths of these tests out of what the whole is: they are in the runs or in the baselines only.
    pub fn leave_out(&mut self, tests: &BTreeSet<CodeId>) {
        let of_tests = &self.tests;
        let out = |node: &NodeId| of_tests[*node as usize].is_some_and(|test| tests.contains(&test));
        for run in self.runs.iter_mut().chain(&mut self.baselines) {
            let mut whole = Sums::default();
            run.paths.iter().filter(|(node, _)| !out(node)).for_each(|(_, sums)| whole.add(sums));
            run.subjects.insert(Subject::Whole, whole);
        }
    }
}

/// Over the processes of a run; what survived in one that has ended counts as it was at its end.
fn paths(profile: &Profile, node: impl Fn(u32) -> NodeId) -> HashMap<NodeId, Sums> {
    let mut paths: HashMap<NodeId, Sums> = HashMap::new();
    for row in &profile.blocks {
        let sums = Sums {
            allocated: Amount::exact(row.alloc_space),
            peak: Amount::exact(row.peak_space),
            surviving: Amount::exact(row.inuse_space),
            unseen: Unseen::of_row(profile, row),
        };
        paths.entry(node(row.stack)).or_default().add(&sums);
    }
    for row in &profile.pools {
        let surviving = Amount { value: row.inuse_space, variance: row.inuse_variance };
        let sums = Sums { surviving, ..Sums::default() };
        paths.entry(node(row.stack)).or_default().add(&sums);
    }
    paths
}

/// The largest sum of the peaks of processes that ran at the same time.
fn rss_peak(processes: &[Process]) -> u64 {
    let mut changes: Vec<(u64, bool, u64)> = Vec::new();
    for process in processes {
        changes.push((process.seen_at_ms, false, process.rss_peak));
        if let Some(ended) = process.ended_at_ms {
            // What ends in a moment has gone before what begins in it.
            changes.push((ended.max(process.seen_at_ms.saturating_add(1)), true, process.rss_peak));
        }
    }
    changes.sort_by_key(|(at, ends, _)| (*at, !*ends));
    let (mut now, mut most) = (0_u64, 0_u64);
    for (_, ends, rss) in changes {
        now = if ends { now.saturating_sub(rss) } else { now.saturating_add(rss) };
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::{ProfileBuilder, Readings};
    use crate::profile::{BlockRow, PoolRow};

    #[test]
    fn forked_workers_add_up_and_imports_are_no_functions() {
        let mut builder = ProfileBuilder::new();
        let own = builder.frame(FrameKind::Own, "load", "/srv/app.py", 3, 1);
        let import = builder.frame(FrameKind::Stdlib, "_find_and_load", "<frozen importlib._bootstrap>", 7, 1);
        let (plain, imported) = (builder.stack(&[own]), builder.stack(&[own, import]));
        let block = |process, stack, alloc_space| BlockRow { process, stack, alloc_space, ..BlockRow::default() };
        builder.snapshot(Readings {
            processes: vec![Process::default(), Process::default()],
            blocks: vec![block(0, plain, 10), block(1, plain, 20), block(1, imported, 500)],
            pools: vec![PoolRow { stack: plain, inuse_space: 7, ..PoolRow::default() }],
            ..Readings::default()
        });
        let runs = Runs::new(&[builder.profile()], &[], None);
        let subjects = &runs.runs[0].subjects;
        assert_eq!(subjects[&Subject::Whole].get(Measure::Allocated).value, 530);
        assert_eq!(subjects[&Subject::Whole].get(Measure::Surviving).value, 7);
        let function = subjects.iter().find(|(subject, _)| matches!(subject, Subject::Function(_))).unwrap();
        assert_eq!(function.1.get(Measure::Allocated).value, 30);
    }

    #[test]
    fn a_forked_worker_may_be_wrong_by_what_it_did_without_probes() {
        let mut builder = ProfileBuilder::new();
        let own = builder.frame(FrameKind::Own, "export", "/srv/app.py", 3, 1);
        let stack = builder.stack(&[own]);
        let block = |process| BlockRow { process, stack, alloc_space: 1_000_000, largest: 4000, ..BlockRow::default() };
        let worker = Process { unprobed_us: 500, ended_at_ms: Some(50), ..Process::default() };
        let slow = Process { unprobed_us: 20_000, ended_at_ms: Some(80), parent: Some(0), ..Process::default() };
        let executed = Process { command: "python other.py".to_owned(), ..slow.clone() };
        builder.snapshot(Readings {
            processes: vec![Process::default(), worker, slow, executed],
            blocks: vec![block(0), block(1), block(2), block(3)],
            ..Readings::default()
        });
        let runs = Runs::new(&[builder.profile()], &[], None);
        let whole = runs.runs[0].subjects[&Subject::Whole];
        assert_eq!(whole.unseen(Measure::Allocated).round(), 10_000.0 + 250_000.0);
        assert_eq!(whole.unseen(Measure::Surviving), 2000.0 + 8000.0);
        assert_eq!(whole.unseen(Measure::RssPeak), 0.0);
    }

    #[test]
    fn only_processes_of_the_same_time_are_added() {
        let process =
            |seen_at_ms, ended_at_ms, rss_peak| Process { seen_at_ms, ended_at_ms, rss_peak, ..Process::default() };
        assert_eq!(rss_peak(&[process(0, None, 10), process(5, Some(9), 7), process(9, Some(12), 8)]), 18);
        assert_eq!(rss_peak(&[process(0, Some(0), 10), process(1, Some(3), 7)]), 10);
        assert_eq!(rss_peak(&[]), 0);
    }
}
