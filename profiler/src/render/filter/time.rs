//! `--since` and `--until`: the profile of a window of the trace. What has no times is left out, and said.

use super::process;
use crate::profile::evidence::Evidence;
use crate::profile::path_timeline::{PathSeries, PathTimeline};
use crate::profile::{BlockRow, End, Process, Profile};
use crate::render::{RenderError, units};

/// The profile of the time from `since_ms` to `until_ms`; its own times count from its own start.
pub(super) fn cut(profile: Profile, since_ms: Option<u64>, until_ms: Option<u64>) -> Result<Profile, RenderError> {
    let window = Window::new(&profile, since_ms, until_ms)?;
    let there: Vec<usize> =
        (0..profile.processes.len()).filter(|index| window.touches(&profile.processes[*index])).collect();
    let mut profile = process::keep(&profile, &there);
    profile.timeline.retain_mut(|point| window.moves(&mut point.at_ms));
    let (blocks, shrunk) = window.blocks(&profile.path_timeline);
    profile.left_out.extend(window.notes(&profile, shrunk));
    profile.blocks = blocks;
    profile.path_timeline = window.series(&profile.path_timeline);
    profile.pools.clear();
    profile.mappings.clear();
    profile.resident.clear();
    profile.unshared.clear();
    profile.estimates.clear();
    let Evidence { readings, looks, .. } = &mut profile.evidence;
    readings.retain_mut(|reading| window.moves(&mut reading.at_ms));
    looks.retain_mut(|look| window.moves(&mut look.at_ms));
    for index in 0..profile.processes.len() {
        let rss = rss_of(&profile, index);
        window.cut_process(&mut profile.processes[index], rss);
    }
    profile.trace.started_unix_ms = profile.trace.started_unix_ms.saturating_add(window.since);
    profile.trace.duration_ms = window.until - window.since;
    Ok(profile)
}

/// From and to, milliseconds from the start of the trace.
struct Window {
    since: u64,
    until: u64,
}

impl Window {
    fn new(profile: &Profile, since_ms: Option<u64>, until_ms: Option<u64>) -> Result<Self, RenderError> {
        let duration = profile.trace.duration_ms;
        let (since, until) = (since_ms.unwrap_or(0), until_ms.unwrap_or(duration).min(duration));
        if since >= until {
            let [since, until, duration] = [since, until_ms.unwrap_or(duration), duration].map(units::time_ms);
            return Err(RenderError::EmptyWindow { since, until, duration });
        }
        Ok(Self { since, until })
    }

    fn holds(&self, at_ms: u64) -> bool {
        (self.since..=self.until).contains(&at_ms)
    }

    /// Whether a time is in the window; makes it one that counts from the window's start.
    fn moves(&self, at_ms: &mut u64) -> bool {
        let held = self.holds(*at_ms);
        *at_ms = at_ms.saturating_sub(self.since);
        held
    }

    fn touches(&self, process: &Process) -> bool {
        process.seen_at_ms <= self.until && process.ended_at_ms.is_none_or(|at| at >= self.since)
    }

    fn cut_process(&self, process: &mut Process, rss: Option<[u64; 3]>) {
        if let Some(rss) = rss {
            [process.rss_start, process.rss_end, process.rss_peak] = rss;
        }
        if process.ended_at_ms.is_some_and(|at| at > self.until) {
            process.end = End::Detached;
            process.ended_at_ms = None;
            process.killed_by = None;
            process.pools_read_before_end_ms = None;
        }
        process.ended_at_ms = process.ended_at_ms.map(|at| at - self.since);
        let came_before = process.seen_at_ms < self.since;
        process.seen_at_ms = process.seen_at_ms.saturating_sub(self.since);
        if came_before {
            process.unprobed_us = 0;
        }
        let whole = |look: &crate::profile::Residency| self.holds(look.at_ms);
        // A change needs both looks; one of them alone would be read as the whole change.
        if !(process.residency_start.as_ref().is_some_and(whole) && process.residency_end.as_ref().is_some_and(whole)) {
            (process.residency_start, process.residency_end) = (None, None);
            (process.allocators, process.pss_end, process.uss_end) = (None, 0, 0);
        }
        for look in [&mut process.residency_start, &mut process.residency_end].into_iter().flatten() {
            look.at_ms = look.at_ms.saturating_sub(self.since);
        }
    }

    /// What each path allocated in the window and grew by; and by how much in all those shrank that did.
    fn blocks(&self, paths: &PathTimeline) -> (Vec<BlockRow>, u64) {
        let mut shrunk: u64 = 0;
        let rows = paths.paths.iter().map(|path| {
            let before = paths.moment(self.since).map_or((0, 0), |moment| path.at(moment));
            let after = paths.moment(self.until).map_or((0, 0), |moment| path.at(moment));
            shrunk = shrunk.saturating_add(before.0.saturating_sub(after.0));
            BlockRow {
                process: path.process,
                stack: path.stack,
                alloc_space: after.1.saturating_sub(before.1),
                inuse_space: after.0.saturating_sub(before.0),
                ..BlockRow::default()
            }
        });
        let rows: Vec<BlockRow> = rows.collect();
        (rows.into_iter().filter(|row| row.alloc_space > 0 || row.inuse_space > 0).collect(), shrunk)
    }

    fn series(&self, paths: &PathTimeline) -> PathTimeline {
        let inside: Vec<usize> = (0..paths.at_ms.len()).filter(|moment| self.holds(paths.at_ms[*moment])).collect();
        let values = |path: &PathSeries| {
            let (live, allocated) = inside.iter().map(|moment| path.at(*moment)).unzip();
            PathSeries { first: 0, live, allocated, ..*path }
        };
        PathTimeline {
            at_ms: inside.iter().map(|moment| paths.at_ms[*moment] - self.since).collect(),
            paths: paths.paths.iter().map(values).collect(),
        }
    }

    fn notes(&self, profile: &Profile, shrunk: u64) -> Vec<String> {
        let [since, until] = [self.since, self.until].map(units::time_ms);
        let mut notes = vec![format!(
            "shows the time from {since} to {until} of the trace; times count from there; the quality and the cost are \
             those of the whole trace"
        )];
        let paths = &profile.path_timeline;
        if paths.at_ms.is_empty() {
            notes.push("the profile has no call paths over time: it was recorded by an older pyalloc".to_owned());
            return notes;
        }
        let moment = |at: u64| paths.moment(at).map_or(0, |moment| paths.at_ms[moment]);
        let [from, to] = [moment(self.since), moment(self.until)].map(units::time_ms);
        notes.push(format!(
            "call paths are the {} biggest ones, by what they allocated and grew by between the readings at {from} and \
             {to}; those that shrank gave back {}",
            paths.paths.len(),
            units::bytes(shrunk)
        ));
        notes.push(
            "not recorded over time, and left out: small objects, address space, resident pages, numbers of objects, \
             what was given back at once"
                .to_owned(),
        );
        notes
    }
}

/// RSS of a process at the first and the last reading, and the most of all.
fn rss_of(profile: &Profile, index: usize) -> Option<[u64; 3]> {
    let of_it = || profile.timeline.iter().filter(|point| point.process as usize == index).map(|point| point.rss);
    Some([of_it().next()?, of_it().next_back()?, of_it().max()?])
}
