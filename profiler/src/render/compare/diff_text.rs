//! A difference for people.

use super::{Compared, chain, names, words};
use crate::compare::diff::{Change, Diff, Kind};
use crate::render::Options;
use crate::render::page::{Page, words as pieces};
use crate::render::sanitize;
use crate::render::units::counted;

/// Columns before the lines below an entry's first.
const INDENT: usize = 6;
/// Widest name of a file of ours.
const FILE_COLUMNS: usize = 60;

/// Renders.
pub(super) fn render(diff: &Diff, compared: &Compared<'_>, options: &Options) -> String {
    let mut page = Page::new(options.width, options.colour);
    page.heading(&format!("What changed: {}", words::what(compared)));
    let number = |value| words::number(value, compared, diff.per_second);
    let total = &diff.total;
    page.fact("before", &format!("{}  {}", number(total.before.value), sanitize::name(compared.before, FILE_COLUMNS)));
    page.fact("after", &format!("{}  {}", number(total.after.value), sanitize::name(compared.after, FILE_COLUMNS)));
    let growth = words::growth(total.before.value as f64, total.after.value as f64);
    page.fact("change", format!("{}  {growth}", words::delta(total, compared, diff.per_second)).trim_end());
    page.fact("functions", &words::kinds(diff));
    for note in words::notes(diff) {
        page.fact("note", &note);
    }
    let by =
        if diff.functions.iter().any(|function| function.code.is_some_and(|code| diff.merged.code_of(code).line > 0)) {
            "line"
        } else {
            "function"
        };
    page.heading(&format!("By {by} (a path counts for its innermost line of own code)"));
    for (rank, function) in
        diff.functions.iter().filter(|one| one.change.kind() != Kind::Same).take(options.top).enumerate()
    {
        entry(
            &mut page,
            rank + 1,
            &function.change,
            compared,
            diff,
            &names::code(&diff.merged, function.code, function.line),
        );
        let paths = counted(function.paths as u64, "path");
        let mut below = pieces(&if function.paths > 1 { format!("{paths}; most in:") } else { String::new() });
        below.extend(chain::pieces(&diff.merged, function.heaviest, function.code));
        if !below.is_empty() {
            page.pieces(&" ".repeat(INDENT), INDENT + 2, &below);
        }
    }
    rest(&mut page, diff.functions.iter().map(|function| &function.change), options.top, by, compared, diff);
    page.heading("By call path");
    let named = diff.merged.named();
    for (rank, (path, change)) in
        diff.paths.iter().filter(|(_, change)| change.kind() != Kind::Same).take(options.top).enumerate()
    {
        let code = named.get(*path as usize).copied().flatten();
        entry(&mut page, rank + 1, change, compared, diff, &names::code(&diff.merged, code, 0));
        let below = chain::pieces(&diff.merged, *path, code);
        if !below.is_empty() {
            page.pieces(&" ".repeat(INDENT), INDENT + 2, &below);
        }
    }
    rest(&mut page, diff.paths.iter().map(|(_, change)| change), options.top, "path", compared, diff);
    page.finish()
}

fn entry(page: &mut Page, rank: usize, change: &Change, compared: &Compared<'_>, diff: &Diff, code: &str) {
    let number = |value| words::number(value, compared, diff.per_second);
    page.row(&format!(
        "{rank:>3}. {:>11}  {:<5} {code}  ({} -> {})",
        words::delta(change, compared, diff.per_second),
        words::kind(change),
        number(change.before.value),
        number(change.after.value),
    ));
}

fn rest<'d>(
    page: &mut Page,
    changes: impl Iterator<Item = &'d Change>,
    top: usize,
    noun: &str,
    compared: &Compared<'_>,
    diff: &Diff,
) {
    let changed: Vec<&Change> = changes.filter(|change| change.kind() != Kind::Same).collect();
    if changed.is_empty() {
        page.sentence("nothing changed");
        return;
    }
    let Some(rest) = changed.get(top..).filter(|rest| !rest.is_empty()) else { return };
    let mut sum = Change::default();
    for change in rest {
        sum.before.add(change.before);
        sum.after.add(change.after);
    }
    let more = counted(rest.len() as u64, &format!("more {noun}"));
    page.sentence(&format!("and {more}, {} together", words::delta(&sum, compared, diff.per_second)));
}
