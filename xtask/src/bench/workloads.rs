//! Programs that nobody here wrote: benchmarks of pyperformance, run as one worker with a fixed number of loops.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

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
    Workload { name: "json_loads", loops: 2500 },
    Workload { name: "deltablue", loops: 250 },
    Workload { name: "django_template", loops: 30 },
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

    /// Runs it once and returns its wall time: of the program, and of the trace where that launched it.
    pub fn seconds(&self, workload: &Workload, side: Side) -> Result<f64> {
        let log = self.results.join(format!("{}.log", workload.name));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let tracer = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = match side {
            Side::Plain | Side::Attached => Command::new(&self.python),
            Side::Launched => self.launcher(workload),
        };
        self.add_script(&mut command, workload);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run {}", command::line(&command)))?;
        let tracer = match side {
            Side::Attached => Some(self.attach(&child, workload, tracer)?),
            Side::Plain | Side::Launched => None,
        };
        let status = child.wait().with_context(|| format!("cannot wait for {}", workload.name))?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(mut tracer) = tracer {
            checked(&command, tracer.wait().context("cannot wait for pyalloc")?, &log)?;
        }
        checked(&command, status, &log)?;
        Ok(seconds)
    }

    fn launcher(&self, workload: &Workload) -> Command {
        let mut command = self.privilege.command(self.pyalloc);
        command.args(["trace", "-o"]).arg(self.profile(workload)).arg("--").arg(&self.python);
        command
    }

    /// Attaches as soon as the program has used some CPU time: its interpreter is up then.
    fn attach(&self, program: &Child, workload: &Workload, log: File) -> Result<Child> {
        wait_for_cpu_time(program.id());
        let mut command = self.privilege.command(self.pyalloc);
        command.args(["trace", "--quiet", "--pid", &program.id().to_string(), "-o"]).arg(self.profile(workload));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().with_context(|| format!("cannot run {}", command::line(&command)))
    }

    fn profile(&self, workload: &Workload) -> PathBuf {
        self.results.join(format!("{}.pyalloc", workload.name))
    }

    fn add_script(&self, command: &mut Command, workload: &Workload) {
        let script = self.benchmarks.join(format!("bm_{}", workload.name)).join("run_benchmark.py");
        command.arg(script).args(["--worker", "-n1", "-w0", "-l", &workload.loops.to_string()]);
    }
}

fn checked(command: &Command, status: ExitStatus, log: &Path) -> Result<()> {
    if interrupt::happened() {
        bail!("interrupted");
    }
    if !status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("`{}` failed: {status}\n{}", command::line(command), said.trim_end());
    }
    Ok(())
}

/// Returns at the latest after some seconds: pyalloc says itself what is wrong then.
fn wait_for_cpu_time(pid: u32) {
    const TICKS: u64 = 5;
    const PATIENCE: Duration = Duration::from_secs(10);
    let start = Instant::now();
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(11)?.parse::<u64>().ok()
    };
    while used().is_some_and(|ticks| ticks < TICKS) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
}
