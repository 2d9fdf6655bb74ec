//! Processes of known composition: what the report says made their resident memory change must be so.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use live_tests::interpreters::{self, name};
use live_tests::skip;
use live_tests::tracer::Tracer;
use live_tests::workload::{self, Workload};
use pyalloc::profile::reconcile::{Part, Reconciliation};
use pyalloc::profile::{Profile, UnsharedCause};
use pyalloc::render::{Format, Ledger, Options, render};
use serde::Deserialize;
use xtask::python::{self, Interpreter};

#[path = "resident/sampled.rs"]
mod sampled;

const WORKLOAD: &str = "resident.py";

const MIB: u64 = 1 << 20;
/// A part may differ from the truth by this much, or by [`PERCENT`] of it.
const ROOM: u64 = 4 * MIB;
const PERCENT: u64 = 5;

/// In place of a call path for pages of which no fault was seen.
const UNSEEN: &str = "[no page fault seen: moved meanwhile, or mapped by the kernel]";

/// What `resident.py` prints.
#[derive(Deserialize)]
struct Truth {
    /// Change of each part, bytes; a part that is not named did not change.
    parts: BTreeMap<String, i64>,
    /// Bytes that came and are there, or were there for a while, by the function that touched them: at least, where
    /// pages went again.
    touched: BTreeMap<String, u64>,
    /// What else the scene says of itself: bytes in huge pages, bytes in swap.
    more: u64,
}

const NAMES: [(Part, &str); 6] = [
    (Part::LiveHeap, "live"),
    (Part::HeldByAllocator, "held"),
    (Part::Other, "other"),
    (Part::Files, "files"),
    (Part::Shared, "shared"),
    (Part::Unexplained, "unexplained"),
];

fn traced(interpreter: &Interpreter, scene: &str, options: &[&str]) -> (Truth, Profile) {
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, [scene]).unwrap();
    let tracer = Tracer::attach_with(workload.pid(), options).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    (truth, traced.profile)
}

/// Prints a row of the table for each part that changed, and gives what is wrong.
fn faults(scene: &str, truth: &Truth, profile: &Profile) -> String {
    let found = Reconciliation::of_counted(profile).expect("the process was looked at");
    let mut faults = String::new();
    for (part, name) in NAMES {
        let (known, said) = (truth.parts.get(name).copied().unwrap_or(0), found.change(part));
        let room = ROOM.max(known.unsigned_abs() * PERCENT / 100);
        if known != 0 || said.unsigned_abs() > MIB {
            table_row(scene, name, known, said);
        }
        if known.abs_diff(said) > room {
            writeln!(faults, "{scene}: {name} changed by {}, the report says {}", mib(known), mib(said)).unwrap();
        }
    }
    let (change, unexplained) = (found.rss_change().unsigned_abs(), found.change(Part::Unexplained).unsigned_abs());
    if unexplained > MIB.max(change * PERCENT / 100) {
        writeln!(faults, "{scene}: {unexplained} of {change} bytes are unexplained").unwrap();
    }
    for (function, &known) in &truth.touched {
        let said = touched_by(profile, function);
        table_row(scene, &format!("touched by `{function}`"), known.cast_signed(), said.cast_signed());
        if known.abs_diff(said) > ROOM.max(known * PERCENT / 100) {
            writeln!(faults, "{scene}: {function} touched {known} bytes, the report says {said}").unwrap();
        }
    }
    faults
}

/// Resident bytes touched with a function on the call path.
fn touched_by(profile: &Profile, function: &str) -> u64 {
    let calls = |stack| profile.frames_of(stack).any(|frame| profile.text(frame.function) == function);
    profile.resident.iter().filter(|row| calls(row.stack)).map(|row| row.inuse_space).sum()
}

/// Prints a row of the table of docs/resident.md, and adds it to the file that `cargo xtask resident` asks for.
fn table_row(scene: &str, part: &str, truth: i64, report: i64) {
    let row = format!("| {scene} | {part} | {} | {} |", mib(truth), mib(report));
    println!("{row}");
    if let Some(path) = std::env::var_os("PYALLOC_RESIDENT_TABLE") {
        let mut table = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(table, "{row}").unwrap();
    }
}

fn mib(bytes: i64) -> String {
    format!("{:+.1} MiB", bytes as f64 / MIB as f64)
}

fn check(test: &str, scenes: &[&str], options: &[&str]) {
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let mut all = String::new();
    for scene in scenes {
        let (truth, profile) = traced(&interpreter, scene, options);
        all += &faults(scene, &truth, &profile);
    }
    assert!(all.is_empty(), "{}\n{all}", name(&interpreter));
}

#[test]
fn a_heap_is_live_or_held() {
    check("a_heap_is_live_or_held", &["live", "held", "held_by_threads", "objects", "objects_held", "moved"], &[]);
}

#[test]
fn mappings_are_what_was_touched_of_them() {
    let scenes = ["file", "partial", "read_only_zeroes", "huge", "kernel", "shared", "shrink"];
    check("mappings_are_what_was_touched_of_them", &scenes, &[]);
}

