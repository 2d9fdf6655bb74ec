//! The live view on a real terminal, that of tmux: a tree whose workers come and go, keys, sizes, a profile, the end.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::process::Command;
use std::time::{Duration, Instant};

use live_tests::tracer::read;
use live_tests::workload::Workload;
use live_tests::{interpreters, skip};
use regex::Regex;
use serde::Deserialize;
use xtask::binary;

/// A screen that does not show what it should after this time never will.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Pids {
    pids: Vec<u32>,
}

/// A terminal that runs one command, in a tmux of its own; both end with this.
struct Screen {
    socket: String,
}

impl Screen {
    /// Starts the command; its exit code is shown after it, on the terminal as it left it.
    fn start(command: &str, [width, height]: [u16; 2]) -> Self {
        let screen = Self { socket: format!("pyalloc-test-{}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        let whole = format!("{command}; echo ended with $?; cat");
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &whole]);
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows this.
    fn wait_for(&self, pattern: &str) -> String {
        let (wanted, began) = (Regex::new(pattern).unwrap(), Instant::now());
        loop {
            let text = self.text();
            if wanted.is_match(&text) {
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "no `{pattern}` on\n{text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended.
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

#[test]
fn a_tree_on_a_terminal_with_keys_and_workers_that_come_and_go() {
    const TEST: &str = "a_tree_on_a_terminal_with_keys_and_workers_that_come_and_go";
    let Some(interpreter) = interpreters::newest_for_test(TEST) else { return };
    if Command::new("tmux").arg("-V").output().is_err() {
        return skip::because(TEST, "no tmux on this machine");
    }
    let mut service = Workload::start(&interpreter.path, "tree.py", [] as [&str; 0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("top.pyalloc");
    let pyalloc = binary::path().unwrap();
    let command = format!("'{}' top --pid {} -o '{}'", pyalloc.display(), service.pid(), profile.display());
    let screen = Screen::start(&command, [80, 24]);

    screen.wait_for(&format!(r"pid +RSS +/min +live[\s\S]*\n. {} ", service.pid()));
    service.say("keep").unwrap();
    let _: serde_json::Value = service.read().unwrap();
    screen.wait_for(r"heap ledger[\s\S]*1001 KiB|heap ledger[\s\S]*\d KiB .* tree.py:\d+ keep");
    service.say("fork").unwrap();
    let workers: Pids = service.read().unwrap();
    for pid in &workers.pids {
        screen.wait_for(&format!(r"\n.  {pid} "));
    }
    service.say("work").unwrap();
    let _: serde_json::Value = service.read().unwrap();
    screen.wait_for(r"tree.py:\d+ keep");
    screen.press("Enter");
    screen.wait_for(r"paths to tree.py:\d+ keep");
    screen.press("Escape");
    screen.wait_for("heap ledger");
    screen.press("l");
    screen.wait_for("resident ledger");

    service.say("end workers").unwrap();
    let _: serde_json::Value = service.read().unwrap();
    screen.wait_for(&format!(r"\n.  {} .* ended ", workers.pids[2]));
    screen.press("w");
    screen.wait_for("written to ");
    assert_eq!(read(&profile).unwrap().processes.len(), 4, "the profile is whole while the trace goes on");
    screen.tmux(&["resize-window", "-x", "140", "-y", "40"]);
    let wide = screen.wait_for("recv/s");
    assert!(wide.lines().any(|line| line.trim_end().chars().count() > 100), "{wide}");

    service.say("exit").unwrap();
    assert!(service.wait().unwrap().success());
    screen.wait_for("every process has ended");
    screen.press("q");
    let after = screen.wait_for("ended with 0");
    assert!(!after.contains("RSS over time"), "the terminal is not as it was before:\n{after}");
}
