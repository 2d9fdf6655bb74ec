//! Much of everything: what has a limit says so, what ends gives its room back, and the sums stay right.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use live_tests::code::changed_bytes;
use live_tests::interpreters;
use live_tests::lookup;
use live_tests::skip;
use live_tests::tracer::{self, Tracer};
use live_tests::workload::Workload;
use pyalloc::profile::{BlockRow, Profile};
use serde::Deserialize;

/// Far longer than the four seconds between two copies of a running trace's profile.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Pids {
    pids: Vec<u32>,
}

#[derive(Deserialize)]
struct Blocks {
    blocks: u64,
}

fn start(test: &str, kind: &str, number: u32) -> Option<Workload> {
    let interpreter = interpreters::newest_for_test(test)?;
    Some(Workload::start(&interpreter.path, "scale.py", [kind, &number.to_string()]).unwrap())
}

fn next<T: serde::de::DeserializeOwned>(workload: &mut Workload) -> T {
    workload.say("next").unwrap();
    workload.read().unwrap()
}

/// The rows of the function that makes the blocks that count.
fn kept(profile: &Profile) -> impl Iterator<Item = &BlockRow> {
    let of_it =
        |row: &&BlockRow| profile.leaf(row.stack).is_some_and(|frame| profile.text(frame.function) == "counted_block");
    profile.blocks.iter().filter(of_it)
}

/// Waits until the copy of the running trace's profile is as wanted.
fn wait_until(tracer: &Tracer, wanted: impl Fn(&Profile) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&tracer::read(&tracer.profile_path()).unwrap()) {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many processes have had this pid and their probes on.
fn probed(profile: &Profile, pid: u32) -> usize {
    profile.processes.iter().filter(|process| process.pid == pid && process.unprobed_us > 0).count()
}

#[test]
fn what_ended_gives_its_room_back() {
    let Some(mut service) = start("what_ended_gives_its_room_back", "workers", 12) else { return };
    // Room for the blocks of one generation of workers, not of two.
    let tracer = Tracer::attach_with(service.pid(), &["--max-live-blocks", "2000"]).unwrap();
    let mut all = Vec::new();
    for _ in 0..2 {
        let Pids { pids } = next(&mut service);
        wait_until(&tracer, |profile| pids.iter().all(|&pid| probed(profile, pid) > 0));
        let Blocks { blocks } = next(&mut service);
        assert_eq!(blocks, 1200);
        let _: serde_json::Value = next(&mut service);
        // Their end has been seen, and some seconds have gone by since.
        wait_until(&tracer, |profile| {
            let ends = profile.processes.iter().filter(|process| pids.contains(&process.pid));
            ends.map(|process| process.ended_at_ms.unwrap_or(u64::MAX - 4000)).max().unwrap() + 3000
                < profile.trace.duration_ms
        });
        all.extend(pids);
    }
    let profile = tracer.finish().unwrap().profile;
    assert_eq!(lookup::count(&profile, "block_map_full"), 0, "{:?}", profile.quality.counts);
    let mut by_pid: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for row in kept(&profile) {
        let sums = by_pid.entry(profile.processes[row.process as usize].pid).or_default();
        *sums = (sums.0 + row.alloc_objects, sums.1 + row.inuse_objects);
    }
    let expected: BTreeMap<u32, (u64, u64)> = all.into_iter().map(|pid| (pid, (100, 100))).collect();
    assert_eq!(by_pid, expected, "the sums of those that ended stay");
}

#[test]
fn blocks_beyond_the_limit_are_counted_as_dropped() {
    let Some(mut service) = start("blocks_beyond_the_limit_are_counted_as_dropped", "blocks", 20_000) else { return };
    let tracer = Tracer::attach_with(service.pid(), &["--max-live-blocks", "4096"]).unwrap();
    let Blocks { blocks } = next(&mut service);
    let traced = tracer.finish().unwrap();
    let sum: u64 = kept(&traced.profile).map(|row| row.inuse_objects).sum();
    let dropped = lookup::count(&traced.profile, "block_map_full");
    assert!(sum <= 4096 && sum + dropped >= blocks, "{sum} counted, {dropped} dropped of {blocks}");
    assert!(traced.report.contains("--max-live-blocks"), "{}", traced.report);
}

#[test]
fn two_hundred_threads_at_once() {
    let Some(mut service) = start("two_hundred_threads_at_once", "threads", 200) else { return };
    let tracer = Tracer::attach(service.pid()).unwrap();
    let Blocks { blocks } = next(&mut service);
    let profile = tracer.finish().unwrap().profile;
    let sum: u64 = kept(&profile).map(|row| row.inuse_objects).sum();
    assert_eq!((sum, lookup::count(&profile, "thread_map_full")), (blocks, 0), "{:?}", profile.quality.counts);
}

#[test]
fn a_pid_that_is_given_again_is_another_process() {
    let test = "a_pid_that_is_given_again_is_another_process";
    if !fs::exists("/proc/sys/kernel/ns_last_pid").unwrap() {
        return skip::because(test, "this kernel lets nobody choose pids");
    }
    let Some(mut service) = start(test, "pids", 3) else { return };
    let tracer = Tracer::attach(service.pid()).unwrap();
    let mut expected = Vec::new();
    for _ in 0..3 {
        let Pids { pids } = next(&mut service);
        let before = expected.iter().filter(|(pid, _)| *pid == pids[0]).count();
        wait_until(&tracer, |profile| probed(profile, pids[0]) > before);
        let Blocks { blocks } = next(&mut service);
        expected.push((pids[0], blocks));
    }
    let profile = tracer.finish().unwrap().profile;
    let rows: Vec<(u32, u64)> =
        kept(&profile).map(|row| (profile.processes[row.process as usize].pid, row.alloc_objects)).collect();
    assert_eq!(rows, expected);
    assert!(expected.iter().all(|(pid, _)| *pid == expected[0].0), "the pid was not given again: {expected:?}");
}

#[test]
fn a_child_that_is_not_traced_is_free_of_probes() {
    let Some(mut service) = start("a_child_that_is_not_traced_is_free_of_probes", "alone", 1) else { return };
    let tracer = Tracer::attach_with(service.pid(), &["--no-children"]).unwrap();
    let Pids { pids } = next(&mut service);
    let deadline = Instant::now() + PATIENCE;
    while changed_bytes(pids[0]).unwrap() > 0 {
        assert!(Instant::now() < deadline, "it inherits its parent's breakpoints and keeps them");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(changed_bytes(service.pid()).unwrap() > 0, "its parent is still traced");
    assert_eq!(tracer.finish().unwrap().status.code(), Some(0));
    assert_eq!(changed_bytes(service.pid()).unwrap() + changed_bytes(pids[0]).unwrap(), 0);
    let _: serde_json::Value = next(&mut service);
}
