//! What the text report says, in whole lines, for formats that lay it out themselves.

use super::{allocators, process, quality, resident, tree};
use crate::profile::reconcile::Reconciliation;
use crate::profile::tree::Tree;
use crate::profile::{Profile, Trace};
use crate::render::group::by_line;
use crate::render::page::Page;
use crate::render::path::{NAME_COLUMNS, Names};
use crate::render::units::{bytes, share, time_ms};
use crate::render::{Ledger, RenderError, Value, select};

/// How much RSS changed, which process grows, and which code most of it is.
pub(in crate::render) fn headline(profile: &Profile, tree: &Tree) -> Result<Vec<String>, RenderError> {
    let mut lines = vec![rss(profile, tree)];
    if profile.processes.len() > 1 {
        lines.extend(tree::sentences(profile, tree));
    }
    lines.extend(most(profile)?);
    Ok(lines)
}

fn rss(profile: &Profile, tree: &Tree) -> String {
    let (start, end) = (tree.rss_at_start(profile).1, tree.rss_at_end(profile).1);
    let of = if profile.processes.len() > 1 { "RSS of the tree" } else { "RSS" };
    let how = match end.cmp(&start) {
        std::cmp::Ordering::Greater => format!("grew by {}", bytes(end - start)),
        std::cmp::Ordering::Less => format!("shrank by {}", bytes(start - end)),
        std::cmp::Ordering::Equal => "did not change".to_owned(),
    };
    let time = time_ms(profile.trace.duration_ms);
    format!("{of} {how} in {time}, from {} to {}.", bytes(start), bytes(end))
}

/// The line of code with the most of what says most.
fn most(profile: &Profile) -> Result<Option<String>, RenderError> {
    let (ledger, value, done) = match profile.trace.without_heap {
        true => (Ledger::Resident, Value::TouchedSpace, "touched first"),
        false => (Ledger::Heap, Value::InuseSpace, "allocated"),
    };
    let groups = by_line(profile, &select::rows(profile, ledger, value)?);
    let total = groups.iter().fold(0, |sum: u64, group| sum.saturating_add(group.value));
    let Some(first) = groups.first() else { return Ok(None) };
    let names = Names::new(profile, NAME_COLUMNS);
    let code = first.frame.and_then(|id| profile.frame(id));
    let code = code.map_or_else(|| "code without a call path".to_owned(), |frame| names.code(frame));
    let (part, whole) = (bytes(first.value), share(first.value, total));
    Ok(Some(format!(
        "Of {} {}, {part} ({whole}) were {done} at {code}.",
        bytes(total),
        value.in_words().trim_end_matches(" touched")
    )))
}

/// The facts of the trace: name and text.
pub(in crate::render) fn trace_facts(trace: &Trace) -> Vec<[String; 2]> {
    let cells = cells(|page| process::write_trace(page, trace));
    cells.into_iter().filter_map(|line| <[String; 2]>::try_from(line).ok()).collect()
}

/// The lines about the quality of the trace, each as its columns.
pub(in crate::render) fn quality_facts(profile: &Profile) -> Vec<Vec<String>> {
    // The first line is the heading.
    cells(|page| quality::write(page, profile)).into_iter().skip(1).collect()
}

/// The sentences below the table of what made RSS change.
pub(in crate::render) fn rss_sentences(profile: &Profile, sum: &Reconciliation) -> Vec<String> {
    let lines = cells(|page| {
        resident::notes(page, profile, sum);
        allocators::write(page, profile, sum);
    });
    lines.into_iter().map(|line| line.join(" ")).collect()
}

/// What is written on a page without end, so that nothing is wrapped: the columns of each line.
fn cells(write: impl FnOnce(&mut Page)) -> Vec<Vec<String>> {
    let mut page = Page::new(usize::MAX, false);
    write(&mut page);
    let columns = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect::<Vec<String>>()
    };
    page.finish().lines().map(columns).filter(|line| !line.is_empty()).collect()
}
