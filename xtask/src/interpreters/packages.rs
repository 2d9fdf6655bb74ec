//! Packages with compiled code that changes what a thread's Python stack is, for interpreters that have no pip: unpacked
//! side by side, one folder for each ABI.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::ebpf::workspace_root;
use xtask::python::{self, Interpreter};

use super::{entries, quiet};

/// Each by itself: an interpreter that one has no wheel for may have the others.
const PACKAGES: [&str; 4] = ["greenlet", "gevent", "uvloop", "numpy"];

const PLATFORMS: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];

/// Cython's modules, and what each is compiled with.
const COMPILED: [(&str, &[&str]); 2] =
    [("compiled", &[]), ("compiled_traced", &["--directive", "profile=True,linetrace=True"])];

/// Fetches what is missing, for each of these interpreters; what cannot be had is said and left out.
pub fn fetch(interpreters: &[Interpreter]) {
    let mut by_abi: BTreeMap<String, &Interpreter> = BTreeMap::new();
    for interpreter in interpreters {
        by_abi.entry(interpreter.abi()).or_insert(interpreter);
    }
    println!("packages: {} for the tests of stacks, by pip download, into {}", PACKAGES.join(", "), root().display());
    for (abi, interpreter) in by_abi {
        let folder = root().join(&abi);
        if folder.join("complete").is_file() {
            continue;
        }
        if let Err(error) = make(&folder, interpreter) {
            println!("  without packages for {abi}: {error:#}");
        }
    }
}

fn root() -> PathBuf {
    python::fetched_folder().join("packages")
}

fn make(folder: &Path, interpreter: &Interpreter) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let abi = interpreter.abi();
    for package in PACKAGES {
        if let Err(error) = install(folder, package, Some(interpreter)) {
            println!("  {abi} without {package}: {error:#}");
        }
    }
    if let Err(error) = compile(folder, interpreter) {
        println!("  {abi} without Cython's modules: {error:#}");
    }
    fs::write(folder.join("complete"), "").context("cannot write")
}

/// Unpacks a package and what it needs; for the interpreter that runs pip, or for another.
fn install(folder: &Path, package: &str, interpreter: Option<&Interpreter>) -> Result<()> {
    let mut pip = Command::new(python::newest()?.path);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "5"]);
    pip.args(["--only-binary=:all:", "--upgrade", "--target"]).arg(folder);
    if let Some(interpreter) = interpreter {
        let (major, minor, _) = interpreter.version;
        pip.args(["--implementation", "cp", "--python-version", &format!("{major}.{minor}")]);
        for abi in [interpreter.abi().as_str(), "abi3", "none"] {
            pip.args(["--abi", abi]);
        }
        for platform in PLATFORMS {
            pip.args(["--platform", platform]);
        }
    }
    quiet(pip.arg(package))
}

/// Makes Cython's modules: C by any interpreter's Cython, then the machine's own compiler with this version's headers.
fn compile(folder: &Path, interpreter: &Interpreter) -> Result<()> {
    let headers = headers(interpreter).context("headers of this version")?;
    let (major, minor, _) = interpreter.version;
    let own = headers.join(format!("python{major}.{minor}"));
    // The last that makes code for 3.8, and the newest.
    let (name, release) = if minor < 9 { ("cython-3.0", "cython<3.1") } else { ("cython", "cython") };
    let cython = root().join(name);
    if !cython.join("cython.py").is_file() {
        install(&cython, release, None)?;
    }
    for (module, directives) in COMPILED {
        let source = root().join(format!("{module}.pyx"));
        fs::copy(workspace_root().join("tests/workloads/stacks/compiled.pyx"), &source).context("cannot copy")?;
        let in_c = root().join(format!("{module}.c"));
        let mut command = Command::new(python::newest()?.path);
        command.env("PYTHONPATH", &cython).arg(cython.join("cython.py")).args(["-3"]).args(directives);
        quiet(command.arg("-o").arg(&in_c).arg(&source))?;
        let mut command = Command::new("cc");
        command.args(["-O1", "-shared", "-fPIC", "-w"]);
        if !directives.is_empty() {
            command.arg("-DCYTHON_TRACE=1");
        }
        if interpreter.free_threaded {
            command.arg("-DPy_GIL_DISABLED=1");
        }
        command
            .arg("-I")
            .arg(&own)
            .arg("-I")
            .arg(&headers)
            .arg(in_c)
            .arg("-o")
            .arg(folder.join(format!("{module}.so")));
        quiet(&mut command)?;
    }
    Ok(())
}

/// A folder `include` with the headers of a minor version: pyenv's, the system's, or Debian's of another suite.
fn headers(interpreter: &Interpreter) -> Result<PathBuf> {
    let (major, minor, _) = interpreter.version;
    let prefixes =
        entries(&python::pyenv_root().join("versions")).into_iter().chain(["/usr".into(), "/usr/local".into()]);
    let mut folders = prefixes.map(|prefix| prefix.join("include"));
    let found = folders.find(|folder| folder.join(format!("python{major}.{minor}/Python.h")).is_file());
    match found {
        Some(folder) => Ok(folder),
        None => Ok(super::debian::headers(&python::fetched_folder(), minor)?.join("include")),
    }
}
