//! From a profile to what is wrong, and what to do: facts first, then one rule a file, then one verdict. Pure: nothing here
//! reads anything but the profile.

#![forbid(unsafe_code)]

mod answers;
pub mod facts;
#[cfg(test)]
mod golden;
pub mod rules;
mod thresholds;
mod verdict;
mod words;

use crate::profile::Profile;
use crate::profile::verdict::Diagnosis;

/// Judges a profile.
pub fn diagnose(profile: &Profile) -> Diagnosis {
    let facts = facts::Facts::of(profile);
    let mut diagnosis = verdict::of(&facts);
    diagnosis.answers = answers::all(&facts, &diagnosis);
    diagnosis
}
