//! The path that keeps small objects is named, even where another one that makes and drops them opens the pools.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::process::Command;
use std::time::{Duration, Instant};

use live_tests::interpreters::{self, name};
use live_tests::skip;
use live_tests::tracer::{self, Traced, Tracer};
use live_tests::workload::{self, Workload};
use pyalloc::profile::{PoolRow, Profile};
use serde::Deserialize;
use xtask::python::{self, Interpreter};

const WORKLOAD: &str = "fillers.py";
const PATIENCE: Duration = Duration::from_secs(60);
/// Samples that are too few to judge by.
const FEW: u64 = 6;

/// What `fillers.py` prints.
#[derive(Deserialize)]
struct Truth {
    /// Objects that are kept.
    kept: u64,
    /// Bytes of each, rounded up to its size class.
    size: u64,
}

/// Traces it for a while; longer if that gave few samples, as on a machine that has other things to do.
fn trace(interpreter: &Interpreter, arguments: &[&str]) -> (Truth, Traced) {
    let traced = trace_for(interpreter, arguments, "2");
    match traced.1.profile.processes[0].filling.as_ref().map_or(0, |filling| filling.samples) {
        0..FEW => trace_for(interpreter, arguments, "10"),
        _ => traced,
    }
}

fn trace_for(interpreter: &Interpreter, arguments: &[&str], seconds: &str) -> (Truth, Traced) {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--seconds", seconds]).collect();
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, arguments).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    workload.say("end").unwrap();
    (truth, traced)
}

/// Bytes of the rows whose stacks lead through a function.
fn through(profile: &Profile, function: &str, bytes: fn(&PoolRow) -> u64) -> u64 {
    let leads = |row: &&PoolRow| profile.frames_of(row.stack).any(|frame| profile.text(frame.function) == function);
    profile.pools.iter().filter(leads).map(bytes).sum()
}

/// What the profile must say where `retain` keeps everything and `churn` makes most.
fn check(interpreter: &Interpreter, arguments: &[&str]) {
    let shown = format!("{} {arguments:?}", name(interpreter));
    let (truth, Traced { profile, report, .. }) = trace(interpreter, arguments);
    let share = |function, bytes| 100 * through(&profile, function, bytes) / (truth.kept * truth.size);
    let filled = |row: &PoolRow| row.inuse_space;
    let (kept, churned) = (share("retain", filled), share("churn", filled));
    let by_opener = share("retain", |row| row.opened_space);
    let filling = profile.processes[0].filling.clone().unwrap();
    println!("{shown}: retain {kept} %, churn {churned} %; by who opened the pools: retain {by_opener} %; {filling:?}");
    assert!(kept > 70 && kept > 3 * churned, "{shown}: {kept} % and {churned} %\n{report}");
    assert!(kept < 130, "{shown}: {kept} %\n{report}");
    assert!(filling.samples >= FEW && report.contains("charged to who was seen to make them"), "{shown}: {report}");
    // The error that it tells is one of a few percent, and covers what it is wrong by.
    let error = 100.0 * variance(&profile, "retain").sqrt() / (truth.kept * truth.size) as f64;
    println!("{shown}: standard error {error:.1} %");
    assert!(error > 0.0 && (kept as f64 - 100.0).abs() < 4.0 * error + 10.0, "{shown}: {kept} % ± {error} %\n{report}");
}

/// Of the bytes of the rows whose stacks lead through a function.
fn variance(profile: &Profile, function: &str) -> f64 {
    let leads = |row: &&PoolRow| profile.frames_of(row.stack).any(|frame| profile.text(frame.function) == function);
    profile.pools.iter().filter(leads).map(|row| row.inuse_variance).sum()
}

#[test]
fn the_path_that_keeps_comes_first() {
    for interpreter in interpreters::for_test("the_path_that_keeps_comes_first") {
        check(&interpreter, &["slots", "20", "--batch", "1000"]);
    }
}

#[test]
fn it_does_where_the_collector_knows_the_objects() {
    if let Some(newest) = interpreters::newest_for_test("it_does_where_the_collector_knows_the_objects") {
        check(&newest, &["tuple", "5", "--batch", "100", "--step", "20"]);
    }
}

#[test]
fn it_does_where_it_is_another_thread() {
    if let Some(newest) = interpreters::newest_for_test("it_does_where_it_is_another_thread") {
        check(&newest, &["slots", "20", "--batch", "10000", "--step", "50", "--thread"]);
    }
}

#[test]
fn it_does_where_the_opening_of_pools_is_not_seen() {
    const TEST: &str = "it_does_where_the_opening_of_pools_is_not_seen";
    if skip::without_root(TEST) {
        return;
    }
    let eight = python::find().into_iter().find(|interpreter| interpreter.version.1 == 8 && !interpreter.is_fetched());
    match eight {
        Some(interpreter) => check(&interpreter, &["slots", "20", "--batch", "1000"]),
        None => skip::because(TEST, "no CPython 3.8 on this machine"),
    }
}

/// The watchpoints that a process holds.
fn watchpoints(pid: u32) -> usize {
    let held = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    held.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:[perf_event]"))).count()
}

#[test]
fn a_pyalloc_that_is_killed_leaves_no_watchpoint() {
    let Some(interpreter) = interpreters::newest_for_test("a_pyalloc_that_is_killed_leaves_no_watchpoint") else {
        return;
    };
    let arguments = ["slots", "20", "--batch", "1000", "--seconds", "2"];
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, arguments).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    let before = watchpoints(tracer.pid());
    workload.say("go").unwrap();
    // Some are there before the work is done: what it says cannot be read earlier.
    let began = Instant::now();
    while watchpoints(tracer.pid()) <= before {
        assert!(began.elapsed() < PATIENCE, "nothing was watched");
        std::thread::yield_now();
    }
    tracer.kill().unwrap();
    let Truth { kept, .. } = workload.read().unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let after: Truth = workload.read().unwrap();
    assert!(after.kept > kept);
    let traced = tracer.finish().unwrap();
    let filling = traced.profile.processes[0].filling.clone().unwrap();
    // A thread has room for four: one that was left would have refused one of the next three.
    assert!(filling.samples > 4 && filling.refused.is_none(), "{filling:?}");
}

#[test]
fn says_where_nothing_can_be_watched() {
    let Some(interpreter) = interpreters::newest_for_test("says_where_nothing_can_be_watched") else { return };
    let arguments = ["slots", "20", "--batch", "1000", "--seconds", "1"];
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, arguments).unwrap();
    let mut denied = Command::new(&interpreter.path);
    denied.arg(workload::path("denied.py")).arg(tracer::pyalloc().unwrap().get_program());
    let tracer = match Tracer::attach_by(denied, workload.pid()) {
        Ok(tracer) => tracer,
        // Before Linux 6.6 probes are perf events too.
        Err(error) => return skip::because("says_where_nothing_can_be_watched", &format!("{error:#}")),
    };
    workload.say("go").unwrap();
    let Truth { .. } = workload.read().unwrap();
    let Traced { profile, report, .. } = tracer.finish().unwrap();
    assert!(profile.quality.unwatched.is_some(), "{report}");
    let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "are charged to the paths that opened their pools",
        "slots cannot be watched here: ",
        "Operation not permitted",
    ] {
        assert!(report.contains(words), "{report}");
    }
    assert!(through(&profile, "churn", |row| row.opened_space) > 0);
}
