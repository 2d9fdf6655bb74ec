//! The other side of a resident page: who allocated what this path touched, who touched what this path allocated.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Value;
use super::group::Group;
use crate::profile::{FrameId, Profile, ResidentKind, ResidentRow, StackId};

/// What a path's resident bytes are on their other side.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// Bytes by the line of code on the other side.
    code: BTreeMap<Option<FrameId>, u64>,
    /// Bytes of no live block, by what memory they are.
    pub nobody: BTreeMap<ResidentKind, u64>,
    /// True where the paths touched and the other side allocated.
    pub touched: bool,
    /// All bytes.
    pub total: u64,
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
            Some(stack) => self.code.entry(profile.naming_frame(stack)).or_default(),
            None => self.nobody.entry(row.kind).or_default(),
        };
        *sum = sum.saturating_add(row.inuse_space);
    }

    /// The lines of code on the other side, most bytes first.
    pub(super) fn by_code(&self) -> Vec<(Option<FrameId>, u64)> {
        let mut code: Vec<(Option<FrameId>, u64)> = self.code.iter().map(|(frame, space)| (*frame, *space)).collect();
        code.sort_by_key(|(frame, space)| (Reverse(*space), *frame));
        code
    }
}
