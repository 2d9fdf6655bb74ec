//! `pyalloc check`: the gate. Runs against limits and baselines; exit code 1 when something is over. Needs no privilege.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::diff::{read, side};
use crate::compare::budget::{self, Budget, Config, Target};
use crate::compare::caveats::{self, Named};
use crate::compare::diff;
use crate::compare::gate::{self, Verdict};
use crate::compare::measure::{Measure, Scope, Tolerance};
use crate::compare::sums::Runs;
use crate::exit::{Exit, Failure};
use crate::profile::Profile;
use crate::render::compare::{self, CheckFormat, Checked, Compared, DiffFormat};
use crate::render::{Ledger, Options, Value};
use crate::terminal::{self, Stream};

/// Fail when a program uses more memory than its limits, or than a baseline, allow
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// The runs to judge: profiles that `pyalloc trace -o` wrote
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Runs of the code before the change
    #[arg(long, num_args = 1.., value_name = "FILE")]
    baseline: Vec<PathBuf>,
    /// Budgets and tolerances [default: pyalloc.toml in the working folder, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Most bytes live at once in all processes, as their paths' peaks add up
    #[arg(long, value_name = "SIZE", value_parser = budget::size)]
    max_peak: Option<u64>,
    /// Largest peak RSS of all processes
    #[arg(long, value_name = "SIZE", value_parser = budget::size)]
    max_rss: Option<u64>,
    /// Most bytes allocated
    #[arg(long, value_name = "SIZE", value_parser = budget::size)]
    max_allocated: Option<u64>,
    /// Most bytes that survive
    #[arg(long, value_name = "SIZE", value_parser = budget::size)]
    max_surviving: Option<u64>,
    /// Most growth of RSS in an hour
    #[arg(long, value_name = "SIZE", value_parser = budget::size)]
    max_slope: Option<u64>,
    /// How much more than the baseline every number may be, in percent, in place of the usual shares
    #[arg(long, value_name = "PERCENT", value_parser = budget::percent)]
    tolerance: Option<f64>,
    /// The folder of the repository: files in it are named from there [default: the working folder]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,
    /// How many findings to print
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Write JUnit's XML here
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write SARIF 2.1.0 here
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Write Markdown here, for a comment and the summary of a job
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draw the first run against the first baseline here: red grew, blue shrank
    #[arg(long, value_name = "FILE", requires = "baseline")]
    flamegraph: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  sudo pyalloc trace -o run.pyalloc -- python -m pytest
  pyalloc check run.pyalloc --baseline main.pyalloc
      all processes, each test and each function of own code against the same of main
  pyalloc check run1.pyalloc run2.pyalloc run3.pyalloc --baseline main1.pyalloc main2.pyalloc main3.pyalloc
      the same; the limits come from how much the runs differ
  pyalloc check run.pyalloc --max-rss '300 MiB' --max-slope '10 MiB/h'
      limits, without a baseline
  pyalloc check run.pyalloc --baseline main.pyalloc --junit memory.xml --sarif memory.sarif --markdown memory.md

Budgets in pyalloc.toml:
  [[budget]]
  test = \"tests/test_api.py::*\"      # or: function = \"shop/app.py::remember\"; or neither: all processes
  peak = \"64 MiB\"                    # also allocated, surviving; of all processes rss_peak and slope (an hour) too
  growth = \"5 %\"                     # over the baseline

Exit codes: 0 within limits, 1 over a limit, 2 wrong usage or a file that is no profile.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// For people
    Text,
    /// For programs
    Json,
    /// For a comment on a change
    Markdown,
}

/// Where budgets are looked for.
const CONFIG: &str = "pyalloc.toml";

/// Runs the command.
///
/// # Errors
/// A bad input file, profiles that cannot be compared, nothing to hold the runs against, an output that cannot be written.
pub fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let config = config(args)?;
    if args.baseline.is_empty() && config.budgets.iter().all(|budget| budget.limits.is_empty()) {
        return Err(Failure::usage(
            "nothing to hold the runs against: give --baseline FILE, a limit such as --max-rss, or budgets in pyalloc.toml",
        ));
    }
    let runs = profiles(&args.runs)?;
    let baselines = profiles(&args.baseline)?;
    let root = root(args.root.as_deref());
    let [of_runs, of_baselines] = [&runs, &baselines].map(|side| side.iter().collect::<Vec<&Profile>>());
    let mut verdict = gate::judge(Runs::new(&of_runs, &of_baselines, root.as_deref()), &config);
    verdict.notes.extend(caveats(args, &runs, &baselines));
    write_all(args, &verdict, &runs, &baselines, root.as_deref())?;
    Ok(if verdict.passed() { Exit::Fine } else { Exit::Findings })
}

/// The repository's folder as profiles name it: whole, without symbolic links. `None` if there is none.
pub(super) fn root(given: Option<&Path>) -> Option<String> {
    let folder = given.map_or_else(|| std::env::current_dir().ok(), |folder| Some(folder.to_owned()))?;
    let whole = folder.canonicalize().unwrap_or(folder);
    whole.to_str().map(str::to_owned).filter(|root| root != "/")
}

