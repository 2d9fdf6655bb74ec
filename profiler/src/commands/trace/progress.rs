//! The line that a running trace shows on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::recorder;
use crate::render::units;

/// The line; nothing where standard error is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows it.
    pub fn start(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message("attached; Ctrl-C ends the trace and prints the report");
        Self(bar)
    }

    /// Shows new figures, and `note` before them.
    pub fn update(&self, now: &recorder::Progress, note: &str) {
        let recorder::Progress { rss, allocations, live, dropped, processes } = *now;
        let dropped = if dropped == 0 { String::new() } else { format!(", {} DROPPED", units::count(dropped)) };
        // Where no allocation is probed there is none to be told.
        let heap = match allocations {
            0 => String::new(),
            _ => format!(", {} allocations, {} surviving", units::count(allocations), units::bytes(live)),
        };
        self.0.set_message(format!(
            "{note}{}RSS {}{heap}{dropped}",
            if processes > 1 { format!("{processes} processes, ") } else { String::new() },
            units::bytes(rss),
        ));
    }

    /// Says something on a line of its own on standard error; nothing if that is closed.
    pub fn say(&self, text: &str) {
        self.0.suspend(|| {
            let _ = writeln!(std::io::stderr(), "pyalloc: {text}");
        });
    }

    /// Takes it away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
