//! What a probe hit costs on this machine: measured at the start of a trace on a child of our own.
//!
//! The child runs short rounds of malloc and free when told to; it is timed without probes, with probes at the entries,
//! and with malloc's return taken. The programs do nothing there, so that what is measured is the trap; what the real
//! ones do is timed as they run (`Counter::BodyNanos`).

use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::process::{Command, ExitCode};

use aya::Ebpf;
use profiler_common::probe::Function;
use rustix::time::{ClockId, clock_gettime};

use profiler_common::config::NO_SLOT;

use super::links::Links;
use super::plan::{ProbePlan, Target};
use super::programs::Programs;
use super::release::Release;
use super::site::{Placement, SiteRules};
use super::{KernelError, ProbePoint, links};
use crate::process::image::Image;
use crate::process::memory::ProcessMemory;
use crate::process::subject::Subject;
use crate::process::{Pid, maps};

/// The hidden subcommand of the child.
pub const SUBCOMMAND: &str = "__calibrate";

/// Calls of malloc, and of free, in a round: long against the clock, short against a time slice.
pub const PAIRS: u64 = 256;

/// The child knows one order.
const ORDER: u8 = b'r';

/// What it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// A hit at a function's entry, ns.
    pub hit_ns: u64,
    /// What the function's return costs in addition when it is taken, ns.
    pub return_ns: u64,
}

/// Measures with programs that do nothing. The last links are dropped in the background.
pub(super) fn measure(ebpf: &mut Ebpf, idle: &Programs, attached: &mut Links) -> Result<Costs, KernelError> {
    let failed = |error: io::Error| refused(error.to_string());
    let mut child = subject().map_err(failed)?;
    let pid = child.pid();
    let points = points(pid)?;
    let entries: Vec<ProbePoint> = points.iter().map(entry_only).collect();
    let plain = child.round_ns(ORDER).map_err(failed)?;
    let mut first = Links::default();
    first.add(NO_SLOT, links::attach(idle, ebpf, pid, &entries)?);
    let hit = child.round_ns(ORDER);
    // Gone before the next are measured: each hit runs the programs of all links on its site.
    first.drop_all();
    attached.add(NO_SLOT, links::attach(idle, ebpf, pid, &points)?);
    let taken = child.round_ns(ORDER);
    attached.drop_process(NO_SLOT, false);
    Ok(costs(plain, hit.map_err(failed)?, taken.map_err(failed)?))
}

/// From the time of a round without probes, with entries probed, and with malloc's return taken.
fn costs(plain: u64, hit: u64, taken: u64) -> Costs {
    // Each pair is a hit of malloc and one of free, and one return.
    Costs { hit_ns: hit.saturating_sub(plain) / (2 * PAIRS), return_ns: taken.saturating_sub(hit) / PAIRS }
}

/// The child, ready for its orders.
pub fn subject() -> io::Result<Subject> {
    Subject::start(Command::new("/proc/self/exe").arg(SUBCOMMAND), ORDER)
}

/// The median time of a round of [`PAIRS`] calls of malloc and free, ns.
pub fn round_ns(subject: &mut Subject) -> io::Result<u64> {
    subject.round_ns(ORDER)
}

/// The sites of malloc and free in the child.
pub fn points(pid: Pid) -> Result<Vec<ProbePoint>, KernelError> {
    let failed = |error: io::Error| refused(error.to_string());
    let regions = maps::read(pid).map_err(failed)?;
    let memory = ProcessMemory::open(pid).map_err(failed)?;
    let own = std::fs::read_link("/proc/self/exe").map_err(failed)?;
    // Our own file is large, and its malloc is the C library's.
    let libraries: Vec<_> = regions.iter().filter(|region| region.path() != Some(&own)).cloned().collect();
    let images = Image::all(pid, &libraries);
    let target = Target { memory: &memory, regions: &libraries, images: &images, executable: None };
    let rules = Release::running().map_or(SiteRules::for_kernel(0, 0), Release::site_rules);
    let plan = ProbePlan::for_process(&target, None, rules).map_err(|error| refused(error.to_string()))?;
    let called = |point: &ProbePoint| {
        point.function == Function::Malloc && point.name == "malloc" || point.function == Function::Free
    };
    let points: Vec<ProbePoint> = plan.points.into_iter().filter(called).collect();
    if points.len() != 2 || !points.iter().any(ProbePoint::wants_return) {
        return Err(refused("malloc and free of the C library cannot both be probed".to_owned()));
    }
    Ok(points)
}

fn entry_only(point: &ProbePoint) -> ProbePoint {
    ProbePoint { placement: Placement::Call(*point.placement.site()), ..point.clone() }
}

fn refused(reason: String) -> KernelError {
    KernelError::Refused { what: "the measurement of what a probe costs".to_owned(), reason }
}

/// The child's side: a round for each byte on standard input, its time in ns on standard output.
pub fn serve() -> ExitCode {
    let (mut orders, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let mut order = [0];
    while orders.read_exact(&mut order).is_ok() {
        let answer = round().to_le_bytes();
        if answers.write_all(&answer).and_then(|()| answers.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Calls malloc and free [`PAIRS`] times each; gives the CPU time they took.
fn round() -> u64 {
    let began = thread_cpu_ns();
    for _ in 0..PAIRS {
        drop(black_box(Vec::<u8>::with_capacity(black_box(64))));
    }
    thread_cpu_ns() - began
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_differences_and_never_negative() {
        assert_eq!(costs(256, 256 * 801, 256 * 1051), Costs { hit_ns: 400, return_ns: 250 });
        assert_eq!(costs(500, 400, 300), Costs::default());
    }
}
