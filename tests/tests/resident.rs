//! Processes of known composition: what the report says made their resident memory change must be so.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::fmt::Write as _;

use live_tests::interpreters::{self, name};
use live_tests::tracer::Tracer;
use live_tests::workload::Workload;
use pyalloc::profile::Profile;
use pyalloc::profile::reconcile::{Part, Reconciliation};
use serde::Deserialize;
use xtask::python::Interpreter;

const WORKLOAD: &str = "resident.py";

const MIB: u64 = 1 << 20;
/// A part may differ from the truth by this much, or by [`PERCENT`] of it.
const ROOM: u64 = 4 * MIB;
const PERCENT: u64 = 5;

/// What `resident.py` prints.
#[derive(Deserialize)]
struct Truth {
    /// Change of each part, bytes; a part that is not named did not change.
    parts: BTreeMap<String, i64>,
    /// Bytes that came and are there, or were there for a while, by the function that touched them: at least, where
    /// pages went again.
    touched: BTreeMap<String, u64>,
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
            println!("| {scene} | {name} | {} | {} |", mib(known), mib(said));
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
        println!("| {scene} | touched by `{function}` | {} | {} |", mib(known.cast_signed()), mib(said.cast_signed()));
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
