//! Real servers, whose workers come and go: each one's blocks are its own, to the last one.
//!
//! The truth is what the workers say of themselves. A worker that has come is given work only when its probes are on.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use live_tests::broker::{Broker, free_port, wait_until_it_listens};
use live_tests::guard::Guard;
use live_tests::http;
use live_tests::interpreters;
use live_tests::lookup;
use live_tests::skip;
use live_tests::tracer::{Traced, Tracer};
use live_tests::workload::{self, Workload};
use nix::sys::signal::Signal;
use pyalloc::profile::tree::Tree;
use pyalloc::profile::{BlockRow, End, Process, Profile};
use serde::Deserialize;
use serde_json::Value;
use xtask::python::{self, Venv};
use xtask::servers;

/// Bytes of each block that the servers' handlers keep, and that `web.py` has made before.
const SIZE: u64 = 20_000;
const INHERITED: (u64, u64) = (40, 25_000);
/// After this many requests or tasks a worker is replaced.
const RECYCLED_AFTER: u64 = 6;

fn folder() -> PathBuf {
    workload::path("servers")
}

/// The environment with gunicorn and Celery; `None` after saying why the test cannot run.
fn venv(test: &str) -> Option<Venv> {
    if skip::without_root(test) {
        return None;
    }
    match python::newest().and_then(|interpreter| servers::venv(&interpreter)) {
        Ok(venv) => Some(venv),
        Err(error) => {
            skip::because(test, &format!("no environment for the server: {error:#}"));
            None
        }
    }
}

/// What a worker says of itself.
#[derive(Debug, Deserialize)]
struct Said {
    pid: u32,
    kept: u64,
}

fn get(port: u16, path: &str) -> Said {
    http::get(port, path).unwrap()
}

/// What the workers have said: blocks kept, and how often each was asked.
#[derive(Debug, Default)]
struct Truth {
    kept: BTreeMap<u32, u64>,
    asked: BTreeMap<u32, u64>,
}

impl Truth {
    /// True when that was the last that this worker does.
    fn note(&mut self, said: &Said) -> bool {
        self.kept.insert(said.pid, said.kept);
        let asked = self.asked.entry(said.pid).or_default();
        *asked += 1;
        *asked == RECYCLED_AFTER
    }
}

fn row(profile: &Profile, pid: u32) -> (usize, &Process) {
    let found = profile.processes.iter().enumerate().find(|(_, process)| process.pid == pid);
    found.unwrap_or_else(|| panic!("no process {pid}: {:?}", profile.processes))
}

/// Blocks of one size that a function made in one process, and those of them that were live when it was last seen.
fn blocks(profile: &Profile, pid: u32, function: &str, size: u64) -> (u64, u64) {
    let (index, _) = row(profile, pid);
    let in_function =
        |row: &BlockRow| profile.leaf(row.stack).is_some_and(|leaf| profile.text(leaf.function) == function);
    let rows = profile.blocks.iter().filter(|row| row.process as usize == index && row.largest == size);
    let rows = rows.filter(|row| in_function(row));
    rows.fold((0, 0), |(made, live), row| (made + row.alloc_objects, live + row.inuse_objects))
}

/// Every worker's blocks are recorded as it says, also of those that have ended; only what lives counts as surviving.
fn assert_true(traced: &Traced, truth: &Truth, function: &str, size: u64) {
    let profile = &traced.profile;
    assert!(traced.status.success(), "{}", traced.complaint);
    let ended = truth.kept.keys().filter(|pid| !matches!(row(profile, **pid).1.end, End::Detached)).count();
    for (&pid, &kept) in &truth.kept {
        let recorded = blocks(profile, pid, function, size);
        assert_eq!(recorded, (kept, kept), "{pid}: {:?}; {truth:?}", row(profile, pid).1);
    }
    let tree = Tree::new(profile);
    for pid in truth.kept.keys() {
        let (index, process) = row(profile, *pid);
        assert_eq!(tree.nodes[index].counted, matches!(process.end, End::Detached), "{process:?}");
        assert!(process.unprobed_us > 0 || process.seen_at_ms == 0, "{process:?}");
    }
    if ended > 0 {
        assert!(tree.gone() > 0, "what ended workers held is in no sum");
        assert!(traced.report.contains("heap: of ended processes"), "{}", traced.report);
        assert!(traced.report.contains("probes were on after"), "{}", traced.report);
    }
    assert_eq!(lookup::count(profile, "forks_not_followed") + lookup::count(profile, "unknown_process"), 0);
}

