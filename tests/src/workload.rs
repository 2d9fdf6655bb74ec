//! Workloads: Python programs that say when they are ready, work when told, and tell their own truth.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xtask::ebpf::workspace_root;

use crate::guard::Guard;

/// A workload's file.
pub fn path(name: &str) -> PathBuf {
    workspace_root().join("tests/workloads").join(name)
}

/// A running workload that talks in lines over pipes.
#[derive(Debug)]
pub struct Workload {
    guard: Guard,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Workload {
    /// Starts a workload with an interpreter and waits until it is ready.
    pub fn start(python: &Path, name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        Self::start_command(Command::new(python).arg(path(name)).args(arguments))
    }

    /// Starts a command that becomes a workload.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let mut guard = Guard::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = guard.child().stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(guard.child().stdout.take().context("standard output is a pipe")?);
        let mut workload = Self { guard, input, output };
        let ready: Value = workload.read()?;
        if ready["ready"] != true {
            bail!("a workload that is not ready: {ready}");
        }
        Ok(workload)
    }

    /// The pid of what was started.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Tells it something.
    pub fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.input, "{word}").context("the workload does not listen: it has ended")
    }

    /// Reads its next line of JSON.
    pub fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from the workload")?;
        if line.is_empty() {
            bail!("the workload has ended: {:?}", self.guard.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("the workload said: {line}"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.guard.signal(signal)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.guard.wait()
    }
}
