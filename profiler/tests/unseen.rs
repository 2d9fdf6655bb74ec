//! Code objects that die before the probe that tells of their deaths is on, or where there is no such probe: no other may
//! be named by what was known of them.

mod support;

use std::io::Write as _;
use std::path::Path;

use pyalloc::profile::Profile;
use support::Target;
use support::tracer::{Tracer, without_root};

/// What `unseen.py` maps in its function 0, pages.
const FIRST: u64 = 1000;
const FUNCTIONS: u64 = 40;
/// Before and after the child's probes are on.
const ROUNDS: u64 = 400;
const PAGE: u64 = 4096;

/// How many mappings are said to be of the function that made them, and what is said wrong.
fn compare(profile: &Profile) -> (u64, Vec<String>) {
    let (mut right, mut wrong) = (0, Vec::new());
    for row in &profile.mappings {
        let mut names = profile.frames_of(row.stack).map(|frame| profile.text(frame.function));
        let named = names.find_map(|name| name.strip_prefix("stale_")?.parse::<u64>().ok());
        let size = row.alloc_space / row.alloc_objects / PAGE;
        match named {
            Some(number) if row.alloc_space == row.alloc_objects * (FIRST + number) * PAGE => {
                right += row.alloc_objects
            }
            None if !(FIRST..FIRST + FUNCTIONS).contains(&size) => {}
            _ => wrong.push(format!("{} of {size} pages at {named:?}", row.alloc_objects)),
        }
    }
    (right, wrong)
}

fn trace(python: &Path, options: &[&str]) -> (u64, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut target = Target::start(python, [support::workload("unseen.py")]);
    assert_eq!(target.line(), "ready\n");
    let mut go = target.child.stdin.take().expect("a pipe");
    let tracer = Tracer::attach_with(&target, folder.path(), options).expect("a trace");
    // Nobody can put probes into the child meanwhile.
    let stopped = tracer.stop();
    go.write_all(b"go\n").expect("the target reads");
    let child = target.line().trim().parse().expect("a pid");
    drop(stopped);
    tracer.wait_until_probed(child);
    go.write_all(b"probed\n").expect("the target reads");
    assert_eq!(target.line(), "done\n");
    compare(&tracer.finish())
}

fn check(test: &str, interpreters: &[&str], options: &[&str]) {
    if without_root(test) {
        return;
    }
    let mut failed = Vec::new();
    for (name, python) in support::chosen_interpreters(interpreters) {
        let (right, wrong) = trace(&python, options);
        println!("{name}: {right} of {ROUNDS}; wrong: {wrong:?}");
        if right != ROUNDS || !wrong.is_empty() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "not right: {failed:?}");
}

#[test]
fn code_that_died_unseen_names_no_other() {
    check("code_that_died_unseen_names_no_other", &["pyenv 3.8", "pyenv 3.13"], &[]);
}

/// Up to 3.11 code objects are told apart by their names, from 3.12 on by their versions.
#[test]
fn without_any_probe_code_that_died_names_no_other() {
    let interpreters = ["pyenv 3.8", "pyenv 3.11", "pyenv 3.12", "manylinux 3.14t"];
    check("without_any_probe_code_that_died_names_no_other", &interpreters, &["--no-uprobes"]);
}
