//! Why a recording ended, and what that means for the exit code.

use crate::profile;

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The time given is over.
    Duration,
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
    /// No traced process is left.
    Over,
    /// The launched process is stopped at its exit, waiting for us.
    Held,
}

/// A wait status: the signal in bits 0..7, else the exit code in bits 8..16.
pub fn exit_of(status: i32) -> profile::End {
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
        assert_eq!(exit_of(0), profile::End::Exited(0));
        assert_eq!(exit_of(3 << 8), profile::End::Exited(3));
        assert_eq!(exit_of(9), profile::End::Killed(9));
        // 0x80: a core was dumped.
        assert_eq!(exit_of(11 | 0x80), profile::End::Killed(11));
    }
}
