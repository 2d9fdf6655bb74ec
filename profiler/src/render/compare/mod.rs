//! Comparisons for people and for programs: what changed between two profiles, and what a gate says.

mod chain;
mod check_json;
mod check_markdown;
mod check_text;
mod diff_html;
mod diff_json;
mod diff_markdown;
mod diff_text;
mod flamegraph;
mod junit;
mod markdown;
mod names;
mod sarif;
mod words;

use super::{Ledger, Options, RenderError, Value, select};
use crate::compare::Amount;
use crate::compare::diff::{Diff, Weight};
use crate::compare::gate::Verdict;
use crate::profile::Profile;

/// How to render a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffFormat {
    /// For people.
    Text,
    /// One page that needs no network.
    Html,
    /// For programs.
    Json,
    /// For a comment on a change.
    Markdown,
    /// SVG: the larger of both as width, the change as colour.
    Flamegraph,
    /// One line per call path with two numbers, as `inferno-diff-folded` writes them.
    Folded,
}

/// How to render what a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For a comment on a change, and for the summary of a job.
    Markdown,
    /// For test reports.
    Junit,
    /// For code scanning.
    Sarif,
}

/// The two profiles of a difference, as they are called, and what is compared.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// File name of the first.
    pub before: &'a str,
    /// File name of the second.
    pub after: &'a str,
    /// The ledger.
    pub ledger: Ledger,
    /// The number.
    pub value: Value,
}

/// The files that a gate looked at, as they are called, and this pyalloc's version.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What was judged.
    pub runs: Vec<String>,
    /// What it was held against.
    pub baselines: Vec<String>,
    /// "0.1.0".
    pub version: String,
}

/// The ledger and the number that a comparison shows: those asked for, else the first that both profiles have.
pub fn chosen(profiles: [&Profile; 2], ledger: Option<Ledger>, value: Option<Value>) -> (Ledger, Value) {
    let options = Options { ledger, value, ..Options::default() };
    let without_heap = profiles.into_iter().find(|profile| profile.trace.without_heap).unwrap_or(profiles[0]);
    (options.one_ledger(without_heap), options.one_value(without_heap))
}

/// The number of each call path.
///
/// # Errors
/// The ledger does not have the number.
pub fn weights(profile: &Profile, ledger: Ledger, value: Value) -> Result<Vec<Weight>, RenderError> {
    let rows = select::rows(profile, ledger, value)?;
    let small = |row: &select::Row| row.small && value.is_space();
    let weight = |row: &select::Row| Weight { stack: row.stack, amount: Amount::exact(row.value), small: small(row) };
    Ok(rows.iter().map(weight).collect())
}

/// Renders a difference.
///
/// # Errors
/// The flamegraph library or the serializer refuses.
pub fn diff(
    diff: &Diff,
    compared: &Compared<'_>,
    format: DiffFormat,
    options: &Options,
) -> Result<String, RenderError> {
    match format {
        DiffFormat::Text => Ok(diff_text::render(diff, compared, options)),
        DiffFormat::Html => diff_html::render(diff, compared, options),
        DiffFormat::Json => diff_json::render(diff, compared, options),
        DiffFormat::Markdown => Ok(diff_markdown::render(diff, compared, options)),
        DiffFormat::Flamegraph => flamegraph::render(diff, compared),
        DiffFormat::Folded => Ok(flamegraph::folded(diff)),
    }
}

/// Renders what a gate says.
///
/// # Errors
/// The serializer refuses.
pub fn check(
    verdict: &Verdict,
    checked: &Checked,
    format: CheckFormat,
    options: &Options,
) -> Result<String, RenderError> {
    match format {
        CheckFormat::Text => Ok(check_text::render(verdict, checked, options)),
        CheckFormat::Json => check_json::render(verdict, checked),
        CheckFormat::Markdown => Ok(check_markdown::render(verdict, checked)),
        CheckFormat::Junit => Ok(junit::render(verdict)),
        CheckFormat::Sarif => sarif::render(verdict, checked),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, RenderError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| RenderError::Json(error.to_string()))?;
    Ok(super::json::escaped(&text) + "\n")
}
