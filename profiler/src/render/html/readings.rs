//! Memory and traffic over time, as the page draws them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::profile::Profile;
use crate::profile::evidence::Reading;

/// Most processes with a line of their own.
const MOST_LINES: usize = 40;

/// The readings of each process.
#[derive(Serialize)]
pub(super) struct Memory {
    /// All processes together: what a process had goes when it ends, what it allocated stays.
    sum: Line,
    lines: Vec<Line>,
}

/// One process over time.
#[derive(Default, Serialize)]
struct Line {
    process: u64,
    at_ms: Vec<u64>,
    rss: Vec<u64>,
    live: Vec<u64>,
    allocated: Vec<u64>,
}

/// What all processes received and sent, as sums since the start; moments where none was read are not there.
#[derive(Default, Serialize)]
pub(super) struct Traffic {
    at_ms: Vec<u64>,
    received: Vec<u64>,
    sent: Vec<u64>,
    accepted: Vec<u64>,
}

impl Memory {
    pub(super) fn new(profile: &Profile, process: impl Fn(u32) -> u64) -> Self {
        let mut lines: BTreeMap<u32, Line> = BTreeMap::new();
        for point in &profile.timeline {
            let line = lines
                .entry(point.process)
                .or_insert_with(|| Line { process: process(point.process), ..Line::default() });
            line.at_ms.push(point.at_ms);
            line.rss.push(point.rss);
            line.live.push(point.live);
            line.allocated.push(point.allocated);
        }
        let sum = sum(profile);
        let mut lines: Vec<Line> = lines.into_values().collect();
        lines.sort_by_key(|line| (std::cmp::Reverse(line.rss.iter().copied().max()), line.process));
        lines.truncate(MOST_LINES);
        Self { sum, lines }
    }
}

fn sum(profile: &Profile) -> Line {
    let mut last: BTreeMap<u32, [u64; 3]> = BTreeMap::new();
    let mut sums = [0_u128; 3];
    let mut ends: Vec<(u64, u32)> = (0..)
        .zip(&profile.processes)
        .filter_map(|(index, process)| process.ended_at_ms.map(|at| (at, index)))
        .collect();
    ends.sort_unstable_by(|one, other| other.cmp(one));
    let mut line = Line::default();
    for together in profile.timeline.chunk_by(|one, next| one.at_ms == next.at_ms) {
        let at_ms = together[0].at_ms;
        for point in together {
            let now = [point.rss, point.live, point.allocated];
            let before = last.insert(point.process, now).unwrap_or_default();
            for (sum, (now, before)) in sums.iter_mut().zip(now.into_iter().zip(before)) {
                *sum = *sum + u128::from(now) - u128::from(before);
            }
        }
        while let Some((_, index)) = ends.pop_if(|(ended, _)| *ended <= at_ms) {
            if let Some([rss, live, _]) = last.get_mut(&index) {
                sums[0] -= u128::from(std::mem::take(rss));
                sums[1] -= u128::from(std::mem::take(live));
            }
        }
        let [rss, live, allocated] = sums.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX));
        line.at_ms.push(at_ms);
        line.rss.push(rss);
        line.live.push(live);
        line.allocated.push(allocated);
    }
    line
}

impl Traffic {
    /// `None` where no traffic was read.
    pub(super) fn new(profile: &Profile) -> Option<Self> {
        let readings = &profile.evidence.readings;
        if readings.iter().all(|reading| reading.received == 0 && reading.sent == 0 && reading.accepted == 0) {
            return None;
        }
        let mut last: BTreeMap<u32, &Reading> = BTreeMap::new();
        let mut traffic = Self::default();
        for together in readings.chunk_by(|one, next| one.at_ms == next.at_ms) {
            together.iter().for_each(|reading| _ = last.insert(reading.process, reading));
            let sum =
                |of: fn(&Reading) -> u64| last.values().fold(0, |sum: u64, reading| sum.saturating_add(of(reading)));
            traffic.at_ms.push(together[0].at_ms);
            traffic.received.push(sum(|reading| reading.received));
            traffic.sent.push(sum(|reading| reading.sent));
            traffic.accepted.push(sum(|reading| reading.accepted));
        }
        traffic.thin();
        Some(traffic)
    }

    /// A screen has no more columns.
    fn thin(&mut self) {
        while self.at_ms.len() > 1200 {
            for values in [&mut self.at_ms, &mut self.received, &mut self.sent, &mut self.accepted] {
                *values = values.iter().copied().step_by(2).collect();
            }
        }
    }
}
