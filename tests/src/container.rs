//! Programs in a root, a mount and a pid namespace of their own, as containers have: `workloads/container.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use xtask::python;

use crate::workload::{self, Workload};

/// How the root is made.
#[derive(Clone, Copy, Debug)]
pub enum Root {
    /// Folders bound into a tmpfs, entered by pivot_root.
    Pivoted,
    /// The same, entered by chroot.
    Chroot,
    /// An overlayfs of several filesystems, entered by pivot_root.
    Overlay,
}

/// Unpacked packages, and the interpreter in them.
#[derive(Clone, Debug)]
pub struct System {
    /// Their folder.
    pub folder: PathBuf,
    /// The interpreter as the container sees it.
    pub python: &'static str,
}

impl System {
    /// Debian's 3.13, with another C library than the machine's; `None` if it was not fetched.
    pub fn fetched() -> Option<Self> {
        let folder = python::fetched_folder().join("system-trixie-3.13");
        let python = "/usr/bin/python3.13";
        (folder.join("complete").is_file() && folder.join(&python[1..]).is_file()).then_some(Self { folder, python })
    }
}

/// A workload in a container.
#[derive(Debug)]
pub struct Container {
    /// The workload.
    pub workload: Workload,
    /// Its pid on the host.
    pub pid: u32,
    _folder: TempDir,
}

/// What a workload's file is called in there.
pub fn path_inside(workload: &str) -> String {
    format!("/srv/app/{workload}")
}

impl Container {
    /// Starts a workload; `options` are more of unshare's. `helper` is an interpreter of the host's.
    pub fn start(helper: &Path, system: &System, root: Root, options: &[&str], workload: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let (kind, change) = match root {
            Root::Pivoted => ("tmpfs", "pivot"),
            Root::Chroot => ("tmpfs", "chroot"),
            Root::Overlay => ("overlay", "pivot"),
        };
        let mut command = Command::new("unshare");
        command.args(options).args(["--mount", "--pid", "--fork"]);
        command.arg(helper).arg(workload::path("container.py")).arg(&system.folder).arg(folder.path());
        command.args([kind, change]).arg(workload::path(workload)).arg(system.python).arg(path_inside(workload));
        let workload = Workload::start_command(&mut command)?;
        let pid = only_child(workload.pid())?;
        Ok(Self { workload, pid, _folder: folder })
    }
}

/// The only child of a process that forks once and waits: `unshare --fork`, `nsenter --pid`.
pub fn only_child(pid: u32) -> Result<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).context("the process has gone")?;
    text.trim().parse().with_context(|| format!("not one child: {text:?}"))
}
