//! `pyalloc diagnose`: watch for a while, and say which process, why, and what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::trace::{self, TraceArgs};
use super::whom::Whom;
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
    #[command(flatten)]
    whom: Whom,
    /// Judge a profile that was recorded before, and watch nothing; needs no privilege.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pid", "name", "cgroup", "command", "output", "ready"])]
    profile: Option<PathBuf>,
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
    let trace = args.whom.as_trace(&args.command)?;
    let (output, ready) = (args.output.clone(), args.ready.clone());
    trace::watch(&TraceArgs { objects: true, output, ready, ..trace }, args.length, |finished, path| {
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

impl From<FormatArg> for DiagnosisFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Markdown => Self::Markdown,
        }
    }
}
