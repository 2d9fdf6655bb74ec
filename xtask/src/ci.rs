//! `cargo xtask ci`: what `.ci/run` runs, so that anybody can run the same.

use std::process::Command;

use anyhow::Result;
use xtask::ebpf::{self, workspace_root};

use crate::{command, setup, test};

/// Format, lints, tests; stops at the first that fails.
pub fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    setup::run()?;
    lint()?;
    test::run()
}

/// The kernel side cannot be linted with the rest: it is `no_main` and wants the BPF target, whose compiler may be
/// Debian's, without clippy. It is compiled with warnings as errors instead.
fn lint() -> Result<()> {
    cargo(&["clippy", "--workspace", "--exclude", "profiler-ebpf", "--all-targets", "--", "-D", "warnings"])?;
    if test::kernel_side_has_library() {
        cargo(&["clippy", "--package", "profiler-ebpf", "--lib", "--tests", "--", "-D", "warnings"])?;
    }
    println!("building the kernel side with warnings as errors");
    ebpf::build_without_warnings(&workspace_root().join("target/ebpf-strict"))?;
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    command::run(Command::new("cargo").current_dir(workspace_root()).args(arguments))
}
