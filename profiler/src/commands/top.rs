//! `pyalloc top`: the live view of a tree of processes, while it is recorded.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;

use super::trace::{self, LedgerArg, TraceArgs};
use super::whom::Whom;
use crate::exit::{Exit, Failure};

/// Watch a tree of processes live: memory, growth, traffic, and the code that is behind it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("seen").required(true).multiple(true).args(["pid", "name", "cgroup"]))]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    #[command(flatten)]
    whom: Whom,
    /// Which ledgers to keep: heap probes every call of malloc and free; the others cost next to nothing.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["heap", "mapping", "resident"], value_name = "LEDGER,...")]
    ledger: Vec<LedgerArg>,
    /// Walk native frames too: names the C or Rust function that called malloc.
    #[arg(long)]
    native: bool,
    /// Where `w` writes the profile [default: pyalloc-PID.pyalloc].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str =
    "Keys: arrows and enter to look closer, s to sort, l for another ledger, p to pause, w to write a
profile, q to end; ? tells the rest. Nothing is written unless you ask for it.

Examples:
  sudo pyalloc top --pid 4242                          (the master's pid: its workers are shown too)
  sudo pyalloc top --name 'celery.*worker' --ledger resident     (no probe in the processes)";

/// Runs it.
///
/// # Errors
/// Bad arguments, or no terminal (exit code 2); a process that cannot be observed (3).
pub fn run(args: &TopArgs) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal to draw on; elsewhere use pyalloc trace"));
    }
    let trace = args.whom.as_trace(&[])?;
    let (ledger, native) = (args.ledger.clone(), args.native);
    trace::watch_live(&TraceArgs { ledger, native, output: args.output.clone(), ..trace })
}
