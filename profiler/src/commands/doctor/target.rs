//! What one process allows.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use profiler_common::probe::Function;

use super::check::Check;
use super::{PythonFound, Seams};
use crate::kernel::plan::{NoAllocator, ProbePlan, ProbePoint, Python, Target};
use crate::kernel::release::Release;
use crate::kernel::site::SiteRules;
use crate::process::image::Image;
use crate::process::memory::ProcessMemory;
use crate::process::{Pid, maps, namespace, status};
use crate::python::allocators::Interpreter;

/// What was found about a process.
pub(super) struct Examined {
    pub(super) checks: Vec<Check>,
    /// Its probes, if it can be probed.
    pub(super) plan: Option<ProbePlan>,
}

impl Examined {
    /// /proc is another pid namespace's: its process of this pid is not the one meant.
    pub(super) fn unseen(pid: Pid) -> Self {
        Self::only(Check::missing(
            format!("process {pid}: not looked at, because /proc is not this pid namespace's"),
            "see pid namespace, above",
        ))
    }

    fn only(check: Check) -> Self {
        Self { checks: vec![check], plan: None }
    }
}

/// Looks at a process; changes nothing in it and does not stop it.
pub(super) fn examine(pid: Pid, release: Option<Release>, seams: &Seams<'_>) -> Examined {
    let Ok(status) = status::read(pid) else {
        return Examined::only(Check::missing(
            format!("there is no process {pid}"),
            "list the Python processes of this machine with: pgrep -af python",
        ));
    };
    let (regions, memory) = match maps::read(pid).and_then(|regions| Ok((regions, ProcessMemory::open(pid)?))) {
        Ok(read) => read,
        Err(error) => {
            return Examined::only(Check::missing(
                format!("process {pid} cannot be read: {error}"),
                "run it with sudo; a zombie or kernel thread has no memory to observe",
            ));
        }
    };
    let images = Image::all(pid, &regions);
    let target =
        Target { memory: &memory, regions: &regions, images: &images, executable: Image::executable(pid, &images) };
    let mut checks = vec![Check::fine(format!("process {pid}{}: {}", inside(pid), command(pid)))];
    let python = (seams.python)(pid);
    checks.push(python_check(&python));
    let rules = release.map_or(SiteRules { short_nops: false }, Release::site_rules);
    let plan = ProbePlan::for_process(&target, python.as_ref().ok().map(PythonFound::probed).as_ref(), rules);
    checks.push(allocator_check(&plan));
    checks.extend(plan.iter().flat_map(|plan| &plan.notes).map(Check::note));
    checks.extend(plan.iter().flat_map(|plan| overlay_notes(pid, plan)));
    checks.push(seccomp_check(&status, release));
    Examined { checks, plan: plan.ok() }
}

impl PythonFound {
    fn probed(&self) -> Python<'_> {
        Python {
            interpreter: Interpreter {
                image: &self.image,
                minor: self.minor,
                free_threaded: self.free_threaded,
                runtime: self.runtime,
            },
            code_dealloc: self.code_dealloc,
            exact_objects: false,
        }
    }
}

fn python_check(python: &Result<PythonFound, String>) -> Check {
    match python {
        Ok(found) => Check::fine(format!("Python {} in {}", found.version, found.image.path.display())),
        Err(reason) => {
            Check::missing(format!("Python: {reason}"), "pyalloc observes processes of CPython; give the pid of one")
        }
    }
}

fn allocator_check(plan: &Result<ProbePlan, NoAllocator>) -> Check {
    match plan {
        Ok(plan) => {
            let malloc = plan.points.iter().find(|point| point.function == Function::Malloc);
            let path = malloc.map(|point| point.image_path.display().to_string()).unwrap_or_default();
            Check::fine(format!("C allocator: {path}; {} places to probe", plan.points.len()))
        }
        Err(reason) => Check::missing(
            reason.to_string(),
            "run the service with a dynamically linked python, as distributions and docker's official images have; without \
             it `pyalloc trace` records pages and mappings, and no allocations",
        ),
    }
}

/// On an overlayfs a file that is changed is another one from then on, and whether that happened while the process ran on
/// it only a probe tells. Only the time of the change can be seen from here.
fn overlay_notes(pid: Pid, plan: &ProbePlan) -> Vec<Check> {
    let Ok(started) = started_at(pid) else { return Vec::new() };
    let changed = |points: &&[ProbePoint]| {
        points.first().is_some_and(|point| is_on_overlay(point.openable.path()) && changed_at(point) > started)
    };
    let note = |points: &[ProbePoint]| {
        let path = points.first().map(|point| point.image_path.display().to_string()).unwrap_or_default();
        Check::note(format!(
            "{path} is on an overlayfs and was changed after the process started: if a trace says that its probes do not \
             reach the process, restart the service"
        ))
    };
    plan.by_file().filter(changed).map(note).collect()
}

fn is_on_overlay(path: &Path) -> bool {
    const OVERLAYFS: i64 = 0x794c_7630;
    rustix::fs::statfs(path).is_ok_and(|system| system.f_type == OVERLAYFS)
}

/// Seconds since 1970; 0 if it cannot be read.
fn changed_at(point: &ProbePoint) -> u64 {
    fs::metadata(point.openable.path()).map_or(0, |file| u64::try_from(file.ctime()).unwrap_or(0))
}

fn started_at(pid: Pid) -> procfs::ProcResult<u64> {
    let ticks = procfs::process::Process::new(pid.0.cast_signed())?.stat()?.starttime;
    Ok(procfs::boot_time_secs()? + ticks / procfs::ticks_per_second())
}

/// `Seccomp: 2` is a filter of system calls, as containers have.
fn seccomp_check(status: &str, release: Option<Release>) -> Check {
    let mode = status::field(status, "Seccomp");
    let endangered = release.is_none_or(Release::filters_return_probes);
    match mode.as_deref() {
        Some("0") | None => Check::fine("seccomp: no filter of system calls in the process"),
        Some("1") => Check::missing(
            "seccomp: strict; the process would be killed by the system call that a return probe makes",
            "observe another process",
        ),
        Some(_) if endangered => Check::missing(
            "seccomp: the process runs under a filter, and on Linux 6.11 to 6.13 the system call that a return probe \
             makes may be refused and kill it",
            "update the kernel to 6.14 or later, or start the service without the filter \
             (docker run --security-opt seccomp=unconfined)",
        ),
        Some(_) => Check::fine("seccomp: a filter of system calls, which probes of this kernel do not meet"),
    }
}

/// The container's word for it.
fn inside(pid: Pid) -> String {
    namespace::pid_inside(pid).map_or_else(String::new, |inside| format!(" ({inside} in its container)"))
}

/// The command line, as typed.
fn command(pid: Pid) -> String {
    const LONGEST: usize = 200;
    let text = status::command_line(pid).unwrap_or_default();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_of_a_filter_that_would_kill_the_process() {
        let check = |status: &str, release: &str, missing: bool| {
            let check = seccomp_check(status, Release::parse(release));
            assert_eq!(check.is_missing(), missing, "{status} on {release}: {}", check.found);
        };
        check("Name:\tpython\nSeccomp:\t0\nSeccomp_filters:\t0\n", "6.12", false);
        check("Seccomp:\t2\nSeccomp_filters:\t1\n", "6.12", true);
        check("Seccomp:\t2\n", "6.18", false);
        check("Seccomp:\t2\n", "6.1", false);
        check("Seccomp:\t2\n", "unknown", true);
        check("Seccomp:\t1\n", "6.18", true);
    }
}
