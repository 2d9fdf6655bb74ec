//! A difference for a comment on a change.

use std::fmt::Write as _;

use super::markdown::{code, escaped};
use super::{Compared, names, words};
use crate::compare::diff::{Diff, Kind};
use crate::render::Options;

/// Renders.
pub(super) fn render(diff: &Diff, compared: &Compared<'_>, options: &Options) -> String {
    let number = |value| words::number(value, compared, diff.per_second);
    let total = &diff.total;
    let growth = words::growth(total.before.value as f64, total.after.value as f64);
    let mut out = format!(
        "**{}: {}** {} ({} in {}, {} in {})\n\n",
        words::what(compared),
        words::delta(total, compared, diff.per_second),
        growth,
        number(total.before.value),
        code(compared.before),
        number(total.after.value),
        code(compared.after),
    );
    let changed: Vec<_> = diff.functions.iter().filter(|function| function.change.kind() != Kind::Same).collect();
    if changed.is_empty() {
        out.push_str("Nothing changed.\n");
    } else {
        out.push_str("| change | | function | before | after |\n|---:|---|---|---:|---:|\n");
    }
    for function in changed.iter().take(options.top) {
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            words::delta(&function.change, compared, diff.per_second),
            words::kind(&function.change),
            code(&names::code(&diff.merged, function.code, function.line)),
            number(function.change.before.value),
            number(function.change.after.value)
        );
    }
    if changed.len() > options.top {
        let _ = writeln!(out, "\nand {} more functions", changed.len() - options.top);
    }
    out.push_str("\n<details><summary>How to read this</summary>\n\n");
    for note in words::notes(diff) {
        let _ = writeln!(out, "- {}", escaped(&note));
    }
    out.push_str("\n</details>\n");
    out
}
