//! A diagnosis for people and for other programs: the verdict and its culprit first.

pub mod markdown;
pub mod text;

use crate::profile::Profile;
use crate::profile::verdict::{Diagnosis, Finding, Pattern};
use crate::render::RenderError;
use crate::render::sanitize;

/// How to render a diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagnosisFormat {
    /// For a terminal.
    Text,
    /// For an issue or a chat.
    Markdown,
    /// For programs: [`crate::profile::verdict::Diagnosis`] as it is.
    Json,
}

/// Renders the diagnosis of a profile; nothing if it has none.
///
/// # Errors
/// The serializer refuses.
pub fn render(profile: &Profile, format: DiagnosisFormat, options: &super::Options) -> Result<String, RenderError> {
    match format {
        DiagnosisFormat::Text => Ok(text::render(profile, options)),
        DiagnosisFormat::Markdown => Ok(markdown::render(profile)),
        DiagnosisFormat::Json => {
            let json = serde_json::to_string_pretty(&profile.diagnosis);
            json.map(|text| text + "\n").map_err(|error| RenderError::Json(error.to_string()))
        }
    }
}

/// What stands above each finding; nothing above the one that the verdict's own sentence tells.
pub(super) fn titles(diagnosis: &Diagnosis) -> impl Iterator<Item = Option<String>> {
    let is_mixed = diagnosis.pattern == Pattern::Mixed;
    let word = if is_mixed { "A part of it" } else { "Beside that" };
    let title = move |(index, found): (usize, &Finding)| {
        (is_mixed || index > 0).then(|| format!("{word}: {}", found.pattern.words()))
    };
    diagnosis.findings.iter().enumerate().map(title)
}

/// Who is at fault, in one line: the code, who called it, and what holds it.
pub(super) fn culprit(finding: &Finding) -> Option<String> {
    let culprit = &finding.culprit;
    let mut parts = Vec::new();
    if !culprit.holder.is_empty() {
        parts.push(format!("held by {}", culprit.holder));
    }
    if !culprit.code.is_empty() {
        parts.push(format!("allocated at {}", culprit.code));
    }
    if !culprit.called_from.is_empty() {
        parts.push(format!("called from {}", culprit.called_from));
    }
    (!parts.is_empty()).then(|| visible(&parts.join("; ")))
}

/// A text of the diagnosis, as it may be shown.
pub(super) fn visible(text: &str) -> String {
    sanitize::visible(text).into_owned()
}

/// What it cost, in one line.
fn cost(profile: &Profile) -> String {
    use super::units::{counted, share, time_ms, time_us};
    let quality = &profile.quality;
    let looks = &profile.evidence.looks;
    let slowest = looks.iter().map(|look| look.took_us).max().unwrap_or(0);
    let read = looks.iter().fold(0u64, |sum, look| sum.saturating_add(look.bytes_read));
    let objects = if looks.is_empty() {
        String::new()
    } else {
        format!(
            "; {} at the objects, {} read, at most {} each",
            counted(looks.len() as u64, "look"),
            super::units::bytes(read),
            time_us(slowest)
        )
    };
    format!(
        "{} watched; the target paid {} of CPU ({} of its own {}), pyalloc took {}{objects}",
        time_ms(profile.trace.duration_ms),
        time_ms(quality.target_cost_ms),
        share(quality.target_cost_ms, quality.target_cpu_ms),
        time_ms(quality.target_cpu_ms),
        time_ms(quality.own_cpu_ms)
    )
}
