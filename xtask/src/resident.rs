//! `cargo xtask resident`: processes of known composition are traced, and the page that shows what the report said.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::{binary, python};

use crate::{command, setup, test};

const HEAD: &str = include_str!("resident/head.md");
const PRELOAD: &str = include_str!("resident/preload.md");
const LIMITS: &str = include_str!("resident/limits.md");

/// Runs the test and writes `docs/resident.md`; fails if a line of the report is not right.
pub fn run() -> Result<()> {
    setup::run()?;
    let privilege = Privilege::require("loading BPF programs")?;
    if let Err(error) = python::newest().and_then(|interpreter| python::workloads_venv(&interpreter)) {
        println!("without numpy: {error:#}");
    }
    binary::build()?;
    let tables = ["target/resident.md", "target/preload.md"].map(|path| workspace_root().join(path));
    // The tests add their rows.
    for table in &tables {
        fs::write(table, "").with_context(|| format!("cannot write {}", table.display()))?;
    }
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace_root())
        .args(["test", "--package", "live-tests", "--test", "resident", "--test", "preload", "--no-fail-fast"])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("PYALLOC_RESIDENT_TABLE", &tables[0])
        .env("PYALLOC_PRELOAD_TABLE", &tables[1]);
    if let Privilege::Sudo = privilege {
        let (variable, runner) = test::sudo_runner()?;
        cargo.env(variable, runner);
    }
    let tested = command::run(&mut cargo);
    let [rows, preload] = tables.map(fs::read_to_string);
    let (rows, preload) = (rows.context("the tests wrote no table")?, preload.context("the tests wrote no table")?);
    let path = workspace_root().join("docs/resident.md");
    fs::write(&path, [HEAD, &rows, PRELOAD, &preload, LIMITS].concat())
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    tested
}
