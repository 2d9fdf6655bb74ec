//! Bad input: one sentence on standard error and the documented exit code, before anything is traced.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use live_tests::guard::Guard;
use live_tests::interpreters;
use live_tests::skip;
use live_tests::tracer::pyalloc;
use live_tests::workload::Workload;
use xtask::python::{self, Interpreter};
use xtask::{binary, privilege::Privilege};

const USAGE: i32 = 2;
const CANNOT_OBSERVE: i32 = 3;

/// One line, nothing on standard output, no profile.
#[track_caller]
fn check_refused(command: &mut Command, code: i32, expected: &str) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    assert!(said.starts_with("pyalloc: ") && said.contains(expected), "{command:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    assert!(output.stdout.is_empty(), "{command:?}");
}

#[track_caller]
fn check_pid(pid: u32, code: i32, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("never.pyalloc");
    check_refused(pyalloc().unwrap().args(["trace", "--pid", &pid.to_string(), "-o"]).arg(&path), code, expected);
    assert!(!path.exists(), "nothing was traced");
}

#[test]
fn a_pid_that_cannot_be_traced() {
    let Some(interpreter) = interpreters::newest_for_test("a_pid_that_cannot_be_traced") else { return };
    let gone = {
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        ended.id()
    };
    check_pid(gone, CANNOT_OBSERVE, &format!("there is no process {gone}"));
    check_pid(0, CANNOT_OBSERVE, "there is no process 0");

    let other = Guard::start(Command::new("sleep").arg("1000")).unwrap();
    check_pid(other.pid(), CANNOT_OBSERVE, "does not run CPython");

    let workload = Workload::start(&interpreter.path, "busy.py", [""; 0]).unwrap();
    let threads = fs::read_dir(format!("/proc/{}/task", workload.pid())).unwrap();
    let ids = threads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    let thread = ids.max().unwrap();
    assert_ne!(thread, workload.pid());
    check_pid(thread, USAGE, &format!("is a thread of process {}", workload.pid()));
}

#[test]
fn a_zombie() {
    if skip::without_root("a_zombie") {
        return;
    }
    let mut ended = Command::new("sleep").arg("1000").spawn().unwrap();
    ended.kill().unwrap();
    // Not waited for yet; its memory goes before it becomes a zombie.
    while !fs::read_to_string(format!("/proc/{}/stat", ended.id())).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    check_pid(ended.id(), CANNOT_OBSERVE, "ended");
    ended.wait().unwrap();
}

#[test]
fn an_interpreter_that_is_not_supported() {
    let test = "an_interpreter_that_is_not_supported";
    if skip::without_root(test) {
        return;
    }
    let Some(old) = older_interpreter() else {
        skip::because(test, "no CPython in pyenv that pyalloc does not trace");
        return;
    };
    println!("{test}: runs on {}", interpreters::name(&old));
    let workload = Workload::start(&old.path, "waits.py", [""; 0]).unwrap();
    let version = format!("runs CPython {}.{}", old.version.0, old.version.1);
    check_pid(workload.pid(), CANNOT_OBSERVE, &version);

    let folder = tempfile::tempdir().unwrap();
    let mut launch = pyalloc().unwrap();
    launch.args(["trace", "-o"]).arg(folder.path().join("x")).arg("--").arg(&old.path).args(["-c", "pass"]);
    check_refused(&mut launch, CANNOT_OBSERVE, &version);
}

fn older_interpreter() -> Option<Interpreter> {
    let versions = fs::read_dir(python::pyenv_root().join("versions")).ok()?;
    let found = versions.flatten().filter_map(|version| Interpreter::probe(&version.path().join("bin/python3")));
    found.filter(|interpreter| interpreter.version.0 == 3 && !interpreter.is_supported()).max()
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_trace() {
    let test = "an_output_that_cannot_be_written_is_found_before_the_trace";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let workload = Workload::start(&interpreter.path, "waits.py", [""; 0]).unwrap();
    let pid = workload.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: &str| {
        check_refused(pyalloc().unwrap().args(["trace", "--pid", &pid, "-o"]).arg(path), USAGE, expected);
        // A launched program must not have run.
        let marker = folder.path().join("ran");
        let mut launch = pyalloc().unwrap();
        launch.args(["trace", "-o"]).arg(path).arg("--").arg(&interpreter.path);
        launch.args(["-c", "import sys; open(sys.argv[1], 'w')"]).arg(&marker);
        check_refused(&mut launch, USAGE, expected);
        assert!(!marker.exists());
    };
    check(Path::new("/nowhere/x.pyalloc"), "there is no folder /nowhere");
    check(folder.path(), "it is a folder");
    check(Path::new("/proc/x.pyalloc"), "cannot write /proc/x.pyalloc");
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let check = |arguments: &[&str], expected: &str| {
        check_refused(pyalloc().unwrap().arg("trace").args(arguments), USAGE, expected);
    };
    check(&[], "--pid");
    check(&["--pid", "ten"], "invalid value 'ten'");
    check(&["--pid", "1", "--", "python"], "cannot be used with");
    check(&["--pid", "1", "--duration", "0s"], "no time");
    check(&["--pid", "1", "--duration", "soon"], "invalid value 'soon'");
}

#[test]
fn no_privilege() {
    let test = "no_privilege";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    if Command::new("setpriv").arg("--version").output().is_err() || Privilege::detect() != Some(Privilege::Root) {
        skip::because(test, "no setpriv");
        return;
    }
    let workload = Workload::start(&interpreter.path, "waits.py", [""; 0]).unwrap();
    // A copy in a folder that everybody may enter: the project's own may be closed to others.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("pyalloc");
    fs::copy(binary::path().unwrap(), &program).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.env_remove("SUDO_UID").env_remove("SUDO_GID").current_dir(folder.path());
        command
    };
    let pid = workload.pid().to_string();
    check_refused(as_nobody().args(["trace", "--pid", &pid]), CANNOT_OBSERVE, "sudo");
    check_refused(as_nobody().args(["trace", "--", "/usr/bin/env", "python3"]), CANNOT_OBSERVE, "sudo");
}
