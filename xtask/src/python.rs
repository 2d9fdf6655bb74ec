//! The Python interpreters on this machine, and virtual environments of the project's own.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::workspace_root;

/// The minor versions of CPython 3 that pyalloc traces.
pub const SUPPORTED_MINORS: std::ops::RangeInclusive<u8> = 8..=15;

/// A CPython.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interpreter {
    /// Major, minor, micro.
    pub version: (u8, u8, u8),
    /// Built without the GIL.
    pub free_threaded: bool,
    /// The program, with symbolic links resolved.
    pub path: PathBuf,
}

impl Interpreter {
    /// Asks a program what it is; `None` if it is not a CPython, or does not run.
    pub fn probe(path: &Path) -> Option<Self> {
        const QUESTION: &str = "import sys; v = sys.version_info; \
            print(v[0], v[1], v[2], sys.implementation.name, 't' in getattr(sys, 'abiflags', ''))";
        let output = Command::new(path).args(["-I", "-S", "-c", QUESTION]).output().ok()?;
        let path = fs::canonicalize(path).ok()?;
        let (version, free_threaded) = parse_answer(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { version, free_threaded, path })
    }

    /// For people: "CPython 3.13.0t".
    pub fn name(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("CPython {major}.{minor}.{micro}{}", if self.free_threaded { "t" } else { "" })
    }

    /// The tag of extension modules for it: "cp313t".
    pub fn abi(&self) -> String {
        let (major, minor, _) = self.version;
        format!("cp{major}{minor}{}", if self.free_threaded { "t" } else { "" })
    }

    /// Whether `cargo xtask interpreters` brought it: good for running scripts, not for installing packages.
    pub fn is_fetched(&self) -> bool {
        self.path.starts_with(fetched_folder())
    }

    /// Whether pyalloc traces this version.
    pub fn is_supported(&self) -> bool {
        self.version.0 == 3 && SUPPORTED_MINORS.contains(&self.version.1)
    }

    /// Whether it can make virtual environments (Debian splits that into a package of its own).
    pub fn has_venv(&self) -> bool {
        !self.is_fetched()
            && Command::new(&self.path)
                .args(["-c", "import venv, ensurepip"])
                .output()
                .is_ok_and(|out| out.status.success())
    }
}

fn parse_answer(answer: &str) -> Option<((u8, u8, u8), bool)> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    match words[..] {
        [major, minor, micro, "cpython", free_threaded] => {
            let version = (major.parse().ok()?, minor.parse().ok()?, micro.parse().ok()?);
            Some((version, free_threaded == "True"))
        }
        _ => None,
    }
}

/// Where `cargo xtask interpreters` puts what it fetches.
pub fn fetched_folder() -> PathBuf {
    workspace_root().join("target/interpreters")
}

/// What `cargo xtask interpreters` has fetched: unpacked Debian packages of other suites, and free-threaded builds.
pub fn fetched() -> Vec<Interpreter> {
    probed(entries(&fetched_folder()).into_iter().map(|folder| folder.join("python")).collect())
}

/// The machine's own interpreters that pyalloc traces: pyenv's, the system's, and those on the PATH; each file once,
/// oldest first.
pub fn find() -> Vec<Interpreter> {
    probed(candidates())
}

/// As [`find`], and those that `cargo xtask interpreters` has fetched: for tests that need no installed packages.
pub fn find_all() -> Vec<Interpreter> {
    let mut found = find();
    found.extend(fetched());
    found.sort();
    found
}

/// The supported interpreters with the GIL and without among programs, each file once.
fn probed(candidates: Vec<PathBuf>) -> Vec<Interpreter> {
    let mut found = BTreeMap::new();
    for candidate in candidates {
        let Ok(real) = fs::canonicalize(&candidate) else {
            continue;
        };
        found.entry(real).or_insert_with_key(|real| Interpreter::probe(real));
    }
    let mut supported: Vec<Interpreter> = found.into_values().flatten().filter(Interpreter::is_supported).collect();
    supported.sort();
    supported
}

fn candidates() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for version in entries(&pyenv_root().join("versions")) {
        paths.push(version.join("bin/python3"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["/usr/bin", "/usr/local/bin"].into_iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    for folder in folders.filter(|folder| !folder.ends_with("shims")) {
        paths.extend(SUPPORTED_MINORS.map(|minor| folder.join(format!("python3.{minor}"))));
        paths.push(folder.join("python3"));
    }
    paths
}

/// Where pyenv keeps its versions, whether it is installed or not.
pub fn pyenv_root() -> PathBuf {
    std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".pyenv")))
        .unwrap_or_default()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(folder) else {
        return Vec::new();
    };
    read.flatten().map(|entry| entry.path()).collect()
}

