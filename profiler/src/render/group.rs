//! Groups call paths by the line of code that a person can change: one entry per place, not per path to it.

use std::collections::{BTreeMap, HashMap};

use super::select::Row;
use crate::profile::{FrameId, Profile, StackId, StringId};

/// All call paths that have the same innermost line of own code.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// That line; of a path without own code, of the innermost package, else of the innermost frame. `None` for
    /// paths without any frame.
    pub frame: Option<FrameId>,
    /// Sum of the number asked for.
    pub value: u64,
    /// Sum of the blocks or mappings.
    pub blocks: u64,
    /// Sum of the small objects.
    pub small: u64,
    /// Sum of the bytes.
    pub space: u64,
    /// Variance of `value`; 0 where it is exact.
    pub variance: f64,
    /// The distinct paths with their numbers.
    pub paths: BTreeMap<StackId, u64>,
    /// The processes with their numbers.
    pub processes: BTreeMap<u32, u64>,
}

/// The groups, largest number first.
pub(super) fn by_line(profile: &Profile, rows: &[Row]) -> Vec<Group> {
    let mut groups: HashMap<Option<(StringId, StringId, u32)>, Group> = HashMap::new();
    for row in rows {
        let frame = profile.naming_frame(row.stack);
        let key = frame.and_then(|frame| profile.frame(frame)).map(|frame| (frame.file, frame.function, frame.line));
        groups.entry(key).or_insert_with(|| Group::empty(frame)).add(row);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    // The stack breaks ties, so that the same profile gives the same order.
    groups.sort_by_key(|group| (std::cmp::Reverse(group.value), group.paths.keys().next().copied()));
    groups
}

impl Group {
    fn empty(frame: Option<FrameId>) -> Self {
        let (paths, processes) = (BTreeMap::new(), BTreeMap::new());
        Self { frame, value: 0, blocks: 0, small: 0, space: 0, variance: 0.0, paths, processes }
    }

    fn add(&mut self, row: &Row) {
        let count = if row.small { &mut self.small } else { &mut self.blocks };
        *count = count.saturating_add(row.objects);
        self.value = self.value.saturating_add(row.value);
        self.space = self.space.saturating_add(row.space);
        self.variance += row.variance;
        let path = self.paths.entry(row.stack).or_default();
        *path = path.saturating_add(row.value);
        let process = self.processes.entry(row.process).or_default();
        *process = process.saturating_add(row.value);
    }

    /// The processes, largest number first.
    pub(super) fn by_process(&self) -> Vec<(u32, u64)> {
        let mut processes: Vec<(u32, u64)> = self.processes.iter().map(|(index, value)| (*index, *value)).collect();
        processes.sort_by_key(|(index, value)| (std::cmp::Reverse(*value), *index));
        processes
    }

    /// The path with the largest number, and that number.
    pub(super) fn heaviest(&self) -> (StackId, u64) {
        // Of equal ones the first, so that the same profile gives the same report.
        let heaviest = self.paths.iter().max_by_key(|(stack, value)| (**value, std::cmp::Reverse(**stack)));
        heaviest.map_or((0, 0), |(stack, value)| (*stack, *value))
    }
}
