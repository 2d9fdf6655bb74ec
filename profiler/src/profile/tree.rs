//! The traced processes as a tree, with the sums of each, and which of them count at the end.

use super::view::{HeapTotals, MappingTotals};
use super::{End, Process, Profile};

/// Where no process ran at the end, those count that ended this long before the last one or later, ms: the workers
/// of a service that was stopped end a little before its master does.
pub const LAST_MS: u64 = 2_000;
/// A process whose RSS grew by less is flat, bytes.
pub const FLAT_BYTES: u64 = 1 << 20;
/// So is one whose RSS grew by less than this share of what it was, in percent.
pub const FLAT_PERCENT: u64 = 5;

/// The tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// By index of the process.
    pub nodes: Vec<Node>,
    /// Processes whose parent is not traced.
    pub roots: Vec<u32>,
    /// True if any process still ran at the end.
    pub any_running: bool,
}

/// A process in the tree.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The process that made it.
    pub parent: Option<u32>,
    /// The processes that it made.
    pub children: Vec<u32>,
    /// How many processes are above it.
    pub depth: usize,
    /// What survived in it is among the surviving bytes of the report: see [`counted`].
    pub counted: bool,
    /// Sums over its blocks and small objects.
    pub heap: HeapTotals,
    /// Sums over its mappings.
    pub mapping: MappingTotals,
}

/// Which processes count at the end, by index: those that still run; where none does, those that ended last
/// (see [`LAST_MS`]). Memory that was live in any other went when it ended.
pub fn counted(profile: &Profile) -> Vec<bool> {
    let processes = || profile.processes.iter();
    if processes().any(runs) {
        return processes().map(runs).collect();
    }
    let ended = |process: &Process| process.ended_at_ms.unwrap_or(profile.trace.duration_ms);
    let last = processes().map(ended).max().unwrap_or(0);
    processes().map(|process| ended(process).saturating_add(LAST_MS) >= last).collect()
}

/// True if it ran when the trace ended.
pub fn runs(process: &Process) -> bool {
    process.end == End::Detached
}

/// How much its RSS grew, bytes; 0 if it shrank.
pub fn growth(process: &Process) -> u64 {
    process.rss_end.saturating_sub(process.rss_start)
}

/// Whether it grew by more than what is called flat.
pub fn grew(process: &Process) -> bool {
    let enough = process.rss_start / 100 * FLAT_PERCENT;
    growth(process) >= FLAT_BYTES.max(enough)
}

impl Tree {
    /// Sums up each process and links it to its parent.
    pub fn new(profile: &Profile) -> Self {
        let mut nodes: Vec<Node> = counted(profile).into_iter().map(Node::of).collect();
        for row in &profile.blocks {
            if let Some(node) = nodes.get_mut(row.process as usize) {
                node.heap.add_blocks(row);
            }
        }
        for row in &profile.pools {
            if let Some(node) = nodes.get_mut(row.process as usize) {
                node.heap.add_pools(row);
            }
        }
        for row in &profile.mappings {
            if let Some(node) = nodes.get_mut(row.process as usize) {
                node.mapping.add(row);
            }
        }
        let roots = link(profile, &mut nodes);
        Self { nodes, roots, any_running: profile.processes.iter().any(runs) }
    }

    /// True if what survived in the process is among the surviving bytes.
    pub fn counts(&self, process: u32) -> bool {
        self.nodes.get(process as usize).is_none_or(|node| node.counted)
    }

    /// How many processes count at the end.
    pub fn counted(&self) -> usize {
        self.nodes.iter().filter(|node| node.counted).count()
    }

    /// Bytes that survived in processes that count.
    pub fn surviving(&self) -> u64 {
        self.surviving_where(true)
    }

    /// Bytes that were live in the other processes when they ended.
    pub fn gone(&self) -> u64 {
        self.surviving_where(false)
    }

    fn surviving_where(&self, counted: bool) -> u64 {
        let nodes = self.nodes.iter().filter(|node| node.counted == counted);
        nodes.fold(0, |sum: u64, node| sum.saturating_add(node.heap.surviving_space()))
    }

    /// The processes that were there when the trace started, and the sum of their RSS then.
    pub fn rss_at_start(&self, profile: &Profile) -> (u64, u64) {
        let there = profile.processes.iter().filter(|process| process.seen_at_ms == 0);
        there.fold((0, 0), |(number, sum): (u64, u64), process| (number + 1, sum.saturating_add(process.rss_start)))
    }

    /// The processes that count at the end, and the sum of their RSS then.
    pub fn rss_at_end(&self, profile: &Profile) -> (u64, u64) {
        let there = self.nodes.iter().zip(&profile.processes).filter(|(node, _)| node.counted);
        there.fold((0, 0), |(number, sum): (u64, u64), (_, process)| (number + 1, sum.saturating_add(process.rss_end)))
    }