fn config(args: &CheckArgs) -> Result<Config, Failure> {
    let path = args.config.clone().or_else(|| Some(PathBuf::from(CONFIG)).filter(|path| path.is_file()));
    let mut config = match path {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Failure::usage(format_args!("cannot read {name}: {}", crate::output::reason(&error)))
            })?;
            Config::parse(&text, &name).map_err(Failure::usage)?
        }
        None => Config::default(),
    };
    let flags = [
        ("--max-peak", Measure::Peak, args.max_peak),
        ("--max-rss", Measure::RssPeak, args.max_rss),
        ("--max-allocated", Measure::Allocated, args.max_allocated),
        ("--max-surviving", Measure::Surviving, args.max_surviving),
        ("--max-slope", Measure::Slope, args.max_slope),
    ];
    for (flag, measure, limit) in flags {
        let Some(limit) = limit else { continue };
        let limits = BTreeMap::from([(measure, limit)]);
        config.budgets.push(Budget { origin: flag.to_owned(), target: Target::Whole, limits, growth: None });
    }
    if let Some(percent) = args.tolerance {
        for scope in [Scope::Whole, Scope::Test, Scope::Function] {
            for measure in Measure::ALL {
                let floor = config.tolerance(scope, measure).floor;
                config.tolerances.insert((scope, measure), Tolerance { percent, floor });
            }
        }
    }
    Ok(config)
}

/// Reads them; each must have a heap ledger, which the numbers are of.
fn profiles(paths: &[PathBuf]) -> Result<Vec<Profile>, Failure> {
    let read = |path: &PathBuf| {
        let profile = read(path)?;
        if profile.trace.without_heap {
            return Err(Failure::usage(format_args!(
                "{} has no heap ledger: trace without `--ledger resident`, and check again",
                path.display()
            )));
        }
        Ok(profile)
    };
    paths.iter().map(read).collect()
}

fn caveats(args: &CheckArgs, runs: &[Profile], baselines: &[Profile]) -> Vec<String> {
    let (run_names, baseline_names) = (names(&args.runs), names(&args.baseline));
    let run = |at: usize| Named { name: &run_names[at], profile: &runs[at] };
    let baseline = |at: usize| Named { name: &baseline_names[at], profile: &baselines[at] };
    let mut notes = match baselines.is_empty() {
        true => caveats::alone(run(0)),
        false => caveats::between(baseline(0), run(0)),
    };
    notes.extend((1..runs.len()).flat_map(|at| caveats::alone(run(at))));
    notes.extend((1..baselines.len()).flat_map(|at| caveats::alone(baseline(at))));
    notes
}

fn write_all(
    args: &CheckArgs,
    verdict: &Verdict,
    runs: &[Profile],
    baselines: &[Profile],
    root: Option<&str>,
) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let checked = Checked { runs: names(&args.runs), baselines: names(&args.baseline), version };
    let of_file = Options { top: usize::from(args.top), ..terminal::options_of_file() };
    let rendered =
        |format, options: &Options| compare::check(verdict, &checked, format, options).map_err(Failure::usage);
    let files =
        [(&args.junit, CheckFormat::Junit), (&args.sarif, CheckFormat::Sarif), (&args.markdown, CheckFormat::Markdown)];
    for (path, format) in files {
        if let Some(path) = path {
            terminal::put(Some(path), &rendered(format, &of_file)?)?;
        }
    }
    if let (Some(path), Some(before), Some(after)) = (&args.flamegraph, baselines.first(), runs.first()) {
        terminal::put(Some(path), &picture(verdict, before, after, &checked, root)?)?;
    }
    let of_stream = Options { top: usize::from(args.top), ..terminal::options(Stream::Output) };
    terminal::print(Stream::Output, &rendered(args.format.into(), &of_stream)?)
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// By the number of the first finding that paths have; else by what was allocated.
fn picture(
    verdict: &Verdict,
    before: &Profile,
    after: &Profile,
    checked: &Checked,
    root: Option<&str>,
) -> Result<String, Failure> {
    let of_paths = |measure: &Measure| Measure::OF_PATHS.contains(measure);
    let value = match verdict.failures().map(|judgement| judgement.measure).find(of_paths) {
        Some(Measure::Surviving) => Value::InuseSpace,
        Some(Measure::Peak) => Value::PeakSpace,
        _ => Value::AllocSpace,
    };
    let ledger = Ledger::Heap;
    let [before_name, after_name] =
        [&checked.baselines, &checked.runs].map(|names| names.first().map_or("", String::as_str));
    let options = diff::Options { root, bytes: true, ..diff::Options::default() };
    let diff =
        diff::diff(&side(before, before_name, ledger, value)?, &side(after, after_name, ledger, value)?, &options);
    let compared = Compared { before: before_name, after: after_name, ledger, value };
    compare::diff(&diff, &compared, DiffFormat::Flamegraph, &Options::default()).map_err(Failure::usage)
}

impl From<FormatArg> for CheckFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Markdown => Self::Markdown,
        }
    }
}
