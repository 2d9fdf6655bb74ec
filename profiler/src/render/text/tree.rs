//! The traced processes as a tree: which one grows, what each holds, and what became of it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::profile::tree::{FLAT_BYTES, FLAT_PERCENT, Tree, grew, growth};
use crate::profile::{Process, Profile};
use crate::render::page::{Page, words};
use crate::render::units::{bytes, change, counted, rough_share, share, time_ms};
use crate::render::{fate, program, sanitize};

/// Most processes listed; the others are summed up.
const MOST_ROWS: usize = 20;
/// Of these, most that no longer ran, where there are more than the table holds.
const MOST_ENDED: usize = 5;
/// Most interpreters and notes listed.
const MOST_FACTS: usize = 4;
/// Deeper processes are not indented further.
const MOST_DEPTH: usize = 3;
/// Columns before a row's numbers, and before what it is.
const PID_COLUMNS: usize = 15;
const WHAT_COLUMN: usize = 52;

pub(super) fn write(page: &mut Page, profile: &Profile, tree: &Tree) {
    page.heading(&format!("Processes ({})", how_many(tree)));
    sentences(profile, tree).iter().for_each(|sentence| page.sentence(sentence));
    write_header(page);
    let table = Table { profile, tree, growth: tree.growth(profile), surviving: tree.surviving() };
    let chosen = chosen(profile, tree);
    for process in in_order(&table, &chosen) {
        table.write(page, process);
    }
    write_rest(page, profile, tree, &chosen);
    write_sums(page, profile, tree);
    write_rules(page, tree);
    if profile.processes.iter().any(|process| process.container_pid.is_some()) {
        page.sentence("Inside: in the pid namespace of its container.");
    }
    write_facts(page, &profile.processes);
}

/// Which of several processes grows.
pub(super) fn sentences(profile: &Profile, tree: &Tree) -> Vec<String> {
    [Some(verdict(profile, tree)), ended_grower(profile, tree)].into_iter().flatten().collect()
}

fn write_header(page: &mut Page) {
    let [start, end, change, share, pss, uss] = ["RSS start", "RSS end", "change", "share", "PSS", "USS"];
    page.row(&format!("  {:<PID_COLUMNS$}{start:>10}{end:>11}{change:>12}{share:>8}{pss:>11}{uss:>11}", "pid"));
    let [surviving, allocated] = ["surviving", "allocated"];
    page.row(&format!("{surviving:>27}{share:>11}{allocated:>12}  what it is; its state"));
}

/// "5 processes, 3 were running at the end"
fn how_many(tree: &Tree) -> String {
    let (all, counted) = (tree.nodes.len() as u64, tree.counted() as u64);
    let were = if counted == 1 { "was" } else { "were" };
    match (tree.any_running, all == counted) {
        (true, true) => format!("{}, all running at the end", counted_processes(all)),
        (true, false) => format!("{}, {counted} {were} running at the end", counted_processes(all)),
        (false, _) => format!("{}, none was running at the end", counted_processes(all)),
    }
}

fn counted_processes(number: u64) -> String {
    counted(number, "process")
}

