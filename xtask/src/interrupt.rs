//! Ctrl-C and SIGTERM: stop what we started in the background, and let the task end by its own errors.
//!
//! Programs in the foreground share the terminal's process group and get Ctrl-C themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static HAPPENED: AtomicBool = AtomicBool::new(false);
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Installs the handler.
pub fn watch() -> Result<()> {
    ctrlc::set_handler(|| {
        HAPPENED.store(true, Ordering::SeqCst);
        for group in groups().iter() {
            // The group may have ended by itself a moment ago.
            let _ = killpg(*group, Signal::SIGTERM);
        }
    })
    .context("cannot watch for Ctrl-C")
}

/// Whether the user asked to stop.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::SeqCst)
}

/// From now on the group is stopped at an interrupt.
pub fn remember(group: Pid) {
    groups().push(group);
}

/// The group is gone: its number may be given to another.
pub fn forget(group: Pid) {
    groups().retain(|other| *other != group);
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
