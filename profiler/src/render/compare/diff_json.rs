//! A difference for programs.

use serde::Serialize;

use super::{Compared, names, words};
use crate::compare::diff::{Change, Diff};
use crate::compare::merged::{CodeId, NodeId};
use crate::profile::FrameKind;
use crate::render::{Options, RenderError};

#[derive(Serialize)]
struct Out<'a> {
    schema: &'static str,
    schema_version: u32,
    before: &'a str,
    after: &'a str,
    ledger: &'static str,
    value: &'static str,
    per_second: bool,
    duration_ms: [u64; 2],
    notes: Vec<String>,
    total: ChangeOut,
    functions: Vec<FunctionOut<'a>>,
    paths: Vec<PathOut<'a>>,
}

#[derive(Serialize)]
struct ChangeOut {
    kind: &'static str,
    before: u64,
    after: u64,
    standard_error: f64,
    noise: bool,
}

#[derive(Serialize)]
pub(super) struct CodeOut<'a> {
    kind: FrameKind,
    function: &'a str,
    file: &'a str,
    line: u32,
}

#[derive(Serialize)]
struct FunctionOut<'a> {
    #[serde(flatten)]
    change: ChangeOut,
    code: Option<CodeOut<'a>>,
    name: String,
    paths: usize,
}

#[derive(Serialize)]
struct PathOut<'a> {
    #[serde(flatten)]
    change: ChangeOut,
    /// Innermost first.
    frames: Vec<CodeOut<'a>>,
}

/// Renders; the top functions and paths.
pub(super) fn render(diff: &Diff, compared: &Compared<'_>, options: &Options) -> Result<String, RenderError> {
    let function =
        |function: &crate::compare::diff::Function| (function.code, function.line, function.change, function.paths);
    let functions =
        diff.functions.iter().take(options.top).map(function).map(|(code, line, change, paths)| FunctionOut {
            change: out(&change),
            code: code.map(|code| code_out(diff, code, line)),
            name: names::code(&diff.merged, code, line),
            paths,
        });
    let frames = |path: NodeId| diff.merged.path(path).map(|code| code_out(diff, code, 0)).collect();
    let paths = diff
        .paths
        .iter()
        .take(options.top)
        .map(|(path, change)| PathOut { change: out(change), frames: frames(*path) });
    super::json(&Out {
        schema: "pyalloc-diff",
        schema_version: 1,
        before: compared.before,
        after: compared.after,
        ledger: compared.ledger.name(),
        value: compared.value.name(),
        per_second: diff.per_second,
        duration_ms: diff.duration_ms,
        notes: words::notes(diff),
        total: out(&diff.total),
        functions: functions.collect(),
        paths: paths.collect(),
    })
}

fn out(change: &Change) -> ChangeOut {
    ChangeOut {
        kind: change.kind().word(),
        before: change.before.value,
        after: change.after.value,
        standard_error: change.standard_error(),
        noise: change.is_noise(),
    }
}

fn code_out(diff: &Diff, code: CodeId, line: u32) -> CodeOut<'_> {
    let code = diff.merged.code_of(code);
    CodeOut {
        kind: code.kind,
        function: &code.function,
        file: &code.file,
        line: if line > 0 { line } else { code.line },
    }
}
