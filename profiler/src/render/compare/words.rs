//! Numbers and sentences that the formats share.

use super::{Checked, Compared};
use crate::compare::bound::{Basis, FALSE_ALARM};
use crate::compare::diff::{Change, Diff, Kind};
use crate::compare::gate::{Against, Judgement, Verdict};
use crate::compare::measure::Measure;
use crate::compare::sums::Subject;
use crate::render::{sanitize, units};

/// A number of the difference: `12.0 MiB`, `12 objects`, `1.0 MiB/s`.
pub(super) fn number(value: u64, compared: &Compared<'_>, per_second: bool) -> String {
    let number = if compared.value.is_space() { units::bytes(value) } else { units::count(value) };
    if per_second { format!("{number}/s") } else { number }
}

/// `+2.0 MiB`.
pub(super) fn delta(change: &Change, compared: &Compared<'_>, per_second: bool) -> String {
    let sign = if change.delta() < 0 { "-" } else { "+" };
    format!("{sign}{}", number(change.size(), compared, per_second))
}

/// `+10.3 %`; nothing where there was none before.
pub(super) fn growth(before: f64, after: f64) -> String {
    if before <= 0.0 {
        return String::new();
    }
    let percent = (after - before) / before * 100.0;
    match percent.abs() {
        size if size >= 1000.0 => format!("{:.0} times", after / before),
        size if size < 0.05 && after != before => "less than 0.1 %".to_owned(),
        _ => format!("{percent:+.1} %"),
    }
}

/// `surviving bytes (heap ledger)`.
pub(super) fn what(compared: &Compared<'_>) -> String {
    format!("{} ({} ledger)", compared.value.in_words(), compared.ledger.name())
}

/// The word for a change, with what noise makes of it.
pub(super) fn kind(change: &Change) -> &'static str {
    match change.kind() {
        _ if change.is_noise() => "noise",
        kind => kind.word(),
    }
}

/// What the numbers are worth, and the caveats.
pub(super) fn notes(diff: &Diff) -> Vec<String> {
    let error = diff.total.standard_error();
    let mut notes = vec![if error > 0.0 {
        format!(
            "Sampled: the standard error of the whole change is {}. What lies within two standard errors is called noise.",
            units::bytes(error.round() as u64)
        )
    } else {
        "Nothing was sampled: the differences are those of the runs.".to_owned()
    }];
    if noise(diff) > 0 {
        notes.push(
            "Runs of the same code differ a little too, and that is called noise: which call opens a pool of small \
             objects (16 KiB), and how often an import reads a folder (32 KiB). `pyalloc check` with several runs of each \
             tells how much they differ."
                .to_owned(),
        );
    }
    notes.extend(diff.caveats.iter().map(|caveat| note(caveat)));
    notes
}

/// A sentence that may hold texts of the target.
pub(super) fn note(text: &str) -> String {
    sanitize::name(text, NOTE_COLUMNS)
}

/// `1 new, 3 more, 4 less, 2 gone, 12 noise, 212 same`.
pub(super) fn kinds(diff: &Diff) -> String {
    let count = |kind| {
        let is = |change: &Change| change.kind() == kind && !change.is_noise();
        diff.functions.iter().filter(|function| is(&function.change)).count()
    };
    let told = |kind: Kind| format!("{} {}", count(kind), kind.word());
    let changed = [Kind::New, Kind::More, Kind::Less, Kind::Gone].map(told).join(", ");
    format!("{changed}, {} noise, {}", noise(diff), told(Kind::Same))
}

fn noise(diff: &Diff) -> usize {
    diff.functions.iter().filter(|function| function.change.is_noise()).count()
}

/// Bytes of a mean.
pub(super) fn bytes(value: f64) -> String {
    let size = units::bytes(value.abs().round() as u64);
    if value < -0.5 { format!("-{size}") } else { size }
}

/// Bytes of a judged number.
pub(super) fn amount(measure: Measure, value: f64) -> String {
    if measure == Measure::Slope { format!("{}/h", bytes(value)) } else { bytes(value) }
}

