//! What a gate says, for a comment on a change and for the summary of a job: short, the details folded.

use std::fmt::Write as _;

use super::markdown::{code, escaped};
use super::{Checked, chain, names, words};
use crate::compare::gate::{Judgement, Verdict};
use crate::compare::sums::Subject;

/// By this line a later run finds the comment that it replaces.
const MARK: &str = "<!-- pyalloc check -->";
/// Most findings: a comment has at most 65536 letters.
const MOST: usize = 20;

/// Renders.
pub(super) fn render(verdict: &Verdict, checked: &Checked) -> String {
    let sign = if verdict.passed() { "✅" } else { "❌" };
    let mut out = format!("{MARK}\n### {sign} Memory: {}\n\n", escaped(&words::headline(verdict)));
    let failures: Vec<&Judgement> = verdict.failures().collect();
    if !failures.is_empty() {
        out.push_str("| what | measure | | most to blame |\n|---|---|---|---|\n");
    }
    for judgement in failures.iter().take(MOST) {
        let blamed = judgement.culprits.first().map(|one| code(&names::code(&verdict.runs.merged, one.code, one.line)));
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            code(&words::subject(verdict, judgement.subject)),
            judgement.measure.in_words(),
            escaped(&words::finding(judgement)),
            blamed.unwrap_or_default()
        );
    }
    if failures.len() > MOST {
        let _ = writeln!(out, "\nand {} more", failures.len() - MOST);
    }
    if !failures.is_empty() {
        blame(&mut out, verdict, &failures);
    }
    details(&mut out, verdict, checked);
    out
}

fn blame(out: &mut String, verdict: &Verdict, failures: &[&Judgement]) {
    out.push_str("\n<details><summary>Paths to blame</summary>\n\n");
    for judgement in failures.iter().take(MOST) {
        let _ = writeln!(
            out,
            "- {} ({}; {})",
            code(&words::subject(verdict, judgement.subject)),
            judgement.measure.in_words(),
            escaped(&words::why(judgement))
        );
        for culprit in &judgement.culprits {
            let _ = writeln!(
                out,
                "  - +{} {} {}",
                words::bytes(culprit.after - culprit.before),
                code(&names::code(&verdict.runs.merged, culprit.code, culprit.line)),
                escaped(&chain::text(&verdict.runs.merged, culprit.path, culprit.code))
            );
        }
    }
    out.push_str("\n</details>\n");
}

fn details(out: &mut String, verdict: &Verdict, checked: &Checked) {
    out.push_str("\n<details><summary>All processes, and how sure this is</summary>\n\n");
    for judgement in verdict.judgements.iter().filter(|judgement| judgement.subject == Subject::Whole) {
        let sign = if judgement.passed { "within" } else { "**over**" };
        let text = escaped(&words::finding(judgement));
        let _ = writeln!(out, "- {}: {text} ({sign})", judgement.measure.in_words());
    }
    let _ = writeln!(out, "- {}", escaped(&words::files(checked)));
    for note in words::certainty(verdict).iter().chain(&verdict.notes) {
        let _ = writeln!(out, "- {}", escaped(&words::note(note)));
    }
    out.push_str("\n</details>\n");
}
