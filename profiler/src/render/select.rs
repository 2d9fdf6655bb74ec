//! Picks a ledger's number for each call path. What a ledger does not count is an error, not a zero.

use super::{Ledger, RenderError, Value};
use crate::profile::{BlockRow, MappingRow, PoolRow, Profile, StackId};

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
}

/// Every call path whose number is not zero.
pub(super) fn rows(profile: &Profile, ledger: Ledger, value: Value) -> Result<Vec<Row>, RenderError> {
    if !ledger.values().contains(&value) {
        return Err(RenderError::NoSuchValue { ledger, value });
    }
    let mut rows: Vec<Row> = match ledger {
        Ledger::Heap => heap_rows(profile, value),
        Ledger::Mapping => profile.mappings.iter().map(|row| mapping_row(row, value)).collect(),
    };
    rows.retain(|row| row.value > 0);
    Ok(rows)
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
    };
    Row { process: row.process, stack: row.stack, small: false, value: pick(value, objects, space), objects, space }
}

/// How many small objects were ever made is not counted, only which are live.
fn pool_row(row: &PoolRow, value: Value) -> Option<Row> {
    let (objects, space) = match value {
        Value::InuseSpace | Value::InuseObjects => (row.inuse_objects, row.inuse_space),
        _ => return None,
    };
    let value = pick(value, objects, space);
    Some(Row { process: row.process, stack: row.stack, small: true, value, objects, space })
}

fn mapping_row(row: &MappingRow, value: Value) -> Row {
    let (objects, space) = match value {
        Value::InuseSpace | Value::InuseObjects => (row.inuse_objects, row.inuse_space),
        _ => (row.alloc_objects, row.alloc_space),
    };
    Row { process: row.process, stack: row.stack, small: false, value: pick(value, objects, space), objects, space }
}

fn pick(value: Value, objects: u64, space: u64) -> u64 {
    if value.is_space() { space } else { objects }
}
