//! Control groups with a memory limit, for tests and benches that let a process run into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Where version 1 has its groups for memory, and where version 2 has all; usual places of both.
const VERSION_1: &str = "/sys/fs/cgroup/memory";
const VERSION_2: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// How long the last process of a group may take to leave it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control group of our own; removed when this is dropped.
#[derive(Debug)]
pub struct LimitedGroup {
    folder: PathBuf,
    /// As /proc/PID/cgroup shows it.
    path: String,
}

impl LimitedGroup {
    /// Makes a group of this name and our pid with a limit in bytes; no swap, so that the limit is one.
    ///
    /// # Errors
    /// There are no control groups for memory, or we may not make any.
    pub fn make(name: &str, bytes: u64) -> Result<Self> {
        let path = format!("/pyalloc-{name}-{}", std::process::id());
        if Path::new(VERSION_1).join("memory.limit_in_bytes").exists() {
            let group = Self::new(Path::new(VERSION_1), path)?;
            group.write("memory.limit_in_bytes", bytes)?;
            // Absent where the kernel does not account for swap.
            let _ = group.write("memory.memsw.limit_in_bytes", bytes);
            return Ok(group);
        }
        let controls = |root: &&&str| {
            fs::read_to_string(Path::new(**root).join("cgroup.controllers"))
                .is_ok_and(|names| names.split_whitespace().any(|name| name == "memory"))
        };
        let Some(root) = VERSION_2.iter().find(controls).map(Path::new) else {
            bail!("no control groups for memory are mounted under /sys/fs/cgroup");
        };
        // It is on already where systemd runs.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let group = Self::new(root, path)?;
        group.write("memory.max", bytes)?;
        let _ = group.write("memory.swap.max", 0);
        Ok(group)
    }

    fn new(root: &Path, path: String) -> Result<Self> {
        let folder = root.join(path.trim_start_matches('/'));
        fs::create_dir(&folder).with_context(|| format!("cannot make the control group {}", folder.display()))?;
        Ok(Self { folder, path })
    }

    fn write(&self, file: &str, number: u64) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, number.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Its path, as /proc/PID/cgroup shows it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", pid.into())
    }
}

impl Drop for LimitedGroup {
    fn drop(&mut self) {
        let begin = Instant::now();
        // A process that is being killed is in its group for a moment longer.
        while fs::remove_dir(&self.folder).is_err() && self.folder.exists() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
