//! Programs whose work is done by code that nobody here wrote: benchmarks of pyperformance, run as one worker with a
//! fixed number of loops, and scripts that hand megabytes to libraries people use.

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

/// A program to measure.
pub struct Workload {
    /// What it is called in tables.
    pub name: &'static str,
    script: Script,
    /// How often its body runs: two to four seconds of CPU time on a machine of 2025.
    loops: u32,
}

#[derive(Clone, Copy)]
enum Script {
    /// A benchmark of pyperformance, and what follows its options.
    Pyperformance(&'static str, &'static [&'static str]),
    /// A script of bench/workloads, and the file that it reads, one of those that bench/data.py writes.
    Own(&'static str, Option<&'static str>),
}

/// Small objects; object graphs and method calls; compilers and parsers in Python; a server; payloads of megabytes that
/// libraries in C read, hold and write.
pub const ALL: [Workload; 12] = [
    pyperformance("json_loads", 4000, "json_loads", &[]),
    pyperformance("json_dumps", 150, "json_dumps", &[]),
    pyperformance("unpickle", 6000, "pickle", &["unpickle"]),
    pyperformance("django_template", 50, "django_template", &[]),
    own("2to3", 6, "two_to_three.py", None),
    pyperformance("docutils", 1, "docutils", &[]),
    pyperformance("sqlglot", 60, "sqlglot_v2", &["optimize"]),
    pyperformance("tornado", 15, "tornado_http", &[]),
    pyperformance("deltablue", 600, "deltablue", &[]),
    own("pandas_csv", 2, "table.py", Some("table.csv")),
    own("json_doc", 1, "document.py", Some("document.json")),
    own("pillow", 2, "picture.py", Some("picture.png")),
];

/// Those that the table of all probes is made of.
pub const OF_ALL_PROBES: [&str; 3] = ["json_loads", "deltablue", "django_template"];

const fn pyperformance(
    name: &'static str,
    loops: u32,
    benchmark: &'static str,
    arguments: &'static [&'static str],
) -> Workload {
    Workload { name, script: Script::Pyperformance(benchmark, arguments), loops }
}

const fn own(name: &'static str, loops: u32, script: &'static str, data: Option<&'static str>) -> Workload {
    Workload { name, script: Script::Own(script, data), loops }
}

/// Where bench/data.py has put its files, made now if they are not there.
fn data(venv: &Venv) -> Result<PathBuf> {
    let folder = workspace_root().join("target/bench/data");
    let missing = ALL.iter().any(|workload| match workload.script {
        Script::Own(_, Some(file)) => !folder.join(file).is_file(),
        Script::Own(_, None) | Script::Pyperformance(..) => false,
    });
    if missing {
        command::run(Command::new(venv.python()).arg(workspace_root().join("bench/data.py")).arg(&folder))?;
    }
    Ok(folder)
}

/// Everything a run needs.
pub struct Bench<'a> {
    privilege: Privilege,
    pyalloc: &'a Path,
    python: PathBuf,
    /// pyperformance's own folder of benchmarks.
    benchmarks: PathBuf,
    /// What the scripts read.
    data: PathBuf,
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
        Ok(Self { privilege, pyalloc, python: venv.python(), benchmarks, data: data(venv)?, results })
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
        let loops = workload.loops.to_string();
        match workload.script {
            Script::Pyperformance(benchmark, arguments) => {
                command.arg(self.benchmarks.join(format!("bm_{benchmark}")).join("run_benchmark.py"));
                command.args(["--worker", "-n1", "-w0", "-l", &loops]).args(arguments);
            }
            Script::Own(script, file) => {
                command.arg(workspace_root().join("bench/workloads").join(script)).arg(loops);
                command.args(file.map(|file| self.data.join(file)));
            }
        }
    }

    /// A command that runs it when told and measures it from inside: see bench/measured.py.
    pub fn measured(&self, workload: &Workload) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(workspace_root().join("bench/measured.py"));
        self.add_script(&mut command, workload);
        command
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
