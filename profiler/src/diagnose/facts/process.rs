//! Each process over the time watched: what it is among the others, how its memory moved, what it was asked to do.

use super::series::{Series, Slope};
use crate::diagnose::thresholds::{
    IDLE_EVENTS_PER_S, LEAST_GROWTH, LEAST_GROWTH_PER_MILLE, LIKE_WORKERS, NOTHING, STRETCH_SHARE,
};
use crate::profile::evidence::Reading;
use crate::profile::tree::Tree;
use crate::profile::{Process, Profile};

/// What a process is among those that were watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// There is no other.
    #[default]
    Only,
    /// It made the workers.
    Parent,
    /// One of several like it, of one parent.
    Worker,
    /// Something else beside them.
    Other,
}

/// How its resident memory moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trend {
    /// It grows, beyond what noise and steps of allocators explain.
    Grows,
    /// It grew and has stopped.
    LevelsOff,
    /// It seems to grow, and by too little to be sure.
    Unclear,
    /// It does not grow.
    #[default]
    Flat,
    /// There are too few readings.
    Unknown,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Index into [`Profile::processes`].
    pub index: u32,
    /// See [`Role`].
    pub role: Role,
    /// Resident memory over time, bytes.
    pub rss: Series,
    /// Blocks of the C allocator that live, over time, bytes.
    pub live: Series,
    /// Its slope.
    pub slope: Option<Slope>,
    /// The slope of its second half, where that is most likely above nothing.
    pub late: Option<Slope>,
    /// See [`Trend`].
    pub trend: Trend,
    /// How much it grew, bytes.
    pub growth: f64,
    /// What it has alone, bytes, at the end; what was read last, or its RSS if that never was.
    pub own: u64,
    /// What it was asked to do.
    pub work: Work,
    /// It counts at the end: it runs, or was among the last that did.
    pub counts: bool,
    /// It came during the watch, and is not the first of all.
    pub is_new: bool,
}

/// What a process received, and how its memory went along.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Bytes received from sockets.
    pub received: u64,
    /// Receives that brought data, and connections accepted.
    pub events: u64,
    /// Bytes read from files and pipes.
    pub files_read: u64,
    /// Share of one CPU.
    pub cpu: f64,
    /// Seconds in which nothing came in, and in which something did.
    pub idle_s: f64,
    /// See `idle_s`.
    pub busy_s: f64,
    /// What the memory gained in a second of each, bytes.
    pub idle_rate: f64,
    /// See `idle_rate`.
    pub busy_rate: f64,
    /// Correlation of growth with events, interval by interval; `None` without variation.
    pub correlation: Option<f64>,
}

impl Work {
    /// Whether nothing was asked of it all the time.
    pub fn is_idle(&self) -> bool {
        self.busy_s <= (self.busy_s + self.idle_s) * STRETCH_SHARE
    }

    /// Whether there were stretches of both kinds to compare.
    pub fn varies(&self) -> bool {
        let all = self.busy_s + self.idle_s;
        self.idle_s >= all * STRETCH_SHARE && self.busy_s >= all * STRETCH_SHARE
    }
}

/// The facts of every process.
pub fn all(profile: &Profile, tree: &Tree) -> Vec<ProcessFacts> {
    let mut found: Vec<ProcessFacts> =
        (0..profile.processes.len()).map(|index| ProcessFacts::new(profile, tree, index)).collect();
    for index in 0..found.len() {
        found[index].role = role(profile, tree, &found, index);
    }
    found
}

impl ProcessFacts {
    fn new(profile: &Profile, tree: &Tree, index: usize) -> Self {
        let process = &profile.processes[index];
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let readings: Vec<&Reading> = profile.evidence.of_process(number).collect();
        let rss = rss_series(profile, number, &readings);
        let slope = rss.slope();
        let growth = rss.growth();
        let own = if process.uss_end > 0 { process.uss_end } else { process.rss_end };
        let live = live_series(&readings);
        Self {
            index: number,
            role: Role::Only,
            trend: trend(process, &rss, &live, slope, growth),
            slope,
            late: goes_on(&rss),
            growth,
            own,
            work: work(&readings, &live, growth),
            counts: tree.counts(number),
            is_new: process.seen_at_ms > 0,
            rss,
            live,
        }
    }

    /// How much it grows in a second, bytes, as far as it is sure.
    pub fn rate(&self) -> f64 {
        let seconds = self.rss.seconds();
        let even = if seconds > 0.0 { self.growth / seconds } else { 0.0 };
        self.slope.map_or(even, |slope| if slope.per_s > 0.0 { slope.per_s } else { even })
    }
}

fn seconds(at_ms: u64) -> f64 {
    at_ms as f64 / 1000.0
}

/// The readings are of whole seconds; the timeline, which every trace has, of half ones.
fn rss_series(profile: &Profile, process: u32, readings: &[&Reading]) -> Series {
    if !readings.is_empty() {
        return Series::new(readings.iter().map(|reading| (seconds(reading.at_ms), reading.rss as f64)));
    }
    let own = profile.timeline.iter().filter(|point| point.process == process);
    Series::new(own.map(|point| (seconds(point.at_ms), point.rss as f64)))
}

fn live_series(readings: &[&Reading]) -> Series {
    Series::new(readings.iter().map(|reading| (seconds(reading.at_ms), reading.live as f64)))
}

