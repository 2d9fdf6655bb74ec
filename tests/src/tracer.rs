//! Running `pyalloc trace`: attached to a process, until told to end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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
    /// Processes that are known to have their probes.
    probed: BTreeSet<u32>,
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

    /// Launches a command under trace; returns when its probes are on.
    pub fn launch(command: &[&OsStr], folder: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        Self::launch_with(&[], command, folder, variables)
    }

    /// As [`Self::launch`], with more options.
    pub fn launch_with(
        options: &[&str],
        command: &[&OsStr],
        folder: &Path,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let mut words: Vec<&OsStr> = options.iter().copied().chain(["--"]).map(OsStr::new).collect();
        words.extend(command);
        let mut tracer = Self::start_trace(|pyalloc| {
            pyalloc.current_dir(folder).envs(variables.iter().copied());
            words
        })?;
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

    fn start_in(command: Command, pid: u32, options: &[&str], folder: TempDir, path: PathBuf) -> Result<Self> {
        let pid = pid.to_string();
        let words =
            |_: &mut Command| ["--pid", &pid].into_iter().chain(options.iter().copied()).map(OsStr::new).collect();
        Self::start_words(command, words, folder, path)
    }

    /// Starts `pyalloc trace` with what is asked for, after changing its surroundings.
    fn start_trace<'a>(words: impl FnOnce(&mut Command) -> Vec<&'a OsStr>) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let path = folder.path().join("trace.pyalloc");
        Self::start_words(pyalloc()?, words, folder, path)
    }

    fn start_words<'a>(
        mut command: Command,
        words: impl FnOnce(&mut Command) -> Vec<&'a OsStr>,
        folder: TempDir,
        path: PathBuf,
    ) -> Result<Self> {
        command.args(["trace", "--ready", "/dev/stdout", "-o"]).arg(&path);
        let words = words(&mut command);
        let mut guard =
            Guard::start(command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let output = BufReader::new(guard.child().stdout.take().context("standard output is a pipe")?);
        let complaints = BufReader::new(guard.child().stderr.take().context("standard error is a pipe")?);
        Ok(Self { guard, output, complaints, probed: BTreeSet::new(), path, _folder: folder })
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

    /// Returns when these processes, which came since, have their probes. Each is waited for once.
    pub fn wait_until_probed(&mut self, pids: &[u32]) -> Result<()> {
        while !pids.iter().all(|pid| self.probed.contains(pid)) {
            let pid = self.next_probed()?;
            self.probed.insert(pid);
        }
        Ok(())
    }

    /// Waits for the next process that came since to have its probes.
    pub fn next_probed(&mut self) -> Result<u32> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from pyalloc")?;
        let pid = line.trim_end().strip_prefix("probed ").and_then(|pid| pid.parse().ok());
        pid.with_context(|| format!("pyalloc follows no more: {line}"))
    }

    /// Waits for the end of a round of looks at the objects of the processes.
    pub fn wait_until_looked(&mut self) -> Result<()> {
        let mut line = String::new();
        while line != "looked\n" {
            line.clear();
            if self.output.read_line(&mut line).context("cannot read from pyalloc")? == 0 {
                bail!("pyalloc looks no more: {}", self.complaint()?);
            }
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

    /// Pyalloc's own pid.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
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
        let report: String =
            report.split_inclusive('\n').filter(|line| !line.starts_with("probed ") && *line != "looked\n").collect();
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
