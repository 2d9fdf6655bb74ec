//! What the tests on real servers need: gunicorn and Celery in an environment of their own, and a Redis server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::ebpf::workspace_root;
use crate::privilege::Privilege;
use crate::python::{Interpreter, Venv};

/// The Redis server and the libraries that a small system does not have.
const PACKAGES: [&str; 5] = ["redis-server", "redis-tools", "liblzf1", "libjemalloc2", "libatomic1"];

/// The environment with gunicorn and Celery.
///
/// # Errors
/// It is not there and cannot be made.
pub fn venv(interpreter: &Interpreter) -> Result<Venv> {
    Venv::ensure("servers", interpreter, &workspace_root().join("tests/workloads/servers/requirements.txt"))
}

/// A program that starts a Redis server, and where its libraries are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    program: PathBuf,
    libraries: Option<PathBuf>,
}

impl Redis {
    /// The machine's own, else Debian's package, unpacked into `target/servers`: nothing is installed.
    ///
    /// # Errors
    /// There is none, and apt-get cannot download it.
    pub fn ensure() -> Result<Self> {
        if let Some(program) = installed() {
            return Ok(Self { program, libraries: None });
        }
        let folder = workspace_root().join("target/servers/redis");
        let redis = Self::unpacked(&folder);
        if !redis.answers() {
            println!("unpacking into {}, by apt-get download: {}", folder.display(), PACKAGES.join(" "));
            unpack(&folder)?;
        }
        if !redis.answers() {
            bail!("{} does not run here", redis.program.display());
        }
        Ok(redis)
    }

    fn unpacked(folder: &Path) -> Self {
        Self { program: folder.join("usr/bin/redis-server"), libraries: Some(folder.join("usr/lib/x86_64-linux-gnu")) }
    }

    /// A command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    fn answers(&self) -> bool {
        let mut command = self.command();
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|program| program.is_file())
}

fn unpack(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if let Err(error) = download(folder) {
        // A fresh machine has no package lists yet.
        let Some(privilege) = Privilege::detect() else { return Err(error) };
        println!("reading Debian's package lists, by apt-get update");
        quiet(privilege.command("apt-get").args(["--quiet", "--option", "Acquire::Retries=5", "update"]))?;
        download(folder)?;
    }
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "deb") {
            quiet(Command::new("dpkg-deb").arg("--extract").arg(entry.path()).arg(folder))?;
        }
    }
    Ok(())
}

fn download(folder: &Path) -> Result<()> {
    quiet(
        Command::new("apt-get")
            .current_dir(folder)
            .args(["--quiet", "--option", "Acquire::Retries=5", "--option", "APT::Sandbox::User=", "download"])
            .args(PACKAGES),
    )
}

/// Runs a program without its output; what it said on standard error if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
