//! Known blocks, allocated by known functions on known lines: what the profile says of them must be exactly that.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use live_tests::interpreters::{self, name};
use live_tests::lookup::{self, Place, Sums};
use live_tests::skip;
use live_tests::tracer::{Tracer, pyalloc, read};
use live_tests::workload::{self, Workload};
use pyalloc::profile::{MappingOrigin, Profile};
use serde::Deserialize;
use xtask::python::{self, Interpreter};

const WORKLOAD: &str = "truth.py";

/// All sections that need nothing but an interpreter.
const SECTIONS: [&str; 7] = ["once", "small", "objects", "libc", "threads", "before", "mappings"];

/// Bytes of a pool: within one pool per size class is what small objects are known to.
const POOL: u64 = 16 << 10;

/// What `truth.py` prints.
#[derive(Deserialize)]
struct Truth {
    rows: Vec<Row>,
    pools: Vec<SmallObjects>,
    /// Growth of the heap that brk gives, from before the trace to its end.
    heap_growth: u64,
    /// Blocks from before that were given back, at least.
    unmatched: u64,
}

#[derive(Deserialize)]
struct Row {
    section: String,
    ledger: Ledger,
    function: String,
    line: u32,
    alloc_objects: u64,
    alloc_space: u64,
    inuse_objects: u64,
    inuse_space: u64,
    origin: Option<MappingOrigin>,
}

#[derive(Deserialize, PartialEq)]
enum Ledger {
    /// All blocks of the line are known.
    #[serde(rename = "blocks")]
    Blocks,
    /// Beside the known blocks the line may make a small one for each.
    #[serde(rename = "blocks over 512")]
    LargeBlocks,
    #[serde(rename = "mappings")]
    Mappings,
}

/// A kind of small object that one function made.
#[derive(Deserialize)]
struct SmallObjects {
    function: String,
    size_class: u64,
    inuse_objects: u64,
    inuse_space: u64,
}

impl Row {
    fn sums(&self) -> Sums {
        let &Self { alloc_objects, alloc_space, inuse_objects, inuse_space, .. } = self;
        Sums { alloc_objects, alloc_space, inuse_objects, inuse_space }
    }

    fn found(&self, profile: &Profile) -> Sums {
        let place = Place { file: WORKLOAD, function: &self.function, line: self.line };
        match self.origin {
            Some(origin) => lookup::mappings(profile, place, origin),
            None => lookup::blocks(profile, place),
        }
    }

    fn agrees(&self, found: Sums) -> bool {
        if self.ledger != Ledger::LargeBlocks {
            return found == self.sums();
        }
        let near = |found: u64, known: u64, room: u64| (known..=known + room).contains(&found);
        near(found.alloc_objects, self.alloc_objects, self.alloc_objects)
            && near(found.alloc_space, self.alloc_space, 64 * self.alloc_objects)
            && near(found.inuse_objects, self.inuse_objects, self.alloc_objects)
            && near(found.inuse_space, self.inuse_space, 64 * self.alloc_objects)
    }
}

/// Faults of a profile, a line each.
fn faults(truth: &Truth, profile: &Profile) -> String {
    let mut faults = String::new();
    for row in &truth.rows {
        let found = row.found(profile);
        if !row.agrees(found) {
            let Row { section, function, line, .. } = row;
            writeln!(faults, "{section}: {function}:{line}\n  truth {:?}\n  found {found:?}", row.sums()).unwrap();
        }
    }
    for kind in &truth.pools {
        let place = Place { file: WORKLOAD, function: &kind.function, line: 0 };
        let (objects, space) = lookup::small_objects(profile, place);
        if space.abs_diff(kind.inuse_space) > POOL || objects.abs_diff(kind.inuse_objects) > POOL / kind.size_class {
            let SmallObjects { function, inuse_objects, inuse_space, .. } = kind;
            writeln!(faults, "{function}: {inuse_objects} objects ({inuse_space} bytes), found {objects} ({space})")
                .unwrap();
        }
    }
    faults + &contradictions(profile)
}

/// What a profile says of itself must add up: no block twice, none given back that was not allocated, nothing lost.
fn contradictions(profile: &Profile) -> String {
    let mut faults = String::new();
    let totals = profile.heap_totals();
    let allocated = lookup::count(profile, "allocations");
    let freed = lookup::count(profile, "frees");
    if allocated != totals.alloc_objects || freed != totals.alloc_objects - totals.inuse_objects {
        writeln!(faults, "{allocated} allocations and {freed} frees were counted, the rows say {totals:?}").unwrap();
    }
    for row in &profile.blocks {
        if row.inuse_objects > row.alloc_objects || row.inuse_space > row.alloc_space {
            writeln!(faults, "more survives than was allocated: {row:?}").unwrap();
        }
    }
    for path in &profile.path_timeline.paths {
        let rows = profile.blocks.iter().filter(|row| (row.process, row.stack) == (path.process, path.stack));
        let sums = rows.fold((0, 0), |sum, row| (sum.0 + row.inuse_space, sum.1 + row.alloc_space));
        if (path.live.last(), path.allocated.last()) != (Some(&sums.0), Some(&sums.1)) {
            writeln!(faults, "over time a path ends at other sums than {sums:?}: {path:?}").unwrap();
        }
    }
    for lost in ["block_map_full", "stack_map_full", "ring_full", "thread_map_full", "pool_map_full", "undecodable"] {
        if lookup::count(profile, lost) > 0 {
            writeln!(faults, "{lost} is not 0").unwrap();
        }
    }
    faults
}

