//! Processes in which no probe is: why, and what is known of them all the same.

use std::collections::BTreeMap;

use crate::profile::{Process, Profile};
use crate::render::page::Page;
use crate::render::sanitize;
use crate::render::units::{counted, time_us};

/// Whether there is no probe in any process that has an interpreter.
pub(super) fn everywhere(profile: &Profile) -> bool {
    let mut python = profile.processes.iter().filter(|process| !process.python.is_empty()).peekable();
    python.peek().is_some() && python.all(|process| process.without_probes.is_some())
}

/// One line for each reason.
pub(super) fn write(page: &mut Page, profile: &Profile) {
    let mut reasons: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
    for process in &profile.processes {
        if let Some(reason) = &process.without_probes {
            reasons.entry(reason).or_default().push(process);
        }
    }
    for (reason, processes) in reasons {
        let number = processes.len() as u64;
        let place = if number == 1 { format!("process {}", processes[0].pid) } else { counted(number, "process") };
        let late = processes.iter().map(|process| process.unprobed_us).max().filter(|late| *late > 1);
        let late = late.map_or_else(String::new, |late| {
            format!(
                " A program that was executed is recorded once its interpreter is found: after {} at most.",
                time_us(late)
            )
        });
        page.fact(
            "no probes",
            &format!(
                "in {place}: {}. Pages and mappings are recorded with their call paths, allocations are not.{late}",
                sanitize::name(reason, 400)
            ),
        );
    }
}
