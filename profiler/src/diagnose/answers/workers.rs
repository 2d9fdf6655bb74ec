//! Did the number of workers or threads change? Does each worker hold a copy of the same memory?

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::Role;
use crate::diagnose::rules::multiplication::{copied_on_write, one_less, sizes};
use crate::render::units::{bytes, counted};

/// What each has alone and what is shared; what one less saves; threads and processes that came.
pub fn answer(facts: &Facts<'_>) -> Vec<String> {
    let workers = facts.workers();
    let mut lines = Vec::new();
    if workers.len() < 2 {
        lines.push(match facts.counted().count() {
            1 => "there is one process".to_owned(),
            many => format!("there are {many} processes, none of them like another"),
        });
    } else {
        lines.push(format!(
            "{} of about the same size; one less saves {}",
            counted(workers.len() as u64, "worker"),
            bytes(one_less(&workers))
        ));
        lines.extend(sizes(facts, &workers));
    }
    let came = facts.counted().filter(|process| process.is_new && process.role == Role::Worker).count();
    if came > 0 {
        lines.push(format!("{} came during the watch", counted(came as u64, "worker")));
    }
    for process in facts.counted() {
        let info = facts.info(process);
        if info.threads_end != info.threads_start && !process.is_new {
            lines.push(format!("{}: {} threads became {}", facts.name(process), info.threads_start, info.threads_end));
        }
    }
    lines.extend(copied_on_write(facts));
    lines
}
