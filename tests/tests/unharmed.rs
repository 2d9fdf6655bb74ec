//! The target is never harmed: whatever happens to pyalloc, the process it looks at goes on as if nothing had been.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use live_tests::code::changed_bytes;
use live_tests::interpreters;
use live_tests::tracer::{Tracer, read};
use live_tests::workload::Workload;
use nix::sys::signal::Signal;
use profiler_common::counter::Counter;
use pyalloc::kernel::plan::{self, ProbePlan};
use pyalloc::kernel::release::Release;
use pyalloc::kernel::{Kernel, LinkKind, Settings};
use pyalloc::process::image::Image;
use pyalloc::process::memory::ProcessMemory;
use pyalloc::process::{Pid, maps};
use pyalloc::profile::{End, Profile};
use pyalloc::python::Interpreter;
use serde::Deserialize;

const BUSY: &str = "busy.py";

/// What `busy.py` says at its end.
#[derive(Debug, Deserialize)]
struct Done {
    digests: Vec<String>,
    rounds: u64,
    mismatches: u64,
    failures: Vec<String>,
}

/// Lets a workload that was traced finish, and holds what it computed against a run without pyalloc.
fn check_unharmed(mut workload: Workload, python: &xtask::python::Interpreter) {
    assert_eq!(changed_bytes(workload.pid()).unwrap(), 0, "a probe is left in the code");
    let done = finished(&mut workload);
    let mut alone = Workload::start(&python.path, BUSY, [""; 0]).unwrap();
    assert_eq!(done.digests, finished(&mut alone).digests);
    assert!(done.mismatches == 0 && done.failures.is_empty() && done.rounds > 0, "{done:?}");
    workload.say("end").unwrap();
    assert_eq!(workload.wait().unwrap().code(), Some(0));
}

fn finished(workload: &mut Workload) -> Done {
    workload.say("stop").unwrap();
    workload.read().unwrap()
}

/// The probes that `pyalloc trace` would set, and how stacks are walked.
fn probes(pid: Pid) -> (Interpreter, ProbePlan) {
    let interpreter = Interpreter::discover(pid).unwrap();
    let memory = ProcessMemory::open(pid).unwrap();
    let regions = maps::read(pid).unwrap();
    let images = Image::all(pid, &regions);
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let executable = images.iter().position(|image| image.path == program);
    let target = plan::Target { memory: &memory, regions: &regions, images: &images, executable };
    let python = plan::Python {
        interpreter: interpreter.allocators(),
        code_dealloc: interpreter.code_dealloc().map(|function| function.address),
        exact_objects: false,
    };
    let rules = Release::running().unwrap().site_rules();
    let plan = ProbePlan::for_process(&target, Some(&python), rules).unwrap();
    (interpreter, plan)
}

/// Attaches and detaches; each time some hundred calls are seen in between.
fn attach_and_detach(pid: Pid, links: LinkKind, times: usize) {
    let (interpreter, plan) = probes(pid);
    let mut kernel =
        Kernel::load(Settings { max_live_blocks: 1 << 16, links: Some(links), native: None, verbose: false }).unwrap();
    kernel.attach_tracepoints(true).unwrap();
    kernel.trace_process(pid, &interpreter.walker_config(0, 0)).unwrap();
    for time in 0..times {
        kernel.attach(0, pid, &plan.points).unwrap();
        let seen = |kernel: &Kernel| kernel.counters().unwrap()[Counter::EntryHits as usize];
        let before = seen(&kernel);
        while seen(&kernel) < before + 200 {
            assert!(fs::exists(format!("/proc/{pid}/maps")).unwrap(), "it has ended, time {time}");
            thread::yield_now();
        }
        if time == 0 {
            assert!(changed_bytes(pid.0).unwrap() > 0, "probes are changes in the code");
        }
        kernel.detach();
    }
}

#[test]
fn attached_a_hundred_times_under_load() {
    let all = interpreters::for_test("attached_a_hundred_times_under_load");
    let newest = all.last().cloned();
    for interpreter in all {
        let workload = Workload::start(&interpreter.path, BUSY, [""; 0]).unwrap();
        let pid = Pid(workload.pid());
        // A hundred times on the newest, and often enough on the others to go through it all.
        let is_newest = newest.as_ref() == Some(&interpreter);
        attach_and_detach(pid, LinkKind::Session, if is_newest { 70 } else { 8 });
        attach_and_detach(pid, LinkKind::Multi, if is_newest { 29 } else { 4 });
        let traced = Tracer::attach(pid.0).unwrap().finish().unwrap();
        assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
        assert_eq!(traced.profile.processes[0].end, End::Detached);
        check_unharmed(workload, &interpreter);
    }
}