/// `12.0 MiB, was 10.0 MiB (+20.0 %); 10.2 MiB is allowed`.
pub(super) fn finding(judgement: &Judgement) -> String {
    let amount = |value| amount(judgement.measure, value);
    let limit = amount(judgement.limit);
    let exactly = |text: String| {
        // Both would read the same where they differ by little.
        let close = amount(judgement.value) == limit && judgement.measure != Measure::Slope;
        if close { format!("{text} ({} bytes of {})", judgement.value.round(), judgement.limit.floor()) } else { text }
    };
    match &judgement.against {
        Against::Limit(origin) => exactly(format!("{}; the limit is {limit}, by {origin}", amount(judgement.value))),
        Against::Baselines { mean, .. } => {
            let growth = growth(*mean, judgement.value);
            let growth = if growth.is_empty() { growth } else { format!(" ({growth})") };
            exactly(format!("{}, was {}{growth}; up to {limit} is allowed", amount(judgement.value), amount(*mean)))
        }
    }
}

/// Why the limit is where it is, and how sure that makes.
pub(super) fn why(judgement: &Judgement) -> String {
    let Against::Baselines { basis, chance, unseen, .. } = &judgement.against else {
        return "a limit, whatever the baseline".to_owned();
    };
    let allowed = allowed(basis, *chance);
    match unseen.round() as u64 {
        0 => allowed,
        bytes => {
            format!("{allowed}; {} of that because forked processes ran a moment without probes", units::bytes(bytes))
        }
    }
}

fn allowed(basis: &Basis, chance: Option<f64>) -> String {
    match basis {
        Basis::Tolerance(tolerance) => {
            format!("allowed: {} % more, {} at least", tolerance.percent, units::bytes(tolerance.floor))
        }
        Basis::Spread { runs, baselines } => {
            let chance = chance.map_or(String::new(), |chance| format!("; by chance alone: {}", odds(chance)));
            format!("allowed by the spread of {runs} runs and {baselines} baselines{chance}")
        }
    }
}

fn odds(chance: f64) -> String {
    match chance {
        _ if chance < 1e-6 => "less than once in a million".to_owned(),
        _ if chance < 0.01 => format!("once in {:.0}", 1.0 / chance),
        _ => format!("{:.0} %", chance * 100.0),
    }
}

/// How sure the whole verdict is.
pub(super) fn certainty(verdict: &Verdict) -> Option<String> {
    let bases = verdict.judgements.iter().filter_map(|judgement| match &judgement.against {
        Against::Baselines { basis, .. } => Some(basis),
        Against::Limit(_) => None,
    });
    let (mut fixed, mut spread) = (false, None);
    for basis in bases {
        match basis {
            Basis::Tolerance(_) => fixed = true,
            Basis::Spread { runs, baselines } => spread = Some((*runs, *baselines)),
        }
    }
    match spread {
        Some((runs, baselines)) => Some(format!(
            "Judged by the spread of {runs} runs and {baselines} baselines: if nothing had changed, one of the {} numbers \
             would be over its limit by chance in less than {} % of such checks (as far as the runs vary normally).",
            verdict.judgements.len(),
            FALSE_ALARM * 100.0
        )),
        None if fixed => Some(
            "Judged by fixed shares: from three runs and three baselines on, or one run and four baselines, the limits \
             come from how much the runs differ."
                .to_owned(),
        ),
        None => None,
    }
}

/// Longest caveat, which may hold texts of the target.
const NOTE_COLUMNS: usize = 400;
/// Widest name of a test or a function.
const SUBJECT_COLUMNS: usize = 200;

/// `test tests/test_api.py::test_new`.
pub(super) fn subject(verdict: &Verdict, subject: Subject) -> String {
    let kind = match subject {
        Subject::Whole => "",
        Subject::Test(_) => "test ",
        Subject::Function(_) => "function ",
    };
    format!("{kind}{}", name(verdict, subject))
}

/// `tests/test_api.py::test_new`, in bounds.
pub(super) fn name(verdict: &Verdict, subject: Subject) -> String {
    sanitize::name(&verdict.name(subject), SUBJECT_COLUMNS)
}

/// `run.pyalloc against main.pyalloc`.
pub(super) fn files(checked: &Checked) -> String {
    let runs = checked.runs.join(", ");
    if checked.baselines.is_empty() { runs } else { format!("{runs} against {}", checked.baselines.join(", ")) }
}

/// `FAILED: 2 of 63 numbers are over their limit`.
pub(super) fn headline(verdict: &Verdict) -> String {
    let failed = verdict.failures().count();
    let all = units::counted(verdict.judgements.len() as u64, "number");
    match failed {
        0 => format!("passed: {all} within limits"),
        1 => format!("FAILED: 1 of {all} is over its limit"),
        _ => format!("FAILED: {failed} of {all} are over their limits"),
    }
}