/// Which process grows, by a rule that [`write_rules`] states.
fn verdict(profile: &Profile, tree: &Tree) -> String {
    let counting = || profile.processes.iter().zip(&tree.nodes).filter(|(_, node)| node.counted);
    let mut grown: Vec<_> = counting().filter(|(process, _)| grew(process)).collect();
    // The sort is stable: of equal ones the first stays first.
    grown.sort_by_key(|(process, _)| Reverse(growth(process)));
    let others = counting().count().saturating_sub(1) as u64;
    let Some((process, node)) = grown.first() else {
        return format!("No process grew by {} and by {FLAT_PERCENT} % of its RSS or more.", bytes(FLAT_BYTES));
    };
    let all = tree.growth(profile);
    let of_rss = rough_share(growth(process), all);
    if growth(process) < all.div_ceil(2) {
        return format!(
            "{} of {} grew; the most, {of_rss} of the growth of RSS, is process {}'s.",
            grown.len(),
            counted_processes(others + 1),
            process.pid
        );
    }
    let surviving = match node.heap.surviving_space() {
        0 => String::new(),
        bytes => format!(" and {} of the surviving bytes", rough_share(bytes, tree.surviving())),
    };
    let rest = match (others, grown.get(1)) {
        (0, _) => String::new(),
        (1, None) => "; the other one is flat".to_owned(),
        (others, None) => format!("; the {others} others are flat"),
        (others, Some((next, _))) => {
            let most = if grown.len() == 2 { "" } else { " at most" };
            format!("; {} of the {others} others grew too, by {}{most}", grown.len() - 1, bytes(growth(next)))
        }
    };
    format!("Process {} holds {of_rss} of the growth of RSS{surviving}{rest}.", process.pid)
}

/// A process that grew more than any that is left, until it ended: by now its memory is in no sum.
fn ended_grower(profile: &Profile, tree: &Tree) -> Option<String> {
    let of = |counted| profile.processes.iter().zip(&tree.nodes).filter(move |(_, node)| node.counted == counted);
    let left = of(true).map(|(process, _)| growth(process)).max().unwrap_or(0);
    // Of equal ones the first.
    let (process, _) = of(false).rev().max_by_key(|(process, _)| growth(process))?;
    let grown = growth(process);
    let state = state(process, profile);
    (grew(process) && grown > left)
        .then(|| format!("Process {} grew by {} until it ended: {state}.", process.pid, bytes(grown)))
}

/// The order of importance: what counts at the end first, then by growth of RSS, by surviving bytes, by allocated.
fn rank(profile: &Profile, tree: &Tree, process: u32) -> impl Ord + use<> {
    let node = &tree.nodes[process as usize];
    let grown = profile.processes.get(process as usize).map_or(0, growth);
    (Reverse((node.counted, grown, node.heap.surviving_space(), node.heap.alloc_space)), process)
}

/// The processes to list, with all that are above them.
fn chosen(profile: &Profile, tree: &Tree) -> BTreeSet<u32> {
    let mut ranked: Vec<u32> = (0..).take(tree.nodes.len()).collect();
    if ranked.len() <= MOST_ROWS {
        return ranked.into_iter().collect();
    }
    ranked.sort_by_cached_key(|process| rank(profile, tree, *process));
    let mut chosen = BTreeSet::new();
    let mut ended = 0;
    for process in ranked {
        let above = |at: &u32| tree.nodes[*at as usize].parent;
        let way = std::iter::successors(Some(process), above).take_while(|at| !chosen.contains(at));
        let way: Vec<u32> = way.take(MOST_ROWS + 1).collect();
        let is_ended = !tree.counts(process);
        if chosen.len() + way.len() > MOST_ROWS || way.is_empty() || (is_ended && ended == MOST_ENDED) {
            continue;
        }
        ended += usize::from(is_ended);
        chosen.extend(way);
    }
    chosen
}

/// The chosen ones as the tree has them, the most important of each parent first.
fn in_order(table: &Table<'_>, chosen: &BTreeSet<u32>) -> Vec<u32> {
    let last_first = |processes: &[u32]| {
        let mut processes: Vec<u32> = processes.iter().copied().filter(|process| chosen.contains(process)).collect();
        processes.sort_by_cached_key(|process| Reverse(rank(table.profile, table.tree, *process)));
        processes
    };
    let mut open = last_first(&table.tree.roots);
    let mut order = Vec::new();
    while let Some(process) = open.pop() {
        order.push(process);
        open.extend(last_first(&table.tree.nodes[process as usize].children));
    }
    order
}

struct Table<'a> {
    profile: &'a Profile,
    tree: &'a Tree,
    /// What the shares are shares of.
    growth: u64,
    surviving: u64,
}

