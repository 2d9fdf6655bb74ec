//! `--exact-objects`: every small object is counted, and what is written to the process for it is put back to the byte.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::time::{Duration, Instant};

use live_tests::interpreters::{self, name};
use live_tests::lookup::{self, Place};
use live_tests::skip;
use live_tests::tracer::{Traced, Tracer};
use live_tests::workload::Workload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyalloc::profile::{MappingOrigin, Profile};
use serde::Deserialize;
use xtask::python::{self, Interpreter};

const WORKLOAD: &str = "exact.py";
/// Of those that are fetched; most have pymalloc inlined.
const FETCHED: [&str; 6] = [
    "debian-bullseye-3.9",
    "debian-trixie-3.13",
    "debian-sid-3.14",
    "debian-sid-3.15",
    "manylinux-3.8",
    "manylinux-3.14",
];
const PATIENCE: Duration = Duration::from_secs(60);
const EXACT: &[&str] = &["--exact-objects"];
/// The words by which a note says that something was written.
const WRITTEN: &str = "the lowest byte of eight pointers";

/// Context and functions of a domain's table.
type Table = [u64; 5];

/// A function, how many objects of it are live, and how many it has made.
type Made = (String, u64, u64);

#[derive(Deserialize)]
struct Truth {
    held: Vec<Made>,
    passing: Made,
}

#[derive(Deserialize)]
struct Forked {
    forked: bool,
}

struct Target(Workload);

impl Target {
    fn start(interpreter: &Interpreter) -> Self {
        Self(Workload::start(&interpreter.path, WORKLOAD, [""; 0]).unwrap())
    }

    fn make(&mut self) -> Truth {
        self.0.say("make").unwrap();
        self.0.read().unwrap()
    }

    /// Its tables, or those of the child that it has forked.
    fn tables(&mut self, whose: &str) -> Option<[Table; 2]> {
        self.0.say(whose).unwrap();
        self.0.read().unwrap()
    }

    fn attach(&self) -> Tracer {
        Tracer::attach_with(self.0.pid(), EXACT).unwrap()
    }
}

/// This machine's, the oldest one, and some of those fetched: Debian's of other suites and Python's own for many systems.
fn interpreters(test: &str) -> Vec<Interpreter> {
    let mut found = interpreters::for_test(test);
    if !found.is_empty() {
        found.extend(python::find().into_iter().filter(|one| one.version.1 == 8));
        found.extend(python::fetched().into_iter().filter(|one| FETCHED.contains(&folder(one).as_str())));
    }
    found
}

/// One whose build inlines pymalloc, and leaves room for the change.
fn inlining(test: &str) -> Option<Interpreter> {
    if skip::without_root(test) {
        return None;
    }
    let found = python::fetched().into_iter().find(|one| folder(one) == "debian-trixie-3.13");
    if found.is_none() {
        skip::because(test, "no Debian python 3.13: `cargo xtask interpreters` fetches it");
    }
    found
}

/// The name of its folder.
fn folder(interpreter: &Interpreter) -> String {
    let folder = interpreter.path.parent().and_then(|folder| folder.file_name());
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

#[track_caller]
fn check_counts(profile: &Profile, truth: &Truth, shown: &str) {
    for (function, held, made) in &truth.held {
        let found = lookup::blocks(profile, Place { file: WORKLOAD, function, line: 0 });
        assert_eq!(found.inuse_objects, *held, "{shown}: {function} {found:?}");
        assert!(found.alloc_objects >= *made, "{shown}: {function} {found:?}");
    }
    let (function, _, made) = &truth.passing;
    let found = lookup::blocks(profile, Place { file: WORKLOAD, function, line: 0 });
    assert_eq!((found.inuse_objects, found.alloc_objects), (0, *made), "{shown}: {function} {found:?}");
    assert!(profile.pools.is_empty(), "{shown}: counted twice");
}

/// Eight pointers, and of each the lowest byte alone.
#[track_caller]
fn check_changed(before: &[Table; 2], during: &[Table; 2], changes: bool, shown: &str) {
    for (before, during) in before.iter().flatten().zip(during.iter().flatten()) {
        assert_eq!(before >> 8, during >> 8, "{shown}: {before:#x} {during:#x}");
    }
    let changed = before.iter().flatten().zip(during.iter().flatten()).filter(|(before, during)| before != during);
    assert_eq!(changed.count(), if changes { 8 } else { 0 }, "{shown}: {before:x?} {during:x?}");
}

#[test]
fn every_object_is_counted_and_the_tables_are_put_back() {
    let mut written = 0;
    for interpreter in interpreters("every_object_is_counted_and_the_tables_are_put_back") {
        let shown = name(&interpreter);
        let mut target = Target::start(&interpreter);
        let before = target.tables("tables");
        let tracer = match Tracer::attach_with(target.0.pid(), EXACT) {
            Ok(tracer) => tracer,
            Err(refused) => {
                println!("{shown}: {refused}");
                assert!(refused.to_string().contains("neither a landing pad"), "{shown}: {refused}");
                assert_eq!(before, target.tables("tables"), "{shown}: refused, and written to");
                continue;
            }
        };
        let during = target.tables("tables");
        let truth = target.make();
        let Traced { profile, complaint, report, .. } = tracer.finish().unwrap();
        let after = target.tables("tables");
        let says = report.split_whitespace().collect::<Vec<_>>().join(" ").contains(WRITTEN);
        println!("{shown}: written to: {says}, {before:x?} {during:x?}");
        check_counts(&profile, &truth, &shown);
        let arenas = profile.mapping_totals(Some(MappingOrigin::PymallocArena));
        assert!(arenas.alloc_objects > 0, "{shown}: {:?}", profile.mappings);
        // It said so before.
        assert_eq!(complaint.contains("changes the lowest byte of 8 pointers"), says, "{shown}: {complaint}");
        written += u64::from(says);
        if let (Some(before), Some(during)) = (&before, &during) {
            check_changed(before, during, says, &shown);
        }
        assert_eq!(before, after, "{shown}: the tables are not as they were");
    }
    println!("written to {written} interpreters");
}

#[test]
fn forked_processes_are_put_back_too() {
    let Some(interpreter) = inlining("forked_processes_are_put_back_too") else { return };
    let mut target = Target::start(&interpreter);
    let before = target.tables("tables").unwrap();
    let tracer = forked(&mut target);
    check_changed(&before, &target.tables("child").unwrap(), true, "child");
    tracer.finish().unwrap();
    assert_eq!((target.tables("child"), target.tables("tables")), (Some(before), Some(before)));
}

/// Traces it, and has it fork while it is; returns when the child is traced too.
fn forked(target: &mut Target) -> Tracer {
    let mut tracer = target.attach();
    target.0.say("fork").unwrap();
    let Forked { forked } = target.0.read().unwrap();
    assert!(forked);
    tracer.next_probed().unwrap();
    tracer
}

/// The process that puts back what a killed pyalloc has written.
fn keeper(tracer: &Tracer) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", tracer.pid());
    let children = std::fs::read_to_string(children).unwrap();
    let is_keeper =
        |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("keep-tables");
    Pid::from_raw(children.split_whitespace().find(is_keeper).unwrap().parse().unwrap())
}

