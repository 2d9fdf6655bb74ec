//! The other side of a path's resident bytes, in words.

use crate::profile::{FrameId, Profile, ResidentKind};
use crate::render::group::Group;
use crate::render::path::Names;
use crate::render::sides::Sides;
use crate::render::units::{bytes, rough_share};

/// Smaller shares of a path's bytes than this are not told, in percent.
const WORTH_TELLING: u64 = 5;
/// Most names in a line.
const MOST: usize = 2;

/// `allocated by the same line (92 %)`, `allocated by app.py:5 make (95 %); 8.0 MiB of malloc outside blocks of this
/// trace (free, or allocated before)`
pub(super) fn in_words(sides: &Sides, profile: &Profile, names: &Names<'_>, group: &Group) -> String {
    let by = if sides.touched { "allocated by" } else { "touched by" };
    let worth = |sum: u64| u128::from(sum) * 100 >= u128::from(sides.total) * u128::from(WORTH_TELLING);
    let name = |frame: Option<FrameId>| match same_line(profile, frame, group.frame) {
        true => "the same line".to_owned(),
        false => names.code_or_none(frame.and_then(|frame| profile.frame(frame))),
    };
    let named = sides.by_code().into_iter().filter(|(_, sum)| worth(*sum)).take(MOST);
    let named: Vec<String> =
        named.map(|(frame, sum)| format!("{} ({})", name(frame), rough_share(sum, sides.total))).collect();
    let mut parts = Vec::new();
    if !named.is_empty() {
        parts.push(format!("{by} {}", named.join(" and ")));
    }
    for (kind, sum) in sides.nobody.iter().filter(|(_, sum)| worth(**sum)) {
        let what = if profile.trace.without_heap { without_heap(*kind) } else { None };
        parts.push(format!("{} {}", bytes(*sum), what.unwrap_or_else(|| nobody(*kind))));
    }
    parts.join("; ")
}

fn same_line(profile: &Profile, a: Option<FrameId>, b: Option<FrameId>) -> bool {
    let key =
        |id: Option<FrameId>| id.and_then(|id| profile.frame(id)).map(|frame| (frame.file, frame.function, frame.line));
    key(a).is_some() && key(a) == key(b)
}

/// As [`nobody`], where no block and no pool is known.
fn without_heap(kind: ResidentKind) -> Option<&'static str> {
    match kind {
        ResidentKind::CHeap => Some("of malloc (who allocated it: no heap ledger was kept)"),
        ResidentKind::Objects => Some("of small objects (who made them: no heap ledger was kept)"),
        _ => None,
    }
}

/// What bytes are that belong to no live block, pool or mapping made during the trace.
fn nobody(kind: ResidentKind) -> &'static str {
    match kind {
        ResidentKind::CHeap => "of malloc outside blocks of this trace (free, or allocated before)",
        ResidentKind::Objects => "of small objects outside pools of this trace (free, or from before)",
        ResidentKind::Anonymous => "in mappings made before the trace",
        ResidentKind::Stack => "of thread stacks",
        ResidentKind::File => "of files",
        ResidentKind::Image => "of variables of programs and libraries",
        ResidentKind::Shared => "of shared memory mapped before the trace",
        ResidentKind::HugeTlb => "of hugetlbfs (not in RSS)",
    }
}
