//! The interpreters that the live tests run on.

use std::ops::RangeInclusive;

use xtask::python::{self, Interpreter};

/// The versions whose objects the workloads know to the byte. What differs in others is compared by the matrix
/// (`workloads/matrix.py`), each interpreter with itself.
const KNOWN_MINORS: RangeInclusive<u8> = 11..=13;

/// Pyenv's and the system's, oldest first.
fn known() -> Vec<Interpreter> {
    let is_known = |interpreter: &Interpreter| {
        KNOWN_MINORS.contains(&interpreter.version.1) && !interpreter.free_threaded && !interpreter.is_fetched()
    };
    python::find().into_iter().filter(is_known).collect()
}

/// Every interpreter on this machine that the workloads know, after saying which; none, after saying that the test
/// is skipped.
pub fn for_test(test: &str) -> Vec<Interpreter> {
    if crate::skip::without_root(test) {
        return Vec::new();
    }
    let found = known();
    if found.is_empty() {
        crate::skip::because(test, "no CPython 3.8 to 3.15 on this machine");
    }
    for interpreter in &found {
        println!("{test}: runs on {}", name(interpreter));
    }
    found
}

/// The newest alone, for what does not depend on the interpreter.
pub fn newest_for_test(test: &str) -> Option<Interpreter> {
    if crate::skip::without_root(test) {
        return None;
    }
    let newest = known().pop();
    match &newest {
        Some(interpreter) => println!("{test}: runs on {}", name(interpreter)),
        None => crate::skip::because(test, "no CPython 3.8 to 3.15 on this machine"),
    }
    newest
}

/// For people.
pub fn name(interpreter: &Interpreter) -> String {
    format!("{} ({})", interpreter.name(), interpreter.path.display())
}
