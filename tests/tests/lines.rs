//! Call paths, walked in the kernel: frame by frame what Python itself says of them.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::BTreeMap;

use live_tests::interpreters::{self, name};
use live_tests::lookup::{self, Place};
use live_tests::tracer::Tracer;
use live_tests::workload::Workload;
use profiler_common::MAX_FRAMES;
use pyalloc::profile::{FrameKind, Profile, StackId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use xtask::python::Interpreter;

/// What the first frame of a stack says that was cut.
const CUT: &str = "[outer frames cut: stack deeper than 512]";

/// Traces a workload that works once.
fn traced<T: DeserializeOwned>(interpreter: &Interpreter, workload: &str) -> (T, Profile) {
    let mut workload = Workload::start(&interpreter.path, workload, [""; 0]).unwrap();
    let tracer = Tracer::attach(workload.pid()).unwrap();
    workload.say("go").unwrap();
    let truth = workload.read().unwrap();
    (truth, tracer.finish().unwrap().profile)
}

/// A block, and the traceback at its allocation.
#[derive(Deserialize)]
struct Told {
    size: u64,
    frames: Vec<(String, String, u32)>,
}

/// The stack of the one block of this size.
fn stack_of(profile: &Profile, size: u64) -> StackId {
    let leaf = Place { file: "lines.py", function: "leaf", line: 0 };
    let rows = profile.blocks.iter().filter(|row| row.alloc_space == size && row.alloc_objects == 1);
    let of_leaf = |stack: &StackId| profile.leaf(*stack).is_some_and(|frame| leaf.is(profile, frame));
    let stacks: Vec<StackId> = rows.map(|row| row.stack).filter(of_leaf).collect();
    assert_eq!(stacks.len(), 1, "stacks with one block of {size} bytes");
    stacks[0]
}

#[test]
fn every_frame_is_what_python_says() {
    for interpreter in interpreters::for_test("every_frame_is_what_python_says") {
        let (told, profile): (Vec<Told>, _) = traced(&interpreter, "lines.py");
        assert_eq!(told.len(), 10);
        let mut cut = 0;
        for Told { size, frames: mut expected } in told {
            let found = lookup::frames(&profile, stack_of(&profile, size));
            if expected.len() > MAX_FRAMES {
                expected.truncate(MAX_FRAMES);
                expected.push((String::new(), CUT.to_owned(), 0));
                cut += 1;
            }
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "{}: frame {at} of the block of {size}", name(&interpreter));
            }
            assert_eq!(found.len(), expected.len(), "{}: the block of {size}", name(&interpreter));
        }
        assert_eq!(cut, 1, "deep(600) alone is deeper than what is walked");
        assert!(lookup::count(&profile, "truncated") >= 1);
    }
}

/// What `reuse.py` prints.
#[derive(Deserialize)]
struct Reused {
    sizes: BTreeMap<String, u64>,
    lines: BTreeMap<String, u32>,
    addresses: usize,
}

#[test]
fn a_reused_address_names_no_other_function() {
    for interpreter in interpreters::for_test("a_reused_address_names_no_other_function") {
        let (truth, profile): (Reused, _) = traced(&interpreter, "reuse.py");
        assert!(truth.addresses < truth.sizes.len() / 4, "{} addresses: hardly reused", truth.addresses);
        let mut named = 0;
        for row in &profile.blocks {
            let Some(frame) = profile.leaf(row.stack) else { continue };
            if !profile.text(frame.file).starts_with("/reuse/") || frame.kind == FrameKind::Marker {
                continue;
            }
            let function = profile.text(frame.function);
            assert_eq!(row.alloc_space, truth.sizes[function], "{}: {function}", name(&interpreter));
            assert_eq!((row.alloc_objects, frame.line), (1, truth.lines[function]), "{function}");
            named += 1;
        }
        assert_eq!(named, truth.sizes.len(), "{}: functions that were named", name(&interpreter));
    }
}
