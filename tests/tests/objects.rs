//! A service that says what it keeps: a look at its objects from outside must find each, by the name that a person would
//! give it, on every interpreter whose objects are read.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;
use std::process::Command;

use live_tests::interpreters::{self, name};
use live_tests::looker::Looker;
use live_tests::skip;
use live_tests::tracer::Tracer;
use live_tests::workload::{self, Workload};
use pyalloc::profile::objects::{ContainerKind, Holder, ObjectLook, RetainerRow};
use regex::Regex;
use serde::Deserialize;
use xtask::python::{self, Interpreter};

const WORKLOAD: &str = "objects/main.py";
/// The newest whose objects are read.
const NEWEST_MINOR: u8 = 14;
/// Bytes of a container may differ from what it says by this much: rounding to pymalloc's classes, and a block of a deque.
const ROOM: u64 = 1100;

/// What `objects/main.py` prints.
#[derive(Deserialize)]
struct Truth {
    /// By owner.
    containers: BTreeMap<String, Container>,
    /// By function.
    caches: BTreeMap<String, CacheInfo>,
    /// How many, by type.
    objects: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Container {
    kind: ContainerKind,
    length: u64,
    bound: Option<u64>,
    space: u64,
}

#[derive(Deserialize)]
struct CacheInfo {
    hits: u64,
    misses: u64,
    maxsize: Option<u64>,
    currsize: u64,
}

/// One interpreter of each minor version with the GIL; the machine's own before those that were fetched.
fn one_a_minor(test: &str) -> Vec<Interpreter> {
    let mut of_minor: BTreeMap<u8, Interpreter> = BTreeMap::new();
    for interpreter in python::find().into_iter().chain(python::fetched()) {
        let minor = interpreter.version.1;
        if !interpreter.free_threaded && minor <= NEWEST_MINOR {
            of_minor.entry(minor).or_insert(interpreter);
        }
    }
    let found: Vec<_> = of_minor.into_values().collect();
    if found.is_empty() {
        skip::because(test, "no CPython 3.8 to 3.14 on this machine");
    }
    found
}

fn faults(truth: &Truth, look: &ObjectLook) -> Vec<String> {
    let mut faults = Vec::new();
    for (owner, known) in &truth.containers {
        let Some(row) = look.containers.iter().find(|row| row.owner == *owner) else {
            let alike = look.containers.iter().filter(|row| row.length == known.length && row.kind == known.kind);
            let alike: Vec<_> = alike.map(|row| row.owner.as_str()).collect();
            faults.push(format!("{owner} is not there; of its kind and length are: {alike:?}"));
            continue;
        };
        let (said, right) = ((row.kind, row.length, row.bound), (known.kind, known.length, known.bound));
        if said != right {
            faults.push(format!("{owner}: {said:?} instead of {right:?}"));
        }
        if row.space.abs_diff(known.space) > ROOM {
            faults.push(format!("{owner}: {} bytes instead of {}", row.space, known.space));
        }
        if row.holder != holder_of(owner) {
            faults.push(format!("{owner} is held by {:?}", row.holder));
        }
    }
    for (function, known) in &truth.caches {
        let row = look.caches.iter().find(|row| row.function == *function);
        let said = row.map(|row| (row.hits, row.misses, row.maxsize, row.currsize));
        let right = (known.hits, known.misses, known.maxsize, known.currsize);
        if said != Some(right) || row.is_some_and(|row| !row.file.ends_with("shop/cache.py") || row.line == 0) {
            faults.push(format!("cache {function}: {row:?} instead of {right:?}"));
        }
    }
    for (kind, &known) in &truth.objects {
        let said = look.types.iter().find(|row| row.name == *kind).map(|row| row.objects);
        if said != Some(known) {
            faults.push(format!("{said:?} objects of {kind} instead of {known}"));
        }
    }
    faults
}

fn holder_of(owner: &str) -> Holder {
    match owner {
        _ if owner.starts_with("closure ") => Holder::Closure,
        _ if owner.starts_with("local ") => Holder::FrameLocal,
        "shop.cache.Store.seen" => Holder::ClassAttribute,
        "shop.cache.Client._out_messages" | "shop.cache.Slotted.rows" => Holder::InstanceAttribute,
        _ => Holder::ModuleGlobal,
    }
}

/// Nearly all objects of a type must be kept in one place: a few may stand in memory that C code has left as it was.
fn kept(retainers: &[RetainerRow], kind: &str, holder: Holder, path: &str) -> Option<String> {
    let rows: Vec<_> = retainers.iter().filter(|row| row.type_name == kind).collect();
    let all: u64 = rows.iter().map(|row| row.objects).sum();
    let here: u64 = rows.iter().filter(|row| row.holder == holder && row.path == path).map(|row| row.objects).sum();
    (all == 0 || here * 100 < all * 97).then(|| format!("{kind} is kept by {rows:?}"))
}

/// Starts the service; its folder stays as it is.
fn start(interpreter: &Interpreter) -> Workload {
    let mut command = Command::new(&interpreter.path);
    command.arg(workload::path(WORKLOAD)).env("PYTHONDONTWRITEBYTECODE", "1");
    Workload::start_command(&mut command).unwrap()
}

/// Looks at a service twice, and gives what is wrong.
fn compared(interpreter: &Interpreter) -> Vec<String> {
    let mut workload = start(interpreter);
    let mut looker = Looker::start(workload.pid()).unwrap();
    let mut all = Vec::new();
    for when in ["first", "second"] {
        let truth: Truth = workload.read().unwrap();
        let look = looker.look().unwrap();
        let took = look.took_us / 1000;
        println!("  {}: {} objects, {took} ms, {} KiB", interpreter.name(), look.objects, look.bytes_read >> 10);
        let mut found = faults(&truth, &look);
        if let Some(reason) = &look.not_available {
            found.push(reason.clone());
        }
        if look.partial || look.discarded * 100 > look.objects {
            found.push(format!("partial: {}; {} of {} discarded", look.partial, look.discarded, look.objects));
        }
        found.extend(kept(&look.retainers, "shop.cache.Session", Holder::ModuleGlobal, "shop.cache.SESSIONS[...]"));
        let messages = "shop.cache.Client._out_messages[...]";
        found.extend(kept(&look.retainers, "shop.cache.Message", Holder::InstanceAttribute, messages));
        found.extend(kept(&look.retainers, "shop.cache.Lost", Holder::NoReferrer, ""));
        if when == "second" {
            found.extend(kept(&look.focused, "shop.cache.Session", Holder::ModuleGlobal, "shop.cache.SESSIONS[...]"));
            let come: u64 =
                look.focused.iter().filter(|row| row.type_name == "shop.cache.Session").map(|row| row.objects).sum();
            if !(1000..=2000).contains(&come) {
                found.push(format!("{come} sessions have come since the first look, not some of 2000"));
            }
        }
        all.extend(found.iter().map(|fault| format!("{} at the {when} look: {fault}", name(interpreter))));
        workload.say("grow").unwrap();
    }
    all
}

#[test]
fn what_a_service_keeps_is_found_by_name_on_every_version() {
    let interpreters = one_a_minor("what_a_service_keeps_is_found_by_name_on_every_version");
    let faults: Vec<_> = interpreters.iter().flat_map(compared).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_build_without_the_gil_is_not_looked_at_and_says_why() {
    const TEST: &str = "a_build_without_the_gil_is_not_looked_at_and_says_why";
    let Some(interpreter) = python::find_all().into_iter().find(|interpreter| interpreter.free_threaded) else {
        return skip::because(TEST, "no free-threaded CPython on this machine");
    };
    let workload = Workload::start(&interpreter.path, "waits.py", [""; 0]).unwrap();
    let look = Looker::start(workload.pid()).unwrap().look().unwrap();
    assert!(look.not_available.is_some_and(|reason| reason.contains("free-threaded")));
    assert_eq!((look.objects, look.bytes_read), (0, 0));
}

/// What `restless.py` says of its threads.
#[derive(Deserialize)]
struct Restless {
    alive: usize,
    rounds: Vec<u64>,
}

#[test]
fn looks_at_a_process_that_never_rests_harm_neither_side() {
    const TEST: &str = "looks_at_a_process_that_never_rests_harm_neither_side";
    const LOOKS: u64 = 50;
    let Some(interpreter) = one_a_minor(TEST).pop() else { return };
    let mut workload = Workload::start(&interpreter.path, "restless.py", [""; 0]).unwrap();
    let mut looker = Looker::start(workload.pid()).unwrap();
    let (mut objects, mut discarded) = (0, 0);
    for number in 1..=LOOKS {
        let look = looker.look().unwrap();
        (objects, discarded) = (objects + look.objects, discarded + look.discarded);
        // What does not change is right in every look, whatever goes on around it.
        let still = look.containers.iter().find(|row| row.owner == "__main__.STILL").map(|row| row.length);
        assert_eq!(still, Some(3000), "look {number}");
        // What was read of two moments makes nothing up: all that these threads have is small.
        let largest = look.containers.iter().map(|row| row.length).max().unwrap_or(0);
        assert!(largest < 1 << 20, "look {number}: a container of {largest} elements");
    }
    println!("  {}: {LOOKS} looks, {objects} objects, {discarded} discarded", interpreter.name());
    assert!(discarded > 0, "nothing changed while it was read: the test tests nothing");
    assert!(discarded * 20 < objects, "{discarded} of {objects} objects did not pass the checks");
    let before: Restless = {
        workload.say("").unwrap();
        workload.read().unwrap()
    };
    let after: Restless = {
        workload.say("").unwrap();
        workload.read().unwrap()
    };
    assert_eq!((before.alive, after.alive), (4, 4), "a thread's own check has failed");
    assert!(before.rounds.iter().all(|&rounds| rounds > 0));
}

#[test]
fn a_trace_that_looks_at_objects_tells_what_grew_and_who_keeps_it() {
    const TEST: &str = "a_trace_that_looks_at_objects_tells_what_grew_and_who_keeps_it";
    let Some(interpreter) = interpreters::newest_for_test(TEST) else { return };
    let mut workload = start(&interpreter);
    let _: Truth = workload.read().unwrap();
    let mut tracer = Tracer::attach_with(workload.pid(), &["--objects"]).unwrap();
    tracer.wait_until_looked().unwrap();
    workload.say("grow").unwrap();
    let truth: Truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    let [first, .., last] = traced.profile.evidence.looks.as_slice() else {
        panic!("not two looks: {:?}", traced.profile.evidence)
    };
    assert!(faults(&truth, last).is_empty(), "{:?}", faults(&truth, last));
    let sessions = |look: &ObjectLook| look.types.iter().find(|row| row.name == "shop.cache.Session").unwrap().objects;
    assert_eq!((sessions(first), sessions(last)), (4000, 6000));
    assert!(first.at_ms < last.at_ms && first.bytes_read > 0 && last.took_us > 0);
    for told in
        [r"\+2,000 .* shop.cache.Session\n", r"shop.cache.SESSIONS \(dict, 6,000 elements", "a look took .* and read"]
    {
        assert!(Regex::new(told).unwrap().is_match(&traced.report), "no `{told}` in {}", traced.report);
    }
}
