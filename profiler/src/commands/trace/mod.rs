//! `pyalloc trace`: attach or launch, record, report.

mod end;
pub mod keeper;
mod launch;
mod live;
mod nudges;
mod probes;
mod progress;
pub(super) mod record;
mod select;
pub(super) mod target;
mod tree;
mod watched;
mod window;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::exit::{Exit, Failure};
use crate::kernel::unwind::NativeLimits;
use crate::kernel::{Kernel, LinkKind, Settings};
use crate::output;
use crate::process::oom_score;
use crate::render::{self, Format};
use crate::terminal::{self, Stream};

use live::Live;
use record::{Finished, Recording};
use target::Roots;
use window::Window;

/// Record which code allocates, keeps and gives back memory, and report it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["pid", "name", "cgroup", "command"]))]
#[command(after_help = EXAMPLES)]
pub struct TraceArgs {
    /// The process to attach to, with those it forked and will fork; may be given several times.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Attach to every Python process whose command line fits this expression, and to their children.
    #[arg(long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// Attach to every Python process in this control group and below (a folder under /sys/fs/cgroup).
    #[arg(long, value_name = "FOLDER")]
    pub cgroup: Option<PathBuf>,
    /// Only the process itself, none of its children.
    #[arg(long)]
    pub no_children: bool,
    /// Stop after this time ("30s", "5m", "1h"); else at Ctrl-C or when the process ends.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Where to write the profile [default: pyalloc-PID.pyalloc].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which ledgers to keep: heap probes every call of malloc and free; the others cost next to nothing.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["heap", "mapping", "resident"], value_name = "LEDGER,...")]
    pub ledger: Vec<LedgerArg>,
    /// Look at a part of the allocations only, which stands for all: in the mean one in so many bytes; blocks of this size
    /// and more are all seen.
    #[arg(long, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..=profiler_common::sampling::MAX_INTERVAL))]
    pub sample_interval: Option<u64>,
    /// Set no probe in the process: pages and mappings only, as where the kernel refuses probes.
    #[arg(long)]
    pub no_uprobes: bool,
    /// Walk native frames too: names the C or Rust function that called malloc.
    #[arg(long)]
    pub native: bool,
    /// Look at the Python objects too, at the start, at the end and in between: which types, containers and caches grow, and
    /// who keeps them. Read from outside; the process is not stopped.
    #[arg(long)]
    pub objects: bool,
    /// Count every small object at its call. Where the interpreter has its allocator compiled into its callers this writes
    /// eight bytes of the process, which are put back at the end (docs/small-objects.md); dear.
    #[arg(long, conflicts_with_all = ["sample_interval", "no_uprobes"])]
    pub exact_objects: bool,
    /// Tell on standard error what the kernel side sees of forks, execs and exits.
    #[arg(short, long)]
    pub verbose: bool,
    /// Do not print the report, only write the profile.
    #[arg(short, long)]
    pub quiet: bool,
    /// Most blocks followed at once; one costs about 100 bytes of kernel memory.
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1024..=1 << 26))]
    pub max_live_blocks: u32,
    /// How to link probes, instead of the best the kernel has.
    #[arg(long, value_name = "KIND", value_enum, hide = true)]
    pub links: Option<LinkKind>,
    /// Where to write the line `attached` as soon as every probe is on, `probed PID` for each process that comes later, and
    /// `looked` after each round of looks at objects: who started us need not guess how long it takes.
    #[arg(long, value_name = "FILE", hide = true)]
    pub ready: Option<PathBuf>,
    /// A command to launch under tracing.
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["pid", "name", "cgroup"])]
    pub command: Vec<OsString>,
}

/// A ledger that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LedgerArg {
    /// Blocks and small objects, by who allocated them
    Heap,
    /// Address space, by who asked for it
    Mapping,
    /// Pages in memory, by who touched them
    Resident,
}

impl TraceArgs {
    /// Whether each small object is to be counted.
    pub fn counts_each_object(&self) -> bool {
        self.exact_objects && self.keeps(LedgerArg::Heap)
    }

    /// Whether a ledger is to be kept.
    pub fn keeps(&self, ledger: LedgerArg) -> bool {
        self.ledger.contains(&ledger) && !(self.no_uprobes && ledger == LedgerArg::Heap)
    }
}

const EXAMPLES: &str = "Examples:
  sudo pyalloc trace --pid 4242 --duration 30s
      a process that runs, with its children; of a server with workers give the master's pid
  sudo pyalloc trace --pid 4242 --duration 10m --ledger resident
      what makes RSS grow, alone: costs next to nothing, for production
  sudo pyalloc trace --name 'celery.*worker' --duration 5m
      every Python whose command line fits, and their children
  sudo pyalloc trace --cgroup /sys/fs/cgroup/system.slice/shop.service --duration 5m
      a systemd service, or a container
  sudo pyalloc trace -o run.pyalloc -- python app.py --port 8000
      a program from its first allocation to its exit, as the user who called sudo
  sudo pyalloc trace --native -o run.pyalloc -- python app.py
      with the C and Rust functions that called malloc

Ctrl-C ends the trace and prints the report; the program goes on. `pyalloc report FILE` prints it again, in any format.";

