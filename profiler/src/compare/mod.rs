//! Two profiles and more, held against each other: what changed, and what is over a limit. Pure functions over
//! profiles; nothing here reads a file or a clock.
//!
//! The line: [`places`] (files of two checkouts get the same names) -> [`merged`] (one tree of call paths for all) ->
//! [`diff`] (two profiles), or [`sums`] -> [`gate`] (runs against baselines and budgets).

#![forbid(unsafe_code)]

pub mod bound;
pub mod budget;
pub mod caveats;
mod chance;
pub mod diff;
pub mod gate;
pub mod measure;
pub mod merged;
pub mod pattern;
pub mod places;
pub mod pytest;
pub mod slope;
mod student;
pub mod sums;
mod unseen;

/// A number that may be an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// The number: bytes or objects.
    pub value: u64,
    /// The variance of the estimate; 0 where everything was counted.
    pub variance: f64,
}

impl Amount {
    /// A number that was counted.
    pub const fn exact(value: u64) -> Self {
        Self { value, variance: 0.0 }
    }

    /// Adds another; the estimates are taken as independent.
    pub fn add(&mut self, other: Self) {
        self.value = self.value.saturating_add(other.value);
        self.variance += other.variance;
    }

    /// The standard error; 0 where everything was counted.
    pub fn standard_error(self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    /// The number by `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        Self { value: (self.value as f64 * factor).round() as u64, variance: self.variance * factor * factor }
    }
}
