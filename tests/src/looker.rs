//! Running `pyalloc objects`: a look at the objects of a process whenever it is asked for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, bail};
use pyalloc::profile::objects::ObjectLook;

use crate::guard::Guard;
use crate::tracer::pyalloc;

/// What a look may take in tests, ms: what it finds is tested, however busy the machine is.
const PATIENCE_MS: &str = "60000";

/// A running `pyalloc objects`.
#[derive(Debug)]
pub struct Looker {
    guard: Guard,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Looker {
    /// Starts it; nothing is looked at yet.
    pub fn start(pid: u32) -> Result<Self> {
        let mut command = pyalloc()?;
        command.args(["objects", "--each-line", "--most-ms", PATIENCE_MS, "--pid", &pid.to_string()]);
        let mut guard = Guard::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = guard.child().stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(guard.child().stdout.take().context("standard output is a pipe")?);
        Ok(Self { guard, input, output })
    }

    /// Makes a look.
    pub fn look(&mut self) -> Result<ObjectLook> {
        writeln!(self.input).context("pyalloc does not listen: it has ended")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from pyalloc")?;
        if line.is_empty() {
            bail!("pyalloc has ended: {:?}", self.guard.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("pyalloc said: {line}"))
    }
}
