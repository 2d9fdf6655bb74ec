//! The tree of processes on the page: all, or of very many those that matter.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::profile::tree::{Tree, grew, growth};
use crate::profile::{Process, Profile};
use crate::render::{program, sanitize, text};

/// Most processes on the page.
const MOST: usize = 200;
/// What stands for the processes that are not on the page.
const OTHERS: u64 = MOST as u64;
/// Longest command line, in columns.
const COMMAND_COLUMNS: usize = 200;

/// A process on the page. Bytes, and milliseconds from the start of the trace.
#[derive(Serialize)]
pub(super) struct ProcessOut {
    pid: u32,
    container_pid: Option<u32>,
    name: String,
    command: String,
    python: String,
    state: String,
    depth: usize,
    counted: bool,
    grew: bool,
    seen_at_ms: u64,
    ended_at_ms: Option<u64>,
    rss_start: u64,
    rss_end: u64,
    rss_peak: u64,
    pss: u64,
    uss: u64,
    surviving: u64,
    allocated: u64,
    threads: u32,
    notes: Vec<String>,
}

/// The processes that have no line of their own.
#[derive(Serialize)]
pub(super) struct Rest {
    processes: usize,
    rss_growth: u64,
    surviving: u64,
    allocated: u64,
}

/// Which processes are on the page, in the order of the tree.
pub(super) struct Shown {
    order: Vec<u32>,
    numbers: HashMap<u32, u64>,
}

impl Shown {
    pub(super) fn new(profile: &Profile, tree: &Tree) -> Self {
        let chosen = chosen(profile, tree);
        let mut open: Vec<u32> = tree.roots.iter().rev().copied().collect();
        let mut order = Vec::new();
        while let Some(index) = open.pop() {
            if chosen.contains(&index) {
                order.push(index);
            }
            if let Some(node) = tree.nodes.get(index as usize) {
                open.extend(node.children.iter().rev());
            }
        }
        let numbers = (0..).zip(&order).map(|(number, index)| (*index, number)).collect();
        Self { order, numbers }
    }

    /// The number of a process on the page; one for all that are not on it.
    pub(super) fn number(&self, index: u32) -> u64 {
        self.numbers.get(&index).copied().unwrap_or(OTHERS)
    }

    pub(super) fn rows(&self, profile: &Profile, tree: &Tree) -> Vec<ProcessOut> {
        let mut rows = Vec::new();
        for index in &self.order {
            let (Some(process), Some(node)) = (profile.processes.get(*index as usize), tree.nodes.get(*index as usize))
            else {
                continue;
            };
            rows.push(ProcessOut {
                depth: node.depth,
                counted: node.counted,
                surviving: node.heap.surviving_space(),
                allocated: node.heap.alloc_space,
                ..process_out(process, profile)
            });
        }
        rows
    }

    pub(super) fn rest(&self, profile: &Profile, tree: &Tree) -> Option<Rest> {
        let mut rest = Rest { processes: 0, rss_growth: 0, surviving: 0, allocated: 0 };
        for (index, (process, node)) in (0..).zip(profile.processes.iter().zip(&tree.nodes)) {
            if !self.numbers.contains_key(&index) {
                rest.processes += 1;
                if node.counted {
                    rest.rss_growth = rest.rss_growth.saturating_add(growth(process));
                    rest.surviving = rest.surviving.saturating_add(node.heap.surviving_space());
                }
                rest.allocated = rest.allocated.saturating_add(node.heap.alloc_space);
            }
        }
        (rest.processes > 0).then_some(rest)
    }
}

fn process_out(process: &Process, profile: &Profile) -> ProcessOut {
    ProcessOut {
        pid: process.pid,
        container_pid: process.container_pid,
        name: program::program(&process.command),
        command: sanitize::name(&process.command, COMMAND_COLUMNS),
        python: sanitize::name(&process.python, 40),
        state: text::state(process, profile),
        depth: 0,
        counted: false,
        grew: grew(process),
        seen_at_ms: process.seen_at_ms,
        ended_at_ms: process.ended_at_ms,
        rss_start: process.rss_start,
        rss_end: process.rss_end,
        rss_peak: process.rss_peak,
        pss: process.pss_end,
        uss: process.uss_end,
        surviving: 0,
        allocated: 0,
        threads: process.threads_end,
        notes: process.notes.iter().take(8).map(|note| sanitize::name(note, 400)).collect(),
    }
}

/// What counts at the end first, then by growth of RSS, surviving and allocated bytes.
fn chosen(profile: &Profile, tree: &Tree) -> BTreeSet<u32> {
    let count = u32::try_from(tree.nodes.len()).unwrap_or(u32::MAX);
    let mut all: Vec<u32> = (0..count).collect();
    all.sort_by_key(|index| {
        let node = &tree.nodes[*index as usize];
        let grown = profile.processes.get(*index as usize).map_or(0, growth);
        (!node.counted, Reverse((grown, node.heap.surviving_space(), node.heap.alloc_space)), *index)
    });
    all.into_iter().take(MOST).collect()
}
