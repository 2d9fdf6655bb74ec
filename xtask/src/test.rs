//! `cargo xtask test`: everything that is needed, then all tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::gate;
use xtask::privilege::Privilege;
use xtask::readers::Readers;
use xtask::servers::{self, Redis};
use xtask::{binary, python};

use crate::tally::{Reader, Tally};
use crate::{command, interpreters, interrupt, setup};

/// The package whose tests load BPF programs.
const LIVE: &str = "live-tests";
const KERNEL_SIDE: &str = "profiler-ebpf";

/// Runs all tests; the last line printed is the sum.
pub fn run() -> Result<()> {
    setup::run()?;
    // The tests run on what there is.
    if let Err(error) = interpreters::run() {
        println!("without fetched interpreters: {error:#}");
    }
    interpreters::fetch_packages(false);
    prepare_interpreters();
    prepare_servers();
    if let Err(error) = Readers::ensure() {
        println!("without readers of formats that are not ours: {error:#}");
    }
    prepare_gate();
    binary::build()?;
    let mut sums = unit_tests()?;
    sums.add(live_tests()?);
    println!("\n{sums}");
    if sums.failed > 0 {
        bail!("tests failed");
    }
    if sums.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// The environments of the workloads are made here, so that no live test waits for a download. An interpreter that
/// has none is left to the tests: they say which of them cannot run.
fn prepare_interpreters() {
    for interpreter in python::find_all() {
        println!("interpreter: {}, {}", interpreter.name(), interpreter.path.display());
        if interpreter.is_fetched() {
            continue;
        }
        if let Err(error) = python::workloads_venv(&interpreter) {
            println!("  without an environment for the workloads: {error:#}");
        }
    }
}

/// gunicorn, Celery and Redis; the tests say which of them cannot run without.
fn prepare_servers() {
    let venv = python::newest().and_then(|interpreter| servers::venv(&interpreter));
    for error in [venv.err(), Redis::ensure().err()].into_iter().flatten() {
        println!("without a real server for the tests: {error:#}");
    }
}

/// pytest, and readers of what `pyalloc check` writes; the tests say which of them cannot run without.
fn prepare_gate() {
    let venvs = python::newest().and_then(|interpreter| gate::venv(&interpreter).and(gate::readers(&interpreter)));
    if let Err(error) = venvs {
        println!("without tests of the gate: {error:#}");
    }
}

/// Whether the kernel side has a part that compiles for this machine too.
pub fn kernel_side_has_library() -> bool {
    workspace_root().join(KERNEL_SIDE).join("src/lib.rs").is_file()
}

fn unit_tests() -> Result<Tally> {
    let mut everything = cargo_test(&["--workspace", "--exclude", LIVE, "--exclude", KERNEL_SIDE]);
    let mut sums = counted(&mut everything)?;
    if kernel_side_has_library() {
        sums.add(counted(&mut cargo_test(&["--package", KERNEL_SIDE, "--lib"]))?);
    }
    Ok(sums)
}

/// One test at a time: they share two cores with what they trace. Passed tests show their output, for `SKIPPED` lines.
fn live_tests() -> Result<Tally> {
    let mut tests = cargo_test(&["--package", LIVE]);
    tests.args(["--", "--test-threads=1", "--show-output"]);
    match Privilege::detect() {
        Some(Privilege::Root) => {}
        Some(Privilege::Sudo) => {
            let (variable, runner) = sudo_runner()?;
            tests.env(variable, runner);
        }
        None => println!("live tests need root to load BPF programs, and there is no sudo: they are skipped"),
    }
    counted(&mut tests)
}

/// Cargo's variable for the program that runs tests, and its value to run them as root.
pub fn sudo_runner() -> Result<(String, String)> {
    // sudo changes HOME, and with it where pyenv would be looked for.
    let pyenv = python::pyenv_root();
    Ok((runner_variable()?, format!("sudo --preserve-env env PYENV_ROOT={}", pyenv.display())))
}

fn cargo_test(selection: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace_root()).args(["test", "--no-fail-fast"]).args(selection);
    command
}

/// Cargo's variable for the program that runs what was built for this machine.
fn runner_variable() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}

/// Runs the command, passes its output on, and counts.
fn counted(command: &mut Command) -> Result<Tally> {
    println!("$ {}", command::line(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("the output of cargo is piped")?;
    let mut reader = Reader::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        reader.line(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if interrupt::happened() {
        bail!("interrupted");
    }
    Ok(reader.finish(status.success()))
}
