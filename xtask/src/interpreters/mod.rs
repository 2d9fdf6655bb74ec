//! `cargo xtask interpreters`: more real interpreters than the machine has, for the tests.
//!
//! Nothing is installed: all lies under `target/interpreters`, each interpreter in a folder of its own with a program
//! `python` that starts it. What cannot be had is said and left out.

mod debian;
mod packages;
mod wheel;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::python::{self, Interpreter};

/// Fetches what is missing; quick when nothing is.
pub fn run() -> Result<()> {
    let folder = python::fetched_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    println!("interpreters: into {}:", folder.display());
    println!("  Debian's packages of other suites, unpacked, by apt-get download with the machine's own mirror");
    println!("  the interpreters in the wheels of freeze-core and cx_Freeze, by pip download");
    println!("  Debian's jemalloc, tcmalloc and mimalloc, unpacked, likewise");
    debian::fetch_allocators(&folder);
    let had = debian::fetch(&folder) + wheel::fetch(&folder);
    let found = python::fetched();
    for interpreter in &found {
        println!("  {} {}", interpreter.name(), interpreter.path.display());
    }
    println!("interpreters: {} of {had} can be had here", found.len());
    Ok(())
}

/// As [`run`], and the packages of all.
pub fn run_with_packages() -> Result<()> {
    run()?;
    fetch_packages(true);
    Ok(())
}

/// Fetches packages that the tests of stacks import: for every interpreter that there is, or for those of CI alone.
pub fn fetch_packages(every: bool) {
    let chosen = |interpreter: &Interpreter| {
        let (_, minor, _) = interpreter.version;
        every || PACKAGED_MINORS.contains(&minor) && !interpreter.free_threaded
    };
    packages::fetch(&python::find_all().into_iter().filter(chosen).collect::<Vec<_>>());
}

/// Minor versions that a whole test run has packages for.
const PACKAGED_MINORS: [u8; 3] = [8, 13, 15];

/// An interpreter that is fetched, in its folder.
struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    fn new(root: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), folder: root.join(name) }
    }

    /// Makes it, unless it is there and runs; what fails is said.
    fn ensure(&self, make: impl FnOnce(&Path) -> Result<String>) {
        if self.runs() {
            return;
        }
        let made = fs::create_dir_all(&self.folder)
            .context("cannot make its folder")
            .and_then(|()| make(&self.folder))
            .and_then(|script| self.install(&script));
        if let Err(error) = made {
            println!("  without {}: {error:#}", self.name);
        }
    }

    /// Whether it starts and has what the tests' workloads import.
    fn runs(&self) -> bool {
        let program = self.folder.join("python");
        let mut command = Command::new(&program);
        command.args(["-c", "import functools, json, threading"]).stderr(Stdio::null());
        program.is_file() && command.status().is_ok_and(|status| status.success())
    }

    fn install(&self, script: &str) -> Result<()> {
        let program = self.folder.join("python");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        executable(&program)?;
        if !self.runs() {
            fs::remove_file(&program)?;
            bail!("it does not run here");
        }
        println!("  made {}: {}", self.name, Interpreter::probe(&program).map_or_else(String::new, |it| it.name()));
        Ok(())
    }
}

fn executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", path.display()))
}

/// A word for the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Runs a program without its output; what it said on standard error if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| line.contains("rror") || line.starts_with("E:"));
        bail!("{program} failed: {}", last.unwrap_or_default().trim());
    }
    Ok(())
}

/// A folder's entries; none if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}
