//! `pyalloc trace` attached to a target, and what it has recorded of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pyalloc::profile::{BlockRow, Profile, file};

use super::Target;

/// File, qualified name, line.
pub type Frame = (String, String, u32);

/// Whether the live test cannot run here, after saying so.
pub fn without_root(test: &str) -> bool {
    let missing = !rustix::process::geteuid().is_root();
    if missing {
        println!("SKIPPED {test}: loading BPF programs needs root");
    }
    missing
}

/// A tracer attached to a target; killed when dropped.
pub struct Tracer {
    child: std::process::Child,
    profile: PathBuf,
}

impl Tracer {
    /// Attaches, and returns when all probes stand; else what pyalloc says.
    pub fn attach(target: &Target, folder: &Path) -> Result<Self, String> {
        Self::attach_with(target, folder, &[])
    }

    /// As [`Self::attach`], with more options.
    pub fn attach_with(target: &Target, folder: &Path, options: &[&str]) -> Result<Self, String> {
        let profile = folder.join("matrix.pyalloc");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pyalloc"))
            .args(["trace", "--quiet", "--pid", &target.pid().to_string(), "--output"])
            .arg(&profile)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("pyalloc starts");
        // The first profile is written when all probes stand.
        let start = Instant::now();
        while !fs::metadata(&profile).is_ok_and(|file| file.len() > 0) {
            if child.try_wait().expect("pyalloc is waited for").is_some() {
                let output = child.wait_with_output().expect("pyalloc's output");
                return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            }
            assert!(start.elapsed() < Duration::from_secs(60), "pyalloc does not attach");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, profile })
    }

    /// Stops it, all its threads, as long as what is given back lives.
    pub fn stop(&self) -> Stopped {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("pyalloc can be signalled");
        let waited = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED);
        let (_, status) = waited.expect("pyalloc is waited for").expect("a change");
        assert!(status.stopped(), "{status:?}");
        Stopped(pid)
    }

    /// Returns when the profile of the running trace shows that a forked process has its probes.
    pub fn wait_until_probed(&self, pid: u32) {
        let start = Instant::now();
        loop {
            let profile = file::read(&self.profile).expect("a profile");
            if profile.processes.iter().any(|process| process.pid == pid && process.unprobed_us > 0) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{pid} is not probed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the trace as Ctrl-C does.
    pub fn finish(mut self) -> Profile {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("pyalloc can be signalled");
        let status = self.child.wait().expect("pyalloc ends");
        assert!(status.success() || status.code() == Some(130), "{status}");
        file::read(&self.profile).expect("a profile")
    }
}

/// A tracer that is stopped; it goes on when this is dropped.
pub struct Stopped(rustix::process::Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The frames of a block's stack in the order of Python's tracebacks of frames: innermost first.
pub fn frames_of(profile: &Profile, block: &BlockRow) -> Vec<Frame> {
    let text = |id| profile.text(id).to_owned();
    profile.frames_of(block.stack).map(|frame| (text(frame.file), text(frame.function), frame.line)).collect()
}
