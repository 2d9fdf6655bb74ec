//! Which processes were asked for.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use procfs::process::Process;
use regex::Regex;

use super::TraceArgs;
use super::tree::{descendants, in_cgroup};
use crate::exit::Failure;
use crate::process::{Pid, namespace, status};

/// What can be known to be wrong before anything is loaded.
///
/// # Errors
/// A pid that is not there, or is a thread's; a /proc of other processes than ours; no ledger that could be kept.
pub fn check(args: &TraceArgs) -> Result<(), Failure> {
    if let Some(reason) = namespace::foreign_proc() {
        return Err(Failure::cannot_observe(reason));
    }
    if !args.ledger.iter().any(|&ledger| args.keeps(ledger)) {
        return Err(Failure::usage(
            "nothing would be recorded: the heap ledger needs probes, and --no-uprobes sets none",
        ));
    }
    args.pid.iter().try_for_each(|&pid| check_pid(pid))
}

fn check_pid(pid: u32) -> Result<(), Failure> {
    if pid == 0 || !fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        let hint = "`pgrep -af python` lists the candidates";
        let place = if namespace::own_pid_namespace().is_some() { " in this container's pid namespace" } else { "" };
        return Err(Failure::cannot_observe(format!("there is no process {pid}{place}; {hint}")));
    }
    // /proc/TID is there for threads too, though it is not listed.
    match status::read(Pid(pid)).ok().and_then(|status| status::field(&status, "Tgid")) {
        Some(tgid) if tgid != pid.to_string() => {
            Err(Failure::usage(format!("{pid} is a thread of process {tgid}; give --pid {tgid}")))
        }
        _ => Ok(()),
    }
}

/// The processes asked for, with their descendants unless these are not wanted.
///
/// # Errors
/// Nothing fits the name or stands in the control group.
pub fn pids(args: &TraceArgs) -> Result<Vec<Pid>, Failure> {
    let mut pids: Vec<Pid> = args.pid.iter().copied().map(Pid).collect();
    if let Some(name) = &args.name {
        pids.extend(named(name)?);
    }
    if let Some(folder) = &args.cgroup {
        pids.extend(grouped(folder)?);
    }
    if !args.no_children {
        let below: Vec<Pid> = pids.iter().flat_map(|&pid| descendants(pid)).collect();
        pids.extend(below);
    }
    let own = Pid(std::process::id());
    let mut seen = HashSet::new();
    pids.retain(|&pid| pid != own && seen.insert(pid));
    Ok(pids)
}

/// The processes whose command line fits, with an interpreter among their files.
fn named(name: &Regex) -> Result<Vec<Pid>, Failure> {
    let all = procfs::process::all_processes().map_err(Failure::cannot_observe)?;
    let pid = |process: Process| Pid(process.pid.cast_unsigned());
    let found: Vec<Pid> = all.flatten().filter(|process| fits(process, name)).map(pid).collect();
    if found.is_empty() {
        return Err(Failure::cannot_observe(format!(
            "no python process has a command line that fits {name}; `pgrep -af python` lists the candidates"
        )));
    }
    Ok(found)
}

fn fits(process: &Process, name: &Regex) -> bool {
    let command = status::command_line(Pid(process.pid.cast_unsigned())).unwrap_or_default();
    // Our own command line holds the expression too; it is no Python's, and neither is that of a shell or an editor.
    // Paths are any bytes.
    let maps = || fs::read(format!("/proc/{}/maps", process.pid)).unwrap_or_default();
    name.is_match(&command) && String::from_utf8_lossy(&maps()).contains("python")
}

fn grouped(folder: &Path) -> Result<Vec<Pid>, Failure> {
    let found = in_cgroup(folder).map_err(|error| {
        let folder = folder.display();
        Failure::usage(format!("cannot read the control group {folder}: {error}; give its folder below /sys/fs/cgroup"))
    })?;
    if found.is_empty() {
        let folder = folder.display();
        return Err(Failure::cannot_observe(format!("there is no process in the control group {folder}")));
    }
    Ok(found)
}
