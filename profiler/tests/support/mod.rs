//! The interpreters at hand, and workloads that tell their own truth.

#![allow(dead_code, reason = "each test uses its part")]

pub mod stale;
pub mod tracer;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

use pyalloc::process::Pid;

/// The folder of the workloads.
pub fn workload(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/workloads").join(name)
}

/// Every interpreter found: pyenv's, Debian's, and those in `PYALLOC_TEST_PYTHONS` (paths joined by colons).
pub fn interpreters() -> Vec<PathBuf> {
    let home = env::var_os("HOME").unwrap_or_default();
    let versions = fs::read_dir(Path::new(&home).join(".pyenv/versions"));
    let mut found: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python")).collect();
    found.push("/usr/bin/python3.11".into());
    let more = env::var_os("PYALLOC_TEST_PYTHONS").unwrap_or_default();
    found.extend(env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()));
    found.retain(|path| path.is_file());
    found.sort();
    assert!(!found.is_empty(), "no interpreter found: install one, or name it in PYALLOC_TEST_PYTHONS");
    found
}

/// Every interpreter of 3.8 and later that was found, those that `cargo xtask interpreters` has fetched too, with names.
pub fn every_interpreter() -> Vec<(String, PathBuf)> {
    let name = |path: &Path| {
        let folder = path.parent()?.parent()?.file_name()?.to_str()?;
        Some(if path.starts_with("/usr") { "system".to_owned() } else { format!("pyenv {folder}") })
    };
    let own = known_interpreters().into_iter().map(|(path, _)| (name(&path).unwrap_or_default(), path));
    let mut every: Vec<_> = own.collect();
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters");
    let mut folders: Vec<_> = fs::read_dir(fetched).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().replace('-', " ");
        every.push((name, folder.join("python")));
    }
    every.retain(|(_, path)| path.is_file());
    every
}

/// The minor version of a Python 3 interpreter, `None` for Python 2.
pub fn minor_version(python: &Path) -> Option<u8> {
    let code = "import sys; print('%d %d' % sys.version_info[:2])";
    let output = Command::new(python).args(["-c", code]).output().expect("python runs");
    let text = String::from_utf8(output.stdout).expect("python prints text");
    let minor = text.trim().strip_prefix("3 ")?;
    Some(minor.parse().expect("a version"))
}

/// Whether every interpreter is wanted (`cargo xtask matrix`), and not only those that stand for the others in a whole
/// test run.
pub fn wants_all() -> bool {
    env::var_os("PYALLOC_MATRIX_TABLE").is_some()
}

/// The interpreters that `PYALLOC_MATRIX_ONLY` is in the name of; without it those whose names start as one of `chosen`
/// do, or all if all are wanted. A copy of an interpreter that other programs embed stands for none.
pub fn chosen_interpreters(chosen: &[&str]) -> Vec<(String, PathBuf)> {
    let only = env::var("PYALLOC_MATRIX_ONLY").unwrap_or_default();
    let wanted = |name: &str| match only.as_str() {
        "" if wants_all() => true,
        "" => !name.ends_with("dlopen") && !name.ends_with("linked") && chosen.iter().any(|it| name.starts_with(it)),
        only => name.contains(only),
    };
    every_interpreter().into_iter().filter(|(name, _)| wanted(name)).collect()
}

/// The packages that were unpacked for an interpreter (`cargo xtask interpreters`); those are for glibc.
pub fn packages(python: &Path) -> Option<PathBuf> {
    if python.components().any(|part| part.as_os_str().to_string_lossy().starts_with("musllinux")) {
        return None;
    }
    let code = "import sys; print('cp%d%d' % sys.version_info[:2] + ('t' if 't' in sys.abiflags else ''))";
    let output = Command::new(python).args(["-c", code]).output().expect("python runs");
    let abi = String::from_utf8(output.stdout).expect("python prints text");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters/packages").join(abi.trim());
    folder.is_dir().then_some(folder)
}

/// The interpreters of 3.8 and later, with their minor version.
pub fn known_interpreters() -> Vec<(PathBuf, u8)> {
    let known = |path: PathBuf| minor_version(&path).filter(|minor| *minor >= 8).map(|minor| (path, minor));
    interpreters().into_iter().filter_map(known).collect()
}

/// Starts a process. A program that was copied a moment ago is busy while another test's child, between its fork and its
/// exec, holds the copy open for writing.
fn spawn(command: &mut Command) -> Child {
    for _ in 0..500 {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            started => return started.expect("the target starts"),
        }
    }
    panic!("the program stays busy")
}

/// A running process; killed when dropped.
pub struct Target {
    /// The process.
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Target {
    /// Starts a program with pipes for its standard input and output.
    pub fn start(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::start_command(Command::new(program).args(arguments))
    }

    /// As [`Self::start`].
    pub fn start_command(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(command);
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the target prints a line");
        line
    }

    /// Waits until a thread is in a system call with these first words ("0 0x5" is read from descriptor 5).
    pub fn wait_in_call(&self, tid: u64, call: &str) {
        let path = format!("/proc/{}/task/{tid}/syscall", self.pid());
        loop {
            let now = fs::read_to_string(&path).expect("the right to trace the target");
            if now.starts_with(&format!("{call} ")) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
