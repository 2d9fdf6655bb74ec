//! `cargo xtask matrix`: the test that compares every interpreter with itself, and the page that shows its result.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;

use crate::{command, interpreters, test};

const HEAD: &str = include_str!("matrix/head.md");
const ALLOCATORS: &str = include_str!("matrix/allocators.md");
const SITUATIONS: &str = include_str!("matrix/situations.md");

/// Fetches interpreters, runs the test on all, and writes `docs/interpreters.md`; fails if one is not right.
pub fn run() -> Result<()> {
    interpreters::run_with_packages()?;
    let privilege = Privilege::require("loading BPF programs")?;
    let folder = workspace_root().join("target");
    let [interpreters, allocators, situations] =
        ["matrix.md", "allocators.md", "situations.md"].map(|name| folder.join(name));
    let start = Instant::now();
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace_root())
        .args(["test", "--package", "pyalloc", "--no-fail-fast", "--test", "matrix", "--test", "situations"])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("PYALLOC_MATRIX_TABLE", &interpreters)
        .env("PYALLOC_ALLOCATORS_TABLE", &allocators)
        .env("PYALLOC_SITUATIONS_TABLE", &situations);
    if let Privilege::Sudo = privilege {
        let (variable, runner) = test::sudo_runner()?;
        cargo.env(variable, runner);
    }
    let tested = command::run(&mut cargo);
    println!("the tests took {} s", start.elapsed().as_secs());
    let read = |path| fs::read_to_string(path).context("the test wrote no table");
    let page = [HEAD, &read(interpreters)?, SITUATIONS, &read(situations)?, ALLOCATORS, &read(allocators)?].concat();
    let path = workspace_root().join("docs/interpreters.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    tested
}
