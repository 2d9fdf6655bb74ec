//! A call path in one or two lines: own frames by name, runs of library frames folded.

use super::page::Piece;
use super::path::Names;
use crate::profile::{Frame, FrameId, FrameKind, Profile, StackId};

/// Most links shown of a chain; the links in the middle of a longer one are counted instead.
const MOST_LINKS: usize = 7;

/// A call path seen from the line that names it.
pub(super) struct Chain<'p> {
    /// The frame that names the path; `None` for a path without frames.
    pub named: Option<&'p Frame>,
    /// What that frame called, outermost first.
    pub calls: Vec<&'p Frame>,
    /// What called that frame, innermost first.
    pub callers: Vec<&'p Frame>,
}

impl<'p> Chain<'p> {
    pub(super) fn new(profile: &'p Profile, stack: StackId, named: Option<FrameId>) -> Self {
        let ids: Vec<FrameId> = profile.frame_ids(stack).collect();
        let at = ids.iter().position(|id| Some(*id) == named).unwrap_or(0);
        let frames = |ids: &[FrameId]| ids.iter().filter_map(|id| profile.frame(*id)).collect::<Vec<_>>();
        let mut calls = frames(&ids[..at]);
        calls.reverse();
        let callers = frames(ids.get(at + 1..).unwrap_or_default());
        Self { named: ids.get(at).and_then(|id| profile.frame(*id)), calls, callers }
    }

    /// `-> 2 frames of json -> json/decoder.py:355 raw_decode <- app.py:40 handler <- 4 frames of flask`
    pub(super) fn pieces(&self, names: &Names<'_>) -> Vec<Piece> {
        let mut pieces = self.call_pieces(names);
        pieces.extend(shortened(links(&self.callers, names), Link::left_out).into_iter().map(|link| link.piece("<-")));
        pieces
    }

    /// `-> 2 frames of json -> json/decoder.py:355 raw_decode`: the innermost call is named.
    pub(super) fn call_pieces(&self, names: &Names<'_>) -> Vec<Piece> {
        let Some((last, through)) = self.calls.split_last() else {
            return Vec::new();
        };
        let mut links = shortened(links(through, names), Link::left_out);
        links.push(Link { text: names.code(last), library: last.kind != FrameKind::Own });
        links.into_iter().map(|link| link.piece("->")).collect()
    }
}

struct Link {
    text: String,
    library: bool,
}

impl Link {
    fn left_out(text: String) -> Self {
        Self { text, library: true }
    }

    fn piece(self, arrow: &str) -> Piece {
        Piece { text: format!("{arrow} {}", self.text), dim: self.library }
    }
}

fn links(frames: &[&Frame], names: &Names<'_>) -> Vec<Link> {
    let place = |frame: &Frame| match frame.kind {
        FrameKind::Own | FrameKind::Marker => names.code(frame),
        _ => names.package(frame),
    };
    let runs = frames.chunk_by(|a, b| a.kind == b.kind && place(a) == place(b));
    runs.map(|run| link(run, names)).collect()
}

fn link(run: &[&Frame], names: &Names<'_>) -> Link {
    let library = !matches!(run[0].kind, FrameKind::Own);
    let text = match (run.len(), run[0].kind) {
        (1, _) => names.code(run[0]),
        (times, FrameKind::Own | FrameKind::Marker) => format!("{} ({times} times)", names.code(run[0])),
        (frames, _) => format!("{frames} frames of {}", names.package(run[0])),
    };
    Link { text, library }
}

/// Leaves out the middle of a long chain: both ends say more.
pub(super) fn shortened<T>(mut links: Vec<T>, left_out: impl FnOnce(String) -> T) -> Vec<T> {
    if links.len() > MOST_LINKS {
        let tail = links.split_off(links.len() - 1);
        let steps = links.len() - (MOST_LINKS - 2);
        links.truncate(MOST_LINKS - 2);
        links.push(left_out(format!("{steps} more steps")));
        links.extend(tail);
    }
    links
}
