//! Data survives: a target that is killed, by whatever, leaves a whole report that says by what and ranks what was live.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::path::PathBuf;
use std::time::{Duration, Instant};

use live_tests::doomed::{self, Doomed};
use live_tests::interpreters;
use live_tests::skip;
use live_tests::tracer::{self, Traced, Tracer};
use nix::sys::signal::Signal;
use pyalloc::profile::{End, KilledBy, MemoryLimit, Process, Profile};
use serde::Deserialize;
use xtask::cgroup::LimitedGroup;

const MIB: u64 = 1 << 20;
/// Far longer than the four seconds between two copies of a running trace's profile.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Rounds {
    rounds: u64,
}

#[derive(Deserialize)]
struct Worker {
    pid: u32,
}

#[derive(Deserialize)]
struct Killed {
    killed: i32,
}

fn process(profile: &Profile, pid: u32) -> &Process {
    profile.processes.iter().find(|process| process.pid == pid).unwrap()
}

/// The report is whole, and ranks what was live when the process was killed.
#[track_caller]
fn check_whole(traced: &Traced, pid: u32, truth: [u64; 3]) {
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    let profile = &traced.profile;
    assert!(profile.trace.complete);
    let live = doomed::live(profile, pid);
    assert!(doomed::is_true(live, truth), "live {live:?}, in truth {truth:?}");
    assert_eq!(doomed::culprit(profile, pid), "hoard");
    assert!(traced.report.contains("hoard"), "{}", traced.report);
}

/// A group, or the reason why there is none.
fn group(test: &str, bytes: u64) -> Option<LimitedGroup> {
    match LimitedGroup::make(test, bytes) {
        Ok(group) => Some(group),
        Err(error) => {
            skip::because(test, &format!("{error:#}"));
            None
        }
    }
}

/// A whole sentence of the report, without its line breaks.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_killed_process_is_reported_as_it_was() {
    for interpreter in interpreters::for_test("a_killed_process_is_reported_as_it_was") {
        let mut doomed = Doomed::start(&interpreter.path).unwrap();
        let tracer = Tracer::attach(doomed.workload.pid()).unwrap();
        doomed.workload.say("grow 200").unwrap();
        let done: Rounds = doomed.workload.read().unwrap();
        assert_eq!(done.rounds, 200);
        doomed.workload.signal(Signal::SIGKILL).unwrap();
        doomed.workload.wait().unwrap();
        let traced = tracer.wait().unwrap();
        let pid = doomed.workload.pid();
        check_whole(&traced, pid, doomed.truth().unwrap());
        let killed = process(&traced.profile, pid);
        assert_eq!(killed.end, End::Killed(9));
        let Some(KilledBy::Process { pid: sender, .. }) = killed.killed_by else { panic!("{killed:?}") };
        assert_eq!(sender, std::process::id());
        let sentence = format!("killed by SIGKILL, sent by process {sender} (");
        assert!(unwrapped(&traced.report).contains(&sentence), "{}", traced.report);
    }
}

#[test]
fn a_crash_is_told_from_a_kill() {
    let Some(interpreter) = interpreters::newest_for_test("a_crash_is_told_from_a_kill") else { return };
    for (word, signal, sentence) in
        [("segfault", 11, "killed by SIGSEGV;"), ("abort", 6, "killed by SIGABRT, sent by itself;")]
    {
        let mut doomed = Doomed::start(&interpreter.path).unwrap();
        let tracer = Tracer::attach(doomed.workload.pid()).unwrap();
        doomed.workload.say("grow 50").unwrap();
        let _: Rounds = doomed.workload.read().unwrap();
        doomed.workload.say(word).unwrap();
        doomed.workload.wait().unwrap();
        let traced = tracer.wait().unwrap();
        let pid = doomed.workload.pid();
        check_whole(&traced, pid, doomed.truth().unwrap());
        assert_eq!(process(&traced.profile, pid).end, End::Killed(signal));
        assert!(unwrapped(&traced.report).contains(sentence), "{}", traced.report);
    }
}

#[track_caller]
fn check_oom(process: &Process, group: &LimitedGroup, bytes: u64) {
    let limits = vec![MemoryLimit { cgroup: group.path().to_owned(), bytes }];
    assert_eq!(process.end, End::Killed(9));
    assert_eq!(process.killed_by, Some(KilledBy::OomKiller { limits_known: true, limits }));
    let last = process.rss_end;
    assert!(last > bytes * 9 / 10, "the last RSS is {last} of {bytes}");
}

