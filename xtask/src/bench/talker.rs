//! Processes that measure themselves when told, and traces of them that are on when they are.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;

use super::process;
use crate::interrupt;

/// A running trace.
pub struct Trace {
    child: Child,
    privilege: Privilege,
    profile: PathBuf,
}

impl Trace {
    /// Attaches to a process and returns when everything is in place; the profile goes to `name` in target/bench.
    pub fn attach(privilege: Privilege, pyalloc: &Path, pid: u32, options: &[&str], name: &str) -> Result<Self> {
        if interrupt::happened() {
            bail!("interrupted");
        }
        let folder = workspace_root().join("target/bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let profile = folder.join(name);
        let mut command = privilege.command(pyalloc);
        command.args(["trace", "--quiet", "--pid", &pid.to_string(), "--ready", "/dev/stdout"]).args(options);
        command.arg("-o").arg(&profile).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("cannot start pyalloc")?;
        let mut output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line != "attached\n" {
            bail!("pyalloc did not attach: {line}");
        }
        Ok(Self { child, privilege, profile })
    }

    /// pyalloc's own CPU time so far, ms.
    pub fn cpu_ms(&self) -> u64 {
        process::cpu_ms(process::innermost(self.child.id())).unwrap_or(0)
    }

    /// Ends it as Ctrl-C does, and gives the profile.
    pub fn end(mut self) -> Result<PathBuf> {
        process::interrupt(self.privilege, process::innermost(self.child.id()))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("pyalloc failed: {status}");
        }
        Ok(self.profile)
    }
}

/// A process that measures itself when told.
pub struct Talker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talker {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start it")?;
        let input = child.stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { child, input, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order, and returns the one number of the answer.
    pub fn ask(&mut self, order: &str) -> Result<f64> {
        self.tell(order)?;
        let line = self.line()?;
        line.trim().parse().with_context(|| format!("it said {line}"))
    }

    /// Gives an order.
    pub fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.input, "{order}").context("cannot give an order to a process under measurement")
    }

    /// What it says next.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a process under measurement has ended");
        }
        Ok(line)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
