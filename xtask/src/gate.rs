//! What the tests of the gate need: pytest in an environment of its own, and readers of what the gate writes in another.

use anyhow::Result;

use crate::ebpf::workspace_root;
use crate::python::{Interpreter, Venv};

/// The environment with pytest and xdist.
///
/// # Errors
/// It is not there and cannot be made.
pub fn venv(interpreter: &Interpreter) -> Result<Venv> {
    Venv::ensure("gate", interpreter, &workspace_root().join("tests/workloads/gate/requirements.txt"))
}

/// The environment with validators of SARIF and JUnit and GitHub's Markdown.
///
/// # Errors
/// It is not there and cannot be made.
pub fn readers(interpreter: &Interpreter) -> Result<Venv> {
    Venv::ensure("readers", interpreter, &workspace_root().join("tests/workloads/gate/readers.txt"))
}