#[test]
fn an_oom_kill_names_the_limit() {
    let test = "an_oom_kill_names_the_limit";
    for interpreter in interpreters::for_test(test) {
        let Some(group) = group("limit", 64 * MIB) else { return };
        let mut doomed = Doomed::start(&interpreter.path).unwrap();
        group.add(doomed.workload.pid()).unwrap();
        let tracer = Tracer::attach(doomed.workload.pid()).unwrap();
        doomed.workload.say("until killed").unwrap();
        doomed.workload.wait().unwrap();
        let traced = tracer.wait().unwrap();
        let pid = doomed.workload.pid();
        check_whole(&traced, pid, doomed.truth().unwrap());
        check_oom(process(&traced.profile, pid), &group, 64 * MIB);
        let sentence = format!("killed by the kernel's OOM killer: limit of cgroup {}, 64.0 MiB", group.path());
        assert!(unwrapped(&traced.report).contains(&sentence), "{}", traced.report);
        assert!(doomed::surviving(&traced.profile) > 50 * MIB, "what was live counts as surviving");
    }
}

#[test]
fn a_worker_that_is_killed_is_ranked_while_its_master_lives() {
    let test = "a_worker_that_is_killed_is_ranked_while_its_master_lives";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let Some(group) = group("worker", 64 * MIB) else { return };
    let mut master = Doomed::start(&interpreter.path).unwrap();
    let tracer = Tracer::attach(master.workload.pid()).unwrap();
    master.workload.say(&format!("worker {}", group.folder().display())).unwrap();
    let worker: Worker = master.workload.read().unwrap();
    wait_until_probed(&tracer, worker.pid);
    master.workload.say("go").unwrap();
    let end: Killed = master.workload.read().unwrap();
    assert_eq!(end.killed, 9);
    let traced = tracer.finish().unwrap();
    check_whole(&traced, worker.pid, master.truth().unwrap());
    check_oom(process(&traced.profile, worker.pid), &group, 64 * MIB);
    assert_eq!(process(&traced.profile, master.workload.pid()).end, End::Detached);
    let title = format!("Live in process {} ", worker.pid);
    let section = traced.report.split(&title).nth(1).unwrap_or_else(|| panic!("{}", traced.report));
    assert!(section.lines().nth(1).unwrap().contains("hoard"), "{section}");
    master.workload.say("exit").unwrap();
    assert!(master.workload.wait().unwrap().success());
}

fn wait_until_probed(tracer: &Tracer, pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let probed = |process: &Process| process.pid == pid && process.unprobed_us > 0;
    while !tracer::read(&tracer.profile_path()).unwrap().processes.iter().any(probed) {
        assert!(Instant::now() < deadline, "{pid} is not probed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file system of its own that is full: the trace goes on, says so once, and keeps what it wrote before.
#[test]
fn a_full_disk_ends_no_trace() {
    let test = "a_full_disk_ends_no_trace";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(error) => return skip::because(test, &format!("cannot mount a small file system: {error}")),
    };
    let mut doomed = Doomed::start(&interpreter.path).unwrap();
    let mut tracer = Tracer::attach_to_file(doomed.workload.pid(), &disk.path().join("trace.pyalloc")).unwrap();
    let path = tracer.profile_path();
    let before = std::fs::read(&path).unwrap();
    disk.fill();
    doomed.workload.say("grow 100").unwrap();
    let _: Rounds = doomed.workload.read().unwrap();
    let said = tracer.next_complaint().unwrap();
    assert!(said.contains("the disk is full") && said.contains("the trace goes on"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before, "what was written before is untouched");
    disk.make_room();
    doomed.workload.signal(Signal::SIGKILL).unwrap();
    doomed.workload.wait().unwrap();
    let traced = tracer.wait().unwrap();
    check_whole(&traced, doomed.workload.pid(), doomed.truth().unwrap());
}

/// At the end too: the report is printed, and the exit code tells.
#[test]
fn a_disk_full_at_the_end_still_gives_the_report() {
    let test = "a_disk_full_at_the_end_still_gives_the_report";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(error) => return skip::because(test, &format!("cannot mount a small file system: {error}")),
    };
    let mut doomed = Doomed::start(&interpreter.path).unwrap();
    let tracer = Tracer::attach_to_file(doomed.workload.pid(), &disk.path().join("trace.pyalloc")).unwrap();
    doomed.workload.say("grow 100").unwrap();
    let _: Rounds = doomed.workload.read().unwrap();
    disk.fill();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(2));
    assert!(traced.report.contains("hoard"), "{}", traced.report);
    assert!(!traced.report.contains("Flamegraph:"), "a file that was not written is not to be used");
    assert!(traced.complaint.lines().last().unwrap().contains("the disk is full"), "{}", traced.complaint);
    assert!(!traced.profile.trace.complete, "the copy before is there");
}

/// A file system of a mebibyte in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let none: Option<&str> = None;
        nix::mount::mount(none, folder.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=1m"))?;
        Ok(Self(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn fill(&self) {
        let error = std::fs::write(self.filler(), vec![1; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount(self.0.path());
    }
}
