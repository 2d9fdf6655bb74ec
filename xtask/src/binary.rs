//! The `pyalloc` binary that the demo, the live tests and the bench run: the release build.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::workspace_root;

/// Builds it and returns its path.
pub fn build() -> Result<PathBuf> {
    let status = Command::new("cargo")
        .current_dir(workspace_root())
        .args(["build", "--release", "--package", "pyalloc"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("building pyalloc failed: see the errors above");
    }
    path()
}

/// Its path, if it has been built.
pub fn path() -> Result<PathBuf> {
    let path = target_folder().join("release/pyalloc");
    if !path.is_file() {
        bail!("{} is not there: run `cargo build --release --package pyalloc`", path.display());
    }
    Ok(path)
}

/// Where cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}
