//! What a gate says, for programs.

use serde::Serialize;

use super::{Checked, names, words};
use crate::compare::gate::{Against, Judgement, Verdict};
use crate::compare::sums::Subject;
use crate::render::RenderError;

#[derive(Serialize)]
struct Out<'a> {
    schema: &'static str,
    schema_version: u32,
    passed: bool,
    runs: &'a [String],
    baselines: &'a [String],
    notes: &'a [String],
    certainty: Option<String>,
    judgements: Vec<JudgementOut>,
}

#[derive(Serialize)]
struct JudgementOut {
    scope: &'static str,
    name: String,
    measure: &'static str,
    passed: bool,
    value: f64,
    standard_error: f64,
    limit: f64,
    baseline: Option<f64>,
    chance: Option<f64>,
    why: String,
    culprits: Vec<CulpritOut>,
}

#[derive(Serialize)]
struct CulpritOut {
    code: String,
    before: f64,
    after: f64,
    /// Innermost first.
    path: Vec<String>,
}

/// Renders.
pub(super) fn render(verdict: &Verdict, checked: &Checked) -> Result<String, RenderError> {
    super::json(&Out {
        schema: "pyalloc-check",
        schema_version: 1,
        passed: verdict.passed(),
        runs: &checked.runs,
        baselines: &checked.baselines,
        notes: &verdict.notes,
        certainty: words::certainty(verdict),
        judgements: verdict.judgements.iter().map(|judgement| out(verdict, judgement)).collect(),
    })
}

/// The word for whose number it is.
pub(super) const fn scope(subject: Subject) -> &'static str {
    match subject {
        Subject::Whole => "all",
        Subject::Test(_) => "test",
        Subject::Function(_) => "function",
    }
}

fn out(verdict: &Verdict, judgement: &Judgement) -> JudgementOut {
    let (baseline, chance) = match &judgement.against {
        Against::Limit(_) => (None, None),
        Against::Baselines { mean, chance, .. } => (Some(*mean), *chance),
    };
    let merged = &verdict.runs.merged;
    let culprits = judgement.culprits.iter().map(|culprit| CulpritOut {
        code: names::code(merged, culprit.code, culprit.line),
        before: culprit.before,
        after: culprit.after,
        path: merged.path(culprit.path).map(|code| names::label(merged.code_of(code))).collect(),
    });
    JudgementOut {
        scope: scope(judgement.subject),
        name: verdict.name(judgement.subject),
        measure: judgement.measure.name(),
        passed: judgement.passed,
        value: judgement.value,
        standard_error: judgement.standard_error,
        limit: judgement.limit,
        baseline,
        chance,
        why: words::why(judgement),
        culprits: culprits.collect(),
    }
}
