//! Readers of what `pyalloc check` writes that are not ours: a validator of SARIF with OASIS's schema, a reader of JUnit's
//! XML, GitHub's Markdown.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xtask::{gate, python};

use crate::{skip, workload};

/// What they saw, as `readers.py` tells it; `None` after saying why they cannot be asked.
///
/// # Panics
/// One of them refuses what it reads.
pub fn of_check(test: &str, sarif: &Path, junit: &Path, markdown: &Path) -> Option<Value> {
    let venv = match python::newest().and_then(|interpreter| gate::readers(&interpreter)) {
        Ok(venv) => venv,
        Err(error) => {
            skip::because(test, &format!("no readers of SARIF, JUnit and Markdown: {error:#}"));
            return None;
        }
    };
    let mut readers = Command::new(venv.python());
    readers.arg(workload::path("gate/readers.py")).args([sarif, junit, markdown]);
    let output = readers.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("the readers print JSON"))
}
