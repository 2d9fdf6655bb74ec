//! `--focus` and `--ignore`: call paths with, or without, a frame that matches.

use regex::Regex;

use super::Filter;
use crate::profile::{Profile, StackId};
use crate::render::sanitize;

/// Longest pattern that a note repeats, in columns.
const PATTERN_COLUMNS: usize = 60;

/// Leaves the rows of the call paths that are asked for.
pub(super) fn choose(profile: &mut Profile, filter: &Filter) {
    let chosen = chosen(profile, filter);
    let keep = |stack: StackId| chosen.get(stack as usize).copied().unwrap_or(false);
    profile.blocks.retain(|row| keep(row.stack));
    profile.pools.retain(|row| keep(row.stack));
    profile.mappings.retain(|row| keep(row.stack));
    profile.unshared.retain(|row| keep(row.stack));
    profile.estimates.retain(|row| keep(row.stack));
    profile.path_timeline.paths.retain(|row| keep(row.stack));
    match filter.by_owner {
        true => profile.resident.retain(|row| row.allocated_by.is_some_and(keep)),
        false => profile.resident.retain(|row| keep(row.stack)),
    }
    let pattern = |regex: &Regex| sanitize::name(regex.as_str(), PATTERN_COLUMNS);
    let words = [("with", &filter.focus), ("without", &filter.ignore)];
    let words = words
        .map(|(word, regex)| regex.as_ref().map(|regex| format!("{word} a frame that matches {}", pattern(regex))));
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let note = "RSS and the processes are whole, what RSS is made of is left out";
    profile.left_out.push(format!("shows only call paths {words}; {note}"));
    // The table of what made RSS change adds up over all call paths.
    for process in &mut profile.processes {
        (process.residency_start, process.residency_end, process.allocators) = (None, None, None);
    }
}

/// By stack, whether it is asked for. A caller stands before what it calls, so one pass over the tree is enough.
fn chosen(profile: &Profile, filter: &Filter) -> Vec<bool> {
    let texts: Vec<String> = profile
        .frames
        .iter()
        .map(|frame| {
            let place = if frame.line > 0 { format!(":{}", frame.line) } else { String::new() };
            format!("{} {}{place}", profile.text(frame.function), profile.text(frame.file))
        })
        .collect();
    let frames = |regex: &Option<Regex>| -> Vec<bool> {
        let matches = |text: &String| regex.as_ref().is_some_and(|regex| regex.is_match(text.trim_end()));
        texts.iter().map(matches).collect()
    };
    let (focused, ignored) = (frames(&filter.focus), frames(&filter.ignore));
    let mut on_path: Vec<(bool, bool)> = Vec::with_capacity(profile.stacks.len());
    for (row, node) in profile.stacks.iter().enumerate() {
        // The root has no frame.
        let of = |frames: &[bool]| row > 0 && frames.get(node.frame as usize).copied().unwrap_or(false);
        let (focus, ignore) = on_path.get(node.parent as usize).copied().unwrap_or_default();
        on_path.push((focus || of(&focused), ignore || of(&ignored)));
    }
    on_path.into_iter().map(|(focus, ignore)| (focus || filter.focus.is_none()) && !ignore).collect()
}
