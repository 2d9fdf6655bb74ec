//! `cargo xtask bench scale`: much of everything, and what pyalloc itself takes for it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Interpreter;

use super::process;
use crate::interrupt;

/// One row: a kind of `tests/workloads/scale.py`, how many, its steps, and pyalloc's options.
struct Case {
    name: &'static str,
    kind: &'static str,
    number: u32,
    steps: u32,
    options: &'static [&'static str],
}

const CASES: [Case; 11] = [
    case("64 workers", "workers", 64, 3, &[]),
    case("500 children in a minute", "children", 500, 1, &[]),
    case("200 threads at once", "threads", 200, 1, &[]),
    case("a stack of 500", "deep", 500, 1, &[]),
    case("a stack of 2000", "deep", 2000, 1, &[]),
    case("100 000 call paths", "paths", 100_000, 1, &[]),
    case("300 000 call paths", "paths", 300_000, 1, &[]),
    case("1 000 000 live blocks", "blocks", 1_000_000, 1, &[]),
    case("1 000 000, room for 200 000", "blocks", 1_000_000, 1, &["--max-live-blocks", "200000"]),
    case("100 000 code objects", "codes", 100_000, 1, &[]),
    case("10 000 mappings", "mappings", 10_000, 1, &[]),
];

const fn case(
    name: &'static str,
    kind: &'static str,
    number: u32,
    steps: u32,
    options: &'static [&'static str],
) -> Case {
    Case { name, kind, number, steps, options }
}

/// Runs the cases whose kind is `only`, or all, and prints a line for each.
pub fn run(privilege: Privilege, pyalloc: &Path, python: &Interpreter, only: Option<&str>) -> Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| only.is_none_or(|only| only == case.kind)).collect();
    if cases.is_empty() {
        bail!("--only takes a kind of tests/workloads/scale.py: workers, children, threads, ...");
    }
    println!(
        "\n{:<27} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9}",
        "", "target", "pyalloc", "maps", "its CPU", "profile", "end", "report", "blocks", "counted"
    );
    for case in cases {
        if interrupt::happened() {
            bail!("interrupted");
        }
        println!("{}", case.measure(privilege, pyalloc, python).with_context(|| case.name)?);
    }
    println!(
        "\ntarget: its run time, traced. pyalloc, maps: the most memory seen, of the process and of its maps in the kernel. \
         end: from Ctrl-C\nto the written profile. report: `pyalloc report`. blocks, counted: as made, and as the report has \
         them. Below a row: what was lost."
    );
    Ok(())
}

