//! `pyalloc doctor`: what this kernel, this user and (with --pid) this process allow, and how to get the rest.

mod check;
mod machine;
mod sites;
mod target;

use std::io::{self, Write};

use crate::exit::{Exit, Failure};
use crate::kernel::{Kernel, LinkKind, Settings};
use crate::process::Pid;
use crate::process::image::Image;
use crate::python::Interpreter;
use crate::terminal::{self, Stream};

/// Tell what this kernel, this user and a process allow, and how to get what is missing
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// The process that is to be observed
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// With --pid, also list where each probe would stand and what a hit costs
    #[arg(short, long)]
    pub verbose: bool,
}

const EXAMPLES: &str = "Examples:
  pyalloc doctor
      what this user may do on this machine, and how to get the rest
  sudo pyalloc doctor --pid 4242 --verbose
      whether this process can be observed, and where each probe would stand";

/// How the running kernel links probes: found by trying, `Err` with the kernel's answer.
#[derive(Clone, Debug)]
pub struct ProbeSupport {
    /// One link for all probes of a file.
    pub uprobe_multi: Result<(), String>,
    /// Probes of call and return in one, that can skip the return.
    pub session: Result<(), String>,
    /// The kernel tells who killed a process.
    pub kills: Result<(), String>,
}

/// The interpreter of a process, as far as the doctor tells it.
#[derive(Clone, Debug)]
pub struct PythonFound {
    /// For people: `3.11.7`.
    pub version: String,
    /// The 11 of 3.11.
    pub minor: u8,
    /// Built without the GIL.
    pub free_threaded: bool,
    /// The file that defines `_PyRuntime`.
    pub image: Image,
    /// Address of `_PyRuntime` in the target.
    pub runtime: u64,
    /// Address of `code_dealloc` in the target.
    pub code_dealloc: Option<u64>,
}

/// What the doctor asks of other rooms.
pub struct Seams<'a> {
    /// Tries what the kernel can link; called with privilege only.
    pub probe_support: &'a dyn Fn() -> ProbeSupport,
    /// Finds the interpreter of a process, or says why there is none.
    pub python: &'a dyn Fn(Pid) -> Result<PythonFound, String>,
}

/// Whether everything needed is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Ready,
    /// Something needed is missing.
    Lacking,
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn command(args: &DoctorArgs) -> Result<Exit, Failure> {
    let seams = Seams { probe_support: &probe_support, python: &find_python };
    let mut text = Vec::new();
    let health = run(args, &seams, &mut text).map_err(Failure::cannot_observe)?;
    terminal::print(Stream::Output, &String::from_utf8_lossy(&text))?;
    Ok(match health {
        Health::Ready => Exit::Fine,
        Health::Lacking => Exit::CannotObserve,
    })
}

fn probe_support() -> ProbeSupport {
    let load =
        |links| Kernel::load(Settings { max_live_blocks: 1024, links: Some(links), native: None, verbose: false });
    let attempt = |links| load(links).map(drop).map_err(|error| error.to_string());
    let kills = load(LinkKind::Perf).and_then(|mut kernel| kernel.try_kill_watch());
    ProbeSupport {
        uprobe_multi: attempt(LinkKind::Multi),
        session: attempt(LinkKind::Session),
        kills: kills.map_err(|error| error.to_string()),
    }
}

fn find_python(pid: Pid) -> Result<PythonFound, String> {
    let found = Interpreter::discover(pid).map_err(|refusal| refusal.to_string())?;
    Ok(PythonFound {
        version: found.version.to_string(),
        minor: found.version.minor,
        free_threaded: found.version.free_threaded,
        code_dealloc: found.code_dealloc().map(|function| function.address),
        runtime: found.runtime,
        image: found.image,
    })
}

/// Examines the machine and the process, and writes what was found.
pub fn run(args: &DoctorArgs, seams: &Seams<'_>, out: &mut dyn Write) -> io::Result<Health> {
    let machine = machine::Machine::read();
    let mut checks = machine.checks();
    // Without privilege the attempt fails for a reason that is told already.
    if !checks.iter().any(check::Check::is_missing) {
        checks.extend(machine::probe_support(&(seams.probe_support)()));
        checks.push(machine.last_reading());
    }
    writeln!(out, "this machine and this user")?;
    write_all(&checks, out)?;
    let mut lacking = checks.iter().any(check::Check::is_missing);
    if let Some(pid) = args.pid {
        let examined = match machine.foreign_proc {
            Some(_) => target::Examined::unseen(Pid(pid)),
            None => target::examine(Pid(pid), machine.release, seams),
        };
        writeln!(out, "\nthe process")?;
        write_all(&examined.checks, out)?;
        lacking |= examined.checks.iter().any(check::Check::is_missing);
        if let Some(plan) = examined.plan.filter(|_| args.verbose) {
            writeln!(out, "\nwhere probes would stand")?;
            sites::write(&plan, out)?;
        }
    }
    let (word, health) = match lacking {
        true => ("something needed is missing: see above", Health::Lacking),
        false => ("everything needed is there", Health::Ready),
    };
    writeln!(out, "\n{word}")?;
    Ok(health)
}

fn write_all(checks: &[check::Check], out: &mut dyn Write) -> io::Result<()> {
    checks.iter().try_for_each(|check| check.write(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::running::{Running, interpreters};

    fn examine(pid: u32, python: &dyn Fn(Pid) -> Result<PythonFound, String>) -> (Health, String) {
        let supported = || ProbeSupport {
            uprobe_multi: Ok(()),
            session: Err("invalid argument".to_owned()),
            kills: Err("no such tracepoint".to_owned()),
        };
        let seams = Seams { probe_support: &supported, python };
        let args = DoctorArgs { pid: Some(pid), verbose: true };
        let mut out = Vec::new();
        let health = run(&args, &seams, &mut out).unwrap();
        (health, String::from_utf8(out).unwrap())
    }

    fn found(running: &Running) -> PythonFound {
        let interpreter = running.interpreter();
        PythonFound {
            version: format!("3.{}", interpreter.minor),
            minor: interpreter.minor,
            free_threaded: interpreter.free_threaded,
            image: interpreter.image.clone(),
            runtime: interpreter.runtime,
            code_dealloc: None,
        }
    }

    #[test]
    fn tells_about_a_running_interpreter() {
        let running = Running::start(&interpreters()[0], &[]);
        let (health, text) = examine(running.pid(), &|_| Ok(found(&running)));
        println!("{text}");
        assert!(text.contains("Python 3."), "{text}");
        assert!(text.contains("C allocator: /"), "{text}");
        assert!(text.contains("allocate_from_new_pool"), "{text}");
        assert!(text.lines().any(|line| line.contains("malloc") && line.contains("emulated")));
        assert_eq!(health == Health::Lacking, text.contains("\n  missing"), "{text}");
    }

    #[test]
    fn tells_that_a_process_is_not_there() {
        let (health, text) = examine(u32::MAX - 1, &|_| Err("never asked".to_owned()));
        assert!(text.contains("there is no process 4294967294"), "{text}");
        assert_eq!(health, Health::Lacking);
    }

    #[test]
    fn tells_that_a_process_is_not_python() {
        let (health, text) = examine(std::process::id(), &|_| Err("no file of it has an interpreter".to_owned()));
        assert!(text.contains("missing  Python: no file of it has an interpreter"), "{text}");
        assert_eq!(health, Health::Lacking);
    }
}
