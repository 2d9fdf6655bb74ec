//! The process to trace: found and checked.

use profiler_common::config::ProcessConfig;
use profiler_common::probe::Function;

use super::{TraceArgs, launch, select};
use crate::exit::Failure;
use crate::kernel::plan;
use crate::kernel::release::Release;
use crate::kernel::site::SiteRules;
use crate::kernel::{Kernel, ProbePlan, ProbePoint};
use crate::process::cgroup::{Membership, MemoryGroup};
use crate::process::image::Image;
use crate::process::launch::Launched;
use crate::process::maps::{self, Region, RegionName};
use crate::process::memory::ProcessMemory;
use crate::process::{Identity, Pid, status};
use crate::python::{Interpreter, allocators};
use crate::recorder::Start;
use crate::render::units;

/// A process to trace.
pub struct Target {
    /// Who it is.
    pub identity: Identity,
    /// What the recorder wants to know.
    pub start: Start,
    /// Its interpreter; `None` if it has none (yet).
    pub python: Option<Python>,
}

/// What is needed to probe an interpreter.
pub struct Python {
    /// For the kernel side; slot and flags are not set.
    pub config: ProcessConfig,
    /// Where probes go; nowhere if there can be none.
    pub plan: ProbePlan,
    /// Why there can be none.
    pub refused: Option<String>,
    /// False just after exec.
    pub initialized: bool,
}

impl Python {
    /// Whether it is known how its small objects are seen.
    pub fn sees_objects(&self) -> bool {
        let tells = |point: &ProbePoint| point.function == Function::PoolOpen || point.cookie.is_of_objects();
        self.plan.points.iter().any(tells)
    }
}

/// What a trace starts with.
pub struct Roots {
    /// The processes.
    pub targets: Vec<Target>,
    /// The one that we started, which waits stopped.
    pub launched: Option<Launched>,
}

impl Roots {
    /// Finds the processes, or launches one. Attaches nothing yet.
    pub fn open(args: &TraceArgs, kernel: &mut Kernel) -> Result<Self, Failure> {
        if !args.command.is_empty() {
            let (target, launched) = launch::launch(args, kernel)?;
            return Ok(Self { targets: vec![target], launched: Some(launched) });
        }
        let (pids, exact) = (select::pids(args)?, args.counts_each_object());
        let mut targets = Vec::new();
        let mut refusal = None;
        for pid in pids {
            match Target::inspect(pid, exact).and_then(Target::or_refused) {
                Ok(target) => targets.push(target),
                Err(failure) => {
                    refusal.get_or_insert(failure);
                    targets.extend(Target::unknown(pid));
                }
            }
        }
        match refusal {
            Some(failure) if targets.iter().all(|target| target.python.is_none()) => Err(failure),
            _ => Ok(Self { targets, launched: None }),
        }
    }

    /// The first process.
    pub fn pid(&self) -> Option<Pid> {
        self.targets.first().map(|target| target.identity.pid)
    }
}

impl Target {
    /// Finds the interpreter of a process and the places for its probes; `exact`: of every small object.
    pub fn inspect(pid: Pid, exact: bool) -> Result<Self, Failure> {
        let gone = |error| Failure::cannot_observe(format!("process {pid} has gone: {error}"));
        let identity = Identity::of(pid).map_err(gone)?;
        let interpreter = Interpreter::discover(pid).map_err(Failure::cannot_observe)?;
        let memory = ProcessMemory::open(pid).map_err(gone)?;
        let regions = maps::read(pid).map_err(gone)?;
        let (plan, refused) = match probes(pid, &interpreter, &memory, &regions, exact) {
            Ok(plan) => (plan, None),
            Err(reason) => (ProbePlan::default(), Some(reason)),
        };
        let heap = regions.iter().find(|region| region.name == RegionName::Special("[heap]".to_owned()));
        let start = Start {
            identity,
            layout: Some(interpreter.layout),
            python: interpreter.version.to_string(),
            interpreter: interpreter.image.path.display().to_string(),
            notes: plan.notes.clone(),
            small_objects: plan.objects.seen,
            memory: Some(memory),
            program_break: heap.map(|region| region.end),
        };
        let config = interpreter.walker_config(0, 0);
        let python = Python { config, plan, refused, initialized: interpreter.initialized };
        Ok(Self { identity, start, python: Some(python) })
    }