#[test]
fn without_a_probe_the_same_is_known() {
    let scenes = ["live", "held", "objects", "objects_held", "partial", "kernel"];
    check("without_a_probe_the_same_is_known", &scenes, &["--ledger", "resident"]);
}

/// What a child of `resident.py` says it un-shared, by cause; and which process it is.
#[derive(Deserialize)]
struct Child {
    pid: u32,
}

#[derive(Deserialize)]
struct Unshared {
    unshared: BTreeMap<String, u64>,
}

const CAUSES: [(UnsharedCause, &str); 4] = [
    (UnsharedCause::ReferenceCount, "reference_count"),
    (UnsharedCause::GcHeader, "gc_header"),
    (UnsharedCause::Data, "data"),
    (UnsharedCause::Unknown, "unknown"),
];

/// A worker that was forked from a parent with its data already made, as `preload` does, and does one thing to it.
#[test]
fn copy_on_write_is_charged_to_the_line_that_writes_and_to_the_cause() {
    let test = "copy_on_write_is_charged_to_the_line_that_writes_and_to_the_cause";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let mut faults = String::new();
    for (scene, function) in
        [("collect", "collect"), ("collect_frozen", "collect_frozen"), ("iterate", "iterate"), ("write", "touch")]
    {
        let (pid, truth, profile) = forked(&interpreter, scene);
        for (cause, name) in CAUSES {
            let known = truth.unshared.get(name).copied().unwrap_or(0);
            let said = unshared_by(&profile, pid, function, cause);
            if known > 0 || said > MIB {
                table_row(
                    scene,
                    &format!("un-shared by `{function}`: {name}"),
                    known.cast_signed(),
                    said.cast_signed(),
                );
            }
            if known.abs_diff(said) > ROOM.max(known * PERCENT / 100) {
                writeln!(faults, "{scene}: {function} un-shared {known} bytes by {name}, the report says {said}")
                    .unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "{}\n{faults}", name(&interpreter));
}

fn forked(interpreter: &Interpreter, scene: &str) -> (u32, Unshared, Profile) {
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, [scene]).unwrap();
    let mut tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let Child { pid } = workload.read().unwrap();
    tracer.wait_until_probed(&[pid]).unwrap();
    workload.say("work").unwrap();
    let truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    (pid, truth, traced.profile)
}

/// Bytes of pages that a process un-shared with a function innermost.
fn unshared_by(profile: &Profile, pid: u32, function: &str, cause: UnsharedCause) -> u64 {
    let is_leaf = |stack| profile.leaf(stack).is_some_and(|leaf| profile.text(leaf.function) == function);
    let of_process = |index: u32| profile.processes.get(index as usize).is_some_and(|process| process.pid == pid);
    let rows = profile.unshared.iter().filter(|row| row.cause == cause && of_process(row.process));
    rows.filter(|row| is_leaf(row.stack)).map(|row| row.space).sum()
}

/// The example of memray's documentation: an array that one function allocates and another fills.
#[test]
fn an_array_names_who_filled_it_and_who_allocated_it() {
    let test = "an_array_names_who_filled_it_and_who_allocated_it";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let venv = match python::workloads_venv(&interpreter) {
        Ok(venv) => venv,
        Err(error) => return skip::because(test, &format!("no environment with numpy: {error:#}")),
    };
    let mut workload = Workload::start(&venv.python(), WORKLOAD, ["numpy_array"]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let truth: Truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    let faults = faults("numpy_array", &truth, &traced.profile);
    assert!(faults.is_empty(), "{faults}");
    let profile = &traced.profile;
    let is_leaf = |stack, function| profile.leaf(stack).is_some_and(|leaf| profile.text(leaf.function) == function);
    let both = profile.resident.iter().filter(|row| {
        is_leaf(row.stack, "fill_array") && row.allocated_by.is_some_and(|stack| is_leaf(stack, "make_array"))
    });
    let both: u64 = both.map(|row| row.inuse_space).sum();
    assert!(both >= 40 * MIB - 8192, "{both} bytes are known from both sides");
    let list = traced.report.split("resident bytes touched").nth(1).expect("the report lists who touched");
    let first = list.split("  2. ").next().unwrap();
    let (fills, makes) = (line_of("    empty[:] = 1"), line_of("    return numpy.empty(40 * MIB"));
    let named = |words: &str| first.split_whitespace().collect::<Vec<_>>().join(" ").contains(words);
    assert!(named(&format!("resident.py:{fills} fill_array")), "{first}");
    assert!(named("allocated by") && named(&format!("resident.py:{makes} make_array")), "{first}");
}

/// The number of a line of the workload.
fn line_of(start: &str) -> usize {
    let text = std::fs::read_to_string(workload::path(WORKLOAD)).unwrap();
    text.lines().position(|line| line.starts_with(start)).expect("the workload has the line") + 1
}

/// What a flamegraph of this ledger alone shows is what RSS grew by.
#[test]
fn folded_stacks_add_up_to_rss_growth() {
    let test = "folded_stacks_add_up_to_rss_growth";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let own = ["live", "objects", "parsed", "file"].map(|scene| (interpreter.path.clone(), scene));
    let bench = python::newest().ok().and_then(|newest| python::bench_venv(&newest));
    if bench.is_none() {
        println!("{test}: without pandas and pillow, which `cargo xtask bench` installs");
    }
    let others = bench.into_iter().flat_map(|venv| ["frames", "pictures"].map(|scene| (venv.python(), scene)));
    for (python, scene) in own.into_iter().chain(others) {
        let mut workload = Workload::start(&python, WORKLOAD, [scene]).unwrap();
        let tracer = Tracer::attach_with(workload.pid(), &["--ledger", "resident"]).unwrap();
        let before = rss(workload.pid());
        workload.say("go").unwrap();
        let _: Truth = workload.read().unwrap();
        let growth = rss(workload.pid()) - before;
        let traced = tracer.finish().unwrap();
        let options = Options { ledger: Some(Ledger::Resident), ..Options::default() };
        let folded = render(&traced.profile, Format::Folded, &options).unwrap();
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
        let sum: u64 = folded.lines().map(|line| value(line).expect("a number ends each line")).sum();
        let scene = match scene {
            "parsed" => "parsed (json)",
            "frames" => "frames (pandas)",
            "pictures" => "pictures (pillow)",
            other => other,
        };
        table_row(scene, "folded stacks of `--ledger resident` alone", growth.cast_signed(), sum.cast_signed());
        assert!(
            growth > 8 * MIB && growth.abs_diff(sum) <= ROOM,
            "{scene}: RSS grew by {growth}, the paths have {sum}"
        );
    }
}

fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_huge_page_is_whole_though_one_byte_of_it_was_written() {
    let test = "a_huge_page_is_whole_though_one_byte_of_it_was_written";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let (truth, profile) = traced(&interpreter, "huge_in_part", &[]);
    if truth.more == 0 {
        return skip::because(test, "the kernel gave no huge pages");
    }
    let faults = faults("huge_in_part", &truth, &profile);
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn what_is_given_back_at_leisure_is_told_apart() {
    let Some(interpreter) = interpreters::newest_for_test("what_is_given_back_at_leisure_is_told_apart") else {
        return;
    };
    let (truth, profile) = traced(&interpreter, "given_back", &[]);
    let faults = faults("given_back", &truth, &profile);
    let said = Reconciliation::of_counted(&profile).unwrap().given_back;
    assert!(faults.is_empty() && truth.more >= 16 * MIB && truth.more.abs_diff(said) <= ROOM, "{faults}{said}");
}

#[test]
fn what_is_in_swap_is_told_apart() {
    let test = "what_is_in_swap_is_told_apart";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    if std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() < 2) {
        return skip::because(test, "this machine has no swap");
    }
    let (truth, profile) = traced(&interpreter, "swapped", &[]);
    if truth.more == 0 {
        return skip::because(test, "the kernel wrote nothing to swap");
    }
    let faults = faults("swapped", &truth, &profile);
    let said = Reconciliation::of_counted(&profile).unwrap().swapped;
    assert!(faults.is_empty() && truth.more.abs_diff(said) <= ROOM, "{faults}{} in swap, {said} said", truth.more);
}

/// The page tables and the events of mappings are read at different moments; blocks that move in between must not count
/// twice, nor lose who touched them.
#[test]
fn blocks_that_move_during_a_reading_keep_the_sums() {
    let test = "blocks_that_move_during_a_reading_keep_the_sums";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let mut workload = Workload::start(&interpreter.path, WORKLOAD, ["growing"]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let path = tracer.profile_path();
    let inode = || std::fs::metadata(&path).ok().map(|file| (file.ino(), file.mtime_nsec()));
    let deadline = Instant::now() + Duration::from_secs(60);
    for _reading in 0..2 {
        let last = inode();
        while inode() == last {
            assert!(Instant::now() < deadline, "no periodic reading");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    workload.say("stop").unwrap();
    let mut truth: Truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    let touched = truth.touched.remove("grow").expect("it grows");
    let faults = faults("growing", &truth, &traced.profile);
    assert!(faults.is_empty(), "{faults}");
    // Where a page moved and its old place was touched again between two readings, its fault is no longer known: then
    // it is said to be unseen, and is nobody else's.
    let (grown, unseen) = (touched_by(&traced.profile, "grow"), touched_by(&traced.profile, UNSEEN));
    println!(
        "| growing | touched by `grow`, and unseen | {} | {} + {} |",
        mib(touched.cast_signed()),
        mib(grown.cast_signed()),
        mib(unseen.cast_signed())
    );
    assert!(touched.abs_diff(grown + unseen) <= ROOM && grown > 0, "{grown} + {unseen} of {touched}");
}
