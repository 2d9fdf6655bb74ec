//! The numbers that the page can show, each with its flamegraph and its table of call paths.

use std::collections::HashMap;

use serde::Serialize;

use super::flame::{Flame, Tree};
use crate::profile::{Profile, StackId};
use crate::render::group::{Group, by_line};
use crate::render::path::{NAME_COLUMNS, Names};
use crate::render::{Ledger, Options, RenderError, Value, select};

/// Most lines of a number's table.
const MOST_GROUPS: usize = 100;

/// One number of one ledger.
#[derive(Serialize)]
pub(super) struct View {
    ledger: &'static str,
    value: &'static str,
    words: &'static str,
    is_space: bool,
    flame: Flame,
    /// How many lines of code there are in all.
    groups: usize,
    top: Vec<GroupOut>,
}

/// All call paths with the same innermost line of own code.
#[derive(Serialize)]
struct GroupOut {
    code: String,
    kind: Option<usize>,
    value: u64,
    objects: u64,
    space: u64,
    paths: usize,
    /// Process and its value, largest first.
    processes: Vec<(u64, u64)>,
    /// The heaviest path, innermost frame first.
    frames: Vec<usize>,
    /// Over time, at the moments of the page; empty if that is not recorded.
    over_time: Vec<u64>,
}

/// Most processes that are named for one line of code.
const MOST_PARTS: usize = 8;

/// Every number that is not nothing, or the one asked for.
pub(super) fn views<'p>(
    profile: &'p Profile,
    options: &Options,
    tree: &mut Tree<'p>,
    most_nodes: usize,
    process: impl Fn(u32) -> u64 + Copy,
) -> Result<Vec<View>, RenderError> {
    let names = Names::new(profile, NAME_COLUMNS);
    let series = Series::new(profile);
    let mut views = Vec::new();
    for (ledger, value) in wanted(profile, options) {
        let rows = select::rows(profile, ledger, value)?;
        if rows.is_empty() && options.value.is_none() {
            continue;
        }
        let groups = by_line(profile, &rows);
        let mut top = Vec::new();
        for group in groups.iter().take(MOST_GROUPS) {
            let over_time = if ledger == Ledger::Heap { series.of(group, value) } else { Vec::new() };
            top.push(group_out(profile, &names, tree, group, over_time, process));
        }
        let flame = tree.flame(&rows, most_nodes, process);
        let (words, is_space) = (value.in_words(), value.is_space());
        views.push(View {
            ledger: ledger.name(),
            value: value.name(),
            words,
            is_space,
            flame,
            groups: groups.len(),
            top,
        });
    }
    Ok(views)
}

fn wanted(profile: &Profile, options: &Options) -> Vec<(Ledger, Value)> {
    let all = |ledger: Ledger| ledger.values().iter().map(move |value| (ledger, *value));
    match (options.value, options.ledger) {
        (Some(value), _) => vec![(options.one_ledger(profile), value)],
        (None, Some(ledger)) => all(ledger).collect(),
        (None, None) if profile.trace.without_heap => {
            [Ledger::Resident, Ledger::Mapping].into_iter().flat_map(all).collect()
        }
        (None, None) => [Ledger::Heap, Ledger::Resident, Ledger::Mapping].into_iter().flat_map(all).collect(),
    }
}

fn group_out(
    profile: &Profile,
    names: &Names<'_>,
    tree: &mut Tree<'_>,
    group: &Group,
    over_time: Vec<u64>,
    process: impl Fn(u32) -> u64,
) -> GroupOut {
    let frame = group.frame.and_then(|id| profile.frame(id));
    let mut processes: Vec<(u64, u64)> = Vec::new();
    for (index, value) in group.by_process().into_iter().take(MOST_PARTS) {
        processes.push((process(index), value));
    }
    GroupOut {
        code: names.code_or_none(frame),
        kind: frame.map(|frame| frame.kind as usize),
        value: group.value,
        objects: group.blocks.saturating_add(group.small),
        space: group.space,
        paths: group.paths.len(),
        processes,
        frames: tree.path(group.heaviest().0),
        over_time,
    }
}

/// The call paths over time, by stack.
struct Series<'p> {
    profile: &'p Profile,
    by_stack: HashMap<StackId, Vec<usize>>,
}

impl<'p> Series<'p> {
    fn new(profile: &'p Profile) -> Self {
        let mut by_stack: HashMap<StackId, Vec<usize>> = HashMap::new();
        for (index, path) in profile.path_timeline.paths.iter().enumerate() {
            by_stack.entry(path.stack).or_default().push(index);
        }
        Self { profile, by_stack }
    }

    /// Live bytes at each moment, or bytes allocated up to it, of those paths of a group that are among the biggest; what
    /// was live in a process goes when it ends.
    fn of(&self, group: &Group, value: Value) -> Vec<u64> {
        let allocated = match value {
            Value::InuseSpace | Value::InuseObjects | Value::PeakSpace => false,
            Value::AllocSpace | Value::AllocObjects | Value::TemporarySpace => true,
            Value::TouchedSpace | Value::OwnedSpace => return Vec::new(),
        };
        let timeline = &self.profile.path_timeline;
        let found = group.paths.keys().filter_map(|stack| self.by_stack.get(stack)).flatten();
        let paths: Vec<_> = found.filter_map(|index| timeline.paths.get(*index)).collect();
        if paths.is_empty() {
            return Vec::new();
        }
        let at = |moment: usize| {
            let value = |path: &&crate::profile::path_timeline::PathSeries| match allocated {
                true => path.at(moment).1,
                false if moment >= path.first as usize + path.live.len() => 0,
                false => path.at(moment).0,
            };
            paths.iter().map(value).fold(0, u64::saturating_add)
        };
        (0..timeline.at_ms.len()).map(at).collect()
    }
}
