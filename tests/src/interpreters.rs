//! The interpreters that the live tests run on.

use xtask::python::{self, Interpreter};

/// Every supported interpreter on this machine, after saying which; none, after saying that the test is skipped.
pub fn for_test(test: &str) -> Vec<Interpreter> {
    if crate::skip::without_root(test) {
        return Vec::new();
    }
    let found = python::find();
    if found.is_empty() {
        crate::skip::because(test, "no CPython 3.11 to 3.13 on this machine");
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
    let newest = python::find().pop();
    match &newest {
        Some(interpreter) => println!("{test}: runs on {}", name(interpreter)),
        None => crate::skip::because(test, "no CPython 3.11 to 3.13 on this machine"),
    }
    newest
}

/// For people.
pub fn name(interpreter: &Interpreter) -> String {
    let (major, minor, micro) = interpreter.version;
    format!("CPython {major}.{minor}.{micro} ({})", interpreter.path.display())
}
