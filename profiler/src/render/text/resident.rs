//! What made RSS change: the resident memory by what it is, at the start and at the end, so that it adds up.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{allocators, inherited};
use crate::profile::reconcile::{Part, Reconciliation};
use crate::profile::{EstimateOf, FrameId, Profile, UnsharedCause};
use crate::render::page::Page;
use crate::render::path::Names;
use crate::render::units::{bytes, count, counted, share, time_ms};
use crate::render::{Options, estimate};

const NAME_COLUMNS: usize = 36;

/// Most lines of code told that un-share pages.
const MOST_UNSHARING: usize = 3;
/// From this share of what was copied on, what the garbage collector copied is worth advice, in percent.
const WORTH_FREEZING: u64 = 10;

/// A last look that was this long before a process's end is told, ms.
const OLD_MS: u64 = 100;

pub(super) fn write(page: &mut Page, profile: &Profile, names: &Names<'_>, options: &Options) {
    let Some(sum) = Reconciliation::of_counted(profile) else { return };
    page.heading("What made RSS change (resident ledger: pages, by what they are)");
    table(page, &sum);
    notes(page, profile, &sum);
    allocators::write(page, profile, &sum);
    unshared(page, profile, names);
    if options.per_process && profile.processes.len() > 1 {
        for (index, process) in profile.processes.iter().enumerate() {
            if let Some(own) = Reconciliation::of_process(profile, index) {
                page.heading(&format!("Process {}: what made RSS change", process.pid));
                table(page, &own);
            }
        }
    }
}

fn table(page: &mut Page, sum: &Reconciliation) {
    page.row(&format!("  {:<NAME_COLUMNS$}{:>12}{:>12}{:>13}", "", "at start", "at end", "change"));
    for part in Part::ALL {
        let (start, end) = (sum.start[part as usize], sum.end[part as usize]);
        let is_nothing = start == 0 && end == 0 && !matches!(part, Part::LiveHeap | Part::Unexplained);
        if !is_nothing {
            row(page, name(part, sum), start, end);
        }
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    row(page, "RSS", signed(sum.rss_start), signed(sum.rss_end));
}

fn row(page: &mut Page, name: &str, start: i64, end: i64) {
    let change = signed_bytes(end.saturating_sub(start), "+");
    page.row(&format!(
        "  {name:<NAME_COLUMNS$}{:>12}{:>12}{change:>13}",
        signed_bytes(start, ""),
        signed_bytes(end, "")
    ));
}

fn signed_bytes(value: i64, plus: &str) -> String {
    let sign = match value {
        0 => "",
        1.. => plus,
        _ => "-",
    };
    format!("{sign}{}", bytes(value.unsigned_abs()))
}

pub(in crate::render) fn name(part: Part, sum: &Reconciliation) -> &'static str {
    match part {
        Part::LiveHeap if sum.held_unknown => "heap: live, or held free",
        Part::LiveHeap => "live heap",
        Part::HeldByAllocator => "held free by the allocators",
        Part::Other => "other private memory",
        Part::Files => "files",
        Part::Shared => "shared, or copy-on-write since a fork",
        Part::Unexplained => "unexplained",
    }
}

pub(super) fn notes(page: &mut Page, profile: &Profile, sum: &Reconciliation) {
    let before = sum.rss_end.saturating_sub(sum.came);
    let of = if sum.processes > 1 { format!(" in {}", counted(sum.processes, "process")) } else { String::new() };
    page.sentence(&format!(
        "Of the RSS at the end{of}, {} came during the trace ({}), {} was there before.",
        bytes(sum.came),
        share(sum.came, sum.rss_end),
        bytes(before)
    ));
    if sum.swapped > 0 {
        page.sentence(&format!("{} is in swap, and in none of these lines.", bytes(sum.swapped)));
    }
    if sum.given_back > 0 {
        page.sentence(&format!(
            "{} of the RSS at the end was given back by the program (MADV_FREE): the kernel takes it when it needs memory.",
            bytes(sum.given_back)
        ));
    }
    if sum.hugetlb > 0 {
        page.sentence(&format!(
            "{} of huge pages (hugetlbfs) is in memory too: RSS does not count it.",
            bytes(sum.hugetlb)
        ));
    }
    sampled(page, profile);
    let ended = profile.processes.iter().filter_map(|process| {
        Some(process.ended_at_ms?.saturating_sub(process.residency_end.as_ref()?.at_ms)).filter(|age| *age >= OLD_MS)
    });
    if let Some(oldest) = ended.max() {
        page.sentence(&format!("Of processes that ended, pages were last looked at up to {} before.", time_ms(oldest)));
    }
    let unlooked = profile.processes.iter().filter(|process| process.residency_end.is_none()).count() as u64;
    if unlooked > 0 {
        page.sentence(&format!(
            "The pages of {} could not be read: they are in none of these lines.",
            counted(unlooked, "process")
        ));
    }
}

