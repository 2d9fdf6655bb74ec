//! Running other programs: said before, checked after, and stopped whatever happens.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;

/// Says what is run, runs it in the foreground, and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if interrupt::happened() {
        bail!("interrupted");
    }
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// The command as one would type it; arguments with blanks in quotes.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(char::is_whitespace) { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A program in the background, with all its children; stopped when this is dropped, and at Ctrl-C.
pub struct Group {
    child: Child,
    /// Kept open until the program ends: a closed pipe would end it at its next line.
    output: Option<BufReader<ChildStdout>>,
    name: &'static str,
}

impl Group {
    /// How long a group may take to stop in order before it is killed.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Starts the command in a process group of its own.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        if interrupt::happened() {
            bail!("interrupted");
        }
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", line(command)))?;
        let output = child.stdout.take().map(BufReader::new);
        let group = Self { child, output, name };
        interrupt::remember(group.pgid());
        Ok(group)
    }

    /// The process id of the group's first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the program's standard output until it prints `word` on a line of its own.
    pub fn wait_for_line(&mut self, word: &str) -> Result<()> {
        let output = self.output.as_mut().with_context(|| format!("the output of {} is not read here", self.name))?;
        for read in output.lines() {
            if read.with_context(|| format!("cannot read the output of {}", self.name))? == word {
                return Ok(());
            }
        }
        bail!("{} ended before it said `{word}`", self.name)
    }

    fn pgid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn ended_within(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group whose last process has ended cannot be signalled: that is what we want of it.
        let _ = killpg(self.pgid(), Signal::SIGTERM);
        self.ended_within(Self::PATIENCE);
        let _ = killpg(self.pgid(), Signal::SIGKILL);
        let _ = self.child.wait();
        interrupt::forget(self.pgid());
    }
}
