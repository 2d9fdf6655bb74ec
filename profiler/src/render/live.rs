//! What the live view shows of a profile: places in the code by a number, and the frames of a call path.

use std::collections::BTreeMap;

use super::group::by_line;
use super::path::{NAME_COLUMNS, Names};
use super::{Ledger, Value, select};
use crate::profile::{FrameId, FrameKind, Profile, StackId};

/// A line of code with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `app.py:32 create_order`; already visible.
    pub name: String,
    /// Whether it is neither a package's nor the standard library's.
    pub own: bool,
    /// The number asked for.
    pub value: u64,
    /// How many objects it stands for; 0 where the ledger does not say.
    pub objects: u64,
    /// The distinct call paths, the largest number first.
    pub paths: Vec<(StackId, u64)>,
}

/// The places of a ledger, the largest number first; of one process, or of all. Empty if the ledger has no such number.
pub fn places(profile: &Profile, ledger: Ledger, value: Value, process: Option<u32>) -> Vec<Place> {
    let mut rows = select::rows(profile, ledger, value).unwrap_or_default();
    rows.retain(|row| process.is_none_or(|process| row.process == process));
    let names = Names::new(profile, NAME_COLUMNS);
    let groups = by_line(profile, &rows);
    let place = |frame: Option<FrameId>, paths: &BTreeMap<StackId, u64>| {
        let frame = frame.and_then(|id| profile.frame(id));
        let mut paths: Vec<(StackId, u64)> = paths.iter().map(|(stack, value)| (*stack, *value)).collect();
        paths.sort_by_key(|(stack, value)| (std::cmp::Reverse(*value), *stack));
        let name = names.code_or_none(frame);
        (name, frame.is_some_and(|frame| frame.kind == FrameKind::Own), paths)
    };
    let placed = groups.into_iter().map(|group| {
        let (name, own, paths) = place(group.frame, &group.paths);
        Place { name, own, value: group.value, objects: group.blocks.saturating_add(group.small), paths }
    });
    placed.collect()
}

/// The frames of a call path, outermost first: their names, and whether they are own code.
pub fn frames(profile: &Profile, stack: StackId) -> Vec<(String, bool)> {
    let names = Names::new(profile, NAME_COLUMNS);
    let mut frames: Vec<_> =
        profile.frames_of(stack).map(|frame| (names.code(frame), frame.kind == FrameKind::Own)).collect();
    frames.reverse();
    frames
}

impl Ledger {
    /// The next one, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::Heap => Self::Resident,
            Self::Resident => Self::Mapping,
            Self::Mapping => Self::Heap,
        }
    }

    /// The first of its numbers: what there is now.
    pub fn first_value(self) -> Value {
        self.values()[0]
    }

    /// The number after this one, in a circle; the first if it has no such.
    pub fn value_after(self, value: Value) -> Value {
        let values = self.values();
        let at = values.iter().position(|known| *known == value).map_or(0, |at| (at + 1) % values.len());
        values[at]
    }
}

impl Value {
    /// What it counts, in words.
    pub const fn words(self) -> &'static str {
        self.in_words()
    }

    /// Whether it is bytes, and not objects.
    pub const fn is_bytes(self) -> bool {
        self.is_space()
    }
}
