//! The process to trace: found and checked, or launched and held until it has its interpreter.

use std::ffi::OsString;
use std::fs;

use profiler_common::config::{ProcessConfig, process_flags};

use super::TraceArgs;
use crate::exit::Failure;
use crate::kernel::plan::{self, NoAllocator, Python};
use crate::kernel::release::Release;
use crate::kernel::site::SiteRules;
use crate::kernel::{Kernel, ProbePlan};
use crate::process::image::Image;
use crate::process::launch::{Fate, Launched};
use crate::process::maps::{self, Region, RegionName};
use crate::process::memory::ProcessMemory;
use crate::process::{Identity, Pid};
use crate::python::{Interpreter, NotPython, allocators};

/// Where a launched program is looked at.
const EXECS_AT_MOST: usize = 64;

/// A process with a Python interpreter.
pub struct Target {
    /// Who it is.
    pub identity: Identity,
    /// Its interpreter.
    pub interpreter: Interpreter,
    /// Its probes.
    pub plan: ProbePlan,
    /// Its memory.
    pub memory: ProcessMemory,
    /// The end of its heap, if it has one yet.
    pub program_break: Option<u64>,
    /// It waits stopped, since we launched it.
    pub launched: Option<Launched>,
}

/// What can be known to be wrong before anything is loaded.
pub fn check(args: &TraceArgs) -> Result<(), Failure> {
    let Some(pid) = args.pid else { return Ok(()) };
    if pid == 0 || !fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        return Err(Failure::cannot_observe(format!("there is no process {pid}; `pgrep -af python` lists the candidates")));
    }
    match process_of(pid) {
        Some(process) if process != pid => {
            Err(Failure::usage(format!("{pid} is a thread's id; give the id of its process, {process}")))
        }
        _ => Ok(()),
    }
}

/// The process that a thread belongs to. /proc answers for every thread, and lists only those that lead a process.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

impl Target {
    /// Attaches nothing yet: finds out what the process is and where its probes go.
    pub fn open(args: &TraceArgs, kernel: &mut Kernel) -> Result<Self, Failure> {
        kernel.attach_tracepoints().map_err(Failure::cannot_observe)?;
        match args.pid {
            Some(pid) => Self::inspect(Pid(pid), None),
            None => Self::launch(&args.command, kernel),
        }
    }

    /// The pid.
    pub fn pid(&self) -> Pid {
        self.identity.pid
    }

    fn inspect(pid: Pid, launched: Option<Launched>) -> Result<Self, Failure> {
        let gone = |error| Failure::cannot_observe(format!("process {pid} has gone: {error}"));
        let identity = Identity::of(pid).map_err(gone)?;
        let interpreter = Interpreter::discover(pid).map_err(Failure::cannot_observe)?;
        let memory = ProcessMemory::open(pid).map_err(gone)?;
        let regions = maps::read(pid).map_err(gone)?;
        let plan = probes(pid, &interpreter, &memory, &regions)?;
        let program_break = regions.iter().find(|region| region.name == RegionName::Special("[heap]".to_owned()));
        let program_break = program_break.map(|region| region.end);
        Ok(Self { identity, interpreter, plan, memory, program_break, launched })
    }

    /// Starts the command and lets it run, from exec to exec, until a program with an interpreter stands at its entry
    /// point: a shell script or pyenv's shim may come first.
    fn launch(command: &[OsString], kernel: &mut Kernel) -> Result<Self, Failure> {
        let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |error: std::io::Error| Failure::cannot_observe(format!("cannot launch {name}: {error}"));
        let child = Launched::start(command).map_err(failed)?;
        let pid = child.pid();
        kernel.trace_process(pid, &holding(process_flags::HOLD_AT_EXEC)).map_err(Failure::cannot_observe)?;
        for _ in 0..EXECS_AT_MOST {
            child.resume().map_err(failed)?;
            match child.wait_for_change().map_err(failed)? {
                Fate::Stopped => {}
                other => return Err(ended_early(&name, other)),
            }
            if at_entry(pid, kernel, &child, &name)? {
                return Self::inspect(pid, Some(child));
            }
        }
        Err(Failure::cannot_observe(format!("{name} executed {EXECS_AT_MOST} programs, none of them python")))
    }
}

/// The program has just been executed and is stopped: lets it go on to its entry point and looks whether the loader
/// has brought an interpreter. False when this program has none.
fn at_entry(pid: Pid, kernel: &mut Kernel, child: &Launched, name: &str) -> Result<bool, Failure> {
    let gone = |error: std::io::Error| Failure::cannot_observe(format!("{name} has gone: {error}"));
    let regions = maps::read(pid).map_err(gone)?;
    let images = Image::all(pid, &regions);
    let Some(executable) = executable(pid, &images) else { return Ok(false) };
    let plan = ProbePlan::for_entry(&images, executable, site_rules());
    if plan.points.is_empty() {
        return Ok(false);
    }
    let both = holding(process_flags::HOLD_AT_EXEC | process_flags::HOLD_AT_ENTRY);
    kernel.trace_process(pid, &both).map_err(Failure::cannot_observe)?;
    kernel.attach(pid, &plan.points).map_err(Failure::cannot_observe)?;
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
        Err(refusal) => {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.0.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
            Err(Failure::cannot_observe(refusal))
        }
    }
}

/// A process of which nothing is known yet.
fn holding(flags: u32) -> ProcessConfig {
    ProcessConfig { slot: 0, flags, ..bytemuck::Zeroable::zeroed() }
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

fn executable(pid: Pid, images: &[Image]) -> Option<usize> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    images.iter().position(|image| image.path == path)
}

fn probes(
    pid: Pid,
    interpreter: &Interpreter,
    memory: &ProcessMemory,
    regions: &[Region],
) -> Result<ProbePlan, Failure> {
    let images = Image::all(pid, regions);
    let target = plan::Target { memory, regions, images: &images, executable: executable(pid, &images) };
    let image = images.iter().find(|image| image.file == interpreter.image.file).unwrap_or(&interpreter.image);
    let python = Python {
        interpreter: allocators::Interpreter {
            image,
            minor: interpreter.version.minor,
            free_threaded: interpreter.version.free_threaded,
            runtime: interpreter.runtime,
        },
        code_dealloc: interpreter.code_dealloc().map(|function| function.address),
    };
    ProbePlan::for_process(&target, Some(&python), site_rules()).map_err(|error: NoAllocator| Failure::cannot_observe(error))
}
