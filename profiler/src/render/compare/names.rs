//! Names of functions that several profiles share.

use crate::compare::merged::{Code, CodeId, Merged};
use crate::profile::FrameKind;
use crate::profile::place::last_parts;
use crate::render::path::{NAME_COLUMNS, NO_PATH};
use crate::render::sanitize;

/// `shop/app.py:21 remember`; `inflate in libz.so.1`; a marker's text.
pub(super) fn code(merged: &Merged, code: Option<CodeId>, line: u32) -> String {
    let Some(code) = code.map(|code| merged.code_of(code)) else { return NO_PATH.to_owned() };
    let function = function(code);
    match code.kind {
        FrameKind::Marker => marker(&function),
        FrameKind::Native => format!("{function} in {}", file(code)),
        _ => format!("{} {function}", place(code, line)),
    }
}

/// `remember (shop/app.py)`, for a flamegraph.
pub(super) fn label(code: &Code) -> String {
    let function = function(code);
    if code.kind == FrameKind::Marker { marker(&function) } else { format!("{function} ({})", place(code, 0)) }
}

fn marker(text: &str) -> String {
    if text.starts_with('[') && text.ends_with(']') { text.to_owned() } else { format!("[{text}]") }
}

/// `shop/app.py:21`.
pub(super) fn place(code: &Code, line: u32) -> String {
    match if line > 0 { line } else { code.line } {
        0 => file(code),
        line => format!("{}:{line}", file(code)),
    }
}

/// A file outside of the repository is told by its last parts.
fn file(code: &Code) -> String {
    let short = if code.file.starts_with('/') { last_parts(&code.file, 2) } else { &code.file };
    known(&sanitize::name(short, NAME_COLUMNS), "a file not known")
}

pub(super) fn function(code: &Code) -> String {
    known(&sanitize::name(&code.function, NAME_COLUMNS), "unknown function")
}

/// What library code belongs to: `flask`, `json`.
pub(super) fn package(code: &Code) -> String {
    let first = code.file.trim_start_matches("<frozen ").split(['/', '.', '>']).find(|part| !part.is_empty());
    let name = if code.kind == FrameKind::Native { &code.file } else { first.unwrap_or_default() };
    known(&sanitize::name(name, NAME_COLUMNS), "an unknown package")
}

fn known(text: &str, otherwise: &str) -> String {
    if text.trim().is_empty() { otherwise.to_owned() } else { text.to_owned() }
}