/// The newest supported interpreter that can make virtual environments.
pub fn newest() -> Result<Interpreter> {
    find().into_iter().rev().find(Interpreter::has_venv).context(
        "no CPython 3.8 to 3.15 with the venv module on this machine: run `cargo xtask setup`, or install one by pyenv",
    )
}

/// A virtual environment under `target/venvs`.
#[derive(Clone, Debug)]
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The environment for `requirements` (a file of pinned packages), made and filled if it is not there yet.
    ///
    /// Its folder is named after the interpreter and the requirements' text: a change of either makes a new one.
    pub fn ensure(name: &str, interpreter: &Interpreter, requirements: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
        let venv = Self { folder: Self::folder(name, interpreter, &text) };
        if venv.marker().is_file() {
            return Ok(venv);
        }
        println!(
            "installing into {}: {} (CPython {}.{})",
            venv.folder.display(),
            text.split_whitespace().collect::<Vec<_>>().join(" "),
            interpreter.version.0,
            interpreter.version.1
        );
        venv.make(interpreter, requirements)?;
        Ok(venv)
    }

    /// The same, if it is there; nothing is installed.
    pub fn existing(name: &str, interpreter: &Interpreter, requirements: &Path) -> Option<Self> {
        let text = fs::read_to_string(requirements).ok()?;
        Some(Self { folder: Self::folder(name, interpreter, &text) }).filter(|venv| venv.marker().is_file())
    }

    fn folder(name: &str, interpreter: &Interpreter, requirements: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (interpreter, requirements).hash(&mut hasher);
        let (major, minor, _) = interpreter.version;
        workspace_root().join("target/venvs").join(format!("{name}-{major}.{minor}-{:08x}", hasher.finish() as u32))
    }

    /// Written last: a folder without it was interrupted and is made anew.
    fn marker(&self) -> PathBuf {
        self.folder.join("complete")
    }

    fn make(&self, interpreter: &Interpreter, requirements: &Path) -> Result<()> {
        checked(Command::new(&interpreter.path).args(["-m", "venv", "--clear"]).arg(&self.folder))?;
        checked(
            Command::new(self.python())
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
                .args(["--retries", "5", "--timeout", "30", "--requirement"])
                .arg(requirements),
        )?;
        fs::write(self.marker(), "").with_context(|| format!("cannot write {}", self.marker().display()))
    }

    /// A program of the environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// The folder of its packages.
    ///
    /// # Errors
    /// Its interpreter does not run.
    pub fn packages(&self) -> Result<PathBuf> {
        const QUESTION: &str = "import sysconfig; print(sysconfig.get_path('platlib'))";
        let output = Command::new(self.python()).args(["-c", QUESTION]).output().context("cannot run python")?;
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.program("python")
    }
}

/// The environment that the live tests' workloads run in.
pub fn workloads_venv(interpreter: &Interpreter) -> Result<Venv> {
    Venv::ensure("workloads", interpreter, &workspace_root().join("tests/workloads/requirements.txt"))
}

/// The environment of the bench, if it has been made: it has packages that take minutes to install.
pub fn bench_venv(interpreter: &Interpreter) -> Option<Venv> {
    Venv::existing("bench", interpreter, &workspace_root().join("bench/requirements.txt"))
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} failed: {status}", command.get_program().display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_cpython_are_understood() {
        assert_eq!(parse_answer("3 12 1 cpython False\n"), Some(((3, 12, 1), false)));
        assert_eq!(parse_answer("3 13 0 cpython True\n"), Some(((3, 13, 0), true)));
        assert_eq!(parse_answer("3 10 14 pypy False\n"), None);
        assert_eq!(parse_answer(""), None);
    }

    #[test]
    fn another_requirement_is_another_environment() {
        let interpreter = Interpreter { version: (3, 11, 7), free_threaded: false, path: "/usr/bin/python3.11".into() };
        let one = Venv::folder("demo", &interpreter, "flask==1");
        assert_eq!(one, Venv::folder("demo", &interpreter, "flask==1"));
        assert_ne!(one, Venv::folder("demo", &interpreter, "flask==2"));
    }
}