/// gunicorn, up to now without a request.
fn gunicorn(venv: &Venv, options: &[&str]) -> (Guard, u16) {
    let port = free_port().unwrap();
    let server = Guard::start(
        Command::new(venv.program("gunicorn"))
            .args(["--bind", &format!("127.0.0.1:{port}")])
            .args(options)
            .arg("web:app")
            .current_dir(folder())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    wait_until_it_listens(port).unwrap();
    // Who listens is the master; a worker that has answered has imported the application.
    (server, port)
}

#[test]
fn gunicorns_recycled_workers() {
    let test = "gunicorns_recycled_workers";
    let Some(venv) = venv(test) else { return };
    let limit = RECYCLED_AFTER.to_string();
    let (server, port) = gunicorn(&venv, &["--workers", "2", "--max-requests", &limit]);
    let mut truth = Truth::default();
    truth.note(&get(port, "/"));
    let mut tracer = Tracer::attach(server.pid()).unwrap();
    let mut recycled = 0;
    while recycled < 3 {
        if truth.note(&get(port, &format!("/leak/3/{SIZE}"))) {
            tracer.next_probed().unwrap();
            recycled += 1;
        }
    }
    // The youngest has something too, whichever it is.
    truth.note(&get(port, &format!("/leak/3/{SIZE}")));
    let traced = tracer.finish().unwrap();
    assert_true(&traced, &truth, "remember.<locals>.<genexpr>", SIZE);
    let ended = |pid: &u32| row(&traced.profile, *pid).1.end == End::Exited(0);
    assert!(truth.kept.keys().filter(|pid| ended(pid)).count() >= 2, "{truth:?}");
}

#[test]
fn gunicorns_workers_inherit_from_the_master_they_were_launched_with() {
    let test = "gunicorns_workers_inherit_from_the_master_they_were_launched_with";
    let Some(venv) = venv(test) else { return };
    let port = free_port().unwrap();
    let address = format!("127.0.0.1:{port}");
    let program = venv.program("gunicorn");
    let words = ["--preload", "--workers", "2", "--worker-class", "gthread", "--threads", "2", "--bind", &address];
    let mut command = vec![program.as_os_str()];
    command.extend(words.iter().map(OsStr::new));
    command.push(OsStr::new("web:app"));
    let mut tracer = Tracer::launch(&command, &folder(), &[("PYTHONDONTWRITEBYTECODE", "1")]).unwrap();
    let workers = [tracer.next_probed().unwrap(), tracer.next_probed().unwrap()];
    let mut truth = Truth::default();
    while !workers.iter().all(|pid| truth.kept.contains_key(pid)) {
        truth.note(&get(port, &format!("/leak/5/{SIZE}")));
    }
    let freed = get(port, "/release").pid;
    tracer.signal(Signal::SIGTERM).unwrap();
    let traced = tracer.wait().unwrap();
    let profile = &traced.profile;
    for (&pid, &kept) in &truth.kept {
        assert_eq!(blocks(profile, pid, "remember.<locals>.<genexpr>", SIZE), (kept, kept), "{pid}: {truth:?}");
        assert_eq!(blocks(profile, pid, "<module>", INHERITED.1), (0, 0), "what {pid} inherits is not its own");
    }
    let master = profile.processes[0].pid;
    assert_ne!(freed, master);
    // The master's own blocks were not touched by the worker that gave back its copies.
    assert_eq!(blocks(profile, master, "<module>", INHERITED.1), (INHERITED.0, INHERITED.0));
    assert!(lookup::count(profile, "inherited_frees") >= INHERITED.0, "{:?}", profile.quality.counts);
}

fn redis(test: &str) -> Option<Broker> {
    Broker::start().map_err(|error| skip::because(test, &format!("no broker: {error:#}"))).ok()
}

#[test]
fn celerys_recycled_workers() {
    let test = "celerys_recycled_workers";
    let Some(venv) = venv(test) else { return };
    let Some(broker) = redis(test) else { return };
    let limit = RECYCLED_AFTER.to_string();
    let celery = Guard::start(
        Command::new(venv.program("celery"))
            .args(["--app", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "ERROR"])
            .args(["--max-tasks-per-child", &limit, "--without-gossip", "--without-mingle", "--without-heartbeat"])
            .current_dir(folder())
            .env("PYALLOC_TEST_BROKER", &broker.url)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    let mut client = Workload::start_command(
        Command::new(venv.python())
            .arg(folder().join("ask.py"))
            .env("PYALLOC_TEST_BROKER", &broker.url)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
    .unwrap();
    let mut truth = Truth::default();
    let ask = |client: &mut Workload, blocks: u64| -> Said {
        client.say(&format!("{blocks} {SIZE}")).unwrap();
        client.read().unwrap()
    };
    truth.note(&ask(&mut client, 0));
    let mut tracer = Tracer::attach(celery.pid()).unwrap();
    let mut recycled = 0;
    while recycled < 2 {
        if truth.note(&ask(&mut client, 4)) {
            tracer.next_probed().unwrap();
            recycled += 1;
        }
    }
    truth.note(&ask(&mut client, 4));
    let traced = tracer.finish().unwrap();
    assert_true(&traced, &truth, "remember.<locals>.<genexpr>", SIZE);
}

#[derive(Deserialize)]
struct Pids {
    pids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Held {
    pid: u32,
    size: u64,
    kept: u64,
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Held>,
}

#[test]
fn multiprocessing_by_every_way_to_start() {
    let Some(interpreter) = interpreters::newest_for_test("multiprocessing_by_every_way_to_start") else { return };
    for method in ["fork", "spawn", "forkserver"] {
        let mut service = Workload::start(&interpreter.path, "servers/pools.py", [method]).unwrap();
        let mut tracer = Tracer::attach(service.pid()).unwrap();
        service.say("inherit").unwrap();
        let _: Value = service.read().unwrap();
        service.say("start").unwrap();
        let started: Pids = service.read().unwrap();
        tracer.wait_until_probed(&started.pids).unwrap();
        service.say("work").unwrap();
        let worked: Workers = service.read().unwrap();
        service.say("exit").unwrap();
        let _: Value = service.read().unwrap();
        let traced = tracer.wait().unwrap();
        assert!(service.wait().unwrap().success());
        for held in &worked.workers {
            let recorded = blocks(&traced.profile, held.pid, "keep.<locals>.<genexpr>", held.size);
            assert_eq!(recorded, (held.kept, held.kept), "{method}: {held:?}");
        }
        // Only a fork has a copy of the parent's blocks; the pool's workers give theirs back.
        if method == "fork" {
            assert!(lookup::count(&traced.profile, "inherited_frees") >= 60, "{:?}", traced.profile.quality.counts);
        }
    }
}

/// An interpreter of another version, if there is one: what is known of the one does not help with the other.
fn another(interpreter: &python::Interpreter) -> python::Interpreter {
    // From 3.15 on a bytearray's block has another size.
    let is_other = |other: &python::Interpreter| {
        other.version.1 < 14 && other.version.1 != interpreter.version.1 && !other.free_threaded
    };
    python::find_all().into_iter().rfind(is_other).unwrap_or_else(|| interpreter.clone())
}

#[test]
fn programs_that_start_programs() {
    let Some(interpreter) = interpreters::newest_for_test("programs_that_start_programs") else { return };
    let other = another(&interpreter);
    println!("programs_that_start_programs: and {}", interpreters::name(&other));
    let mut service = Workload::start(&interpreter.path, "servers/programs.py", [&other.path]).unwrap();
    let mut tracer = Tracer::attach(service.pid()).unwrap();
    let mut all = Vec::new();
    for name in ["shell", "other", "daemon"] {
        service.say(&format!("start {name}")).unwrap();
        let started: Value = service.read().unwrap();
        let pid = u32::try_from(started["pid"].as_u64().unwrap()).unwrap();
        tracer.wait_until_probed(&[pid]).unwrap();
        service.say(&format!("work {name}")).unwrap();
        all.push(service.read::<Held>().unwrap());
    }
    service.say("replace").unwrap();
    let replaced: Value = service.read().unwrap();
    assert_eq!(replaced["pid"], service.pid());
    tracer.wait_until_probed(&[service.pid()]).unwrap();
    service.say("work").unwrap();
    let held: Held = service.read().unwrap();
    service.say("exit").unwrap();
    assert!(service.wait().unwrap().success());
    let traced = tracer.finish().unwrap();
    let profile = &traced.profile;
    for held in &all {
        // Names before 3.11 are without their class or function.
        let recorded = ["keep.<locals>.<genexpr>", "<genexpr>"]
            .map(|function| blocks(profile, held.pid, function, held.size))
            .into_iter()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert_eq!(recorded, (held.kept, held.kept), "{held:?}");
    }
    // One pid, two programs: the second is a row of its own.
    let rows: Vec<_> = profile.processes.iter().filter(|process| process.pid == held.pid).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0].end, End::Executed);
    let made: u64 = profile.blocks.iter().filter(|row| row.largest == held.size).map(|row| row.alloc_objects).sum();
    assert_eq!(made, held.kept, "{held:?}");
}

#[derive(Deserialize)]
struct Crowd<Told> {
    crowd: Vec<Told>,
}

#[derive(Deserialize)]
struct Started {
    pid: u32,
}

/// A shell that executes Python may do so while pyalloc looks at it: what is found then is not the shell's.
#[test]
fn shells_that_become_python_all_at_once() {
    let Some(interpreter) = interpreters::newest_for_test("shells_that_become_python_all_at_once") else { return };
    let mut service = Workload::start(&interpreter.path, "servers/programs.py", [&another(&interpreter).path]).unwrap();
    let mut tracer = Tracer::attach(service.pid()).unwrap();
    service.say("crowd").unwrap();
    let started: Crowd<Started> = service.read().unwrap();
    let pids: Vec<u32> = started.crowd.iter().map(|one| one.pid).collect();
    tracer.wait_until_probed(&pids).unwrap();
    service.say("work").unwrap();
    let worked: Crowd<Held> = service.read().unwrap();
    service.say("exit").unwrap();
    assert!(service.wait().unwrap().success());
    let traced = tracer.wait().unwrap();
    for held in &worked.crowd {
        let functions = ["keep.<locals>.<genexpr>", "<genexpr>"];
        let recorded: u64 = functions.map(|name| blocks(&traced.profile, held.pid, name, held.size).0).iter().sum();
        assert_eq!(recorded, held.kept, "{held:?}: {}", traced.complaint);
    }
}