/// Runs it.
///
/// # Errors
/// Bad arguments or an output that cannot be written (exit code 2); a process that cannot be observed (3).
pub fn run(args: &TraceArgs) -> Result<Exit, Failure> {
    let show = |finished: &Finished, path: &Path| if args.quiet { Ok(()) } else { show(finished, path) };
    record(args, Window::of(args.duration), false, show)
}

/// Records what a diagnosis looks at too, for a time that may be made longer, and gives it to `show`.
///
/// # Errors
/// As [`run`].
pub(super) fn watch(
    args: &TraceArgs,
    length: Duration,
    show: impl Fn(&Finished, &Path) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let window = if args.command.is_empty() { Window::growing(length) } else { Window::of(Some(length)) };
    record(args, window, true, show)
}

fn record(
    args: &TraceArgs,
    window: Window,
    diagnose: bool,
    show: impl Fn(&Finished, &Path) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    if let Some(path) = &args.output {
        output::check_writable(path).map_err(Failure::usage)?;
    }
    runtime()?.block_on(trace(args, window, diagnose, show))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::cannot_observe)
}

/// Shows what is recorded while it is, and writes it only when asked.
///
/// # Errors
/// As [`run`].
pub(super) fn watch_live(args: &TraceArgs) -> Result<Exit, Failure> {
    let watched = runtime()?.block_on(async {
        let (mut recording, _) = start(args)?;
        let title =
            args.pid.iter().map(|pid| format!("pid {pid}")).chain(args.name.iter().map(|name| name.to_string()));
        let title: Vec<_> = title.chain(args.cgroup.iter().map(|folder| folder.display().to_string())).collect();
        let without_heap = !args.keeps(LedgerArg::Heap) || recording.recorder.is_without_probes();
        recording.show_on(Live::start(title.join(", "), without_heap)?);
        let ended = recording.run(&mut Window::of(None)).await;
        recording.close();
        ended
    });
    watched.map(|_| Exit::Fine)
}

async fn trace(
    args: &TraceArgs,
    mut window: Window,
    diagnose: bool,
    show: impl Fn(&Finished, &Path) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let (mut recording, path) = start(args)?;
    if diagnose {
        recording.gather_evidence();
    }
    let end = recording.run(&mut window).await?;
    recording.finish_writing().await?;
    let finished = recording.finish(end)?;
    show(&finished, &path)?;
    // Last: what was recorded is shown even if it could not be kept.
    finished.unwritten.map_or(Ok(finished.exit), |error| Err(Failure::usage(error)))
}

/// Attaches; also where the profile is to be written.
fn start(args: &TraceArgs) -> Result<(Recording, PathBuf), Failure> {
    let settings = Settings {
        max_live_blocks: args.max_live_blocks,
        links: args.links,
        native: args.native.then(NativeLimits::default),
        verbose: args.verbose,
    };
    select::check(args)?;
    let mut kernel = Kernel::load(settings).map_err(Failure::cannot_observe)?;
    kernel.attach_tracepoints(args.keeps(LedgerArg::Resident)).map_err(Failure::cannot_observe)?;
    let roots = Roots::open(args, &mut kernel)?;
    if let Some(interval) = args.sample_interval {
        kernel.set_sampling(interval).map_err(Failure::cannot_observe)?;
    }
    // Only now: a launched program is not to inherit it.
    oom_score::spare_this_process();
    let path = args.output.clone().unwrap_or_else(|| default_path(&roots));
    output::check_writable(&path).map_err(Failure::usage)?;
    Ok((Recording::start(args, kernel, roots, &path)?, path))
}

fn default_path(roots: &Roots) -> PathBuf {
    let pid = roots.pid().map_or_else(String::new, |pid| format!("-{pid}"));
    PathBuf::from(format!("pyalloc{pid}.pyalloc"))
}

/// The report goes to standard output; beside a launched program's own output, to standard error.
fn show(finished: &Finished, path: &Path) -> Result<(), Failure> {
    let stream = if finished.launched { Stream::Error } else { Stream::Output };
    let options = terminal::options(stream);
    let text = render::render(&finished.profile, Format::Text, &options).map_err(Failure::cannot_observe)?;
    if finished.unwritten.is_some() {
        return terminal::print(stream, &text);
    }
    let shown = path.display();
    let next =
        format!("\nProfile: {shown}\nFlamegraph: pyalloc report {shown} --format flamegraph -o flamegraph.svg\n");
    terminal::print(stream, &(text + &next))
}

/// "30s", "5m", "1h", "500ms", or plain seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err("a time is a number and ms, s, m, h or d: 30s, 5m".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "a time starts with a number: 30s, 5m".to_owned())? * factor;
    if seconds <= 0.0 {
        return Err("a trace takes longer than no time".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(parse_duration(text).ok(), ms.map(Duration::from_millis), "{text}")
        };
        check("30s", Some(30_000));
        check("1.5m", Some(90_000));
        check("250ms", Some(250));
        check("2", Some(2_000));
        check("1h", Some(3_600_000));
        check("0s", None);
        check("-3s", None);
        check("", None);
        check("5 parsecs", None);
        check("1e999", None);
    }
}
