//! What a gate says, for people: what is over its limit and the paths to blame first.

use super::{Checked, chain, names, words};
use crate::compare::gate::{Judgement, Verdict};
use crate::compare::sums::Subject;
use crate::render::Options;
use crate::render::page::{Page, words as pieces};
use crate::render::sanitize;
use crate::render::units::counted;

/// Widest name of a test or function.
const SUBJECT_COLUMNS: usize = 90;
const INDENT: usize = 6;

/// Renders.
pub(super) fn render(verdict: &Verdict, checked: &Checked, options: &Options) -> String {
    let mut page = Page::new(options.width, options.colour);
    page.heading(&format!("pyalloc check {}", words::headline(verdict)));
    page.sentence(&sanitize::visible(&words::files(checked)));
    let failures: Vec<&Judgement> = verdict.failures().collect();
    for judgement in failures.iter().take(options.top) {
        failure(&mut page, verdict, judgement);
    }
    if let Some(more) = failures.len().checked_sub(options.top).filter(|more| *more > 0) {
        page.sentence(&format!("and {}; --format json has them all", counted(more as u64, "more finding")));
    }
    passed(&mut page, verdict);
    let notes: Vec<String> = words::certainty(verdict).into_iter().chain(verdict.notes.iter().cloned()).collect();
    if !notes.is_empty() {
        page.heading("How sure");
        notes.iter().for_each(|note| page.sentence(&words::note(note)));
    }
    page.finish()
}

fn failure(page: &mut Page, verdict: &Verdict, judgement: &Judgement) {
    let subject = sanitize::name(&words::subject(verdict, judgement.subject), SUBJECT_COLUMNS);
    page.heading(&format!("FAIL  {subject}: {}", judgement.measure.in_words()));
    page.pieces(&" ".repeat(INDENT), INDENT, &pieces(&words::finding(judgement)));
    page.pieces(&" ".repeat(INDENT), INDENT, &pieces(&words::why(judgement)));
    for culprit in &judgement.culprits {
        let growth = words::bytes(culprit.after - culprit.before);
        page.row(&format!(
            "{:>15}  {}",
            format!("+{growth}"),
            names::code(&verdict.runs.merged, culprit.code, culprit.line)
        ));
        let chain = chain::pieces(&verdict.runs.merged, culprit.path, culprit.code);
        if !chain.is_empty() {
            page.pieces(&" ".repeat(17), 19, &chain);
        }
    }
}

/// The whole one by one, tests and functions as a count.
fn passed(page: &mut Page, verdict: &Verdict) {
    let passed: Vec<&Judgement> = verdict.judgements.iter().filter(|judgement| judgement.passed).collect();
    if passed.is_empty() {
        return;
    }
    page.heading("Within limits");
    for judgement in passed.iter().filter(|judgement| judgement.subject == Subject::Whole) {
        let text = format!("{}: {}", judgement.measure.in_words(), words::finding(judgement));
        page.sentence(&text);
    }
    let count = |is: fn(&Subject) -> bool| {
        let subjects: std::collections::BTreeSet<Subject> = passed.iter().map(|judgement| judgement.subject).collect();
        subjects.iter().filter(|subject| is(subject)).count() as u64
    };
    let tests = count(|subject| matches!(subject, Subject::Test(_)));
    let functions = count(|subject| matches!(subject, Subject::Function(_)));
    if tests + functions > 0 {
        page.sentence(&format!("and {} and {}", counted(tests, "test"), counted(functions, "function")));
    }
}
