//! What root is needed for, and how this machine gives it.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// How a program can be run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// We are root.
    Root,
    /// By sudo.
    Sudo,
}

impl Privilege {
    /// What this user has; `None` without root and sudo.
    pub fn detect() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            return Some(Self::Root);
        }
        sudo_works().then_some(Self::Sudo)
    }

    /// As [`Self::detect`], or one sentence that says what root is needed for.
    pub fn require(what: &str) -> Result<Self> {
        match Self::detect() {
            Some(privilege) => Ok(privilege),
            None => bail!("{what} needs root: run this as root, or as a user who may use sudo"),
        }
    }

    /// A command that runs `program` as root.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg(program);
                command
            }
        }
    }
}

/// Whether sudo is there and will not wait for a password that nobody can type.
fn sudo_works() -> bool {
    let mut sudo = Command::new("sudo");
    if std::io::stdin().is_terminal() {
        sudo.arg("--version");
    } else {
        sudo.args(["--non-interactive", "true"]);
    }
    sudo.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
