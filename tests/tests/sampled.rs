//! Sampling: what is estimated from a part of the blocks is right within the error that is stated beside it.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use live_tests::interpreters::{self, name};
use live_tests::tracer::Tracer;
use live_tests::workload::Workload;
use pyalloc::profile::{BlockRow, Profile};
use serde::Deserialize;

/// Functions of the workload that all do the same.
const FUNCTIONS: u32 = 20;

/// What each of them did.
#[derive(Deserialize)]
struct Truth {
    alloc_objects: u64,
    alloc_space: u64,
    inuse_objects: u64,
    inuse_space: u64,
}

/// The row of a function.
fn row(profile: &Profile, function: &str) -> BlockRow {
    let of_function =
        |row: &&BlockRow| profile.leaf(row.stack).is_some_and(|frame| profile.text(frame.function) == function);
    let rows: Vec<&BlockRow> = profile.blocks.iter().filter(of_function).collect();
    assert_eq!(rows.len(), 1, "{function}");
    *rows[0]
}

/// How many standard errors an estimate is off.
fn off(estimate: u64, truth: u64, variance: f64) -> f64 {
    estimate.abs_diff(truth) as f64 / variance.sqrt()
}

#[test]
fn estimates_are_right_within_their_stated_error() {
    for interpreter in interpreters::for_test("estimates_are_right_within_their_stated_error") {
        let mut workload = Workload::start(&interpreter.path, "sampled.py", [] as [&str; 0]).unwrap();
        let tracer = Tracer::attach_with(workload.pid(), &["--sample-interval", "16384"]).unwrap();
        workload.say("go").unwrap();
        let truth: Truth = workload.read().unwrap();
        let profile = tracer.finish().unwrap().profile;
        let mut all = Vec::new();
        for number in 0..FUNCTIONS {
            let row = row(&profile, &format!("work_{number}"));
            assert!(row.samples < truth.alloc_objects / 2, "{} samples", row.samples);
            all.extend([
                off(row.alloc_space, truth.alloc_space, row.alloc_variance),
                off(row.alloc_objects, truth.alloc_objects, row.alloc_objects_variance),
                off(row.inuse_space, truth.inuse_space, row.inuse_variance),
                off(row.inuse_objects, truth.inuse_objects, row.inuse_objects_variance),
            ]);
        }
        let within_two = all.iter().filter(|off| **off <= 2.0).count();
        println!("{}: {within_two} of {} estimates within 2 standard errors", name(&interpreter), all.len());
        // 95 of 100 are expected; fewer than 85 come by chance less than once in a thousand runs, as bytes and blocks of
        // one function are not independent. Beyond 6 nothing comes by chance.
        assert!(100 * within_two >= 85 * all.len(), "{all:.1?}");
        assert!(all.iter().all(|off| *off < 6.0), "{all:.1?}");
    }
}
