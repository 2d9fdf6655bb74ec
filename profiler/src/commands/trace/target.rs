//! The process to trace: found and checked, or launched and held until it has its interpreter.

use std::ffi::OsString;

use profiler_common::config::{NO_SLOT, ProcessConfig, process_flags};
use profiler_common::probe::Function;

use super::{TraceArgs, select};
use crate::exit::Failure;
use crate::kernel::plan;
use crate::kernel::release::Release;
use crate::kernel::site::SiteRules;
use crate::kernel::{Kernel, ProbePlan};
use crate::process::cgroup::{Membership, MemoryGroup};
use crate::process::image::Image;
use crate::process::launch::{Fate, Launched};
use crate::process::maps::{self, Region, RegionName};
use crate::process::memory::ProcessMemory;
use crate::process::{Identity, Pid, status};
use crate::python::{Interpreter, NotPython, allocators};
use crate::recorder::Start;
use crate::render::units;

/// Where a launched program is looked at.
const EXECS_AT_MOST: usize = 64;

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
    /// Where probes go.
    pub plan: ProbePlan,
    /// False just after exec.
    pub initialized: bool,
}

impl Python {
    /// Whether the opening of pools is probed.
    pub fn counts_pools(&self) -> bool {
        self.plan.points.iter().any(|point| point.function == Function::PoolOpen)
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
            let (target, launched) = launch(&args.command, kernel)?;
            return Ok(Self { targets: vec![target], launched: Some(launched) });
        }
        let pids = select::pids(args)?;
        let mut targets = Vec::new();
        let mut refusal = None;
        for pid in pids {
            match Target::inspect(pid) {
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
    /// Finds the interpreter of a process and the places for its probes.
    pub fn inspect(pid: Pid) -> Result<Self, Failure> {
        let gone = |error| Failure::cannot_observe(format!("process {pid} has gone: {error}"));
        let identity = Identity::of(pid).map_err(gone)?;
        let interpreter = Interpreter::discover(pid).map_err(Failure::cannot_observe)?;
        let memory = ProcessMemory::open(pid).map_err(gone)?;
        let regions = maps::read(pid).map_err(gone)?;
        let plan = probes(pid, &interpreter, &memory, &regions)?;
        let heap = regions.iter().find(|region| region.name == RegionName::Special("[heap]".to_owned()));
        let start = Start {
            identity,
            layout: Some(interpreter.layout),
            python: interpreter.version.to_string(),
            interpreter: interpreter.image.path.display().to_string(),
            notes: plan.notes.clone(),
            memory: Some(memory),
            program_break: heap.map(|region| region.end),
        };
        let python = Python { config: interpreter.walker_config(0, 0), plan, initialized: interpreter.initialized };
        Ok(Self { identity, start, python: Some(python) })
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

/// Starts the command and lets it run, from exec to exec, until a program with an interpreter stands at its entry
/// point: a shell script or pyenv's shim may come first.
fn launch(command: &[OsString], kernel: &mut Kernel) -> Result<(Target, Launched), Failure> {
    let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |error: std::io::Error| Failure::cannot_observe(format!("cannot launch {name}: {error}"));
    let child = Launched::start(command).map_err(failed)?;
    let pid = child.pid();
    kernel.trace_process(pid, &holding(process_flags::HOLD_AT_EXEC)).map_err(Failure::cannot_observe)?;
    for execs in 0..EXECS_AT_MOST {
        child.resume().map_err(failed)?;
        match child.wait_for_change().map_err(failed)? {
            Fate::Stopped => {}
            // The child has told why it could not execute the command.
            Fate::Exited(_) if execs == 0 => return Err(Failure::cannot_observe("")),
            other => return Err(ended_early(&name, other)),
        }
        if at_entry(pid, kernel, &child, &name)? {
            return Ok((Target::inspect(pid)?, child));
        }
    }
    Err(Failure::cannot_observe(format!("{name} executed {EXECS_AT_MOST} programs, none of them python")))
}

/// The program has just been executed and is stopped: lets it go on to its entry point and looks whether the loader
/// has brought an interpreter. False when this program has none.
fn at_entry(pid: Pid, kernel: &mut Kernel, child: &Launched, name: &str) -> Result<bool, Failure> {
    let gone = |error: std::io::Error| Failure::cannot_observe(format!("{name} has gone: {error}"));
    let regions = maps::read(pid).map_err(gone)?;
    let images = Image::all(pid, &regions);
    let Some(executable) = Image::executable(pid, &images) else { return Ok(false) };
    let plan = ProbePlan::for_entry(&images, executable, site_rules());
    if plan.points.is_empty() {
        return Ok(false);
    }
    let both = holding(process_flags::HOLD_AT_EXEC | process_flags::HOLD_AT_ENTRY);
    kernel.trace_process(pid, &both).map_err(Failure::cannot_observe)?;
    kernel.attach(0, pid, &plan.points).map_err(Failure::cannot_observe)?;
    child.resume().map_err(gone)?;
    let fate = child.wait_for_change().map_err(gone)?;
    kernel.detach();
    kernel.trace_process(pid, &holding(process_flags::HOLD_AT_EXEC)).map_err(Failure::cannot_observe)?;
    if fate != Fate::Stopped {
        return Err(ended_early(name, fate));
    }
    match Interpreter::discover(pid) {
        Ok(_) => Ok(true),
        Err(NotPython::NoInterpreter { .. }) => Ok(false),
        Err(refusal) => Err(Failure::cannot_observe(refusal)),
    }
}

/// A process of which nothing is known yet.
fn holding(flags: u32) -> ProcessConfig {
    ProcessConfig {
        slot: 0,
        flags: flags | process_flags::FOLLOW_ONLY,
        parent_slot: NO_SLOT,
        ..bytemuck::Zeroable::zeroed()
    }
}

fn ended_early(name: &str, fate: Fate) -> Failure {
    let how = match fate {
        Fate::Exited(code) => format!("ended with exit code {code}"),
        Fate::Killed(signal) => format!("was ended by signal {signal}"),
        Fate::Stopped => "was stopped".to_owned(),
    };
    Failure::cannot_observe(format!("{name} {how} before it ran a python interpreter"))
}

/// The rules of the running kernel for probe sites; those of an old one if it does not tell its version.
fn site_rules() -> SiteRules {
    Release::running().map_or(SiteRules::for_kernel(0, 0), Release::site_rules)
}

fn probes(
    pid: Pid,
    interpreter: &Interpreter,
    memory: &ProcessMemory,
    regions: &[Region],
) -> Result<ProbePlan, Failure> {
    let images = Image::all(pid, regions);
    let target = plan::Target { memory, regions, images: &images, executable: Image::executable(pid, &images) };
    let image = images.iter().find(|image| image.file == interpreter.image.file).unwrap_or(&interpreter.image);
    let python = plan::Python {
        interpreter: allocators::Interpreter {
            image,
            minor: interpreter.version.minor,
            free_threaded: interpreter.version.free_threaded,
            runtime: interpreter.runtime,
        },
        code_dealloc: interpreter.code_dealloc().map(|function| function.address),
    };
    let plan = ProbePlan::for_process(&target, Some(&python), site_rules()).map_err(Failure::cannot_observe)?;
    if !plan.points.iter().any(|point| point.function == Function::CodeDealloc) {
        return Err(Failure::cannot_observe(format!(
            "cannot tell the code objects of process {pid} apart: its code_dealloc cannot be probed; run `pyalloc doctor \
             --pid {pid} -v` and report what it prints"
        )));
    }
    refuse_deadly_returns(pid, &plan)?;
    Ok(plan)
}

/// A filter of system calls in the process may kill it for the one that a return probe adds on some kernels.
fn refuse_deadly_returns(pid: Pid, plan: &ProbePlan) -> Result<(), Failure> {
    let kernel_filters = Release::running().is_ok_and(Release::filters_return_probes);
    let mode = status::read(pid).ok().and_then(|status| status::field(&status, "Seccomp"));
    let filtered = mode.is_some_and(|mode| mode != "0");
    if kernel_filters && filtered && plan.points.iter().any(|point| point.wants_return()) {
        return Err(Failure::cannot_observe(format!(
            "process {pid} filters its system calls (seccomp), and this kernel (6.11 to 6.13) would let the filter kill it \
             at the first return probe; use a kernel before 6.11 or from 6.14 on, or run the process without the filter"
        )));
    }
    Ok(())
}
