//! `pyalloc diagnose` on real programs, each with one that nearly has the same pattern: those of the corpus, all at once.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::thread;

use live_tests::corpus::run::{self, Told};
use live_tests::corpus::score::Scored;
use live_tests::corpus::{start, workloads};
use live_tests::{interpreters, skip};

/// In trouble, and healthy though it looks alike.
const PROGRAMS: [&str; 4] = ["retained_listeners", "queue_deque", "steady_churn", "steady_full_cache"];

fn diagnosed(name: &str) -> Scored {
    let entry = workloads::entry(name).unwrap();
    let seconds = entry.label.seconds;
    let told: Told = start::start(&entry).and_then(|started| run::diagnose(&started, seconds, None)).unwrap();
    Scored { name: entry.name, label: entry.label, told: Ok(told) }
}

#[test]
fn trouble_is_named_and_what_is_well_is_left_alone() {
    let test = "trouble_is_named_and_what_is_well_is_left_alone";
    if skip::without_root(test) || interpreters::newest_for_test(test).is_none() {
        return;
    }
    let watched: Vec<_> = PROGRAMS.iter().map(|name| thread::spawn(|| diagnosed(name))).collect();
    for scored in watched.into_iter().map(|thread| thread.join().unwrap()) {
        let Scored { name, told, .. } = &scored;
        assert!(scored.is_right(), "{name}: {told:?}");
        assert!(!scored.is_false_alarm(), "{name}: {told:?}");
        assert_ne!(scored.names_culprit(), Some(false), "{name}: {told:?}");
    }
}
