//! Programs that nobody here wrote: benchmarks of pyperformance, run as one worker with a fixed number of loops.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Venv;

use super::pairs::Side;
use crate::{command, interrupt};

/// A benchmark of pyperformance.
pub struct Workload {
    /// Its name there.
    pub name: &'static str,
    /// How often its body runs: two or three seconds on a machine of 2025.
    loops: u32,
}

/// Small objects and no libc calls to speak of; object graphs and method calls; a web page out of templates.
pub const ALL: [Workload; 3] = [
    Workload { name: "json_loads", loops: 5000 },
    Workload { name: "deltablue", loops: 500 },
    Workload { name: "django_template", loops: 50 },
];

/// Everything a run needs.
pub struct Bench<'a> {
    privilege: Privilege,
    pyalloc: &'a Path,
    python: PathBuf,
    /// pyperformance's own folder of benchmarks.
    benchmarks: PathBuf,
    /// Where profiles and logs go.
    results: PathBuf,
}

impl<'a> Bench<'a> {
    /// Finds the benchmarks in the environment.
    pub fn new(privilege: Privilege, pyalloc: &'a Path, venv: &Venv) -> Result<Self> {
        const QUESTION: &str = "import os, pyperformance; print(os.path.dirname(pyperformance.__file__))";
        let output = Command::new(venv.python()).args(["-c", QUESTION]).output().context("cannot run python")?;
        let package = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let benchmarks = package.join("data-files/benchmarks");
        if !benchmarks.is_dir() {
            bail!("pyperformance keeps no benchmarks in {}: delete target/venvs and try again", benchmarks.display());
        }
        let results = workspace_root().join("target/bench");
        fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
        Ok(Self { privilege, pyalloc, python: venv.python(), benchmarks, results })
    }

    /// Runs it once and returns its wall time.
    pub fn seconds(&self, workload: &Workload, side: Side) -> Result<f64> {
        let mut command = self.command(workload, side);
        let log = self.results.join(format!("{}.log", workload.name));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let start = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", command::line(&command)))?;
        let seconds = start.elapsed().as_secs_f64();
        if interrupt::happened() {
            bail!("interrupted");
        }
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("`{}` failed: {status}\n{}", command::line(&command), said.trim_end());
        }
        Ok(seconds)
    }

    fn command(&self, workload: &Workload, side: Side) -> Command {
        let mut command = match side {
            Side::Plain => Command::new(&self.python),
            Side::Traced => {
                let mut command = self.privilege.command(self.pyalloc);
                command.args(["trace", "-o"]).arg(self.results.join(format!("{}.pyalloc", workload.name)));
                command.arg("--").arg(&self.python);
                command
            }
        };
        let script = self.benchmarks.join(format!("bm_{}", workload.name)).join("run_benchmark.py");
        command.arg(script).args(["--worker", "-n1", "-w0", "-l", &workload.loops.to_string()]);
        command
    }
}
