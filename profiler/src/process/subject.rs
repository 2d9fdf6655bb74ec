//! A child of our own that is measured: it does a round of work when told to and answers with the time that took.
//!
//! The two shake hands over pipes, so that nothing has to wait for a clock.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Pid;

/// Rounds of a measurement; the first of them warms up and does not count.
const ROUNDS: usize = 12;

/// The child. It ends when its standard input does, at the latest when this is dropped.
///
/// For each byte on its standard input it does a round and writes the round's time, a little-endian u64 of ns, to its
/// standard output.
pub struct Subject {
    child: Child,
    orders: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Subject {
    /// Starts it; `order` is given once, so that its libraries are mapped when this returns.
    pub fn start(command: &mut Command, order: u8) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("the child has no output"))?;
        let mut subject = Self { child, orders, answers };
        subject.once(order)?;
        Ok(subject)
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// The median time of a round, ns.
    pub fn round_ns(&mut self, order: u8) -> io::Result<u64> {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            rounds.push(self.once(order)?);
        }
        Ok(median(&mut rounds[1..]))
    }

    fn once(&mut self, order: u8) -> io::Result<u64> {
        let orders = self.orders.as_mut().ok_or_else(|| io::Error::other("the child has no input"))?;
        orders.write_all(&[order])?;
        orders.flush()?;
        let mut answer = [0; 8];
        self.answers.read_exact(&mut answer)?;
        Ok(u64::from_le_bytes(answer))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.orders = None;
        // It has ended or is about to: its exit code says nothing.
        let _ = self.child.wait();
    }
}

/// The middle one; 0 of none.
pub fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(&mut [9, 1, 5]), 5);
        assert_eq!(median(&mut []), 0);
    }
}
