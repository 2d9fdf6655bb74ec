//! The other side of a resident page: who allocated what this path touched, who touched what this path allocated.

use std::collections::BTreeMap;

use crate::profile::{FrameId, Profile, ResidentKind, ResidentRow, StackId};
use crate::render::Value;
use crate::render::group::{Group, recognized};
use crate::render::path::Names;
use crate::render::units::{bytes, rough_share};

/// Smaller shares of a path's bytes than this are not told, in percent.
const WORTH_TELLING: u64 = 5;
/// Most names in a line.
const MOST: usize = 2;

/// What a path's resident bytes are on their other side.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// Bytes by the line of code on the other side.
    code: BTreeMap<Option<FrameId>, u64>,
    /// Bytes of no live block, by what memory they are.
    nobody: BTreeMap<ResidentKind, u64>,
    touched: bool,
    total: u64,
}

impl Sides {
    /// Of a group of paths by `TouchedSpace` or `OwnedSpace`.
    pub(super) fn of(profile: &Profile, value: Value, group: &Group) -> Self {
        let touched = value == Value::TouchedSpace;
        let mut sides = Self { touched, ..Self::default() };
        let own = |row: &&ResidentRow| {
            let stack = if touched { Some(row.stack) } else { row.allocated_by };
            stack.is_some_and(|stack| group.paths.contains_key(&stack)) && group.processes.contains_key(&row.process)
        };
        for row in profile.resident.iter().filter(own) {
            sides.add(profile, row, if touched { row.allocated_by } else { Some(row.stack) });
        }
        sides
    }

    fn add(&mut self, profile: &Profile, row: &ResidentRow, other: Option<StackId>) {
        self.total = self.total.saturating_add(row.inuse_space);
        let sum = match other {
            Some(stack) => self.code.entry(recognized(profile, stack)).or_default(),
            None => self.nobody.entry(row.kind).or_default(),
        };
        *sum = sum.saturating_add(row.inuse_space);
    }

    /// `allocated by the same line`, `allocated by app.py:5 make (95 %); 8.0 MiB of the C allocator's are in no live
    /// block of this trace`
    pub(super) fn in_words(&self, profile: &Profile, names: &Names<'_>, group: &Group) -> String {
        let by = if self.touched { "allocated by" } else { "touched by" };
        let mut code: Vec<(&Option<FrameId>, &u64)> = self.code.iter().collect();
        code.sort_by_key(|(frame, bytes)| (std::cmp::Reverse(**bytes), **frame));
        let worth = |sum: u64| u128::from(sum) * 100 >= u128::from(self.total) * u128::from(WORTH_TELLING);
        let name = |frame: Option<FrameId>| match frame.and_then(|frame| profile.frame(frame)) {
            _ if same_line(profile, frame, group.frame) => "the same line".to_owned(),
            Some(frame) => names.code(frame),
            None => "[no call path]".to_owned(),
        };
        let named = code.iter().filter(|(_, sum)| worth(**sum)).take(MOST);
        let named: Vec<String> =
            named.map(|(frame, sum)| format!("{} ({})", name(**frame), rough_share(**sum, self.total))).collect();
        let mut parts = Vec::new();
        if !named.is_empty() {
            parts.push(format!("{by} {}", named.join(" and ")));
        }
        for (kind, sum) in self.nobody.iter().filter(|(_, sum)| worth(**sum)) {
            parts.push(format!("{} {}", bytes(*sum), nobody(*kind)));
        }
        parts.join("; ")
    }
}

fn same_line(profile: &Profile, a: Option<FrameId>, b: Option<FrameId>) -> bool {
    let key =
        |id: Option<FrameId>| id.and_then(|id| profile.frame(id)).map(|frame| (frame.file, frame.function, frame.line));
    key(a).is_some() && key(a) == key(b)
}

/// What bytes are that belong to no live block, pool or mapping made during the trace.
fn nobody(kind: ResidentKind) -> &'static str {
    match kind {
        ResidentKind::CHeap => "of the C allocator in no live block of this trace: free, or allocated before",
        ResidentKind::Objects => "of pymalloc in no pool opened during the trace",
        ResidentKind::Anonymous => "in mappings made before the trace",
        ResidentKind::Stack => "of stacks",
        ResidentKind::File => "of files",
        ResidentKind::Image => "of variables of programs and libraries",
        ResidentKind::Shared => "of shared memory mapped before the trace",
        ResidentKind::HugeTlb => "of hugetlbfs",
    }
}
