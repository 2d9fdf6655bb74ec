//! How pyalloc ends: its exit codes, and an error that carries one.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Fine,
    /// Findings are over a limit that was given.
    Findings,
    /// The command line or an input file is wrong.
    Usage,
    /// This machine, this user or this process does not let us observe.
    CannotObserve,
    /// Ended by the user.
    Interrupted,
    /// What a launched program ended with.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Findings => 1,
            Exit::Usage => 2,
            Exit::CannotObserve => 3,
            Exit::Interrupted => 130,
            Exit::Program(code) => code,
        })
    }
}

/// Why a command failed, in one sentence, and the code to exit with.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The sentence: lower case, what was tried, on what, and the way out. Empty if it has been told already.
    pub message: String,
}

impl Failure {
    /// The command line or an input file is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    /// This machine, this user or this process does not let us observe.
    pub fn cannot_observe(message: impl fmt::Display) -> Self {
        Self { exit: Exit::CannotObserve, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl Error for Failure {}
