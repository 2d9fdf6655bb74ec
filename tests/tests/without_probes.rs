//! Processes in which no probe is set: pages and mappings are known all the same, with the code that touched them.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use live_tests::interpreters;
use live_tests::tracer::{self, Traced, Tracer};
use live_tests::workload::{self, Workload};
use pyalloc::profile::{End, Profile};
use serde::Deserialize;

const WORKLOAD: &str = "unprobeable.py";

const MIB: u64 = 1 << 20;
/// A sum may differ from the truth by this much.
const ROOM: u64 = 2 * MIB;

#[derive(Deserialize)]
struct Truth {
    touched: BTreeMap<String, u64>,
}

/// What is wrong with the sums of those who touched memory.
fn wrong(profile: &Profile, truth: &Truth) -> Vec<String> {
    let touched_by = |function: &str| -> u64 {
        let calls = |stack| profile.frames_of(stack).any(|frame| profile.text(frame.function) == function);
        profile.resident.iter().filter(|row| calls(row.stack)).map(|row| row.inuse_space).sum()
    };
    let compared = truth.touched.iter().map(|(function, known)| (function, *known, touched_by(function)));
    let wrong = compared.filter(|(_, known, said)| known.abs_diff(*said) > ROOM);
    wrong.map(|(function, known, said)| format!("{function} touched {known} bytes, the profile says {said}")).collect()
}

fn traced(python: &Path, arguments: &[&str], options: &[&str]) -> (Truth, Traced) {
    let mut workload = Workload::start(python, WORKLOAD, arguments).unwrap();
    let tracer = Tracer::attach_with(workload.pid(), options).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    (truth, traced)
}

fn is_told_that_allocations_are_missing(traced: &Traced) -> bool {
    let report = traced.report.split_whitespace().collect::<Vec<_>>().join(" ");
    report.contains("no probes in process") && report.contains("heap not kept") && traced.profile.trace.without_heap
}

#[test]
fn where_the_kernel_sets_no_probe_the_trace_goes_on_and_says_so() {
    let test = "where_the_kernel_sets_no_probe_the_trace_goes_on_and_says_so";
    for interpreter in interpreters::for_test(test) {
        let (truth, traced) = traced(&interpreter.path, &[], &[]);
        let reason = traced.profile.processes[0].without_probes.clone().unwrap_or_default();
        assert!(reason.contains("does not reach process"), "{}: {reason}", interpreter.name());
        assert!(traced.complaint.starts_with("pyalloc: no probe can be set in process "), "{}", traced.complaint);
        assert_eq!(traced.complaint.lines().count(), 1, "{}", traced.complaint);
        assert!(is_told_that_allocations_are_missing(&traced), "{}", traced.report);
        assert_eq!(wrong(&traced.profile, &truth), Vec::<String>::new(), "{}", traced.report);
    }
}

#[test]
fn who_asks_for_the_heap_alone_is_refused() {
    let Some(interpreter) = interpreters::newest_for_test("who_asks_for_the_heap_alone_is_refused") else { return };
    let workload = Workload::start(&interpreter.path, WORKLOAD, [""; 0]).unwrap();
    let refusal = Tracer::attach_with(workload.pid(), &["--ledger", "heap"]).unwrap_err();
    assert!(format!("{refusal:#}").contains("does not reach process"), "{refusal:#}");
    let refusal = Tracer::attach_with(workload.pid(), &["--ledger", "heap", "--no-uprobes"]).unwrap_err();
    assert!(format!("{refusal:#}").contains("nothing would be recorded"), "{refusal:#}");
}

#[test]
fn no_breakpoint_is_in_a_process_for_which_none_is_wanted() {
    let test = "no_breakpoint_is_in_a_process_for_which_none_is_wanted";
    for interpreter in interpreters::for_test(test) {
        for options in [&["--no-uprobes"][..], &["--ledger", "resident"]] {
            let mut workload = Workload::start(&interpreter.path, WORKLOAD, ["probeable"]).unwrap();
            let before = copied_code(workload.pid());
            let tracer = Tracer::attach_with(workload.pid(), options).unwrap();
            workload.say("go").unwrap();
            let truth = workload.read().unwrap();
            // Up to CPython 3.11 code objects have no version; there the end of one is probed, unless told not to.
            let needs_none = interpreter.version.1 >= 12 || options[0] == "--no-uprobes";
            if needs_none {
                assert_eq!(copied_code(workload.pid()), before, "{} {options:?}", interpreter.name());
            }
            let traced = tracer.finish().unwrap();
            assert_eq!((traced.status.code(), traced.complaint.as_str()), (Some(0), ""));
            assert_eq!(needs_none, traced.profile.processes[0].without_probes.is_some());
            assert!(traced.profile.trace.without_heap);
            assert_eq!(wrong(&traced.profile, &truth), Vec::<String>::new(), "{}", traced.report);
        }
    }
}

/// Bytes of code that a process has copies of: a breakpoint is written into such a copy.
fn copied_code(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut is_code = false;
    let mut copied = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            is_code = words.next().is_some_and(|permissions| permissions.starts_with("r-x"));
        } else if is_code && first == "Anonymous:" {
            copied += words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    copied
}

#[test]
fn a_program_is_launched_without_probes_too() {
    let Some(interpreter) = interpreters::newest_for_test("a_program_is_launched_without_probes_too") else { return };
    let script = workload::path(WORKLOAD);
    let folder = tempfile::tempdir().unwrap();
    let command = [interpreter.path.as_os_str(), script.as_os_str(), OsStr::new("launched")];
    let tracer = Tracer::launch_with(&["--no-uprobes"], &command, folder.path(), &[]).unwrap();
    let truth = Truth { touched: BTreeMap::from([("fill".to_owned(), 24 * MIB), ("touch".to_owned(), 16 * MIB)]) };
    std::fs::write(folder.path().join("begin"), "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while tracer::read(&tracer.profile_path()).is_ok_and(|profile| !wrong(&profile, &truth).is_empty()) {
        assert!(Instant::now() < deadline, "no copy of the profile has what the program touched");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(folder.path().join("enough"), "").unwrap();
    let traced = tracer.wait().unwrap();
    assert_eq!(traced.status.code(), Some(7), "{}", traced.complaint);
    assert_eq!(traced.profile.processes[0].end, End::Exited(7));
    assert_eq!(wrong(&traced.profile, &truth), Vec::<String>::new(), "{}", traced.report);
}
