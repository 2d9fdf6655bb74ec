//! `cargo xtask demo`: a small service that leaks, under load, traced; the report and the flamegraph.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use xtask::binary;
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::{self, Venv};

use crate::command::{self, Group};
use crate::setup;

const TRACE_FOR: &str = "20s";
/// Seconds; longer than the trace and its start. The load is stopped when the trace is done.
const LOAD_FOR: &str = "90";

/// Sets up, builds, traces the service for 20 s, and says where the results are.
pub fn run() -> Result<()> {
    let privilege = Privilege::require("the demo traces a process, which")?;
    setup::run()?;
    let pyalloc = binary::build()?;
    let folder = results_folder()?;
    let python = python::newest()?;
    let venv = Venv::ensure("demo", &python, &service_folder().join("requirements.txt"))?;

    let port = free_port()?;
    let service = start_service(&venv, &folder, port)?;
    let _load = start_load(&venv, port)?;
    let worker = only_child(service.pid())?;
    println!("the service runs on 127.0.0.1:{port}: gunicorn {}, its worker {worker}", service.pid());

    let profile = folder.join("demo.pyalloc");
    trace(privilege, &pyalloc, worker, &profile)?;
    show(&pyalloc, &profile, &folder.join("demo.svg"))
}

fn trace(privilege: Privilege, pyalloc: &Path, worker: u32, profile: &Path) -> Result<()> {
    command::run(
        privilege
            .command(pyalloc)
            .args(["trace", "--pid", &worker.to_string(), "--duration", TRACE_FOR, "-o"])
            .arg(profile),
    )
}

/// The trace has printed its report; this adds the picture and says how to go on.
fn show(pyalloc: &Path, profile: &Path, flamegraph: &Path) -> Result<()> {
    command::run(
        Command::new(pyalloc).arg("report").arg(profile).args(["--format", "flamegraph", "-o"]).arg(flamegraph),
    )?;
    println!("\nprofile:    {}", profile.display());
    println!("flamegraph: {} (open it in a browser)", flamegraph.display());
    println!("the leaks:  the lines marked `# leak:` in {}", service_folder().join("app.py").display());
    Ok(())
}

fn service_folder() -> PathBuf {
    workspace_root().join("demo/service")
}

/// Empty of what an earlier demo left.
fn results_folder() -> Result<PathBuf> {
    let folder = workspace_root().join("target/demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    Ok(listener.local_addr().context("cannot read the port")?.port())
}

fn start_service(venv: &Venv, folder: &Path, port: u16) -> Result<Group> {
    let log = folder.join("service.log");
    let log = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    Group::start(
        "the service",
        Command::new(venv.program("gunicorn"))
            .args(["--workers", "1", "--threads", "4", "--bind", &format!("127.0.0.1:{port}"), "app:app"])
            .current_dir(service_folder())
            .env("ORDERS_DB", folder.join("orders.sqlite3"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::null())
            .stderr(log),
    )
}

/// Returns when the service has answered.
fn start_load(venv: &Venv, port: u16) -> Result<Group> {
    let mut load = Group::start(
        "the load generator",
        Command::new(venv.python())
            .arg(service_folder().join("load.py"))
            .args([&port.to_string(), LOAD_FOR])
            .stdout(Stdio::piped()),
    )?;
    load.wait_for_line("serving").context("see target/demo/service.log")?;
    Ok(load)
}

/// gunicorn's one worker: the process that serves, and grows.
fn only_child(parent: u32) -> Result<u32> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| parent_of(*pid) == Some(parent))
        .with_context(|| format!("process {parent} has no child: see target/demo/service.log"))
}

/// Field 4 of /proc/PID/stat; field 2, the name, may hold blanks and parentheses.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