fn trend(process: &Process, rss: &Series, live: &Series, slope: Option<Slope>, growth: f64) -> Trend {
    let Some(slope) = slope else { return Trend::Unknown };
    let least = LEAST_GROWTH.max(process.rss_start / 1000 * LEAST_GROWTH_PER_MILLE) as f64;
    // Half of what came within the watch has gone again, or it always comes down to where it was: that is no growth.
    let swing = rss.most() - rss.least();
    if growth >= least && growth >= swing / 2.0 {
        if rss.floor_growth() < growth / 3.0 {
            return if rss.swings(growth / 2.0) > 0 { Trend::Flat } else { Trend::Unclear };
        }
        // Resident memory grows in steps; what is live, if it makes up the growth, evenly.
        let live_goes_on = live.growth() >= growth / 2.0 && !live.levels_off();
        return match rss.levels_off() && !live_goes_on {
            true if goes_on(rss).is_some() => Trend::Unclear,
            true => Trend::LevelsOff,
            false => Trend::Grows,
        };
    }
    if growth >= NOTHING as f64 && slope.low > 0.0 && !rss.levels_off() { Trend::Unclear } else { Trend::Flat }
}

/// The slope of the second half, if it is sure to be above nothing, and by more than noise is in a minute: beside a large
/// start the growth of a small leak looks as if it had stopped.
fn goes_on(rss: &Series) -> Option<Slope> {
    rss.from_share(0.5).slope().filter(|slope| slope.low > 0.0 && slope.per_s * 60.0 >= LEAST_GROWTH as f64)
}

fn work(readings: &[&Reading], live: &Series, growth: f64) -> Work {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else { return Work::default() };
    let all = seconds(last.at_ms.saturating_sub(first.at_ms)).max(0.001);
    let mut work = Work {
        received: last.received.saturating_sub(first.received),
        events: events(last).saturating_sub(events(first)),
        files_read: last.files_read.saturating_sub(first.files_read),
        cpu: last.cpu_ms.saturating_sub(first.cpu_ms) as f64 / 1000.0 / all,
        ..Work::default()
    };
    // What is live moves at once, and resident memory in steps: it is taken where it makes up the growth.
    let by_live = live.growth() >= growth / 2.0 && live.growth() > 0.0;
    let memory = |reading: &Reading| if by_live { reading.live as f64 } else { reading.rss as f64 };
    let (mut idle, mut busy) = (0.0, 0.0);
    let mut pairs = Vec::new();
    for pair in readings.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let time = seconds(to.at_ms.saturating_sub(from.at_ms)).max(0.001);
        let came = events(to).saturating_sub(events(from)) as f64;
        let gained = memory(to) - memory(from);
        if came / time < IDLE_EVENTS_PER_S {
            (work.idle_s, idle) = (work.idle_s + time, idle + gained);
        } else {
            (work.busy_s, busy) = (work.busy_s + time, busy + gained);
        }
        pairs.push((came / time, gained / time));
    }
    work.idle_rate = if work.idle_s > 0.0 { idle / work.idle_s } else { 0.0 };
    work.busy_rate = if work.busy_s > 0.0 { busy / work.busy_s } else { 0.0 };
    work.correlation = correlation(&pairs);
    work
}

fn events(reading: &Reading) -> u64 {
    reading.receives.saturating_add(reading.accepted)
}

/// Pearson's, of the ranks (Spearman's): a burst is one interval and not the whole result.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    const FEWEST: usize = 12;
    if pairs.len() < FEWEST {
        return None;
    }
    let (x, y) = (ranks(pairs.iter().map(|pair| pair.0)), ranks(pairs.iter().map(|pair| pair.1)));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        xy += (x - mean) * (y - mean);
        xx += (x - mean) * (x - mean);
        yy += (y - mean) * (y - mean);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Equal values share the mean of their ranks.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..].iter().take_while(|at| values[**at].total_cmp(&values[order[start]]).is_eq()).count();
        let rank = start as f64 + (same as f64 - 1.0) / 2.0;
        order[start..start + same].iter().for_each(|at| ranks[*at] = rank);
        start += same;
    }
    ranks
}

/// Workers are siblings of about the same size and the same program; who made them is their parent.
fn role(profile: &Profile, tree: &Tree, found: &[ProcessFacts], index: usize) -> Role {
    let counted = found.iter().filter(|process| process.counts).count();
    if counted <= 1 {
        return Role::Only;
    }
    let is_worker = |index: usize| has_sibling(profile, tree, found, index);
    if is_worker(index) {
        return Role::Worker;
    }
    let makes_workers = tree.nodes[index].children.iter().any(|child| is_worker(*child as usize));
    if makes_workers { Role::Parent } else { Role::Other }
}

/// Whether there is another process of the same parent and program that counts and is about as large.
fn has_sibling(profile: &Profile, tree: &Tree, found: &[ProcessFacts], index: usize) -> bool {
    let own = &profile.processes[index];
    let is_like = |other: &ProcessFacts| {
        let at = other.index as usize;
        let process = &profile.processes[at];
        let (small, large) = (own.rss_end.min(process.rss_end), own.rss_end.max(process.rss_end));
        at != index
            && other.counts
            && tree.nodes[at].parent == tree.nodes[index].parent
            && process.interpreter == own.interpreter
            && small as f64 >= large as f64 * LIKE_WORKERS / 2.0
    };
    found[index].counts && found.iter().any(is_like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_by_ranks() {
        let along: Vec<(f64, f64)> = (0..20).map(|n| (f64::from(n), f64::from(n * n))).collect();
        assert!((correlation(&along).unwrap() - 1.0).abs() < 1e-9);
        let steady: Vec<(f64, f64)> = (0..20).map(|n| (5.0, f64::from(n))).collect();
        assert_eq!(correlation(&steady), None);
        assert_eq!(correlation(&along[..5]), None);
    }
}
