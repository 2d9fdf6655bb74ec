//! Starting a workload of the corpus with what it needs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use xtask::ebpf::workspace_root;
use xtask::python::{self, Interpreter, Venv};

use super::label::Need;
use super::workloads::Entry;
use crate::broker::Broker;
use crate::guard::Guard;
use crate::workload;

/// A program that runs; ended when this is dropped.
#[derive(Debug)]
pub struct Started {
    /// The process to look at.
    pub pid: u32,
    /// The interpreter, for people.
    pub interpreter: String,
    _program: Guard,
    _broker: Option<Broker>,
}

impl Started {
    /// Of a program that has said its pid.
    pub fn new(pid: u32, interpreter: String, program: Guard) -> Self {
        Self { pid, interpreter, _program: program, _broker: None }
    }
}

/// The line that a workload prints.
#[derive(Deserialize)]
struct Ready {
    ready: bool,
    pid: u32,
}

/// Starts a workload and returns when it is ready.
///
/// # Errors
/// What it needs cannot be had, or it ends before it is ready.
pub fn start(entry: &Entry) -> Result<Started> {
    let interpreter = interpreter(entry)?;
    let folder = workload::path("corpus");
    let needs = |need: Need| entry.label.needs.contains(&need);
    let mut command = if needs(Need::Servers) {
        Command::new(Venv::ensure("corpus", &interpreter, &folder.join("requirements.txt"))?.python())
    } else {
        Command::new(&interpreter.path)
    };
    if needs(Need::Lostext) {
        command.env("PYTHONPATH", extension(&interpreter, &folder.join("native"))?);
    }
    let broker = if needs(Need::Redis) { Some(redis(&mut command)?) } else { None };
    command.arg(folder.join(format!("{}.py", entry.name))).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut program = Guard::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let output = program.child().stdout.take().context("standard output is a pipe")?;
    let Ready { ready: true, pid } = first_line(output)? else { bail!("a workload that is not ready") };
    Ok(Started { pid, interpreter: interpreter.name(), _program: program, _broker: broker })
}

fn first_line(output: impl Read + Send + 'static) -> Result<Ready> {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line).context("cannot read from the workload")?;
    drain(output);
    serde_json::from_str(&line).with_context(|| format!("the workload has said: `{}`", line.trim_end()))
}

/// Reads what else it prints, so that it does not wait for a reader.
pub fn drain(mut output: impl Read + Send + 'static) {
    thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}

/// The one that the label asks for, or the newest.
fn interpreter(entry: &Entry) -> Result<Interpreter> {
    let wanted = entry.label.python.as_ref().filter(|_| !entry.label.needs.contains(&Need::Servers));
    let is_wanted = |interpreter: &Interpreter| {
        let (major, minor, _) = interpreter.version;
        wanted == Some(&format!("{major}.{minor}")) && !interpreter.free_threaded
    };
    match python::find().into_iter().find(is_wanted) {
        Some(interpreter) => Ok(interpreter),
        None => python::newest(),
    }
}

/// The folder with `lostext` for an interpreter, built if it is not there or older than its source.
fn extension(interpreter: &Interpreter, sources: &Path) -> Result<PathBuf> {
    const QUESTION: &str =
        "import sysconfig; print(sysconfig.get_paths()['include']); print(sysconfig.get_config_var('EXT_SUFFIX'))";
    let folder = workspace_root().join("target/corpus").join(interpreter.abi());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let answer =
        Command::new(&interpreter.path).args(["-c", QUESTION]).output().context("cannot run the interpreter")?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let (headers, ending) = answer.trim().split_once('\n').context("the interpreter has no headers")?;
    let (source, module) = (sources.join("lostext.c"), folder.join(format!("lostext{ending}")));
    let built = fs::metadata(&module).and_then(|module| module.modified());
    if built
        .is_ok_and(|built| fs::metadata(&source).and_then(|source| source.modified()).is_ok_and(|time| time < built))
    {
        return Ok(folder);
    }
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-g", "-I", headers, "-o"])
        .arg(&module)
        .arg(&source)
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        bail!("cannot compile {} with {headers}", source.display());
    }
    Ok(folder)
}

/// A broker that the command is told of.
fn redis(command: &mut Command) -> Result<Broker> {
    let broker = Broker::start()?;
    command.env("PYALLOC_TEST_BROKER", &broker.url);
    Ok(broker)
}
