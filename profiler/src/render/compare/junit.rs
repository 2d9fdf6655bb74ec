//! What a gate says as JUnit's XML: one suite for each of all processes, tests and functions, one case a number.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::check_json::scope;
use super::{chain, names, words};
use crate::compare::gate::{Against, Judgement, Verdict};
use crate::render::sanitize::xml;

/// Renders.
pub(super) fn render(verdict: &Verdict) -> String {
    let mut suites: BTreeMap<&'static str, Vec<&Judgement>> = BTreeMap::new();
    for judgement in &verdict.judgements {
        suites.entry(scope(judgement.subject)).or_default().push(judgement);
    }
    let all = (verdict.judgements.len(), verdict.failures().count());
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pyalloc check\" tests=\"{}\" failures=\"{}\" \
         errors=\"0\" time=\"0\">\n",
        all.0, all.1
    );
    for (name, judgements) in suites {
        let failures = judgements.iter().filter(|judgement| !judgement.passed).count();
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "  <testsuite name=\"pyalloc.{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"0\">",
            judgements.len()
        );
        judgements.iter().for_each(|judgement| case(&mut out, verdict, name, judgement));
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn case(out: &mut String, verdict: &Verdict, suite: &str, judgement: &Judgement) {
    let mut name = format!("{} {}", words::name(verdict, judgement.subject), judgement.measure.name());
    if let Against::Limit(origin) = &judgement.against {
        // A number may have several limits, and a case has a name of its own.
        let _ = write!(name, " ({origin})");
    }
    let _ = write!(out, "    <testcase classname=\"pyalloc.{suite}\" name=\"{}\" time=\"0\"", xml(&name));
    let finding = words::finding(judgement);
    if judgement.passed {
        let _ = writeln!(out, ">\n      <system-out>{}</system-out>\n    </testcase>", xml(&finding));
        return;
    }
    let message = format!("{}: {finding}", judgement.measure.in_words());
    let _ =
        writeln!(out, ">\n      <failure message=\"{}\" type=\"pyalloc.{}\">", xml(&message), judgement.measure.name());
    let _ = writeln!(out, "{}", xml(&words::why(judgement)));
    for culprit in &judgement.culprits {
        let merged = &verdict.runs.merged;
        let line = format!(
            "+{} {} {}",
            words::bytes(culprit.after - culprit.before),
            names::code(merged, culprit.code, culprit.line),
            chain::text(merged, culprit.path, culprit.code)
        );
        let _ = writeln!(out, "{}", xml(line.trim_end()));
    }
    out.push_str("</failure>\n    </testcase>\n");
}