/// That not every fault was recorded, and how much hangs on that.
fn sampled(page: &mut Page, profile: &Profile) {
    let Some((space, _)) = estimate::of_table(profile, EstimateOf::Resident) else { return };
    let (recorded, left_out) = (profile.quality.value("faults"), profile.quality.value("faults_left_out"));
    page.sentence(&format!(
        "The table is counted. Which code touched the pages is in part estimated: while page faults were too many to record \
         each, some were, by chance, and stand for the others ({} of {} were recorded). Of {} the call path is estimated so; \
         the list below gives each one's standard error.",
        count(recorded),
        count(recorded.saturating_add(left_out)),
        bytes(space)
    ));
}

/// Who breaks what a fork shares.
fn unshared(page: &mut Page, profile: &Profile, names: &Names<'_>) {
    let total = profile.unshared_space(None);
    if total == 0 {
        return;
    }
    inherited::write(page, profile);
    page.sentence(&format!(
        "{} shared since a fork was copied, because a process wrote to it: {}. The code that wrote:",
        bytes(total),
        causes(profile, total)
    ));
    let mut by_line: BTreeMap<Option<FrameId>, u64> = BTreeMap::new();
    for row in &profile.unshared {
        let sum = by_line.entry(profile.naming_frame(row.stack)).or_default();
        *sum = sum.saturating_add(row.space);
    }
    let mut by_line: Vec<(Option<FrameId>, u64)> = by_line.into_iter().collect();
    by_line.sort_by_key(|(frame, space)| (Reverse(*space), *frame));
    for (frame, space) in by_line.into_iter().take(MOST_UNSHARING) {
        let code = names.code_or_none(frame.and_then(|frame| profile.frame(frame)));
        page.row(&format!("  {:>11}  {:>8}  {code}", bytes(space), share(space, total)));
    }
    page.sentence("Such a page is no longer shared: it is in another line of the table.");
    if let Some((_, error)) = estimate::of_table(profile, EstimateOf::Unshared) {
        page.sentence(&format!(
            "Who copied what is estimated from some of the writes; all standard errors together: {}.",
            bytes(error)
        ));
    }
    let collected = profile.unshared_space(Some(UnsharedCause::GcHeader));
    if collected > 0 && collected >= total / 100 * WORTH_FREEZING {
        page.sentence(&format!(
            "To keep {} shared: call gc.freeze() in the parent before it forks; the garbage collector then leaves its \
             objects alone.",
            bytes(collected)
        ));
    }
}

fn causes(profile: &Profile, total: u64) -> String {
    let told = unshared_by_cause(profile);
    told.map(|(words, space)| format!("{} {words}", share(space, total))).collect::<Vec<_>>().join(", ")
}

/// Why pages were copied, in words, with the bytes; causes of which there are none are left out.
pub(in crate::render) fn unshared_by_cause(profile: &Profile) -> impl Iterator<Item = (&'static str, u64)> {
    let causes = [
        (UnsharedCause::ReferenceCount, "to count references"),
        (UnsharedCause::GcHeader, "to mark objects for the garbage collector"),
        (UnsharedCause::Data, "to change data"),
        (UnsharedCause::Unknown, "for unknown reasons"),
    ];
    let told = causes.map(|(cause, words)| (words, profile.unshared_space(Some(cause))));
    told.into_iter().filter(|(_, space)| *space > 0)
}
