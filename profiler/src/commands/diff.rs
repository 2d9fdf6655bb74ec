//! `pyalloc diff`: what changed between two profiles. Needs no privilege.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::report::{LedgerArg, ValueArg};
use crate::compare::caveats::Named;
use crate::compare::diff::{self, Side};
use crate::exit::{Exit, Failure};
use crate::profile::{Profile, file};
use crate::render::compare::{self, Compared, DiffFormat};
use crate::render::{Ledger, Options, Value};
use crate::terminal;

/// Show what changed between two profiles, by function and by call path
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// The earlier profile
    before: PathBuf,
    /// The later profile
    after: PathBuf,
    /// How to render it
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,
    /// Which ledger [default: heap, or resident where a profile has no heap ledger]
    #[arg(long, value_enum)]
    ledger: Option<LedgerArg>,
    /// Which number [default: the first that the ledger has]
    #[arg(long, value_enum)]
    value: Option<ValueArg>,
    /// What is told apart: functions, so that moved code stays the same, or their lines
    #[arg(long, value_enum, default_value_t = By::Function)]
    by: By,
    /// Numbers for each second, for runs of different length
    #[arg(long)]
    per_second: bool,
    /// How many functions and call paths to list
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// The folder of the repository: files in it are named from there [default: the working folder]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  pyalloc diff before.pyalloc after.pyalloc
      surviving bytes: which functions and paths are new, gone, more, less
  pyalloc diff before.pyalloc after.pyalloc --value alloc_space --format flamegraph -o diff.svg
      everything allocated, as a picture: red grew, blue shrank
  pyalloc diff monday.pyalloc tuesday.pyalloc --per-second
      runs of different length, as rates
  pyalloc diff before.pyalloc after.pyalloc --format html -o diff.html
      one page to send around

Functions are compared by file and name. Files in the repository are named from its folder, installed packages from
site-packages on, so that two checkouts or two environments compare.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// For people
    Text,
    /// One page that needs no network
    Html,
    /// For programs
    Json,
    /// For a comment on a change
    Markdown,
    /// An SVG: red grew, blue shrank
    Flamegraph,
    /// One line per call path with both numbers
    Folded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Functions
    Function,
    /// Lines
    Line,
}

/// Runs the command.
///
/// # Errors
/// A bad input file, a ledger or number that one of the profiles does not have, an output that cannot be written.
pub fn run(args: &DiffArgs) -> Result<Exit, Failure> {
    let profiles = [read(&args.before)?, read(&args.after)?];
    let [before, after] = &profiles;
    let (ledger, value) = compare::chosen([before, after], args.ledger.map(Ledger::from), args.value.map(Value::from));
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let side = |profile, name| side(profile, name, ledger, value);
    let root = super::check::root(args.root.as_deref());
    let options = diff::Options {
        by_line: args.by == By::Line,
        per_second: args.per_second,
        bytes: ledger == Ledger::Heap && value.is_space(),
        root: root.as_deref(),
    };
    let diff = diff::diff(&side(before, &names[0])?, &side(after, &names[1])?, &options);
    let compared = Compared { before: &names[0], after: &names[1], ledger, value };
    let options = Options { top: usize::from(args.top), ..terminal::options_for(args.output.as_deref()) };
    let text = compare::diff(&diff, &compared, args.format.into(), &options).map_err(Failure::usage)?;
    terminal::put(args.output.as_deref(), &text)?;
    Ok(Exit::Fine)
}

/// Reads a profile.
pub(super) fn read(path: &Path) -> Result<Profile, Failure> {
    file::read(path).map_err(Failure::usage)
}

/// The number of each call path of a profile that has the ledger.
pub(super) fn side<'p>(profile: &'p Profile, name: &'p str, ledger: Ledger, value: Value) -> Result<Side<'p>, Failure> {
    let missing = match ledger {
        Ledger::Heap => profile.trace.without_heap,
        Ledger::Resident => profile.resident.is_empty(),
        Ledger::Mapping => false,
    };
    if missing {
        return Err(Failure::usage(format_args!(
            "{name} has no {} ledger: compare another by --ledger, or trace again",
            ledger.name()
        )));
    }
    let weights = compare::weights(profile, ledger, value).map_err(Failure::usage)?;
    Ok(Side { named: Named { name, profile }, weights })
}

impl From<FormatArg> for DiffFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Html => Self::Html,
            FormatArg::Json => Self::Json,
            FormatArg::Markdown => Self::Markdown,
            FormatArg::Flamegraph => Self::Flamegraph,
            FormatArg::Folded => Self::Folded,
        }
    }
}
