//! What processes had in common with their parents when they were forked, and how much of it they have copied since.

use crate::profile::{Process, Profile, ResidentKind};
use crate::render::page::Page;
use crate::render::units::{bytes, counted, share};

/// From this share on next to nothing is left of what a fork shared, in percent.
const NEARLY_ALL: u64 = 75;

/// Bytes of its own that a process forked during the trace shared when it was first looked at; 0 for any other.
fn inherited(process: &Process) -> u64 {
    let Some(start) = process.residency_start.as_ref().filter(|_| process.parent.is_some() && process.seen_at_ms > 0)
    else {
        return 0;
    };
    let is_own = |kind| !matches!(kind, ResidentKind::File | ResidentKind::Shared | ResidentKind::HugeTlb);
    let lines = start.lines.iter().filter(|line| is_own(line.kind));
    lines.fold(0, |sum: u64, line| sum.saturating_add(line.shared))
}

/// One sentence; none where no process was forked during the trace.
pub(super) fn write(page: &mut Page, profile: &Profile) {
    let forked: Vec<(u32, u64)> =
        (0..).zip(profile.processes.iter().map(inherited)).filter(|(_, had)| *had > 0).collect();
    if forked.is_empty() {
        return;
    }
    let had = forked.iter().fold(0, |sum: u64, (_, had)| sum.saturating_add(*had));
    let of_forked = profile.unshared.iter().filter(|row| forked.iter().any(|(index, _)| *index == row.process));
    let copied = of_forked.fold(0, |sum: u64, row| sum.saturating_add(row.space)).min(had);
    let little = if copied >= had / 100 * NEARLY_ALL { ": loading it there saves next to nothing" } else { "" };
    page.sentence(&format!(
        "{} forked during the trace started with {} shared with the parent; {} of what was loaded before the fork ({}) has \
         been copied since{little}.",
        counted(forked.len() as u64, "process"),
        bytes(had),
        bytes(copied),
        share(copied, had),
    ));
}
