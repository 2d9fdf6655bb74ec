//! Why a recording ended, and what that means for the exit code.

use crate::profile;

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The time given is over.
    Duration,
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
    /// The process ended; the wait status if it is known.
    Exited(Option<i32>),
    /// The process executed another program.
    Executed,
    /// The launched process is stopped at its exit, waiting for us.
    Held,
}

impl End {
    /// For the profile.
    pub fn of_process(self) -> profile::End {
        match self {
            Self::Duration | Self::Interrupted | Self::Held => profile::End::Detached,
            Self::Executed => profile::End::Executed,
            Self::Exited(None) => profile::End::Vanished,
            Self::Exited(Some(status)) => from_wait_status(status),
        }
    }
}

/// A wait status: the signal in bits 0..7, else the exit code in bits 8..16.
fn from_wait_status(status: i32) -> profile::End {
    match status & 0x7f {
        0 => profile::End::Exited(status >> 8 & 0xff),
        signal => profile::End::Killed(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        assert_eq!(from_wait_status(0), profile::End::Exited(0));
        assert_eq!(from_wait_status(3 << 8), profile::End::Exited(3));
        assert_eq!(from_wait_status(9), profile::End::Killed(9));
        // 0x80: a core was dumped.
        assert_eq!(from_wait_status(11 | 0x80), profile::End::Killed(11));
    }
}
