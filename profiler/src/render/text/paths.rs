//! The top call paths: one entry for each line of code that a person can change.

use std::cmp::Reverse;

use super::sides::in_words;
use super::tree::state;
use crate::profile::tree::{Node, Tree};
use crate::profile::{End, Process, Profile};
use crate::render::chain::Chain;
use crate::render::group::{Group, by_line};
use crate::render::page::{Page, words};
use crate::render::path::Names;
use crate::render::select::{self, Row};
use crate::render::sides::Sides;
use crate::render::units::{bytes, count, counted, error, share};
use crate::render::{Ledger, Options, RenderError, Value, program};

/// Columns before the lines below an entry's first.
const INDENT: usize = 6;

/// Most entries of the resident ledger's list beside the others.
const MOST_RESIDENT: usize = 5;

/// Most processes whose call paths are listed one by one.
const MOST_PROCESSES: usize = 5;

/// Most killed processes whose call paths are listed, and most call paths of each.
const MOST_KILLED: usize = 2;
const MOST_OF_KILLED: usize = 5;

/// Signals by which services end their workers in order: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const IN_ORDER: [i32; 4] = [1, 2, 3, 15];

/// The top call paths of all processes together.
pub(super) fn write(
    page: &mut Page,
    profile: &Profile,
    names: &Names<'_>,
    options: &Options,
) -> Result<(), RenderError> {
    let lists = options.lists(profile);
    // Beside other lists the short one tells enough; alone it is what was asked for.
    let brief = Options { top: options.top.min(MOST_RESIDENT), ..*options };
    for (ledger, value) in &lists {
        let (ledger, value) = (*ledger, *value);
        let options = if ledger == Ledger::Resident && lists.len() > 1 { &brief } else { options };
        let rows = select::rows(profile, ledger, value)?;
        let list = List { profile, names, options, ledger, value, spread: profile.processes.len() > 1 };
        list.write(page, &format!("Top call paths by {}", list.in_words()), &rows);
    }
    Ok(())
}

/// The top call paths of the biggest processes, one by one.
pub(super) fn write_each(
    page: &mut Page,
    profile: &Profile,
    names: &Names<'_>,
    options: &Options,
) -> Result<(), RenderError> {
    let lists = options.lists(profile);
    let rows =
        lists.iter().map(|(ledger, value)| select::rows(profile, *ledger, *value)).collect::<Result<Vec<_>, _>>()?;
    let (processes, more) = select::biggest(&rows, MOST_PROCESSES);
    for index in &processes {
        let process = profile.processes.get(*index as usize).map_or("unknown".to_owned(), program::named);
        for ((ledger, value), rows) in lists.iter().zip(&rows) {
            let rows: Vec<Row> = rows.iter().filter(|row| row.process == *index).copied().collect();
            let list = List { profile, names, options, ledger: *ledger, value: *value, spread: false };
            list.write(page, &format!("Process {process}: top call paths by {}", list.in_words()), &rows);
        }
    }
    if more > 0 {
        page.sentence(&format!("and {}; --process PID shows one", counted(more as u64, "more process")));
    }
    Ok(())
}

/// What was live in processes that were killed while others went on: it is in no other list, and it is what one wants
/// to know of them.
pub(super) fn write_killed(page: &mut Page, profile: &Profile, names: &Names<'_>, options: &Options, tree: &Tree) {
    let lost = |(process, node): &(&Process, &Node)| {
        !node.counted && matches!(process.end, End::Killed(signal) if !IN_ORDER.contains(&signal))
    };
    let mut killed: Vec<(u64, u32)> = (0..)
        .zip(profile.processes.iter().zip(&tree.nodes))
        .filter(|(_, both)| lost(both))
        .map(|(index, (_, node))| (node.heap.surviving_space(), index))
        .filter(|(space, _)| *space > 0)
        .collect();
    killed.sort_by_key(|(space, index)| (Reverse(*space), *index));
    for (_, index) in killed.iter().take(MOST_KILLED) {
        let Some(process) = profile.processes.get(*index as usize) else { continue };
        let options = Options { top: options.top.min(MOST_OF_KILLED), ..*options };
        let list =
            List { profile, names, options: &options, ledger: Ledger::Heap, value: Value::InuseSpace, spread: false };
        let title = format!("Live in process {} when it was killed, by call path", program::named(process));
        list.write(page, &title, &select::rows_at_end(profile, *index));
        page.sentence(&format!("Process {}: {}.", process.pid, state(process, profile)));
    }
    if let Some(more) = killed.len().checked_sub(MOST_KILLED).filter(|more| *more > 0) {
        page.sentence(&format!("and {} killed; --process PID shows one", counted(more as u64, "more process")));
    }
}

/// A list of call paths.
struct List<'a> {
    profile: &'a Profile,
    names: &'a Names<'a>,
    options: &'a Options,
    ledger: Ledger,
    value: Value,
    /// Say in how many processes.
    spread: bool,
}

