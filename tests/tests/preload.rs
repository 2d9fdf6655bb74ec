//! What `gunicorn --preload` shares with its workers, and what makes them copy it, with and without `gc.freeze()`.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use live_tests::guard::Guard;
use live_tests::http;
use live_tests::skip;
use live_tests::tracer::{Traced, Tracer};
use live_tests::workload;
use nix::sys::signal::Signal;
use pyalloc::profile::{EstimateOf, Profile, UnsharedCause};
use serde::Deserialize;
use xtask::python::{self, Venv};
use xtask::servers;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;

const MIB: u64 = 1 << 20;
/// A sum may differ from the truth by this much, by [`PERCENT`] of it, or by [`ERRORS`] times its standard error: of a
/// worker that copies so much only some faults are recorded.
const ROOM: u64 = 4 * MIB;
const ERRORS: u64 = 4;
const PERCENT: u64 = 10;

/// Bytes of objects of `preload.py` that are read, and those that are changed.
const BROWSED: u64 = 600_000 * 64 / 4;
const WRITTEN: u64 = 16 * MIB;

#[derive(Deserialize)]
struct Said {
    pid: u32,
    /// Bytes of the parent's pages that the collector writes to.
    collected: u64,
}

fn get(port: u16, path: &str) -> Said {
    http::get(port, path).unwrap()
}

/// Asks until each of the workers has done it.
fn ask_all(port: u16, path: &str, workers: &BTreeSet<u32>) {
    let deadline = Instant::now() + PATIENCE;
    let mut done = BTreeSet::new();
    while !workers.is_subset(&done) {
        assert!(Instant::now() < deadline, "{path} was done by {done:?} of {workers:?}");
        done.insert(get(port, path).pid);
    }
}

fn start(venv: &Venv, freeze: bool) -> (Guard, u16) {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let server = Guard::start(
        Command::new(venv.program("gunicorn"))
            .args(["--preload", "--workers", "1", "--bind", &format!("127.0.0.1:{port}"), "preload:app"])
            .current_dir(workload::path("servers"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FREEZE", if freeze { "1" } else { "0" })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
    .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, port)
}

/// Two workers that are traced from their fork on, after the one that was there before, which says what the parent has.
fn trace(venv: &Venv, freeze: bool) -> (Said, BTreeSet<u32>, Traced) {
    let (server, port) = start(venv, freeze);
    let oldest = get(port, "/");
    let mut tracer = Tracer::attach_with(server.pid(), &["--ledger", "resident,mapping"]).unwrap();
    let mut workers = BTreeSet::new();
    while workers.len() < WORKERS {
        server.signal(Signal::SIGTTIN).unwrap();
        workers.insert(tracer.next_probed().unwrap());
    }
    server.signal(Signal::SIGTTOU).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while std::fs::exists(format!("/proc/{}", oldest.pid)).unwrap() {
        assert!(Instant::now() < deadline, "worker {} stays", oldest.pid);
        std::thread::sleep(Duration::from_millis(20));
    }
    for path in ["/collect", "/browse", "/write"] {
        ask_all(port, path, &workers);
    }
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    (oldest, workers, traced)
}

fn unshared(profile: &Profile, pid: u32, cause: UnsharedCause) -> u64 {
    let of_process = |index: u32| profile.processes.get(index as usize).is_some_and(|process| process.pid == pid);
    profile.unshared.iter().filter(|row| row.cause == cause && of_process(row.process)).map(|row| row.space).sum()
}

/// The standard error of what a worker copied for one cause, bytes: at most that of all of its stacks together.
fn standard_error(profile: &Profile, pid: u32) -> u64 {
    let of_process = |index: u32| profile.processes.get(index as usize).is_some_and(|process| process.pid == pid);
    let rows = profile.estimates.iter().filter(|row| row.of == EstimateOf::Unshared && of_process(row.process));
    rows.map(|row| (row.standard_error as f64).powi(2)).sum::<f64>().sqrt() as u64
}

/// Checks one worker and prints its row of the table in docs/resident.md.
fn compare(profile: &Profile, (number, pid): (usize, u32), collected: u64, freeze: bool) -> Vec<String> {
    // What was copied for the collector is not copied again to be counted.
    let truth = if freeze { [0, BROWSED, WRITTEN] } else { [collected, 0, WRITTEN] };
    let causes = [UnsharedCause::GcHeader, UnsharedCause::ReferenceCount, UnsharedCause::Data];
    let said = causes.map(|cause| unshared(profile, pid, cause));
    let own = profile.processes.iter().find(|process| process.pid == pid).map_or(0, |process| process.uss_end);
    let unknown = unshared(profile, pid, UnsharedCause::Unknown);
    let error = standard_error(profile, pid);
    let cells = [said[0], said[1], said[2], unknown, error, own].map(mib).join(" | ");
    table_row(&format!("| {} | {number} | {cells} |", if freeze { "yes" } else { "no" }));
    let is_near = |truth: u64, said: u64, error| truth.abs_diff(said) <= ROOM.max(truth * PERCENT / 100).max(error);
    let rows =
        causes.into_iter().zip(truth).zip(said).filter(|((_, truth), said)| !is_near(*truth, *said, ERRORS * error));
    let mut wrong: Vec<String> =
        rows.map(|((cause, truth), said)| format!("{pid}, freeze {freeze}: {cause:?} {said}, not {truth}")).collect();
    // Each page is counted, and its cause estimated.
    let (truth, said) = (truth.iter().sum(), said.iter().sum::<u64>() + unknown);
    if !is_near(truth, said, 0) {
        wrong.push(format!("{pid}, freeze {freeze}: {said} were copied, not {truth}"));
    }
    wrong
}

fn table_row(row: &str) {
    println!("{row}");
    if let Some(path) = std::env::var_os("PYALLOC_PRELOAD_TABLE") {
        let mut table = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(table, "{row}").unwrap();
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

#[test]
fn what_preload_shares_is_copied_for_the_collector_unless_it_is_frozen() {
    let test = "what_preload_shares_is_copied_for_the_collector_unless_it_is_frozen";
    if skip::without_root(test) {
        return;
    }
    let venv = match python::newest().and_then(|interpreter| servers::venv(&interpreter)) {
        Ok(venv) => venv,
        Err(error) => return skip::because(test, &format!("no environment with gunicorn: {error:#}")),
    };
    let mut wrong = Vec::new();
    for freeze in [false, true] {
        let (before, workers, traced) = trace(&venv, freeze);
        for worker in (1..).zip(workers) {
            wrong.extend(compare(&traced.profile, worker, before.collected, freeze));
        }
        let report = traced.report.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(report.contains("of what was loaded before the fork"), "{}", traced.report);
        assert_eq!(report.contains("call gc.freeze() in the parent before it forks"), !freeze, "{}", traced.report);
        println!("{}", traced.report);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
