//! The processes as rows: what each has now, and how fast it changes.

use crate::profile::tree::Tree;
use crate::profile::{Process, Profile, TimelinePoint};
use crate::render::{sanitize, units};

/// Rates are over at least this long, ms: shorter ones jump.
const RATE_OVER_MS: u64 = 1_000;
/// The slope of RSS is over this long, ms.
const SLOPE_OVER_MS: u64 = 30_000;

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As the tree has them: children below their parent.
    #[default]
    Tree,
    /// Resident set size.
    Rss,
    /// How fast RSS grows.
    Growth,
    /// Bytes that live in the heap.
    Live,
    /// Bytes allocated a second.
    Rate,
}

impl Sort {
    /// The next one, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::Tree => Self::Rss,
            Self::Rss => Self::Growth,
            Self::Growth => Self::Live,
            Self::Live => Self::Rate,
            Self::Rate => Self::Tree,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Rss => "RSS",
            Self::Growth => "growth",
            Self::Live => "live",
            Self::Rate => "alloc/s",
        }
    }
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// Its index in the profile: it never changes.
    pub index: u32,
    /// Its pid.
    pub pid: u32,
    /// How deep it is in the tree.
    pub depth: usize,
    /// What it is; already visible.
    pub command: String,
    /// False when it has ended.
    pub running: bool,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Change of RSS in the last half minute, bytes a minute.
    pub slope: i64,
    /// Bytes of the heap allocated since the start that live.
    pub live: u64,
    /// Bytes allocated a second.
    pub rate: u64,
    /// Bytes received a second; `None` where traffic is not watched.
    pub received: Option<u64>,
    /// RSS over the time of the trace.
    pub history: Vec<u64>,
}

/// The rows, sorted.
pub fn of(profile: &Profile, sort: Sort) -> Vec<Worker> {
    let tree = Tree::new(profile);
    let mut workers: Vec<Worker> =
        in_order(&tree).into_iter().filter_map(|index| worker(profile, &tree, index)).collect();
    let by = |number: fn(&Worker) -> i64, workers: &mut Vec<Worker>| {
        workers.sort_by_key(|worker| (!worker.running, std::cmp::Reverse(number(worker))));
        workers.iter_mut().for_each(|worker| worker.depth = 0);
    };
    match sort {
        Sort::Tree => workers.sort_by_key(|worker| !worker.running),
        Sort::Rss => by(|worker| signed(worker.rss), &mut workers),
        Sort::Growth => by(|worker| worker.slope, &mut workers),
        Sort::Live => by(|worker| signed(worker.live), &mut workers),
        Sort::Rate => by(|worker| signed(worker.rate), &mut workers),
    }
    workers
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Children below their parent.
fn in_order(tree: &Tree) -> Vec<u32> {
    let mut open: Vec<u32> = tree.roots.iter().rev().copied().collect();
    let mut order = Vec::with_capacity(tree.nodes.len());
    while let Some(process) = open.pop() {
        order.push(process);
        if let Some(node) = tree.nodes.get(process as usize) {
            open.extend(node.children.iter().rev());
        }
    }
    order
}

fn worker(profile: &Profile, tree: &Tree, index: u32) -> Option<Worker> {
    let process = profile.processes.get(index as usize)?;
    let node = tree.nodes.get(index as usize)?;
    let points: Vec<_> = profile.timeline.iter().filter(|point| point.process == index).collect();
    let last = points.last();
    let before = |ms: u64| {
        let now = last.map_or(0, |point| point.at_ms);
        points.iter().rev().find(|point| now.saturating_sub(point.at_ms) >= ms).or(points.first()).copied()
    };
    let last = last.copied();
    let rate = since(before(RATE_OVER_MS), last)
        .map_or(0, |(ms, earlier, last)| last.allocated.saturating_sub(earlier.allocated).saturating_mul(1000) / ms);
    let slope =
        since(before(SLOPE_OVER_MS), last).map_or(0, |(ms, earlier, _)| per_minute(earlier.rss, process.rss_end, ms));
    Some(Worker {
        index,
        pid: process.pid,
        depth: node.depth,
        command: command(profile, process),
        running: process.ended_at_ms.is_none(),
        rss: process.rss_end,
        slope,
        live: node.heap.surviving_space(),
        rate,
        received: received(profile, index),
        history: points.iter().map(|point| point.rss).collect(),
    })
}

/// The milliseconds between two readings, if there are some, and the readings.
fn since<'a>(
    earlier: Option<&'a TimelinePoint>,
    last: Option<&'a TimelinePoint>,
) -> Option<(u64, &'a TimelinePoint, &'a TimelinePoint)> {
    let (earlier, last) = (earlier?, last?);
    let ms = last.at_ms.checked_sub(earlier.at_ms).filter(|ms| *ms > 0)?;
    Some((ms, earlier, last))
}

fn per_minute(from: u64, to: u64, ms: u64) -> i64 {
    let size = to.abs_diff(from).saturating_mul(60_000) / ms;
    if to < from { -signed(size) } else { signed(size) }
}

/// A fork has its parent's command line until it takes a title of its own.
fn command(profile: &Profile, process: &Process) -> String {
    let parent = process.parent.and_then(|parent| profile.processes.get(parent as usize));
    match parent.filter(|parent| parent.command == process.command) {
        Some(parent) => format!("forked from {}", parent.pid),
        None => sanitize::name(&process.command, 200),
    }
}

fn received(profile: &Profile, index: u32) -> Option<u64> {
    let readings: Vec<_> = profile.evidence.of_process(index).collect();
    let last = readings.last()?;
    let earlier = readings.iter().rev().find(|reading| last.at_ms.saturating_sub(reading.at_ms) >= RATE_OVER_MS)?;
    let ms = last.at_ms - earlier.at_ms;
    Some(last.received.saturating_sub(earlier.received).saturating_mul(1000) / ms)
}

/// `+2.1 MiB`, `-1.0 MiB`, `flat`.
pub fn signed_bytes(bytes: i64) -> String {
    const FLAT: u64 = 64 << 10;
    match bytes.unsigned_abs() {
        small if small < FLAT => "flat".to_owned(),
        size if bytes < 0 => format!("-{}", units::bytes(size)),
        size => format!("+{}", units::bytes(size)),
    }
}
