//! A process of its own that puts back what was written to processes should pyalloc be killed, when it cannot itself.
//!
//! It knows that pyalloc has gone by the end of its standard input. In a process group of its own, so that an interrupt
//! at the terminal does not end it first.

use std::collections::HashMap;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use crate::kernel::nudge::Nudged;
use crate::process::Pid;
use crate::python::nudge::Pointer;

/// The hidden subcommand that it is.
pub const SUBCOMMAND: &str = "keep-tables";

/// What it is told, a line each.
#[derive(Serialize, Deserialize)]
enum Order {
    /// A process is about to be written to, or has its parent's changes. Answered by a byte.
    Keep { slot: u32, pid: u32, pointers: Vec<Pointer> },
    /// A process has gone.
    Forget { slot: u32 },
    /// All is put back.
    Done,
}

/// The running process.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    orders: ChildStdin,
    answers: ChildStdout,
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).process_group(0).current_dir("/");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { child, orders, answers })
    }

    /// From now on it would put back these pointers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn keep(&mut self, slot: u32, pid: Pid, pointers: &[Pointer]) -> io::Result<()> {
        self.tell(&Order::Keep { slot, pid: pid.0, pointers: pointers.to_vec() })?;
        self.answers.read_exact(&mut [0])
    }

    /// A process needs it no more.
    pub fn forget(&mut self, slot: u32) {
        // One that does not listen has ended, and puts nothing back.
        let _ = self.tell(&Order::Forget { slot });
    }

    fn tell(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have been killed, and then has nothing to be told.
        let _ = self.tell(&Order::Done);
        let _ = self.child.wait();
    }
}

/// Its side.
pub fn serve() -> ExitCode {
    let mut kept: HashMap<u32, Nudged> = HashMap::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Order::Keep { slot, pid, pointers }) => {
                // One that has gone needs nothing put back.
                kept.extend(Nudged::inherited(Pid(pid), pointers).ok().map(|nudged| (slot, nudged)));
                if io::stdout().write_all(b".").and_then(|()| io::stdout().flush()).is_err() {
                    break;
                }
            }
            Ok(Order::Forget { slot }) => kept.remove(&slot).into_iter().for_each(Nudged::leave),
            Ok(Order::Done) => {
                kept.into_values().for_each(Nudged::leave);
                return ExitCode::SUCCESS;
            }
            Err(_) => break,
        }
    }
    // Dropping them puts them back.
    drop(kept);
    ExitCode::SUCCESS
}
