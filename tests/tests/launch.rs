//! `pyalloc trace -- COMMAND`: the program runs as if it had been called directly.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use live_tests::interpreters::{self, name};
use live_tests::skip;
use live_tests::tracer::{pyalloc, read};
use pyalloc::profile::{End, Profile};

/// Runs a command with this standard input.
fn output(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The same through pyalloc.
fn launched(command: &[&str], input: &str, profile: &Path) -> Output {
    let mut trace = pyalloc().unwrap();
    output(trace.args(["trace", "--quiet", "-o"]).arg(profile).arg("--").args(command), input)
}

/// What the program prints and how it ends is what it does without pyalloc, as a shell tells it.
#[track_caller]
fn check(command: &[&str], input: &str, end: &End) -> Profile {
    let direct = output(Command::new(command[0]).args(&command[1..]), input);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launched.pyalloc");
    let traced = launched(command, input, &path);
    assert_eq!(text(&traced.stderr), text(&direct.stderr), "standard error of {command:?}");
    assert_eq!(text(&traced.stdout), text(&direct.stdout), "standard output of {command:?}");
    let code = direct.status.code().or(direct.status.signal().map(|signal| 128 + signal));
    assert_eq!(traced.status.code(), code, "exit code of {command:?}");
    let profile = read(&path).unwrap();
    assert_eq!(&profile.processes[0].end, end, "{command:?}");
    assert!(profile.trace.complete && profile.trace.launched);
    assert!(profile.heap_totals().alloc_objects > 100, "from the first allocation on");
    profile
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn input_output_and_exit_code_are_the_programs_own() {
    let program = "import sys\nprint(sys.stdin.read().upper())\nprint('beside', file=sys.stderr)\nsys.exit(3)";
    for interpreter in interpreters::for_test("input_output_and_exit_code_are_the_programs_own") {
        check(&[interpreter.path.to_str().unwrap(), "-c", program], "größe\n", &End::Exited(3));
    }
}

#[test]
fn every_kind_of_end_is_passed_on() {
    let Some(interpreter) = interpreters::newest_for_test("every_kind_of_end_is_passed_on") else { return };
    let python = interpreter.path.to_str().unwrap();
    let check = |program: &str, end: End| check(&[python, "-c", program], "", &end);
    check("x = [bytes(9999)]", End::Exited(0));
    check("raise KeyError('gone')", End::Exited(1));
    check("import os; print('out', flush=True); os._exit(4)", End::Exited(4));
    check("import os; os.kill(os.getpid(), 9)", End::Killed(9));
}

#[test]
fn a_script_that_becomes_python_is_followed_to_its_sys_exit() {
    let script = "echo first; exec \"$0\" -c \"$1\" 'one two' \"$2\"";
    let program = "import sys; keep = bytearray(1 << 20); print(sys.argv[1:], sys.stdin.read()); sys.exit(7)";
    for interpreter in interpreters::for_test("a_script_that_becomes_python_is_followed_to_its_sys_exit") {
        let python = interpreter.path.to_str().unwrap();
        let profile = check(&["/bin/sh", "-c", script, python, program, "ä"], "in", &End::Exited(7));
        let large = profile.blocks.iter().find(|row| row.largest == (1 << 20) + 1).unwrap();
        assert_eq!(profile.leaf(large.stack).map(|frame| profile.text(frame.function)), Some("<module>"));
        assert!(large.inuse_space > 1 << 20, "kept until the exit, and seen there: {}", name(&interpreter));
    }
}

#[test]
fn a_peak_between_two_readings_is_told() {
    const PEAK: u64 = 64 << 20;
    let Some(interpreter) = interpreters::newest_for_test("a_peak_between_two_readings_is_told") else { return };
    let program = "b'x' * (64 << 20)";
    let profile = check(&[interpreter.path.to_str().unwrap(), "-c", program], "", &End::Exited(0));
    let process = &profile.processes[0];
    assert!(process.rss_peak > PEAK && process.rss_end < PEAK, "{} and {}", process.rss_peak, process.rss_end);
}

#[test]
fn what_is_not_python_is_refused_in_one_sentence() {
    let test = "what_is_not_python_is_refused_in_one_sentence";
    if skip::without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launched.pyalloc");
    let check = |command: &[&str], code: i32, expected: &str| {
        let output = launched(command, "", &path);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.starts_with("pyalloc: ") && said.contains(expected), "{command:?}: {said}");
        assert!(output.stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    check(&["/bin/true"], 3, "before it ran a python interpreter");
    check(&["/bin/sh", "-c", "exit 9"], 3, "exit code 9 before it ran a python interpreter");
    check(&["no-such-program-anywhere"], 3, "no-such-program-anywhere");
}