#[test]
fn pyalloc_killed_at_any_moment_leaves_nothing_behind() {
    let Some(interpreter) = interpreters::newest_for_test("pyalloc_killed_at_any_moment_leaves_nothing_behind") else {
        return;
    };
    let workload = Workload::start(&interpreter.path, BUSY, [""; 0]).unwrap();
    for moment in 0..7 {
        let tracer = Tracer::start(workload.pid()).unwrap();
        // Not a wait for something: the moment of the murder, from the load of the programs to a running trace.
        thread::sleep(Duration::from_millis(50 + 310 * moment));
        let path = tracer.profile_path();
        tracer.signal(Signal::SIGKILL).unwrap();
        let there = fs::exists(&path).unwrap();
        let profile = tracer.kill();
        assert!(!there || profile.is_ok(), "moment {moment}: {profile:?}");
        assert_eq!(changed_bytes(workload.pid()).unwrap(), 0, "moment {moment}: a probe is left in the code");
    }
    let tracer = Tracer::attach(workload.pid()).unwrap();
    assert!(changed_bytes(workload.pid()).unwrap() > 0, "probes are changes in the code");
    let profile = tracer.kill().unwrap();
    assert!(!profile.trace.complete);
    check_unharmed(workload, &interpreter);
}

/// Longer than a profile may be old, by more than the machine is late.
const LONG: Duration = Duration::from_millis(9300);
/// What README promises.
const OLDEST: Duration = Duration::from_secs(5);

#[test]
fn a_killed_pyalloc_leaves_a_profile_of_the_last_seconds() {
    let Some(interpreter) = interpreters::newest_for_test("a_killed_pyalloc_leaves_a_profile_of_the_last_seconds")
    else {
        return;
    };
    let workload = Workload::start(&interpreter.path, BUSY, [""; 0]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    let attached = Instant::now();
    thread::sleep(LONG);
    let profile = tracer.kill().unwrap();
    let traced = Duration::from_millis(profile.trace.duration_ms);
    // The trace has begun before it says so: if anything, the profile looks younger than this by that moment.
    let missing = attached.elapsed().saturating_sub(traced);
    assert!(missing <= OLDEST, "the last {missing:?} are missing");
    assert!(profile.heap_totals().alloc_objects > 0 && !profile.trace.complete);
    check_unharmed(workload, &interpreter);
}

/// Traces a workload to an end that it brings about itself; pyalloc must end too, with a report.
fn traced_to_the_end(python: &xtask::python::Interpreter, how: &str, kill: bool) -> (Workload, Profile, String) {
    let mut workload = Workload::start(&python.path, BUSY, [how]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    if kill {
        workload.signal(Signal::SIGKILL).unwrap();
        workload.wait().unwrap();
    } else {
        finished(&mut workload);
        workload.say("end").unwrap();
    }
    let traced = tracer.wait().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{how}: {}", traced.complaint);
    assert!(traced.profile.trace.complete && traced.profile.heap_totals().alloc_objects > 0);
    (workload, traced.profile, traced.report)
}

#[test]
fn a_target_that_ends_ends_the_trace_with_a_report() {
    let test = "a_target_that_ends_ends_the_trace_with_a_report";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let check = |how: &str, kill: bool, end: End, sentence: &str| {
        let (workload, profile, report) = traced_to_the_end(&interpreter, how, kill);
        assert_eq!(profile.processes[0].end, end, "{how}");
        assert!(report.contains(sentence), "{how}:\n{report}");
        workload
    };
    check("exit", false, End::Exited(5), "ended with exit code 5");
    check("killed", true, End::Killed(9), "killed by SIGKILL, sent by process");
    let workload = check("exec", false, End::Executed, "executed another program");
    let name = fs::read_to_string(format!("/proc/{}/comm", workload.pid())).unwrap();
    assert_eq!(name.trim(), "sleep", "the new program runs on");
}

#[test]
fn a_profile_is_readable_while_it_is_written() {
    let Some(interpreter) = interpreters::newest_for_test("a_profile_is_readable_while_it_is_written") else {
        return;
    };
    let workload = Workload::start(&interpreter.path, BUSY, [""; 0]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    let path = tracer.profile_path();
    let first = read(&path).unwrap().trace.duration_ms;
    // Until it has been written anew: at every moment it is whole.
    while read(&path).unwrap().trace.duration_ms == first {
        thread::yield_now();
    }
    assert_eq!(tracer.finish().unwrap().status.code(), Some(0));
    check_unharmed(workload, &interpreter);
}