/// The most seen of pyalloc, watched from a thread of its own.
struct Watch {
    over: Arc<AtomicBool>,
    rss_kib: Arc<AtomicU64>,
    maps_bytes: Arc<AtomicU64>,
    cpu_ms: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Case {
    fn measure(&self, privilege: Privilege, pyalloc: &Path, python: &Interpreter) -> Result<String> {
        let profile = results()?.join("scale.pyalloc");
        let mut target = Talker::start(&python.path, self.kind, self.number)?;
        let mut trace = privilege.command(pyalloc);
        trace.args(["trace", "--pid", &target.child.id().to_string(), "--ready", "/dev/stdout", "-o"]);
        trace.arg(&profile).args(self.options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut trace = trace.spawn().context("cannot start pyalloc")?;
        let mut output = BufReader::new(trace.stdout.take().context("standard output is a pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line != "attached\n" {
            bail!("pyalloc did not attach: {line}");
        }
        let watch = Watch::start(process::innermost(trace.id()));
        let (seconds, made) = target.work(self)?;
        // Two looks of pyalloc at its maps: for its memory to be seen with everything in it.
        std::thread::sleep(Duration::from_millis(1200));
        let began = Instant::now();
        process::interrupt(privilege, process::innermost(trace.id()))?;
        let mut report = String::new();
        std::io::Read::read_to_string(&mut output, &mut report)?;
        let end = began.elapsed().as_secs_f64();
        let status = trace.wait()?;
        let watch = watch.finish();
        if !status.success() {
            bail!("pyalloc failed: {status}");
        }
        let began = Instant::now();
        let counted = counted(pyalloc, &profile)?;
        let rendered = began.elapsed().as_secs_f64();
        let made = made.map_or_else(|| "-".to_owned(), |made| made.to_string());
        Ok(format!(
            "{:<27} {seconds:>6.1} s {:>4.0} MiB {:>3.0} MiB {:>6.2} s {:>4.1} MiB {end:>5.1} s {rendered:>5.1} s {made:>9} {counted:>9}{}",
            self.name,
            mib(watch.rss_kib.load(Ordering::Relaxed) * 1024),
            mib(watch.maps_bytes.load(Ordering::Relaxed)),
            watch.cpu_ms.load(Ordering::Relaxed) as f64 / 1000.0,
            mib(fs::metadata(&profile)?.len()),
            losses(&report),
        ))
    }
}

fn results() -> Result<PathBuf> {
    let results = workspace_root().join("target/bench");
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    Ok(results)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Blocks of the function that makes those that count, as the report has them.
fn counted(pyalloc: &Path, profile: &Path) -> Result<u64> {
    let mut report = Command::new(pyalloc);
    report.arg("report").arg(profile).args(["--format", "folded", "--value", "alloc_objects"]);
    let output = report.output().context("cannot run pyalloc report")?;
    if !output.status.success() {
        bail!("pyalloc report failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(of_kept).sum())
}

/// The number of a folded line whose innermost frame is `counted_block`.
fn of_kept(line: &str) -> Option<u64> {
    let (stack, number) = line.rsplit_once(' ')?;
    let leaf = stack.rsplit(';').next()?;
    if leaf.contains("counted_block") { number.parse().ok() } else { None }
}

/// The report's lines about what was lost, but for frees of blocks that were there before.
fn losses(report: &str) -> String {
    let classes = ["dropped", "truncated", "unknown"];
    let lost = report.lines().filter(|line| {
        let mut words = line.split_whitespace();
        let is_class = words.next().is_some_and(|word| classes.contains(&word));
        is_class && words.next().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()))
    });
    lost.map(|line| format!("\n      {}", line.trim())).collect()
}

impl Watch {
    fn start(pid: u32) -> Self {
        let watch = Self {
            over: Arc::default(),
            rss_kib: Arc::default(),
            maps_bytes: Arc::default(),
            cpu_ms: Arc::default(),
            thread: None,
        };
        let (over, rss, maps, cpu) =
            (watch.over.clone(), watch.rss_kib.clone(), watch.maps_bytes.clone(), watch.cpu_ms.clone());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                rss.fetch_max(process::rss_kib(pid).unwrap_or(0), Ordering::Relaxed);
                maps.fetch_max(process::map_bytes(pid), Ordering::Relaxed);
                cpu.fetch_max(process::cpu_ms(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { thread: Some(thread), ..watch }
    }

    fn finish(mut self) -> Self {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self
    }
}

/// The workload.
struct Talker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talker {
    fn start(python: &Path, kind: &str, number: u32) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(workspace_root().join("tests/workloads/scale.py")).args([kind, &number.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start Python")?;
        let input = child.stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut talker = Self { child, input, output };
        talker.answer()?;
        Ok(talker)
    }

    /// Its steps: how long they took, and the number of blocks it says it made.
    fn work(&mut self, case: &Case) -> Result<(f64, Option<u64>)> {
        let (mut seconds, mut made) = (0.0, None);
        for step in 0..case.steps {
            if step > 0 {
                // Workers are forked, and pyalloc has a moment to put its probes on.
                std::thread::sleep(Duration::from_secs(3));
            }
            let began = Instant::now();
            writeln!(self.input, "next")?;
            made = number_of(&self.answer()?, "\"blocks\": ").or(made);
            seconds += began.elapsed().as_secs_f64();
        }
        Ok((seconds, made))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the workload has ended");
        }
        Ok(line)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_of(line: &str, key: &str) -> Option<u64> {
    let rest = line.split_once(key)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_read_from_the_report() {
        let report =
            "  no losses   nothing was truncated or unknown\n  dropped             12  allocations lost\n  dropped";
        assert_eq!(losses(report), "\n      dropped             12  allocations lost");
    }

    #[test]
    fn blocks_that_count_are_those_of_one_function() {
        assert_eq!(of_kept("main (a.py:1);counted_block (a.py:9) 12"), Some(12));
        assert_eq!(of_kept("counted_block (a.py:9);other (a.py:3) 12"), None);
        assert_eq!(number_of("{\"blocks\": 1200}", "\"blocks\": "), Some(1200));
    }
}