/// Attaches to the workload before it works.
fn attached(command: &mut Command) -> (Truth, Profile) {
    let mut workload = Workload::start_command(command).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", traced.complaint);
    (truth, traced.profile)
}

/// Launches the workload.
fn launched(interpreter: &Interpreter, sections: &[&str]) -> (Truth, Profile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launched.pyalloc");
    let mut command = pyalloc().unwrap();
    command.args(["trace", "--quiet", "-o"]).arg(&path).arg("--").arg(&interpreter.path);
    command.arg(workload::path(WORKLOAD)).arg("launched").args(sections);
    let mut workload = Workload::start_command(&mut command).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    workload.say("exit").unwrap();
    assert_eq!(workload.wait().unwrap().code(), Some(0));
    (truth, read(&path).unwrap())
}

fn truth_command(python: &Path, sections: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(workload::path(WORKLOAD)).arg("attached").args(sections);
    command
}

#[track_caller]
fn check(interpreter: &Interpreter, (truth, profile): &(Truth, Profile)) {
    assert!(!truth.rows.is_empty() || !truth.pools.is_empty());
    let faults = faults(truth, profile);
    assert!(faults.is_empty(), "{}\n{faults}", name(interpreter));
}

#[test]
fn attached_every_block_and_mapping_is_exact() {
    for interpreter in interpreters::for_test("attached_every_block_and_mapping_is_exact") {
        let run = attached(&mut truth_command(&interpreter.path, &SECTIONS));
        check(&interpreter, &run);
        let (truth, profile) = run;
        let unmatched = lookup::count(&profile, "unmatched_frees");
        assert!(unmatched >= truth.unmatched, "{unmatched} unmatched frees");
        let by_brk = profile.mapping_totals(Some(MappingOrigin::AllocatorBrk)).inuse_space;
        assert_eq!(by_brk, truth.heap_growth, "the heap's growth, {}", name(&interpreter));
    }
}

#[test]
fn launched_every_block_and_mapping_is_exact() {
    for interpreter in interpreters::for_test("launched_every_block_and_mapping_is_exact") {
        check(&interpreter, &launched(&interpreter, &SECTIONS));
    }
}

#[test]
fn blocks_of_a_c_extension_are_exact() {
    let test = "blocks_of_a_c_extension_are_exact";
    let mut ran = false;
    for interpreter in interpreters::for_test(test) {
        let folder = tempfile::tempdir().unwrap();
        let Some(headers) = headers(&interpreter) else {
            println!("{test}: not on {}: no headers", name(&interpreter));
            continue;
        };
        if !compile_extension(&headers, folder.path()) {
            skip::because(test, "no C compiler");
            return;
        }
        let mut command = truth_command(&interpreter.path, &["extension"]);
        check(&interpreter, &attached(command.env("PYTHONPATH", folder.path())));
        ran = true;
    }
    if !ran {
        skip::because(test, "no interpreter with headers");
    }
}

/// The folder of the interpreter's headers.
fn headers(interpreter: &Interpreter) -> Option<PathBuf> {
    let question = "import sysconfig; print(sysconfig.get_paths()['include'])";
    let output = Command::new(&interpreter.path).args(["-c", question]).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    folder.join("Python.h").is_file().then_some(folder)
}

fn compile_extension(headers: &Path, folder: &Path) -> bool {
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Wno-cast-function-type", "-I"])
        .arg(headers)
        .arg(workload::path("blocks.c"))
        .arg("-o")
        .arg(folder.join("blocks.so"))
        .status();
    status.is_ok_and(|status| {
        assert!(status.success(), "blocks.c does not compile");
        true
    })
}

#[test]
fn numpy_arrays_are_exact() {
    let test = "numpy_arrays_are_exact";
    let mut why_not = String::new();
    let mut ran = false;
    for interpreter in interpreters::for_test(test) {
        match python::workloads_venv(&interpreter) {
            Ok(venv) => {
                check(&interpreter, &attached(&mut truth_command(&venv.python(), &["numpy"])));
                ran = true;
            }
            Err(error) => {
                why_not = format!("{}: {error:#}", name(&interpreter));
                println!("{test}: not on {why_not}");
            }
        }
    }
    if !ran && !why_not.is_empty() {
        skip::because(test, &format!("no environment with numpy: {why_not}"));
    }
}
