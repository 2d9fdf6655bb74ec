//! `pyalloc diagnose`: watch for a while, and say which process, why, and what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, FromArgMatches as _, ValueEnum};
use regex::Regex;

use super::trace::{self, TraceArgs};
use crate::diagnose::diagnose as judge;
use crate::exit::{Exit, Failure};
use crate::profile::file;
use crate::render::diagnosis::{self, DiagnosisFormat};
use crate::terminal::{self, Stream};

/// Say which process uses too much memory, why, and what to do about it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true).args(["pid", "name", "cgroup", "profile", "command"]))]
#[command(after_help = EXAMPLES)]
pub struct DiagnoseArgs {
    /// The process to watch, with those it forked and will fork; may be given several times.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Watch every Python process whose command line fits this expression, and their children.
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// Watch every Python process in this control group and below (a folder under /sys/fs/cgroup).
    #[arg(long, value_name = "FOLDER")]
    cgroup: Option<PathBuf>,
    /// Judge a profile that was recorded before, and watch nothing; needs no privilege.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pid", "name", "cgroup", "command", "output", "ready"])]
    profile: Option<PathBuf>,
    /// Only the process itself, none of its children.
    #[arg(long)]
    no_children: bool,
    /// How long to watch; Enter adds 30 seconds while it runs.
    #[arg(long = "for", value_name = "TIME", value_parser = trace::parse_duration, default_value = "60s")]
    length: Duration,
    /// How to print the verdict.
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,
    /// Where to write the profile, with everything that was seen [default: pyalloc-PID.pyalloc].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where to write the line `attached` as soon as every probe is on: who started us need not guess.
    #[arg(long, value_name = "FILE", hide = true)]
    ready: Option<PathBuf>,
    /// A command to launch and watch.
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["pid", "name", "cgroup"])]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// For a terminal
    Text,
    /// For programs; see docs/diagnose.md
    Json,
    /// For an issue or a chat
    Markdown,
}

const EXAMPLES: &str = "Examples:
  sudo pyalloc diagnose --pid 4242                      (the master's pid: its workers are watched too)
  sudo pyalloc diagnose --pid 4242 --for 5m --format markdown > memory.md
  pyalloc report pyalloc-4242.pyalloc                   (again, with everything that was seen)";

/// Runs it.
///
/// # Errors
/// As `trace`: bad arguments or an output that cannot be written (exit code 2); a process that cannot be observed (3).
pub fn run(args: &DiagnoseArgs) -> Result<Exit, Failure> {
    let format = DiagnosisFormat::from(args.format);
    if let Some(path) = &args.profile {
        return again(path, format);
    }
    trace::watch(&as_trace(args)?, args.length, |finished, path| {
        let stream = if finished.launched { Stream::Error } else { Stream::Output };
        let options = terminal::options(stream);
        let text = diagnosis::render(&finished.profile, format, &options).map_err(Failure::cannot_observe)?;
        let next = match (format, &finished.unwritten) {
            (DiagnosisFormat::Text, None) => {
                let path = path.display();
                format!("\nProfile: {path}\nAgain, with every call path: pyalloc report {path}\n")
            }
            _ => String::new(),
        };
        terminal::print(stream, &(text + &next))
    })
}

/// Judges what was recorded before, also by `pyalloc trace`; the file stays as it is.
fn again(path: &Path, format: DiagnosisFormat) -> Result<Exit, Failure> {
    let mut profile = file::read(path).map_err(Failure::usage)?;
    profile.diagnosis = Some(judge(&profile));
    let options = terminal::options(Stream::Output);
    let text = diagnosis::render(&profile, format, &options).map_err(Failure::cannot_observe)?;
    terminal::print(Stream::Output, &text).map(|()| Exit::Fine)
}

/// What is not asked for here is as `trace` has it.
fn as_trace(args: &DiagnoseArgs) -> Result<TraceArgs, Failure> {
    let mut words: Vec<OsString> = vec!["trace".into(), "--quiet".into(), "--objects".into()];
    let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
    args.pid.iter().for_each(|pid| option("--pid", pid.to_string().into()));
    args.name.iter().for_each(|name| option("--name", name.as_str().into()));
    args.cgroup.iter().for_each(|folder| option("--cgroup", folder.into()));
    args.output.iter().for_each(|path| option("--output", path.into()));
    args.ready.iter().for_each(|path| option("--ready", path.into()));
    words.extend(args.no_children.then(|| "--no-children".into()));
    if !args.command.is_empty() {
        words.push("--".into());
        words.extend(args.command.iter().cloned());
    }
    let parsed = TraceArgs::augment_args(clap::Command::new("trace")).try_get_matches_from(words);
    parsed.and_then(|matches| TraceArgs::from_arg_matches(&matches)).map_err(Failure::usage)
}

impl From<FormatArg> for DiagnosisFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Markdown => Self::Markdown,
        }
    }
}
