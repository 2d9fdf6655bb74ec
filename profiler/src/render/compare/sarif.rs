//! What is over a limit as SARIF 2.1.0, for code scanning: where the most to blame is, relative to the repository.

use serde_json::{Value as Json, json};

use super::{Checked, chain, names, words};
use crate::compare::gate::{Judgement, Verdict};
use crate::compare::measure::Measure;
use crate::compare::merged::{Code, CodeId};
use crate::profile::FrameKind;
use crate::render::path::NAME_COLUMNS;
use crate::render::{RenderError, sanitize};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// The folder that files are relative to.
const ROOT: &str = "%SRCROOT%";

/// Renders.
pub(super) fn render(verdict: &Verdict, checked: &Checked) -> Result<String, RenderError> {
    let rules: Vec<Json> = Measure::ALL.into_iter().map(rule).collect();
    let results: Vec<Json> = verdict.failures().map(|judgement| result(verdict, judgement)).collect();
    super::json(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "pyalloc", "version": checked.version, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { ROOT: { "description": { "text": "The repository's folder." } } },
            "results": results,
        }],
    }))
}

fn rule(measure: Measure) -> Json {
    json!({
        "id": id(measure),
        "name": measure.name(),
        "shortDescription": { "text": format!("{} over the limit", measure.in_words()) },
        "defaultConfiguration": { "level": "error" },
    })
}

fn id(measure: Measure) -> String {
    format!("pyalloc/{}", measure.name())
}

fn result(verdict: &Verdict, judgement: &Judgement) -> Json {
    let subject = words::subject(verdict, judgement.subject);
    let mut text = format!(
        "{subject}: {}: {}. {}.",
        judgement.measure.in_words(),
        words::finding(judgement),
        words::why(judgement)
    );
    let merged = &verdict.runs.merged;
    for culprit in &judgement.culprits {
        let (name, chain) =
            (names::code(merged, culprit.code, culprit.line), chain::text(merged, culprit.path, culprit.code));
        text += &format!("\n+{} {name} {chain}", words::bytes(culprit.after - culprit.before));
    }
    let mut result = json!({
        "ruleId": id(judgement.measure),
        "ruleIndex": Measure::ALL.iter().position(|measure| *measure == judgement.measure),
        "level": "error",
        "message": { "text": text },
        "partialFingerprints": { "pyallocSubject/v1": format!("{} {subject}", judgement.measure.name()) },
    });
    let locations = places(verdict, judgement);
    if !locations.is_empty() {
        result["locations"] = Json::Array(locations);
    }
    result
}

/// The first place to blame that is in the repository; else the test itself.
fn places(verdict: &Verdict, judgement: &Judgement) -> Vec<Json> {
    let merged = &verdict.runs.merged;
    let blamed = judgement.culprits.iter().filter_map(|culprit| culprit.code.map(|code| (code, culprit.line)));
    let on_path = judgement.culprits.iter().flat_map(|culprit| merged.path(culprit.path)).map(|code| (code, 0));
    let found = blamed.chain(on_path).find_map(|(code, line)| place(verdict, code, line));
    found.into_iter().collect()
}

fn place(verdict: &Verdict, id: CodeId, line: u32) -> Option<Json> {
    let code: &Code = verdict.runs.merged.code_of(id);
    let inside = code.kind == FrameKind::Own && !code.file.starts_with(['/', '<']) && !code.file.is_empty();
    if !inside {
        return None;
    }
    let line = if line > 0 { line } else { verdict.runs.lines.most(id) };
    let mut physical = json!({ "artifactLocation": { "uri": uri(&code.file), "uriBaseId": ROOT } });
    if line > 0 {
        physical["region"] = json!({ "startLine": line });
    }
    Some(json!({
        "physicalLocation": physical,
        "logicalLocations": [{ "fullyQualifiedName": sanitize::name(&code.function, NAME_COLUMNS), "kind": "function" }],
    }))
}

/// A path as a relative reference: what is no letter of a URL, by its number.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_is_a_relative_reference() {
        assert_eq!(super::uri("shop/a b#é.py"), "shop/a%20b%23%C3%A9.py");
    }
}
