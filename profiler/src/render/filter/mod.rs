//! Filters: from a profile to the part of it that was asked for, for every format alike. What a filter cannot tell it
//! says, in [`Profile::left_out`].

mod by;
pub(super) mod process;
mod stacks;
mod time;

use regex::Regex;

pub use by::By;

use super::RenderError;
use crate::profile::Profile;

/// The part of a profile that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only the process of this pid.
    pub process: Option<u32>,
    /// Only from this time on, milliseconds from the start of the trace.
    pub since_ms: Option<u64>,
    /// Only up to this time, milliseconds from the start of the trace.
    pub until_ms: Option<u64>,
    /// Only call paths with a matching frame, `function file:line`.
    pub focus: Option<Regex>,
    /// No call paths with a matching frame.
    pub ignore: Option<Regex>,
    /// What stands for a frame.
    pub by: By,
    /// Resident pages are chosen by who allocated what lies in them, and not by who touched them.
    pub by_owner: bool,
}

impl Filter {
    /// The part of the profile.
    ///
    /// # Errors
    /// A process that is not there, times that are not in the trace, types that were not looked at.
    pub fn apply(&self, mut profile: Profile) -> Result<Profile, RenderError> {
        if let Some(pid) = self.process {
            profile = process::only(&profile, pid)?;
        }
        if self.since_ms.is_some() || self.until_ms.is_some() {
            profile = time::cut(profile, self.since_ms, self.until_ms)?;
        }
        if self.by == By::Type {
            profile = by::types(profile)?;
        }
        if self.focus.is_some() || self.ignore.is_some() {
            stacks::choose(&mut profile, self);
        }
        by::coarsen(profile, self.by)
    }
}

#[cfg(test)]
mod tests;
