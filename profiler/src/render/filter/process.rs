//! A profile of some processes out of many.

use crate::profile::evidence::Evidence;
use crate::profile::path_timeline::PathTimeline;
use crate::profile::{Process, Profile};
use crate::render::RenderError;

/// Most pids that the error message lists.
const MOST_LISTED: usize = 12;

/// The profile with the rows of the processes of this pid only: there is more than one where the process executed
/// another program, or where the pid was used again.
pub(in crate::render) fn only(profile: &Profile, pid: u32) -> Result<Profile, RenderError> {
    let kept: Vec<usize> = (0..profile.processes.len()).filter(|index| profile.processes[*index].pid == pid).collect();
    if kept.is_empty() {
        return Err(RenderError::NoSuchProcess { pid, known: listed(&profile.processes) });
    }
    Ok(keep(profile, &kept))
}

/// The profile with the rows of these processes only; `kept` in ascending order.
pub(super) fn keep(profile: &Profile, kept: &[usize]) -> Profile {
    let index = |old: u32| kept.binary_search(&(old as usize)).ok().and_then(|new| u32::try_from(new).ok());
    let process = |old: usize| {
        let mut process = profile.processes[old].clone();
        process.parent = process.parent.and_then(index);
        process
    };
    let moved = |process: &mut u32| {
        *process = index(*process)?;
        Some(())
    };
    Profile {
        trace: profile.trace.clone(),
        processes: kept.iter().map(|old| process(*old)).collect(),
        strings: profile.strings.clone(),
        frames: profile.frames.clone(),
        stacks: profile.stacks.clone(),
        blocks: rows(&profile.blocks, |row| moved(&mut row.process)),
        pools: rows(&profile.pools, |row| moved(&mut row.process)),
        mappings: rows(&profile.mappings, |row| moved(&mut row.process)),
        resident: rows(&profile.resident, |row| moved(&mut row.process)),
        unshared: rows(&profile.unshared, |row| moved(&mut row.process)),
        estimates: rows(&profile.estimates, |row| moved(&mut row.process)),
        timeline: rows(&profile.timeline, |row| moved(&mut row.process)),
        path_timeline: PathTimeline {
            at_ms: profile.path_timeline.at_ms.clone(),
            paths: rows(&profile.path_timeline.paths, |row| moved(&mut row.process)),
        },
        evidence: Evidence {
            readings: rows(&profile.evidence.readings, |row| moved(&mut row.process)),
            looks: rows(&profile.evidence.looks, |row| moved(&mut row.process)),
            sockets_counted: profile.evidence.sockets_counted,
            extensions: rows(&profile.evidence.extensions, |row| moved(&mut row.process)),
            notes: profile.evidence.notes.clone(),
        },
        // It is of all processes together.
        diagnosis: None,
        quality: profile.quality.clone(),
        left_out: profile.left_out.clone(),
    }
}

/// The rows that `renumbered` can give their new process.
fn rows<T: Clone>(rows: &[T], renumbered: impl Fn(&mut T) -> Option<()>) -> Vec<T> {
    let row = |row: &T| {
        let mut row = row.clone();
        renumbered(&mut row).map(|()| row)
    };
    rows.iter().filter_map(row).collect()
}

fn listed(processes: &[Process]) -> String {
    let mut listed: Vec<String> = processes.iter().take(MOST_LISTED).map(|process| process.pid.to_string()).collect();
    if processes.len() > MOST_LISTED {
        listed.push(format!("and {} more", processes.len() - MOST_LISTED));
    }
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}