    /// Refuses a process that was asked for whose small objects cannot all be counted, where that was asked for too.
    pub(super) fn or_refused(self) -> Result<Self, Failure> {
        let pid = self.identity.pid;
        match self.python.as_ref().and_then(|python| python.plan.objects.refused) {
            Some(reason) => Err(Failure::cannot_observe(format!(
                "cannot count every small object of process {pid} (--exact-objects): {reason}; without that option they \
                 are counted by their pools"
            ))),
            None => Ok(self),
        }
    }

    /// Notes a memory limit that holds for us too: what we take is then taken from the target.
    pub fn with_shared_limit(mut self) -> Self {
        let shared = || {
            let group = MemoryGroup::open(&Membership::of(self.identity.pid).ok()?).ok()?;
            group.limit_shared_with(&Membership::of(Pid(std::process::id())).ok()?)
        };
        if let Some(limit) = shared() {
            self.start.notes.push(format!(
                "pyalloc runs under the same memory limit (cgroup {}, {}): what it takes, some 100 MiB with the \
                 kernel's maps, counts towards it; run it outside that cgroup",
                limit.path,
                units::bytes(limit.bytes)
            ));
        }
        self
    }

    /// A process of which nothing is known but that it is there.
    pub fn unknown(pid: Pid) -> std::io::Result<Self> {
        let identity = Identity::of(pid)?;
        Ok(Self { identity, start: Start::unknown(identity), python: None })
    }
}

/// The rules of the running kernel for probe sites; those of an old one if it does not tell its version.
pub(super) fn site_rules() -> SiteRules {
    Release::running().map_or(SiteRules::for_kernel(0, 0), Release::site_rules)
}

/// The places for probes; or why there can be none, in the middle of a sentence.
fn probes(
    pid: Pid,
    interpreter: &Interpreter,
    memory: &ProcessMemory,
    regions: &[Region],
    exact_objects: bool,
) -> Result<ProbePlan, String> {
    let images = Image::all(pid, regions);
    let target = plan::Target { memory, regions, images: &images, executable: Image::executable(pid, &images) };
    let image = images.iter().find(|image| image.file == interpreter.image.file).unwrap_or(&interpreter.image);
    let python = plan::Python {
        interpreter: allocators::Interpreter { image, ..interpreter.allocators() },
        code_dealloc: interpreter.code_dealloc().map(|function| function.address),
        exact_objects,
    };
    let plan = ProbePlan::for_process(&target, Some(&python), site_rules()).map_err(|error| error.to_string())?;
    if !plan.points.iter().any(|point| point.function == Function::CodeDealloc) {
        return Err(format!(
            "its code_dealloc cannot be probed; run `pyalloc doctor --pid {pid} -v` and report what it prints"
        ));
    }
    refuse_deadly_returns(pid, &plan)?;
    Ok(plan)
}

/// A filter of system calls in the process may kill it for the one that a return probe adds on some kernels.
fn refuse_deadly_returns(pid: Pid, plan: &ProbePlan) -> Result<(), String> {
    let kernel_filters = Release::running().is_ok_and(Release::filters_return_probes);
    let mode = status::read(pid).ok().and_then(|status| status::field(&status, "Seccomp"));
    let filtered = mode.is_some_and(|mode| mode != "0");
    if kernel_filters && filtered && plan.points.iter().any(|point| point.wants_return()) {
        return Err("it filters its system calls (seccomp), and this kernel (6.11 to 6.13) would let the filter kill it at \
                    the first return probe; use a kernel before 6.11 or from 6.14 on, or run the process without the filter"
            .to_owned());
    }
    Ok(())
}
