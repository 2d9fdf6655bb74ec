//! Starting a program so that it can be traced from its first allocation, as the user who called sudo.
//!
//! The child is this very program under a hidden subcommand: it stops itself, and when it is resumed it gives up root
//! and executes the command. Nothing runs between fork and exec that would not be safe there.

use std::ffi::{CString, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::{env, io};

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid as NixPid, Uid, User, initgroups, setgid, setuid};

use super::Pid;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__launch";

/// Exit codes of shells for a command that was not found, or could not be run.
const NOT_FOUND: u8 = 127;
const CANNOT_RUN: u8 = 126;

/// A program that we started. Dropped before it was let go, it is killed: it must not stay stopped for ever.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    let_go: bool,
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.let_go {
            // It may have ended by itself.
            let _ = kill(self.nix(), Signal::SIGKILL);
            let _ = waitpid(self.nix(), None);
        }
    }
}

/// What became of a launched program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was stopped by SIGSTOP.
    Stopped,
    /// It ended with this exit code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
}

impl Launched {
    /// Starts the child; it is stopped when this returns, before its exec.
    pub fn start(command: &[OsString]) -> io::Result<Self> {
        // Not waited for by std: `wait_for_change` does, to see stops too.
        #[allow(clippy::zombie_processes, reason = "waited for by pid")]
        let child = Command::new("/proc/self/exe").arg(SUBCOMMAND).arg("--").args(command).spawn()?;
        let launched = Self { pid: Pid(child.id()), let_go: false };
        match launched.wait_for_change()? {
            Fate::Stopped => Ok(launched),
            other => Err(io::Error::other(format!("the child ended before it could be traced: {other:?}"))),
        }
    }

    /// Its pid: the same before and after the exec.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it go on after a stop.
    pub fn resume(&self) -> io::Result<()> {
        kill(self.nix(), Signal::SIGCONT).map_err(io::Error::from)
    }

    /// Lets it run for good: from now on it is its own master.
    pub fn let_go(&mut self) -> io::Result<()> {
        self.let_go = true;
        self.resume()
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        kill(self.nix(), signal).map_err(io::Error::from)
    }

    /// Waits until it stops or ends. Stops by other signals than SIGSTOP (Ctrl-Z) are passed over.
    pub fn wait_for_change(&self) -> io::Result<Fate> {
        loop {
            match waitpid(self.nix(), Some(WaitPidFlag::WUNTRACED)) {
                Ok(status) => {
                    if let Some(fate) = fate(status) {
                        return Ok(fate);
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has become of it, without waiting; `None` while it runs.
    pub fn poll(&self) -> io::Result<Option<Fate>> {
        waitpid(self.nix(), Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG)).map(fate).map_err(io::Error::from)
    }

    fn nix(&self) -> NixPid {
        NixPid::from_raw(self.pid.0.cast_signed())
    }
}

fn fate(status: WaitStatus) -> Option<Fate> {
    match status {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => Some(Fate::Stopped),
        WaitStatus::Exited(_, code) => Some(Fate::Exited(code)),
        WaitStatus::Signaled(_, signal, _) => Some(Fate::Killed(signal as i32)),
        _ => None,
    }
}

/// The child's side: never returns if the command can be executed.
pub fn become_command(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(CANNOT_RUN);
    };
    if let Err(error) = raise(Signal::SIGSTOP) {
        eprintln!("pyalloc: cannot stop before the start: {error}");
        return ExitCode::from(CANNOT_RUN);
    }
    let variables = match give_up_root() {
        Ok(variables) => variables,
        Err(error) => {
            eprintln!("pyalloc: cannot become the user who called sudo: {error}");
            return ExitCode::from(CANNOT_RUN);
        }
    };
    // If pyalloc is killed while it holds the program at its exit, the program must not stay stopped for ever. After
    // the change of user, which would clear it; without it only that safety net would be missing.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT));
    let error = Command::new(program).args(arguments).envs(variables).exec();
    eprintln!("pyalloc: cannot run {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}

/// Becomes the user who called sudo, if there is one; gives the variables that a login of that user would set.
fn give_up_root() -> io::Result<Vec<(&'static str, OsString)>> {
    if !Uid::effective().is_root() {
        return Ok(Vec::new());
    }
    let id = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) else {
        return Ok(Vec::new());
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let user = User::from_uid(uid)?;
    if let Some(user) = &user {
        initgroups(&CString::new(user.name.as_str())?, gid)?;
    }
    setgid(gid)?;
    setuid(uid)?;
    Ok(user.map_or_else(Vec::new, |user| {
        vec![("HOME", user.dir.into_os_string()), ("USER", user.name.clone().into()), ("LOGNAME", user.name.into())]
    }))
}
