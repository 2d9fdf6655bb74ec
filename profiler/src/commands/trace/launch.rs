//! A program that the trace launches: held until it has its interpreter.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use profiler_common::config::{NO_SLOT, ProcessConfig, process_flags};

use super::TraceArgs;
use super::target::{Target, site_rules};
use super::tree::is_worth_a_look;
use crate::exit::Failure;
use crate::kernel::{Kernel, ProbePlan};
use crate::process::image::Image;
use crate::process::launch::{Fate, Launched};
use crate::process::{Pid, maps};
use crate::python::{Interpreter, NotPython};

/// A command that executes more programs than this is given up.
const EXECS_AT_MOST: usize = 64;

/// How often a program in which no probe can be set is looked at for its interpreter.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What was found in a program that was just executed.
enum Found {
    /// It stands at its entry point and has an interpreter.
    Python,
    /// It has none.
    Other,
    /// It is still stopped where it was executed: no probe can be set at its entry point.
    Unprobed,
}

/// Starts the command and lets it run, from exec to exec, until a program with an interpreter stands at its entry
/// point: a shell script or pyenv's shim may come first.
pub(super) fn launch(args: &TraceArgs, kernel: &mut Kernel) -> Result<(Target, Launched), Failure> {
    let name = args.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |error: std::io::Error| Failure::cannot_observe(format!("cannot launch {name}: {error}"));
    let child = Launched::start(&args.command).map_err(failed)?;
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
        let found = if args.no_uprobes { Found::Unprobed } else { at_entry(pid, kernel, &child, &name)? };
        match found {
            Found::Python => return Ok((Target::inspect(pid, args.counts_each_object())?.or_refused()?, child)),
            Found::Other => {}
            Found::Unprobed => {
                child.resume().map_err(failed)?;
                return Ok((running(&child, &name)?, child));
            }
        }
    }
    Err(Failure::cannot_observe(format!("{name} executed {EXECS_AT_MOST} programs, none of them python")))
}

/// The program has just been executed and is stopped: lets it go on to its entry point and looks whether the loader
/// has brought an interpreter.
fn at_entry(pid: Pid, kernel: &mut Kernel, child: &Launched, name: &str) -> Result<Found, Failure> {
    let gone = |error: std::io::Error| Failure::cannot_observe(format!("{name} has gone: {error}"));
    let regions = maps::read(pid).map_err(gone)?;
    let images = Image::all(pid, &regions);
    let Some(executable) = Image::executable(pid, &images) else { return Ok(Found::Other) };
    let plan = ProbePlan::for_entry(&images, executable, site_rules());
    if plan.points.is_empty() {
        return Ok(Found::Other);
    }
    let both = holding(process_flags::HOLD_AT_EXEC | process_flags::HOLD_AT_ENTRY);
    kernel.trace_process(pid, &both).map_err(Failure::cannot_observe)?;
    if let Err(error) = kernel.attach(0, pid, &plan.points) {
        kernel.trace_process(pid, &holding(process_flags::HOLD_AT_EXEC)).map_err(Failure::cannot_observe)?;
        return if error.is_of_probes() { Ok(Found::Unprobed) } else { Err(Failure::cannot_observe(error)) };
    }
    child.resume().map_err(gone)?;
    let fate = child.wait_for_change().map_err(gone)?;
    kernel.detach();
    kernel.trace_process(pid, &holding(process_flags::HOLD_AT_EXEC)).map_err(Failure::cannot_observe)?;
    if fate != Fate::Stopped {
        return Err(ended_early(name, fate));
    }
    match Interpreter::discover(pid) {
        Ok(_) => Ok(Found::Python),
        Err(NotPython::NoInterpreter { .. }) => Ok(Found::Other),
        Err(refusal) => Err(Failure::cannot_observe(refusal)),
    }
}

/// Lets a program run, and those that it executes, until there is an interpreter that can be looked into. It is stopped
/// then, until it is recorded.
fn running(child: &Launched, name: &str) -> Result<Target, Failure> {
    let failed = |error: std::io::Error| Failure::cannot_observe(format!("cannot launch {name}: {error}"));
    let mut looked = None;
    loop {
        match child.poll().map_err(failed)? {
            // At its next exec.
            Some(Fate::Stopped) => child.resume().map_err(failed)?,
            Some(other) => return Err(ended_early(name, other)),
            None => {}
        }
        if is_worth_a_look(child.pid(), &mut looked) && initialized(child.pid()).is_some() {
            child.signal(Signal::SIGSTOP).map_err(failed)?;
            match child.wait_for_change().map_err(failed)? {
                Fate::Stopped => {}
                other => return Err(ended_early(name, other)),
            }
            // It may have executed another program meanwhile.
            if let Some(target) = initialized(child.pid()) {
                return Ok(target);
            }
            child.resume().map_err(failed)?;
        }
        sleep(LOOK_EVERY);
    }
}

fn initialized(pid: Pid) -> Option<Target> {
    let target = Target::inspect(pid, false).ok()?;
    target.python.as_ref().is_some_and(|python| python.initialized).then_some(target)
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