impl Table<'_> {
    fn write(&self, page: &mut Page, index: u32) {
        let (Some(process), node) = (self.profile.processes.get(index as usize), &self.tree.nodes[index as usize])
        else {
            return;
        };
        let pid = format!("{}{}", "  ".repeat(node.depth.min(MOST_DEPTH)), process.pid);
        let [start, end] = [process.rss_start, process.rss_end].map(bytes);
        let change = change(process.rss_start, process.rss_end);
        let of_growth = self.share(node.counted, growth(process), self.growth);
        let [pss, uss] = [process.pss_end, process.uss_end].map(if_read);
        page.row(&format!("  {pid:<PID_COLUMNS$}{start:>10}{end:>11}{change:>12}{of_growth:>8}{pss:>11}{uss:>11}"));
        let [surviving, allocated] = [node.heap.surviving_space(), node.heap.alloc_space].map(bytes);
        let of_surviving = self.share(node.counted, node.heap.surviving_space(), self.surviving);
        let numbers = format!("{surviving:>27}{of_surviving:>11}{allocated:>12}  ");
        let inside = process.container_pid.map_or_else(String::new, |pid| format!("; pid {pid} inside"));
        let what = self.what(process, page.room(WHAT_COLUMN));
        let what = format!("{what}{inside}; {}", state(process, self.profile));
        page.pieces(&numbers, WHAT_COLUMN, &words(&what));
    }

    /// Shares are of what counts at the end.
    fn share(&self, counted: bool, part: u64, whole: u64) -> String {
        if counted { share(part, whole) } else { "-".to_owned() }
    }

    /// A fork has its parent's command line until it takes a title of its own.
    fn what(&self, process: &Process, columns: usize) -> String {
        let parent = process.parent.and_then(|parent| self.profile.processes.get(parent as usize));
        match parent.filter(|parent| parent.command == process.command && parent.pid != process.pid) {
            Some(parent) => format!("forked from {}", parent.pid),
            None => program::short(&process.command, columns.saturating_sub(1)),
        }
    }
}

/// "running", "exit code 0, lived 3.2 s", "killed by SIGSEGV at 12.0 s"
pub(in crate::render) fn state(process: &Process, profile: &Profile) -> String {
    let Some(end) = fate::in_words(process, profile.quality.tells_oom_kills.unwrap_or(false)) else {
        return match process.seen_at_ms {
            0 => "running".to_owned(),
            seen => format!("running, came at {}", time_ms(seen)),
        };
    };
    // Behind a sentence about who killed it a bare time would be taken for a part of that.
    let comma = if process.killed_by.is_some() { "," } else { "" };
    let ended_at = process.ended_at_ms.unwrap_or(profile.trace.duration_ms);
    match process.seen_at_ms {
        0 => format!("{end}{comma} at {}", time_ms(ended_at)),
        seen => format!("{end}, lived {}", time_ms(ended_at.saturating_sub(seen))),
    }
}

fn if_read(reading: u64) -> String {
    if reading == 0 { "-".to_owned() } else { bytes(reading) }
}

fn write_rest(page: &mut Page, profile: &Profile, tree: &Tree, chosen: &BTreeSet<u32>) {
    let mut live = Rest::default();
    let mut ended = Rest::default();
    for (index, (process, node)) in (0..).zip(profile.processes.iter().zip(&tree.nodes)) {
        if !chosen.contains(&index) {
            let rest = if node.counted { &mut live } else { &mut ended };
            rest.number += 1;
            rest.growth = rest.growth.saturating_add(growth(process));
            rest.surviving = rest.surviving.saturating_add(node.heap.surviving_space());
            rest.allocated = rest.allocated.saturating_add(node.heap.alloc_space);
        }
    }
    if live.number > 0 {
        let [growth, surviving, allocated] = [live.growth, live.surviving, live.allocated].map(bytes);
        let more = counted(live.number, "more process");
        let what = if tree.any_running { "running" } else { "that ended last" };
        page.sentence(&format!("and {more} {what}: RSS +{growth}, {surviving} surviving, {allocated} allocated"));
    }
    if ended.number > 0 {
        let [surviving, allocated] = [ended.surviving, ended.allocated].map(bytes);
        let more = counted_processes(ended.number);
        page.sentence(&format!(
            "and {more} that ended: {allocated} allocated, 0 B surviving now ({surviving} when they ended)"
        ));
    }
}