/// Waits for the end of a process that is nobody's child here.
fn wait_for_end(pid: Pid) {
    let began = Instant::now();
    // One that nobody waits for has no command line any more.
    while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(began.elapsed() < PATIENCE, "{pid} goes on");
        std::thread::yield_now();
    }
}

#[test]
fn the_tables_are_put_back_when_pyalloc_is_killed() {
    let Some(interpreter) = inlining("the_tables_are_put_back_when_pyalloc_is_killed") else { return };
    let mut target = Target::start(&interpreter);
    let before = target.tables("tables").unwrap();
    let tracer = forked(&mut target);
    let keeper = keeper(&tracer);
    check_changed(&before, &target.tables("tables").unwrap(), true, "while it is traced");
    tracer.kill().unwrap();
    wait_for_end(keeper);
    assert_eq!((target.tables("child"), target.tables("tables")), (Some(before), Some(before)));
}

#[test]
fn what_is_left_when_all_of_pyalloc_is_killed_is_harmless() {
    let Some(interpreter) = inlining("what_is_left_when_all_of_pyalloc_is_killed_is_harmless") else { return };
    let mut target = Target::start(&interpreter);
    let before = target.tables("tables").unwrap();
    let tracer = target.attach();
    let during = target.tables("tables").unwrap();
    // As when its control group is.
    kill(keeper(&tracer), Signal::SIGKILL).unwrap();
    tracer.kill().unwrap();
    // The process goes on with what was left.
    target.make();
    assert_eq!(target.tables("tables").unwrap(), during);
    check_changed(&before, &during, true, "left");
    // A trace without the option finds its way, and leaves the tables alone.
    let tracer = Tracer::attach(target.0.pid()).unwrap();
    target.make();
    let plain = tracer.finish().unwrap();
    assert!(plain.profile.pools.iter().any(|row| row.inuse_objects > 0), "{}", plain.report);
    assert_eq!(target.tables("tables").unwrap(), during);
    // One with it counts as if nothing had happened, and puts back what the killed one changed.
    let tracer = target.attach();
    let truth = target.make();
    check_counts(&tracer.finish().unwrap().profile, &truth, "again");
    assert_eq!(target.tables("tables").unwrap(), before);
    target.0.signal(Signal::SIGTERM).unwrap();
}

#[test]
fn tables_with_hooks_are_left_alone() {
    let Some(interpreter) = inlining("tables_with_hooks_are_left_alone") else { return };
    let mut command = std::process::Command::new(&interpreter.path);
    command.arg(live_tests::workload::path(WORKLOAD)).env("PYTHONMALLOC", "debug");
    let mut target = Target(Workload::start_command(&mut command).unwrap());
    let before = target.tables("tables");
    let refused = Tracer::attach_with(target.0.pid(), EXACT).unwrap_err().to_string();
    assert!(refused.contains("cannot count every small object") && refused.contains("hooked"), "{refused}");
    assert_eq!(target.tables("tables"), before);
}
