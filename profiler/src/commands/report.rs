//! `pyalloc report`: renders a profile. Needs no privilege.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::exit::{Exit, Failure};
use crate::profile::file;
use crate::render::{self, Format, Ledger, Options, Value};
use crate::terminal;

/// Render a profile that `pyalloc trace` wrote.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// The profile: a file that `pyalloc trace -o` wrote
    file: PathBuf,
    /// How to render it
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,
    /// Which ledger: blocks and small objects (heap), address space (mapping), or pages in memory (resident); text and
    /// json show heap and resident unless given, the others heap
    #[arg(long, value_enum)]
    ledger: Option<LedgerArg>,
    /// Which number; unless given, text and json show those that say most, the others the first that the ledger has
    #[arg(long, value_enum)]
    value: Option<ValueArg>,
    /// How many call paths to list [default: 10; with --per-process 5 for each process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    top: Option<u16>,
    /// Call paths of each process (the biggest ones) instead of all processes together; in a flamegraph the process
    /// is the outermost frame
    #[arg(long)]
    per_process: bool,
    /// Only this process
    #[arg(long, value_name = "PID")]
    process: Option<u32>,
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  pyalloc report app.pyalloc
      what grew, which code, which payloads, and how good the trace is
  pyalloc report app.pyalloc --format flamegraph -o app.svg
      surviving bytes as a flamegraph; open app.svg in a browser
  pyalloc report app.pyalloc --format flamegraph --value alloc_space -o churn.svg
      everything allocated, given back or not
  pyalloc report app.pyalloc --ledger mapping --top 5
      who asked the kernel for address space
  pyalloc report app.pyalloc --format flamegraph --ledger resident -o rss.svg
      what made RSS grow, by the code that touched the pages
  pyalloc report app.pyalloc --per-process
      a server with workers: the call paths of each of the biggest processes
  pyalloc report app.pyalloc --process 4711
      only that worker; one that has ended is shown as it was at its end

Values:
  inuse_space, inuse_objects   still live at the end        heap, mapping
  alloc_space, alloc_objects   allocated during the trace   heap, mapping
  temporary_space              given back within 100 ms     heap
  peak_space                   most live at once, by path   heap
  touched_space                pages came and are there     resident, by who touched them first
  owned_space                  the same bytes               resident, by who allocated what lies in them";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// A report for people
    Text,
    /// An SVG to open in a browser
    Flamegraph,
    /// One line per call path, for other flamegraph tools
    Folded,
    /// The report for programs; see docs/report-json.md
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LedgerArg {
    Heap,
    Mapping,
    Resident,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum ValueArg {
    InuseSpace,
    InuseObjects,
    AllocSpace,
    AllocObjects,
    TemporarySpace,
    PeakSpace,
    TouchedSpace,
    OwnedSpace,
}

/// Runs the command.
///
/// # Errors
/// A bad input file, a value that the ledger does not have, an output that cannot be written.
pub fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    let profile = file::read(&args.file).map_err(Failure::usage)?;
    let text = render::render(&profile, args.format.into(), &options(args)).map_err(Failure::usage)?;
    terminal::put(args.output.as_deref(), &text)?;
    Ok(Exit::Fine)
}

fn options(args: &ReportArgs) -> Options {
    Options {
        ledger: args.ledger.map(Ledger::from),
        value: args.value.map(Value::from),
        top: usize::from(args.top.unwrap_or(if args.per_process { 5 } else { 10 })),
        process: args.process,
        per_process: args.per_process,
        ..terminal::options_for(args.output.as_deref())
    }
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Flamegraph => Self::Flamegraph,
            FormatArg::Folded => Self::Folded,
            FormatArg::Json => Self::Json,
        }
    }
}

impl From<LedgerArg> for Ledger {
    fn from(ledger: LedgerArg) -> Self {
        match ledger {
            LedgerArg::Heap => Self::Heap,
            LedgerArg::Mapping => Self::Mapping,
            LedgerArg::Resident => Self::Resident,
        }
    }
}

impl From<ValueArg> for Value {
    fn from(value: ValueArg) -> Self {
        match value {
            ValueArg::InuseSpace => Self::InuseSpace,
            ValueArg::InuseObjects => Self::InuseObjects,
            ValueArg::AllocSpace => Self::AllocSpace,
            ValueArg::AllocObjects => Self::AllocObjects,
            ValueArg::TemporarySpace => Self::TemporarySpace,
            ValueArg::PeakSpace => Self::PeakSpace,
            ValueArg::TouchedSpace => Self::TouchedSpace,
            ValueArg::OwnedSpace => Self::OwnedSpace,
        }
    }
}
