//! A shared call path in a line or two, seen from the function that names it.

use super::names;
use crate::compare::merged::{Code, CodeId, Merged, NodeId};
use crate::profile::FrameKind;
use crate::render::chain::shortened;
use crate::render::page::Piece;

/// `-> 2 frames of json <- app.py cart <- 3 frames of flask`.
pub(super) fn pieces(merged: &Merged, path: NodeId, named: Option<CodeId>) -> Vec<Piece> {
    let ids: Vec<CodeId> = merged.path(path).collect();
    let at = ids.iter().position(|id| Some(*id) == named).unwrap_or(0);
    let codes = |ids: &[CodeId]| ids.iter().map(|id| merged.code_of(*id)).collect::<Vec<_>>();
    let mut calls = codes(&ids[..at]);
    calls.reverse();
    let mut pieces = links("->", &calls);
    pieces.extend(links("<-", &codes(ids.get(at + 1..).unwrap_or_default())));
    pieces
}

/// The same as a text.
pub(super) fn text(merged: &Merged, path: NodeId, named: Option<CodeId>) -> String {
    pieces(merged, path, named).into_iter().map(|piece| piece.text).collect::<Vec<_>>().join(" ")
}

fn links(arrow: &str, codes: &[&Code]) -> Vec<Piece> {
    let is_library = |code: &Code| matches!(code.kind, FrameKind::Package | FrameKind::Stdlib | FrameKind::Native);
    let same = |one: &&Code, other: &&Code| {
        if is_library(one) { is_library(other) && names::package(one) == names::package(other) } else { one == other }
    };
    let link = |run: &[&Code]| {
        let library = is_library(run[0]);
        let name = match run[0].kind {
            FrameKind::Marker => names::label(run[0]),
            _ => format!("{} {}", names::place(run[0], 0), names::function(run[0])),
        };
        let text = match run.len() {
            1 => name,
            frames if library => format!("{frames} frames of {}", names::package(run[0])),
            times => format!("{name} ({times} times)"),
        };
        Piece { text: format!("{arrow} {text}"), dim: library }
    };
    let links = codes.chunk_by(|one, other| same(one, other)).map(link).collect();
    shortened(links, |steps| Piece { text: format!("{arrow} {steps}"), dim: true })
}
