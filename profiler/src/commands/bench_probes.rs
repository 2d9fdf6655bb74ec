//! `pyalloc bench-probes`: what probes cost on this machine, as ratios measured in one run. For `cargo xtask bench`.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use profiler_common::config::ProcessConfig;

use super::trace::target::{self, Target};
use crate::exit::{Exit, Failure};
use crate::kernel::calibrate::{self, PAIRS};
use crate::kernel::{Kernel, LinkKind, ProbePoint, Settings};
use crate::process::Pid;
use crate::process::subject::Subject;
use crate::terminal::{self, Stream};

/// Measure what probes cost on this machine
#[derive(clap::Args, Debug)]
pub struct BenchProbesArgs {
    /// The interpreter whose stacks are walked
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub python: PathBuf,
}

/// Does as [`calibrate::serve`]: for `1` a round of `bytearray(600)` at depth 1, for `3` at depth 30, each one malloc and
/// one free. 256 of them.
const PYTHON: &str = "
import struct, sys, time
def churn():
    for _ in range(256):
        bytearray(600)
def deep(more):
    if more:
        deep(more - 1)
    else:
        churn()
while order := sys.stdin.buffer.read(1):
    work, argument = (churn, ()) if order == b'1' else (deep, (28,))
    began = time.thread_time_ns()
    work(*argument)
    sys.stdout.buffer.write(struct.pack('<Q', time.thread_time_ns() - began))
    sys.stdout.buffer.flush()
";
const SHALLOW: u8 = b'1';
const DEEP: u8 = b'3';
/// Frames that the deep round has over the shallow one: 29 calls of `deep`.
const MORE_FRAMES: u64 = 29;

/// Runs it.
///
/// # Errors
/// Probes that cannot be made, or an interpreter that cannot be run (exit code 3).
pub fn run(args: &BenchProbesArgs) -> Result<Exit, Failure> {
    let mut page = String::new();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    page += &format!("Linux {release}; ns are CPU time of the target, medians of 11 rounds of {PAIRS}\n\n");
    page += &c_calls()?;
    page += "\n";
    page += &python_calls(args)?;
    page += "\n";
    page += &links(args)?;
    terminal::print(Stream::Output, &page)?;
    Ok(Exit::Fine)
}

/// A pair of malloc and free in a C loop.
fn c_calls() -> Result<String, Failure> {
    let mut kernel = load(None)?;
    let best = kernel.link_kind();
    let mut child = calibrate::subject().map_err(Failure::cannot_observe)?;
    let pid = child.pid();
    let plain = pair_ns(&mut child, calibrate::round_ns)?;
    let points = calibrate::points(pid).map_err(Failure::cannot_observe)?;
    let traced = traced(&mut kernel, pid, &blind(), &points, || pair_ns(&mut child, calibrate::round_ns))?;
    drop(kernel);
    let mut kernel = load(Some(LinkKind::Perf))?;
    let naive: Vec<ProbePoint> = points.iter().map(ProbePoint::at_entry).collect();
    let naive = self::traced(&mut kernel, pid, &blind(), &naive, || pair_ns(&mut child, calibrate::round_ns))?;
    Ok(format!(
        "malloc(64) and free, in a loop                                    ns/pair   to untraced\n{}{}{}  naive / ours                                                     {:8.2} x\n",
        row("untraced", plain, plain),
        row(&format!("traced, at the sites chosen ({})", best.describe()), traced, plain),
        row("naive: first byte, perf events, uretprobe", naive, plain),
        naive / traced,
    ))
}

