//! `pyalloc top`: the live view of a tree of processes, while it is recorded.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};
use regex::Regex;

use super::trace::{self, LedgerArg, TraceArgs};
use crate::exit::{Exit, Failure};

/// Watch a tree of processes live: memory, growth, traffic, and the code that is behind it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("seen").required(true).multiple(true).args(["pid", "name", "cgroup"]))]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// The process to watch, with those it forked and will fork; may be given several times.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Watch every Python process whose command line fits this expression, and their children.
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// Watch every Python process in this control group and below (a folder under /sys/fs/cgroup).
    #[arg(long, value_name = "FOLDER")]
    cgroup: Option<PathBuf>,
    /// Only the process itself, none of its children.
    #[arg(long)]
    no_children: bool,
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
    trace::watch_live(&as_trace(args)?)
}

/// What is not asked for here is as `trace` has it.
fn as_trace(args: &TopArgs) -> Result<TraceArgs, Failure> {
    let mut words: Vec<OsString> = vec!["trace".into(), "--quiet".into()];
    let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
    args.pid.iter().for_each(|pid| option("--pid", pid.to_string().into()));
    args.name.iter().for_each(|name| option("--name", name.as_str().into()));
    args.cgroup.iter().for_each(|folder| option("--cgroup", folder.into()));
    args.output.iter().for_each(|path| option("--output", path.into()));
    words.extend(args.no_children.then(|| "--no-children".into()));
    words.extend(args.native.then(|| "--native".into()));
    let parsed = TraceArgs::augment_args(clap::Command::new("trace")).try_get_matches_from(words);
    let parsed = parsed.and_then(|matches| TraceArgs::from_arg_matches(&matches)).map_err(Failure::usage)?;
    Ok(TraceArgs { ledger: args.ledger.clone(), ..parsed })
}
