//! Running `pyalloc trace`: attached to a process, until told to end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use pyalloc::profile::{self, Profile};
use tempfile::TempDir;
use xtask::binary;

use crate::guard::Guard;

/// `pyalloc` with nothing said yet, and nothing in its environment that changes what it does.
pub fn pyalloc() -> Result<Command> {
    let mut command = Command::new(binary::path()?);
    command.env_remove("SUDO_UID").env_remove("SUDO_GID").env("NO_COLOR", "1");
    Ok(command)
}

/// A running `pyalloc trace --pid`.
#[derive(Debug)]
pub struct Tracer {
    guard: Guard,
    output: BufReader<ChildStdout>,
    complaints: BufReader<ChildStderr>,
    path: PathBuf,
    /// Removed with the tracer.
    _folder: TempDir,
}

/// What a trace left behind.
#[derive(Debug)]
pub struct Traced {
    /// How pyalloc ended.
    pub status: ExitStatus,
    /// The text report.
    pub report: String,
    /// What it said on standard error.
    pub complaint: String,
    /// The profile.
    pub profile: Profile,
}

impl Tracer {
    /// Attaches, and returns when the probes are on.
    pub fn attach(pid: u32) -> Result<Self> {
        let mut tracer = Self::start(pid)?;
        tracer.wait_until_attached()?;
        Ok(tracer)
    }

    /// As [`Self::attach`], with more options.
    pub fn attach_with(pid: u32, options: &[&str]) -> Result<Self> {
        let mut tracer = Self::start_with(pid, options)?;
        tracer.wait_until_attached()?;
        Ok(tracer)
    }

    /// Starts attaching.
    pub fn start(pid: u32) -> Result<Self> {
        Self::start_with(pid, &[])
    }

    /// As [`Self::attach`], by a command that becomes pyalloc, in other namespaces; `pid` is what it is called there.
    pub fn attach_by(command: Command, pid: u32) -> Result<Self> {
        let mut tracer = Self::start_by(command, pid, &[])?;
        tracer.wait_until_attached()?;
        Ok(tracer)
    }

    /// As [`Self::attach`], with a profile elsewhere.
    pub fn attach_to_file(pid: u32, path: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let mut tracer = Self::start_in(pyalloc()?, pid, &[], folder, path.to_owned())?;
        tracer.wait_until_attached()?;
        Ok(tracer)
    }

    fn start_with(pid: u32, options: &[&str]) -> Result<Self> {
        Self::start_by(pyalloc()?, pid, options)
    }

    fn start_by(command: Command, pid: u32, options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let path = folder.path().join("trace.pyalloc");
        Self::start_in(command, pid, options, folder, path)
    }

    fn start_in(mut command: Command, pid: u32, options: &[&str], folder: TempDir, path: PathBuf) -> Result<Self> {
        let mut guard = Guard::start(
            command
                .args(["trace", "--pid", &pid.to_string(), "--ready", "/dev/stdout"])
                .args(options)
                .arg("-o")
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )?;
        let output = BufReader::new(guard.child().stdout.take().context("standard output is a pipe")?);
        let complaints = BufReader::new(guard.child().stderr.take().context("standard error is a pipe")?);
        Ok(Self { guard, output, complaints, path, _folder: folder })
    }

    /// Returns when the probes are on.
    pub fn wait_until_attached(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from pyalloc")?;
        if line != "attached\n" {
            bail!("pyalloc did not attach: {line}{}", self.complaint()?);
        }
        Ok(())
    }

    /// Where the profile is written.
    pub fn profile_path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Waits for the next line on pyalloc's standard error.
    pub fn next_complaint(&mut self) -> Result<String> {
        let mut line = String::new();
        self.complaints.read_line(&mut line).context("cannot read what pyalloc says")?;
        Ok(line)
    }

    /// Sends pyalloc a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.guard.signal(signal)
    }

    /// Ends the trace as Ctrl-C does.
    pub fn finish(self) -> Result<Traced> {
        self.signal(Signal::SIGINT)?;
        self.wait()
    }

    /// Ends it likewise where what was started has pyalloc as a child: `pid` gives pyalloc's from its.
    pub fn finish_by(self, pid: impl Fn(u32) -> u32) -> Result<Traced> {
        let pyalloc = nix::unistd::Pid::from_raw(pid(self.guard.pid()).cast_signed());
        nix::sys::signal::kill(pyalloc, Signal::SIGINT).context("pyalloc has gone")?;
        self.wait()
    }

    /// Waits until pyalloc ends by itself.
    pub fn wait(mut self) -> Result<Traced> {
        let mut report = String::new();
        self.output.read_to_string(&mut report).context("cannot read the report")?;
        let complaint = self.complaint()?;
        let status = self.guard.wait()?;
        let profile = read(&self.profile_path()).with_context(|| format!("pyalloc: {status}: {complaint}"))?;
        Ok(Traced { status, report, complaint, profile })
    }

    /// Kills pyalloc with SIGKILL and returns when it is gone; gives the profile that it has left.
    pub fn kill(mut self) -> Result<Profile> {
        self.signal(Signal::SIGKILL)?;
        self.guard.wait()?;
        read(&self.profile_path())
    }

    fn complaint(&mut self) -> Result<String> {
        let mut text = String::new();
        self.complaints.read_to_string(&mut text).context("cannot read what pyalloc says")?;
        Ok(text)
    }
}

/// Reads a profile.
pub fn read(path: &Path) -> Result<Profile> {
    profile::file::read(path).context("no profile")
}