impl List<'_> {
    fn in_words(&self) -> String {
        format!("{} ({})", self.value.in_words(), scope(self.ledger, self.value))
    }

    fn write(&self, page: &mut Page, title: &str, rows: &[Row]) {
        let Self { profile, names, options, ledger, value, spread } = *self;
        let groups = by_line(profile, rows);
        page.heading(title);
        if groups.is_empty() {
            page.sentence(nothing(ledger, value));
            return;
        }
        if let Some(meaning) = meaning(value) {
            page.sentence(meaning);
        }
        let total = groups.iter().fold(0, |sum: u64, group| sum.saturating_add(group.value));
        for (index, group) in groups.iter().take(options.top).enumerate() {
            let entry = Entry { profile, names, ledger, value, total, spread };
            entry.write(page, index + 1, group);
        }
        write_rest(page, &groups, options.top, value, total);
    }
}

fn scope(ledger: Ledger, value: Value) -> &'static str {
    match (ledger, value) {
        (Ledger::Mapping, _) => "mapping ledger",
        (Ledger::Resident, _) => "resident ledger",
        (Ledger::Heap, Value::InuseSpace | Value::InuseObjects) => "heap ledger: blocks and small objects",
        (Ledger::Heap, _) => "heap ledger: blocks",
    }
}

/// What a number that few know stands for.
const fn meaning(value: Value) -> Option<&'static str> {
    match value {
        Value::TouchedSpace => Some("The code that used a page first: that is when a page takes memory."),
        Value::OwnedSpace => Some("The code that allocated what lies in the pages."),
        _ => None,
    }
}

fn nothing(ledger: Ledger, value: Value) -> &'static str {
    match (ledger, value) {
        (Ledger::Resident, _) => "no page that came during the trace was there at its end",
        (_, Value::InuseSpace | Value::InuseObjects) => "nothing that was allocated during the trace survived it",
        (_, Value::TemporarySpace) => "nothing was given back within 100 ms",
        (Ledger::Heap, _) => "nothing was allocated during the trace",
        (Ledger::Mapping, _) => "nothing was mapped during the trace",
    }
}

struct Entry<'a> {
    profile: &'a Profile,
    names: &'a Names<'a>,
    ledger: Ledger,
    value: Value,
    total: u64,
    spread: bool,
}

impl Entry<'_> {
    fn write(&self, page: &mut Page, rank: usize, group: &Group) {
        let number = number(self.value, group.value);
        let chain = Chain::new(self.profile, group.heaviest().0, group.frame);
        let code = self.names.code_or_none(chain.named);
        let share = match self.value {
            // Paths peak at different moments: there is no whole to have a share of.
            Value::PeakSpace => String::new(),
            _ => share(group.value, self.total),
        };
        page.row(&format!("{rank:>3}. {number:>11}  {share:>8}  {code}"));
        let counts = words(&self.counts(group));
        if !counts.is_empty() {
            page.pieces(&" ".repeat(INDENT), INDENT, &counts);
        }
        let pieces = chain.pieces(self.names);
        if !pieces.is_empty() {
            page.pieces(&" ".repeat(INDENT), INDENT + 2, &pieces);
        }
        if self.ledger == Ledger::Resident {
            let sides = Sides::of(self.profile, self.value, group);
            page.pieces(&" ".repeat(INDENT), INDENT + 2, &words(&in_words(&sides, self.profile, self.names, group)));
        }
    }

    /// `1,234 blocks, 456 small objects, in 2 processes; heaviest of 40 paths (12.0 MiB):`
    fn counts(&self, group: &Group) -> String {
        let noun = if self.ledger == Ledger::Mapping { "mapping" } else { "block" };
        let blocks = (group.blocks > 0).then(|| counted(group.blocks, noun));
        let small = (group.small > 0).then(|| counted(group.small, "small object"));
        let space = (!self.value.is_space()).then(|| bytes(group.space));
        let processes = self.spread.then(|| self.processes(group));
        let error = error(group.value, group.variance);
        let counts: Vec<String> = [error, blocks, small, space, processes].into_iter().flatten().collect();
        let counts = counts.join(", ");
        if group.paths.len() < 2 {
            return counts;
        }
        let heaviest = format!(
            "heaviest of {} ({}):",
            counted(group.paths.len() as u64, "path"),
            number(self.value, group.heaviest().1)
        );
        if counts.is_empty() { heaviest } else { format!("{counts}; {heaviest}") }
    }

    /// `in process 4711`, `in 3 processes, most in 4711`
    fn processes(&self, group: &Group) -> String {
        let pid = |(index, _): &(u32, u64)| self.profile.processes.get(*index as usize).map(|process| process.pid);
        let processes = group.by_process();
        let most = processes.first().and_then(pid).map_or("unknown".to_owned(), |pid| pid.to_string());
        match processes.len() {
            1 => format!("in process {most}"),
            several => format!("in {} processes, most in {most}", count(several as u64)),
        }
    }
}

fn number(value: Value, number: u64) -> String {
    if value.is_space() { bytes(number) } else { count(number) }
}

fn write_rest(page: &mut Page, groups: &[Group], top: usize, value: Value, total: u64) {
    let rest = groups.get(top..).unwrap_or_default();
    if rest.is_empty() {
        return;
    }
    let places = counted(rest.len() as u64, "more place");
    if value == Value::PeakSpace {
        page.sentence(&format!("and {places}"));
        return;
    }
    let sum = rest.iter().fold(0, |sum: u64, group| sum.saturating_add(group.value));
    page.sentence(&format!("and {places} with {} ({})", number(value, sum), share(sum, total)));
}
