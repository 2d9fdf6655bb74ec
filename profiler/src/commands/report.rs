//! `pyalloc report`: renders a profile. Needs no privilege.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::exit::{Exit, Failure};
use crate::profile::file;
use crate::render::filter::{By, Filter};
use crate::render::{self, Format, Ledger, Options, Value, sanitize};
use crate::terminal::{self, Stream};

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
    /// Only from this time on, counted from the start of the trace: 90s, 1m30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Only up to this time, counted from the start of the trace
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    until: Option<Duration>,
    /// Only call paths with a frame that matches; a frame reads `function file:line`
    #[arg(long, value_name = "REGEX")]
    focus: Option<Regex>,
    /// No call paths with a frame that matches
    #[arg(long, value_name = "REGEX")]
    ignore: Option<Regex>,
    /// What stands for a frame; type shows the objects by their type instead of call paths
    #[arg(long, value_enum, default_value_t = ByArg::Line)]
    by: ByArg,
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

  pyalloc report app.pyalloc --format html -o app.html
      everything on one page, to look into or to send by mail: it needs no network
  pyalloc report app.pyalloc --format pprof -o app.pb.gz && go tool pprof -http : app.pb.gz
  pyalloc report app.pyalloc --format speedscope -o app.json
      for https://www.speedscope.app, one profile for each number; --per-process: for each process

A part of the profile, in any format:
  pyalloc report app.pyalloc --since 5m --until 10m
      what grew in these minutes: the biggest call paths, by blocks of the C allocator
  pyalloc report app.pyalloc --focus 'checkout[.]py' --ignore 'logging'
      call paths through checkout.py, but for those through logging
  pyalloc report app.pyalloc --by module --value alloc_space
      which module allocates how much; --by function and --by file likewise

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
    /// One page with everything, to open in a browser; needs no network
    Html,
    /// For https://www.speedscope.app
    Speedscope,
    /// For pprof: gzipped protobuf with alloc_objects, alloc_space, inuse_objects, inuse_space and resident_space
    Pprof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ByArg {
    Line,
    Function,
    File,
    Module,
    Type,
    Thread,
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
    let format = Format::from(args.format);
    let profile = filter(args)?.apply(profile).map_err(Failure::usage)?;
    if format.is_binary() && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("this format is no text: write it to a file, by -o"));
    }
    let document = render::document(&profile, format, &options(args)).map_err(Failure::usage)?;
    terminal::put(args.output.as_deref(), &document)?;
    if !format.tells_left_out() {
        for note in &profile.left_out {
            terminal::print(Stream::Error, &format!("pyalloc: {}\n", sanitize::visible(note)))?;
        }
    }
    Ok(Exit::Fine)
}

fn filter(args: &ReportArgs) -> Result<Filter, Failure> {
    let by = match args.by {
        ByArg::Line => By::Line,
        ByArg::Function => By::Function,
        ByArg::File => By::File,
        ByArg::Module => By::Module,
        ByArg::Type => By::Type,
        ByArg::Thread => {
            return Err(Failure::usage(
                "cannot tell threads apart: which thread allocated is not recorded; `--focus` with the function that \
                 the thread runs shows its call paths",
            ));
        }
    };
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    Ok(Filter {
        process: args.process,
        since_ms: ms(args.since),
        until_ms: ms(args.until),
        focus: args.focus.clone(),
        ignore: args.ignore.clone(),
        by,
        by_owner: matches!(args.value, Some(ValueArg::OwnedSpace)),
    })
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
            FormatArg::Html => Self::Html,
            FormatArg::Speedscope => Self::Speedscope,
            FormatArg::Pprof => Self::Pprof,
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
