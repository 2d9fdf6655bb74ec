//! What was typed: the command line, and how its errors are told.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{bench_probes, check, completions, diagnose, diff, doctor, man, objects, report, top, trace};
use crate::exit::{Exit, Failure};
use crate::kernel::calibrate;
use crate::process::launch;
use crate::render::sanitize;

/// Which process, why, and which code makes a Python service use too much memory.
#[derive(Parser, Debug)]
#[command(name = "pyalloc", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Diagnose(diagnose::DiagnoseArgs),
    Trace(trace::TraceArgs),
    Top(top::TopArgs),
    Report(report::ReportArgs),
    Diff(diff::DiffArgs),
    Check(check::CheckArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(name = crate::process::launch::SUBCOMMAND, hide = true)]
    Launch(LaunchArgs),
    #[command(hide = true)]
    Objects(objects::ObjectsArgs),
    #[command(hide = true)]
    BenchProbes(bench_probes::BenchProbesArgs),
    /// The child's side of the calibration.
    #[command(name = calibrate::SUBCOMMAND, hide = true)]
    Calibrate,
    /// Puts back what was written to processes should pyalloc be killed.
    #[command(name = trace::keeper::SUBCOMMAND, hide = true)]
    KeepTables,
}

/// The child's side of `trace -- COMMAND`.
#[derive(clap::Args, Debug)]
struct LaunchArgs {
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

const EXIT_CODES: &str = "Examples:
  sudo pyalloc diagnose --pid 4242
  sudo pyalloc trace --pid 4242 --duration 30s
  sudo pyalloc trace -- python app.py
  sudo pyalloc top --pid 4242
  pyalloc report pyalloc-4242.pyalloc --format flamegraph -o flamegraph.svg
  pyalloc diff before.pyalloc after.pyalloc
  pyalloc check run.pyalloc --baseline main.pyalloc

Exit codes:
  0 fine, 1 findings over a limit given, 2 usage or bad input file, 3 cannot observe, 130 interrupted";

/// Runs what was typed and says what went wrong in one line on standard error.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    if let Command::Launch(args) = &cli.command {
        return launch::become_command(&args.command);
    }
    if matches!(cli.command, Command::Calibrate) {
        return calibrate::serve();
    }
    if matches!(cli.command, Command::KeepTables) {
        return trace::keeper::serve();
    }
    match run(&cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => complain(&failure),
    }
}

fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Diagnose(args) => diagnose::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Top(args) => top::run(args),
        Command::Report(args) => report::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::command(args),
        Command::Objects(args) => objects::run(args),
        Command::Completions(args) => completions::run(args, &Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::BenchProbes(args) => bench_probes::run(args),
        Command::Launch(_) | Command::Calibrate | Command::KeepTables => Ok(Exit::Fine),
    }
}

fn complain(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        // A name in the message may hold anything, a line break too.
        let line = format!("pyalloc: {}\n", sanitize::visible(&failure.message));
        // Nobody is left to tell when it cannot be printed.
        let _ = io::stderr().write_all(line.as_bytes());
    }
    failure.exit.into()
}

fn refuse(error: &clap::Error) -> ExitCode {
    let help_was_asked_for = !error.use_stderr();
    let is_help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if help_was_asked_for || is_help {
        // Nobody is left to tell when the help cannot be printed.
        let _ = error.print();
        return if help_was_asked_for { Exit::Fine } else { Exit::Usage }.into();
    }
    complain(&Failure::usage(first_paragraph(&error.render().to_string())))
}

/// clap tells an error in paragraphs; the first says what is wrong.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    format!("{}; see `pyalloc --help`", joined.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line() {
        let text = "error: the following were not provided:\n  <FILE>\n\nUsage: pyalloc report <FILE>\n";
        assert_eq!(super::first_paragraph(text), "the following were not provided: <FILE>; see `pyalloc --help`");
    }
}
