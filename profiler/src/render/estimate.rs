//! How sure the pages of call paths are, where not every page fault was recorded.

use std::collections::HashMap;

use crate::profile::{EstimateOf, EstimateRow, Profile, StackId};

/// Variances of what call paths touched, by process and path.
pub(super) fn variances(profile: &Profile) -> HashMap<(u32, StackId), f64> {
    let mut variances = HashMap::new();
    for row in profile.estimates.iter().filter(|row| row.of == EstimateOf::Resident) {
        *variances.entry((row.process, row.stack)).or_default() += (row.standard_error as f64).powi(2);
    }
    variances
}

/// The standard error of all sums of a table together, and the bytes that are estimated; `None` if nothing is.
pub(super) fn of_table(profile: &Profile, of: EstimateOf) -> Option<(u64, u64)> {
    let rows = || profile.estimates.iter().filter(|row| row.of == of);
    let space = rows().fold(0, |sum: u64, row| sum.saturating_add(row.space));
    Some((space, joined(rows())?))
}

/// Errors of what was found by different faults add up by their squares.
fn joined<'a>(rows: impl Iterator<Item = &'a EstimateRow>) -> Option<u64> {
    let squares: f64 = rows.map(|row| (row.standard_error as f64).powi(2)).sum();
    (squares > 0.0).then(|| squares.sqrt().round() as u64)
}
