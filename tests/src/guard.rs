//! A child process that does not outlive its test, and does not keep it waiting for ever.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// After this time a child is taken to hang and is killed: what waits for it sees its end and fails.
const PATIENCE: Duration = Duration::from_secs(150);

/// A child in a process group of its own; the group is killed when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    /// Dropped with the guard: that ends the watch.
    _watch: Sender<()>,
}

impl Guard {
    /// Starts the command.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let group = Pid::from_raw(child.id().cast_signed());
        let (watch, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("process group {group} is killed: it has run for {} s", PATIENCE.as_secs());
                let _ = killpg(group, Signal::SIGKILL);
            }
        });
        Ok(Self { child, _watch: watch })
    }

    /// The child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: to it alone, not to its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.child.id()))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("cannot wait for a child")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // What has ended cannot be killed: that is what we want of it.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