#[derive(Default)]
struct Rest {
    number: u64,
    growth: u64,
    surviving: u64,
    allocated: u64,
}

fn write_sums(page: &mut Page, profile: &Profile, tree: &Tree) {
    let counting = || profile.processes.iter().zip(&tree.nodes).filter(|(_, node)| node.counted);
    let sum =
        |number: fn(&Process) -> u64| counting().fold(0, |sum: u64, (process, _)| sum.saturating_add(number(process)));
    let rss = bytes(sum(|process| process.rss_end));
    let unread = counting().filter(|(process, _)| process.pss_end == 0).count() as u64;
    let read = match unread {
        0 => String::new(),
        unread => format!(" ({} not read)", counted(unread, "process")),
    };
    let of_memory = match sum(|process| process.pss_end) {
        0 => "PSS not read".to_owned(),
        pss => format!("PSS {}, USS {}{read}", bytes(pss), bytes(sum(|process| process.uss_end))),
    };
    let those = match (tree.any_running, counting().count()) {
        (true, 1) => "the one running".to_owned(),
        (true, running) => format!("the {running} running"),
        (false, 1) => "the one that ended last".to_owned(),
        (false, last) => format!("the {last} that ended last"),
    };
    page.sentence(&format!("Sums of {those}: RSS {rss} (shared pages count in each), {of_memory}."));
}

fn write_rules(page: &mut Page, tree: &Tree) {
    let those = if tree.any_running { "the processes still running" } else { "the processes that ended last" };
    page.sentence(&format!(
        "Shares are of the growth of RSS and of the surviving bytes of {those}. Flat: RSS grew by less than {} or by \
         less than {FLAT_PERCENT} %.",
        bytes(FLAT_BYTES)
    ));
    if tree.gone() > 0 {
        page.sentence(&format!(
            "What was live in processes when they ended ({}) went with them and does not count as surviving; \
             --process PID shows one as it was at its end.",
            bytes(tree.gone())
        ));
    }
}

/// Interpreters and notes, each once.
fn write_facts(page: &mut Page, processes: &[Process]) {
    let python = |process: &Process| match (process.python.as_str(), process.interpreter.as_str()) {
        ("", _) => None,
        (version, "") => Some(sanitize::name(version, 40)),
        (version, file) => Some(format!("{} in {}", sanitize::name(version, 40), sanitize::name(file, 80))),
    };
    write_distinct(page, "Python", processes.iter().filter_map(python));
    let notes = processes.iter().flat_map(|process| &process.notes).map(|note| sanitize::name(note, 400));
    write_distinct(page, "note", notes);
}

fn write_distinct(page: &mut Page, name: &str, texts: impl Iterator<Item = String>) {
    let mut distinct: Vec<(String, u64)> = Vec::new();
    let mut more = 0;
    for text in texts {
        match distinct.iter().position(|(known, _)| *known == text) {
            Some(at) => distinct[at].1 += 1,
            None if distinct.len() < MOST_FACTS => distinct.push((text, 1)),
            None => more += 1,
        }
    }
    let several = distinct.len() > 1 || more > 0;
    for (text, times) in distinct {
        let of = if several { format!(" ({})", counted_processes(times)) } else { String::new() };
        page.fact(name, &format!("{text}{of}"));
    }
    if more > 0 {
        page.fact(name, &format!("others in {}", counted(more, "more process")));
    }
}
