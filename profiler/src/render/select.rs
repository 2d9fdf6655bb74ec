//! Picks a ledger's number for each call path. What a ledger does not count is an error, not a zero. What survived in a
//! process that ended is no number of the report: it went with the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::{Ledger, RenderError, Value, estimate};
use crate::profile::tree::counted;
use crate::profile::{BlockRow, MappingRow, PoolRow, Profile, ResidentRow, StackId};

/// A call path and its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Index of the process.
    pub process: u32,
    /// The call path.
    pub stack: StackId,
    /// True for small objects in pools.
    pub small: bool,
    /// The number asked for.
    pub value: u64,
    /// How many objects it stands for; 0 where the ledger does not say.
    pub objects: u64,
    /// How many bytes it stands for.
    pub space: u64,
    /// Variance of `value`, where it is an estimate; 0 where it is exact, or its error is not known.
    pub variance: f64,
}

/// Every call path whose number is not zero.
pub(super) fn rows(profile: &Profile, ledger: Ledger, value: Value) -> Result<Vec<Row>, RenderError> {
    if !ledger.values().contains(&value) {
        return Err(RenderError::NoSuchValue { ledger, value });
    }
    let mut rows = all_rows(profile, ledger, value);
    if value.is_of_the_end() {
        let counted = counted(profile);
        rows.retain(|row| counted.get(row.process as usize).copied().unwrap_or(true));
    }
    Ok(rows)
}

/// What was live in a process when it ended, by call path.
pub(super) fn rows_at_end(profile: &Profile, process: u32) -> Vec<Row> {
    let mut rows = all_rows(profile, Ledger::Heap, Value::InuseSpace);
    rows.retain(|row| row.process == process);
    rows
}

fn all_rows(profile: &Profile, ledger: Ledger, value: Value) -> Vec<Row> {
    let mut rows: Vec<Row> = match ledger {
        Ledger::Heap => heap_rows(profile, value),
        Ledger::Mapping => profile.mappings.iter().map(|row| mapping_row(row, value)).collect(),
        Ledger::Resident => resident_rows(profile, value),
    };
    rows.retain(|row| row.value > 0);
    rows
}

/// The processes with the largest sums, at most `most`, and how many more have rows; the first list of rows weighs
/// more than the next.
pub(super) fn biggest(lists: &[Vec<Row>], most: usize) -> (Vec<u32>, usize) {
    let mut sums: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (list, rows) in lists.iter().enumerate() {
        for row in rows {
            let sum = &mut sums.entry(row.process).or_insert_with(|| vec![0; lists.len()])[list];
            *sum = sum.saturating_add(row.value);
        }
    }
    let mut processes: Vec<(Vec<u64>, u32)> = sums.into_iter().map(|(process, sums)| (sums, process)).collect();
    processes.sort_by_key(|(sums, process)| (Reverse(sums.clone()), *process));
    let more = processes.len().saturating_sub(most);
    (processes.into_iter().take(most).map(|(_, process)| process).collect(), more)
}

fn heap_rows(profile: &Profile, value: Value) -> Vec<Row> {
    let blocks = profile.blocks.iter().map(|row| block_row(row, value));
    let pools = profile.pools.iter().filter_map(|row| pool_row(row, value));
    blocks.chain(pools).collect()
}

fn block_row(row: &BlockRow, value: Value) -> Row {
    let (objects, space) = match value {
        Value::InuseSpace | Value::InuseObjects => (row.inuse_objects, row.inuse_space),
        Value::AllocSpace | Value::AllocObjects => (row.alloc_objects, row.alloc_space),
        Value::TemporarySpace => (row.temporary_objects, row.temporary_space),
        Value::PeakSpace => (0, row.peak_space),
        Value::TouchedSpace | Value::OwnedSpace => (0, 0),
    };
    let variance = match value {
        Value::InuseSpace => row.inuse_variance,
        Value::InuseObjects => row.inuse_objects_variance,
        Value::AllocSpace => row.alloc_variance,
        Value::AllocObjects => row.alloc_objects_variance,
        _ => 0.0,
    };
    let value = pick(value, objects, space);
    Row { process: row.process, stack: row.stack, small: false, value, objects, space, variance }
}

/// How many small objects were ever made is not counted, only which are live.
fn pool_row(row: &PoolRow, value: Value) -> Option<Row> {
    let variance = match value {
        Value::InuseSpace => row.inuse_variance,
        Value::InuseObjects => row.inuse_objects_variance,
        _ => return None,
    };
    let (objects, space) = (row.inuse_objects, row.inuse_space);
    let value = pick(value, objects, space);
    Some(Row { process: row.process, stack: row.stack, small: true, value, objects, space, variance })
}

fn mapping_row(row: &MappingRow, value: Value) -> Row {
    let (objects, space) = match value {
        Value::InuseSpace | Value::InuseObjects => (row.inuse_objects, row.inuse_space),
        _ => (row.alloc_objects, row.alloc_space),
    };
    let value = pick(value, objects, space);
    Row { process: row.process, stack: row.stack, small: false, value, objects, space, variance: 0.0 }
}

/// What is known of the error is that of all that a path touched: its first row has it.
fn resident_rows(profile: &Profile, value: Value) -> Vec<Row> {
    let mut variances = if value == Value::TouchedSpace { estimate::variances(profile) } else { HashMap::new() };
    let mut rows: Vec<Row> = profile.resident.iter().filter_map(|row| resident_row(row, value)).collect();
    for row in &mut rows {
        row.variance = variances.remove(&(row.process, row.stack)).unwrap_or(0.0);
    }
    rows
}

/// Bytes of no live block that the trace knows are nobody's when it is asked who allocated them.
fn resident_row(row: &ResidentRow, value: Value) -> Option<Row> {
    let stack = if value == Value::OwnedSpace { row.allocated_by? } else { row.stack };
    let space = row.inuse_space;
    Some(Row { process: row.process, stack, small: false, value: space, objects: 0, space, variance: 0.0 })
}

fn pick(value: Value, objects: u64, space: u64) -> u64 {
    if value.is_space() { space } else { objects }
}