    /// Bytes by which the RSS of processes that count grew, where it grew.
    pub fn growth(&self, profile: &Profile) -> u64 {
        let counted = self.nodes.iter().zip(&profile.processes).filter(|(node, _)| node.counted);
        counted.fold(0, |sum: u64, (_, process)| sum.saturating_add(growth(process)))
    }
}

impl Node {
    fn of(counted: bool) -> Self {
        Self { counted, ..Self::default() }
    }
}

/// Links children to parents; a file may say anything, so a link that closes a circle is left out.
fn link(profile: &Profile, nodes: &mut [Node]) -> Vec<u32> {
    let mut placed = vec![false; nodes.len()];
    let mut roots = Vec::new();
    for start in 0..nodes.len() {
        let mut way: Vec<usize> = Vec::new();
        let mut on_way = Some(start);
        while let Some(at) = on_way.filter(|at| !placed[*at]) {
            placed[at] = true;
            way.push(at);
            on_way = profile.processes[at].parent.map(|parent| parent as usize).filter(|parent| *parent < nodes.len());
        }
        // What stopped the walk: the end, a process placed before, or one of this very walk.
        let mut parent = on_way.filter(|stop| !way.contains(stop));
        for at in way.into_iter().rev() {
            match parent {
                Some(parent) => {
                    nodes[at].parent = u32::try_from(parent).ok();
                    nodes[at].depth = nodes[parent].depth + 1;
                    nodes[parent].children.extend(u32::try_from(at));
                }
                None => roots.extend(u32::try_from(at)),
            }
            parent = Some(at);
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::BlockRow;

    fn process(parent: Option<u32>, end: End, ended_at_ms: Option<u64>) -> Process {
        Process { parent, end, ended_at_ms, ..Process::default() }
    }

    fn check_counted(processes: Vec<Process>, expected: &[bool]) {
        assert_eq!(counted(&Profile { processes, ..Profile::default() }), expected);
    }

    #[test]
    fn running_processes_count_and_without_any_the_last() {
        let gone = |at| process(None, End::Exited(0), Some(at));
        let runs = || process(None, End::Detached, None);
        check_counted(vec![runs(), gone(9_000), runs()], &[true, false, true]);
        check_counted(vec![gone(9_000)], &[true]);
        check_counted(vec![gone(1_000), gone(9_000), gone(7_500)], &[false, true, true]);
        check_counted(vec![], &[]);
    }

    #[test]
    fn children_are_linked_and_circles_are_cut() {
        let parents = [None, Some(0), Some(1), Some(4), Some(3), Some(5), Some(99)];
        let processes = parents.map(|parent| process(parent, End::Detached, None)).to_vec();
        let tree = Tree::new(&Profile { processes, ..Profile::default() });
        assert_eq!(tree.roots, [0, 4, 5, 6]);
        assert_eq!(tree.nodes[0].children, [1]);
        assert_eq!(tree.nodes[4].children, [3]);
        assert_eq!(tree.nodes.iter().map(|node| node.depth).collect::<Vec<_>>(), [0, 1, 2, 1, 0, 0, 0]);
    }

    #[test]
    fn a_long_line_of_children_needs_no_stack() {
        let most: u32 = 1 << 16;
        let processes = (0..most).map(|n| process((n + 1 < most).then_some(n + 1), End::Detached, None)).collect();
        let tree = Tree::new(&Profile { processes, ..Profile::default() });
        assert_eq!(tree.nodes[0].depth, most as usize - 1);
    }

    #[test]
    fn what_was_live_in_ended_processes_is_apart() {
        let processes = vec![process(None, End::Detached, None), process(Some(0), End::Killed(9), Some(5))];
        let row = |process, inuse_space| BlockRow { process, inuse_space, ..BlockRow::default() };
        let blocks = vec![row(0, 7), row(1, 100), row(9, 1)];
        let tree = Tree::new(&Profile { processes, blocks, ..Profile::default() });
        assert_eq!((tree.surviving(), tree.gone()), (7, 100));
    }

    #[test]
    fn flat_is_below_a_mebibyte_or_below_a_share() {
        let mib = 1 << 20;
        let grew = |rss_start, rss_end| grew(&Process { rss_start, rss_end, ..Process::default() });
        assert!(grew(10 * mib, 11 * mib));
        assert!(!grew(10 * mib, 11 * mib - 1));
        assert!(!grew(100 * mib, 104 * mib));
        assert!(grew(100 * mib, 106 * mib));
        assert!(!grew(100 * mib, 0));
    }
}