/// The same pair from Python, and what a frame more costs.
fn python_calls(args: &BenchProbesArgs) -> Result<String, Failure> {
    let mut kernel = load(None)?;
    let mut child = python(args)?;
    let python = inspect(child.pid())?;
    let shallow_plain = pair_ns(&mut child, |child| child.round_ns(SHALLOW))?;
    let deep_plain = pair_ns(&mut child, |child| child.round_ns(DEEP))?;
    let mut both = || {
        let shallow = pair_ns(&mut child, |child| child.round_ns(SHALLOW))?;
        Ok((shallow, pair_ns(&mut child, |child| child.round_ns(DEEP))?))
    };
    let pid = python.1;
    let (shallow, deep) = traced(&mut kernel, pid, &python.0.config, &python.0.plan.points, &mut both)?;
    let walk = (deep - deep_plain) - (shallow - shallow_plain);
    Ok(format!(
        "bytearray(600) in Python, one malloc and one free                 ns/pair   to untraced\n{}{}{}  30 frames over 1: {walk:.0} ns a walk, {:.0} ns a frame\n",
        row("untraced", shallow_plain, shallow_plain),
        row("traced, stack 2 deep", shallow, shallow_plain),
        row("traced, stack 31 deep", deep, deep_plain),
        walk / MORE_FRAMES as f64,
    ))
}

/// Attaching and detaching everything.
fn links(args: &BenchProbesArgs) -> Result<String, Failure> {
    let child = python(args)?;
    let (python, pid) = inspect(child.pid())?;
    let mut text = format!("{} probes in one process                 attach       detach\n", python.plan.points.len());
    for kind in [LinkKind::Session, LinkKind::Multi, LinkKind::Perf] {
        let Ok(mut kernel) = load(Some(kind)) else {
            text += &format!("  {:<30}  this kernel has none\n", kind.describe());
            continue;
        };
        let began = Instant::now();
        kernel.attach(0, pid, &python.plan.points).map_err(Failure::cannot_observe)?;
        let attached = Instant::now();
        kernel.detach();
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
        let (attach, detach) = (ms(attached - began), ms(attached.elapsed()));
        text += &format!("  {:<30} {attach:8.1} ms  {detach:8.1} ms\n", kind.describe());
    }
    Ok(text)
}

fn load(links: Option<LinkKind>) -> Result<Kernel, Failure> {
    Kernel::load(Settings { max_live_blocks: 1 << 16, links, native: None, verbose: false })
        .map_err(Failure::cannot_observe)
}

fn python(args: &BenchProbesArgs) -> Result<Subject, Failure> {
    let failed = |error| Failure::cannot_observe(format!("cannot run {}: {error}", args.python.display()));
    Subject::start(Command::new(&args.python).args(["-I", "-S", "-c", PYTHON]), SHALLOW).map_err(failed)
}

fn inspect(pid: Pid) -> Result<(target::Python, Pid), Failure> {
    let target = Target::inspect(pid, false)?;
    let python = target.python.ok_or_else(|| Failure::cannot_observe("the interpreter cannot be probed"))?;
    match python.refused {
        Some(reason) => Err(Failure::cannot_observe(reason)),
        None => Ok((python, pid)),
    }
}

/// A process without an interpreter: everything but the walk is done.
fn blind() -> ProcessConfig {
    ProcessConfig { parent_slot: profiler_common::config::NO_SLOT, ..bytemuck::Zeroable::zeroed() }
}

/// Measures while the process is traced.
fn traced<T>(
    kernel: &mut Kernel,
    pid: Pid,
    config: &ProcessConfig,
    points: &[ProbePoint],
    measure: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    kernel.trace_process(pid, config).map_err(Failure::cannot_observe)?;
    kernel.attach(0, pid, points).map_err(Failure::cannot_observe)?;
    let measured = measure();
    kernel.detach();
    measured
}

/// ns of one malloc and one free.
fn pair_ns(child: &mut Subject, round: impl FnOnce(&mut Subject) -> io::Result<u64>) -> Result<f64, Failure> {
    let round = round(child).map_err(|error| Failure::cannot_observe(format!("the child has gone: {error}")))?;
    Ok(round as f64 / PAIRS as f64)
}

fn row(name: &str, ns: f64, plain: f64) -> String {
    format!("  {name:<62} {ns:9.1}  {:8.1} x\n", ns / plain)
}
