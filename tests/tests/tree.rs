//! A service of several processes: its workers are followed, and no block is counted twice or in the wrong one.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use live_tests::interpreters;
use live_tests::tracer::Tracer;
use live_tests::workload::Workload;
use pyalloc::profile::{BlockRow, End, Profile};
use serde::Deserialize;

#[derive(Deserialize)]
struct Pids {
    pids: Vec<u32>,
}

#[derive(Deserialize)]
struct One {
    blocks: u64,
    size: u64,
}

#[derive(Deserialize)]
struct Each {
    blocks: Vec<u64>,
    sizes: Vec<u64>,
}

/// The blocks of one size in one process: allocated, and live at the end.
fn blocks(profile: &Profile, pid: u32, size: u64) -> (u64, u64) {
    let is_of = |row: &&BlockRow| profile.processes[row.process as usize].pid == pid && row.largest == size;
    let rows = profile.blocks.iter().filter(is_of);
    rows.fold((0, 0), |(allocated, live), row| (allocated + row.alloc_objects, live + row.inuse_objects))
}

#[test]
fn every_process_of_a_service_is_followed() {
    for interpreter in interpreters::for_test("every_process_of_a_service_is_followed") {
        let mut service = Workload::start(&interpreter.path, "tree.py", [] as [&str; 0]).unwrap();
        let mut tracer = Tracer::attach(service.pid()).unwrap();

        service.say("keep").unwrap();
        let inherited: One = service.read().unwrap();
        service.say("fork").unwrap();
        let workers: Pids = service.read().unwrap();
        tracer.wait_until_probed(&workers.pids).unwrap();
        service.say("work").unwrap();
        let worked: Each = service.read().unwrap();
        service.say("start").unwrap();
        let started: Pids = service.read().unwrap();
        tracer.wait_until_probed(&started.pids).unwrap();
        service.say("work there").unwrap();
        let there: Each = service.read().unwrap();
        service.say("end workers").unwrap();
        let _: serde_json::Value = service.read().unwrap();

        let traced = tracer.finish().unwrap();
        assert!(traced.status.success(), "{}", traced.complaint);
        let profile = traced.profile;
        let name = interpreters::name(&interpreter);

        let all = (inherited.blocks, inherited.blocks);
        assert_eq!(blocks(&profile, service.pid(), inherited.size), all, "{name}: the parent's own");
        for pid in &workers.pids {
            assert_eq!(blocks(&profile, *pid, inherited.size), (0, 0), "{name}: what a worker inherits is not its own");
        }
        let expected = inherited.blocks * workers.pids.len() as u64;
        assert!(profile.quality.value("inherited_frees") >= expected, "{name}: {:?}", profile.quality.counts);
        let pids = workers.pids.iter().chain(&started.pids);
        let made = worked.blocks.iter().zip(&worked.sizes).chain(there.blocks.iter().zip(&there.sizes));
        for (pid, (&number, &size)) in pids.zip(made) {
            assert_eq!(blocks(&profile, *pid, size), (number, number), "{name}: blocks of {size} bytes in {pid}");
        }
        for (index, pid) in workers.pids.iter().enumerate() {
            let row = profile.processes.iter().find(|process| process.pid == *pid).unwrap();
            assert_eq!(row.end, End::Exited(i32::try_from(index).unwrap()), "{name}");
            assert_eq!(row.parent, Some(0), "{name}");
        }
        assert_eq!(profile.quality.value("forks_not_followed") + profile.quality.value("unknown_process"), 0, "{name}");

        service.say("exit").unwrap();
        assert!(service.wait().unwrap().success());
    }
}

#[test]
fn one_process_alone_when_asked() {
    let Some(interpreter) = interpreters::newest_for_test("one_process_alone_when_asked") else { return };
    let mut service = Workload::start(&interpreter.path, "tree.py", [] as [&str; 0]).unwrap();
    let tracer = Tracer::attach_with(service.pid(), &["--no-children"]).unwrap();
    service.say("fork").unwrap();
    let _: Pids = service.read().unwrap();
    service.say("work").unwrap();
    let _: Each = service.read().unwrap();
    service.say("keep").unwrap();
    let kept: One = service.read().unwrap();
    let profile = tracer.finish().unwrap().profile;
    assert_eq!(profile.processes.len(), 1);
    assert_eq!(blocks(&profile, service.pid(), kept.size), (kept.blocks, kept.blocks));
    service.say("end workers").unwrap();
    let _: serde_json::Value = service.read().unwrap();
    service.say("exit").unwrap();
    assert!(service.wait().unwrap().success());
}
