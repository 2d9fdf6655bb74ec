//! Targets in containers, on files that were replaced or have odd names, and pyalloc in a container itself.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use live_tests::container::{Container, Root, System, only_child, path_inside};
use live_tests::interpreters;
use live_tests::skip;
use live_tests::tracer::{self, Traced, Tracer, pyalloc};
use live_tests::workload::{self, Workload};
use nix::sys::signal::Signal;
use pyalloc::process::{Pid, maps};
use pyalloc::profile::{BlockRow, End, Process, Profile};
use serde::Deserialize;
use serde_json::Value;
use xtask::python;

/// Far longer than the four seconds between two copies of a running trace's profile.
const PATIENCE: Duration = Duration::from_secs(60);

const WORKLOAD: &str = "tree.py";

/// Enters a user namespace whose root is the caller.
const ROOTLESS: [&str; 2] = ["--user", "--map-root-user"];

/// What the workload calls its children: pids of its own namespace.
#[derive(Deserialize)]
struct Pids {
    pids: Vec<u32>,
}

#[derive(Deserialize)]
struct One {
    blocks: u64,
    size: u64,
}

#[derive(Deserialize)]
struct Each {
    blocks: Vec<u64>,
    sizes: Vec<u64>,
}

fn ask<T: serde::de::DeserializeOwned>(workload: &mut Workload, word: &str) -> T {
    workload.say(word).unwrap();
    workload.read().unwrap()
}

/// Waits until the profile of the running trace has as many processes that came since, with their probes on.
fn wait_until_probed(tracer: &Tracer, number: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let profile = tracer::read(&tracer.profile_path()).unwrap();
        if profile.processes.iter().filter(|process| process.unprobed_us > 0).count() >= number {
            return;
        }
        assert!(Instant::now() < deadline, "not {number} processes are probed: {:?}", profile.processes);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The blocks of one size in one process: allocated, and live at the end.
fn blocks(profile: &Profile, process: usize, size: u64) -> (u64, u64) {
    let is_of = |row: &&BlockRow| row.process as usize == process && row.largest == size;
    let rows = profile.blocks.iter().filter(is_of);
    rows.fold((0, 0), |(allocated, live), row| (allocated + row.alloc_objects, live + row.inuse_objects))
}

fn position(profile: &Profile, is: impl Fn(&Process) -> bool) -> usize {
    profile.processes.iter().position(is).unwrap_or_else(|| panic!("{:?}", profile.processes))
}

/// The first call path of the report is the workload's, with its bytes.
#[track_caller]
fn check_first(traced: &Traced, file: &str, kept: &One) {
    let output = pyalloc().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.pyalloc");
    pyalloc::profile::file::write(&path, &traced.profile, None).unwrap();
    let output = run(output, &["report", path.to_str().unwrap(), "--format", "json", "--value", "inuse_space"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &report["top_paths"][0]["top"][0];
    assert_eq!(first["code"]["file"], file, "{}", traced.report);
    assert!(first["code"]["function"].as_str().unwrap().ends_with("<genexpr>"), "{first}");
    let bytes = kept.blocks * kept.size;
    let found = first["value"].as_u64().unwrap();
    assert!((bytes..bytes + bytes / 10).contains(&found), "{found} of {bytes} bytes");
}

fn run(mut command: Command, arguments: &[&str]) -> Output {
    command.args(arguments).output().unwrap()
}

/// The host's newest interpreter and the container's system.
fn needed(test: &str) -> Option<(PathBuf, System)> {
    let helper = interpreters::newest_for_test(test)?.path;
    let system = System::fetched();
    if system.is_none() {
        skip::because(test, "no unpacked Debian packages: cargo xtask interpreters");
    }
    Some((helper, system?))
}

fn may_mount(test: &str, options: &[&str]) -> bool {
    let mut unshare = Command::new("unshare");
    let may =
        unshare.args(options).args(["--mount", "--pid", "--fork", "true"]).status().is_ok_and(|end| end.success());
    if !may {
        skip::because(test, &format!("no new namespaces here (unshare {})", options.join(" ")));
    }
    may
}

fn is_mounted_here(kind: &str) -> bool {
    fs::read_to_string("/proc/filesystems").unwrap().lines().any(|line| line.ends_with(&format!("\t{kind}")))
}

/// Traces a container from outside and its children inside, held against what they say.
fn check_container(test: &str, root: Root, options: &[&str]) {
    let Some((helper, system)) = needed(test) else { return };
    if !may_mount(test, options) {
        return;
    }
    let mut container = Container::start(&helper, &system, root, options, WORKLOAD).unwrap();
    let tracer = Tracer::attach(container.pid).unwrap();
    let kept: One = ask(&mut container.workload, "keep");
    let workers: Pids = ask(&mut container.workload, "fork");
    wait_until_probed(&tracer, workers.pids.len());
    let worked: Each = ask(&mut container.workload, "work");
    let started: Pids = ask(&mut container.workload, "start");
    wait_until_probed(&tracer, workers.pids.len() + 1);
    let there: Each = ask(&mut container.workload, "work there");
    let _: Value = ask(&mut container.workload, "end workers");
    let traced = tracer.finish().unwrap();
    assert!(traced.status.success(), "{}", traced.complaint);

    let profile = &traced.profile;
    let first = &profile.processes[0];
    assert_eq!((first.pid, first.container_pid), (container.pid, Some(1)));
    assert_eq!(first.interpreter, system.python);
    assert_eq!(blocks(profile, 0, kept.size), (kept.blocks, kept.blocks), "{root:?}");
    let made = worked.blocks.iter().zip(&worked.sizes).chain(there.blocks.iter().zip(&there.sizes));
    for (pid, (&number, &size)) in workers.pids.iter().chain(&started.pids).zip(made) {
        let process = position(profile, |process| process.container_pid == Some(*pid));
        assert_eq!(blocks(profile, process, size), (number, number), "{root:?}: {size} bytes in {pid}");
        assert!(traced.report.contains(&format!("pid {pid} inside;")), "{}", traced.report);
    }
    let ended = position(profile, |process| process.container_pid == Some(workers.pids[1]));
    assert_eq!(profile.processes[ended].end, End::Exited(1));
    let inside = path_inside(WORKLOAD);
    assert!(profile.strings.contains(&inside), "files are called as the container calls them");
}

#[test]
fn a_pivoted_root_is_traced_from_outside() {
    check_container("a_pivoted_root_is_traced_from_outside", Root::Pivoted, &[]);
}

#[test]
fn a_chroot_in_a_user_namespace_is_traced_from_outside() {
    check_container("a_chroot_in_a_user_namespace_is_traced_from_outside", Root::Chroot, &ROOTLESS);
}

#[test]
fn an_overlayfs_of_equal_inode_numbers_is_traced_from_outside() {
    let test = "an_overlayfs_of_equal_inode_numbers_is_traced_from_outside";
    if is_mounted_here("overlay") {
        check_container(test, Root::Overlay, &[]);
    } else {
        skip::because(test, "this kernel has no overlayfs");
    }
}

/// A chmod copies the file to the upper layer, and the kernel would put probes into the copy.
#[test]
fn probes_that_do_not_reach_the_process_are_told() {
    let test = "probes_that_do_not_reach_the_process_are_told";
    let Some((helper, system)) = needed(test) else { return };
    if !may_mount(test, &[]) || !is_mounted_here("overlay") {
        return skip::because(test, "no overlayfs");
    }
    let container = Container::start(&helper, &system, Root::Overlay, &[], WORKLOAD).unwrap();
    let library = maps::in_root(Pid(container.pid), Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6"));
    fs::set_permissions(library, fs::Permissions::from_mode(0o755)).unwrap();
    let pid = container.pid.to_string();
    let output = run(pyalloc().unwrap(), &["trace", "--pid", &pid, "--duration", "1s", "-o", "/dev/null"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("its allocations are not recorded") && said.contains("libc.so.6 does not reach process"),
        "{said}"
    );
    let output = run(pyalloc().unwrap(), &["trace", "--pid", &pid, "--ledger", "heap", "-o", "/dev/null"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("libc.so.6 does not reach process") && said.lines().count() == 1, "{said}");
    let doctor = run(pyalloc().unwrap(), &["doctor", "--pid", &pid]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("libc.so.6 is on an overlayfs and was changed after"), "{said}");
}

#[test]
fn a_process_that_entered_a_container_is_traced() {
    let test = "a_process_that_entered_a_container_is_traced";
    let Some((helper, system)) = needed(test) else { return };
    if !may_mount(test, &[]) {
        return;
    }
    let container = Container::start(&helper, &system, Root::Pivoted, &[], WORKLOAD).unwrap();
    let target = container.pid.to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &target, "--mount", "--pid", "--", system.python]).arg(path_inside(WORKLOAD));
    let mut entered = Workload::start_command(&mut command).unwrap();
    let pid = only_child(entered.pid()).unwrap();

    let doctor = run(pyalloc().unwrap(), &["doctor", "--pid", &pid.to_string()]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success() && said.contains("(2 in its container)"), "{said}");
    let found = said.lines().find(|line| line.contains("Python 3.13")).unwrap_or_else(|| panic!("{said}"));
    assert!(found.ends_with(&format!(" in {}", system.python)), "{said}");

    let tracer = Tracer::attach(pid).unwrap();
    let kept: One = ask(&mut entered, "keep");
    let traced = tracer.finish().unwrap();
    assert_eq!(traced.profile.processes[0].container_pid, Some(2));
    assert!(traced.report.starts_with(&format!("Process {pid} (2 in its container)")), "{}", traced.report);
    check_first(&traced, &path_inside(WORKLOAD), &kept);
}

/// In a container's pid namespace pids are not the kernel's: they are translated both ways.
#[test]
fn pyalloc_in_a_container_takes_and_shows_its_pids() {
    let test = "pyalloc_in_a_container_takes_and_shows_its_pids";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    if !may_mount(test, &[]) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc"]).arg(&interpreter.path).arg(workload::path(WORKLOAD));
    let mut service = Workload::start_command(&mut command).unwrap();
    let inside = only_child(service.pid()).unwrap().to_string();
    let entered = |with: &[&str]| {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &inside, "--pid"]).args(with).arg("--").arg(pyalloc().unwrap().get_program());
        nsenter
    };

    // Without the container's /proc, pid 1 is the host's: nothing is traced in its place.
    let output = run(entered(&[]), &["trace", "--pid", "1", "-o", "/dev/null"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("another pid namespace") && said.lines().count() == 1, "{said}");
    let doctor = run(entered(&[]), &["doctor", "--pid", "1"]);
    assert_eq!(doctor.status.code(), Some(3), "{}", String::from_utf8_lossy(&doctor.stdout));

    let doctor = run(entered(&["--mount"]), &["doctor", "--pid", "1"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    let tracer = Tracer::attach_by(entered(&["--mount"]), 1).unwrap();
    let kept: One = ask(&mut service, "keep");
    let workers: Pids = ask(&mut service, "fork");
    wait_until_probed(&tracer, workers.pids.len());
    let worked: Each = ask(&mut service, "work");
    let _: Value = ask(&mut service, "end workers");
    let traced = tracer.finish_by(|nsenter| only_child(nsenter).unwrap()).unwrap();
    let profile = &traced.profile;
    assert_eq!((profile.processes[0].pid, profile.processes[0].container_pid), (1, None));
    assert_eq!(blocks(profile, 0, kept.size), (kept.blocks, kept.blocks));
    for (index, (pid, (&number, &size))) in workers.pids.iter().zip(worked.blocks.iter().zip(&worked.sizes)).enumerate()
    {
        let process = position(profile, |process| process.pid == *pid);
        assert_eq!(blocks(profile, process, size), (number, number), "{size} bytes in {pid}");
        assert_eq!(profile.processes[process].end, End::Exited(i32::try_from(index).unwrap()));
    }
    check_first(&traced, workload::path(WORKLOAD).to_str().unwrap(), &kept);
}

/// A root user of a user namespace is no root of the kernel's.
#[test]
fn pyalloc_in_a_user_namespace_says_what_is_missing() {
    let test = "pyalloc_in_a_user_namespace_says_what_is_missing";
    if skip::without_root(test) || !may_mount(test, &ROOTLESS) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(ROOTLESS).arg(pyalloc().unwrap().get_program());
    let own = std::process::id().to_string();
    let output = run(command, &["trace", "--pid", &own, "-o", "/dev/null"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("user namespace") && said.lines().count() == 1, "{said}");
}

/// The probes' files were found through the parent's /proc, which may be gone before its child's probes are on.
#[test]
fn a_child_is_traced_whose_parent_has_gone() {
    let test = "a_child_is_traced_whose_parent_has_gone";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let mut service = Workload::start(&interpreter.path, WORKLOAD, [] as [&str; 0]).unwrap();
    let tracer = Tracer::attach(service.pid()).unwrap();
    tracer.signal(Signal::SIGSTOP).unwrap();
    let child: Pids = ask(&mut service, "leave");
    assert!(service.wait().unwrap().success());
    tracer.signal(Signal::SIGCONT).unwrap();
    wait_until_probed(&tracer, 1);
    let kept: One = ask(&mut service, "keep");
    let traced = tracer.finish().unwrap();
    let process = position(&traced.profile, |process| child.pids.contains(&process.pid));
    assert_eq!(blocks(&traced.profile, process, kept.size), (kept.blocks, kept.blocks));
    service.say("exit").unwrap();
}

/// What becomes of a file while a process runs on it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Kept,
    Deleted,
    /// Another file was renamed to its path, as package managers do.
    Replaced,
    /// It has another name now, which says nothing of python.
    Renamed,
}

/// A folder's name with all that the text of /proc/PID/maps makes ambiguous, and bytes that are no text.
fn odd_folder(parent: &Path) -> PathBuf {
    let name = OsString::from_vec(b"a b\nc\\d\\012 \xff (deleted)".to_vec());
    let folder = parent.join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

/// Runs the workload by a command, changes the file under it, and traces.
fn check_odd(command: &mut Command, file: &Path, other: &Path, fate: Fate) {
    let mut running = Workload::start_command(command).unwrap();
    match fate {
        Fate::Kept => {}
        Fate::Deleted => fs::remove_file(file).unwrap(),
        Fate::Renamed => fs::rename(file, file.with_file_name("aside")).unwrap(),
        Fate::Replaced => {
            let beside = file.with_file_name("beside");
            fs::copy(other, &beside).unwrap();
            fs::rename(beside, file).unwrap();
        }
    }
    let now = if fate == Fate::Renamed { file.with_file_name("aside") } else { file.to_owned() };
    let pid = running.pid();
    let doctor = run(pyalloc().unwrap(), &["doctor", "--pid", &pid.to_string()]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success(), "{fate:?}: {said}");
    let tracer = Tracer::attach(pid).unwrap();
    let kept: One = ask(&mut running, "keep");
    let traced = tracer.finish().unwrap();
    check_first(&traced, workload::path(WORKLOAD).to_str().unwrap(), &kept);
    let process = &traced.profile.processes[0];
    assert_eq!(process.interpreter, now.display().to_string(), "{fate:?}");
    let told = process.notes.iter().any(|note| note.contains("was deleted or replaced"));
    assert_eq!(told, matches!(fate, Fate::Deleted | Fate::Replaced), "{fate:?}: {:?}", process.notes);
    assert_eq!(said.contains("was deleted or replaced"), told, "{said}");
    for text in [&said, &traced.report] {
        assert!(!text.contains("c\\d\\012\n") && !text.contains("a b\n"), "{text}");
    }
    running.say("exit").unwrap();
    assert!(running.wait().unwrap().success());
}

/// The prefix of an interpreter whose program contains it; `None` if it is in a libpython.
fn home_of_program(python: &Path) -> Option<String> {
    let question = "import sys; print('libpython' in open('/proc/self/maps').read(), sys.base_prefix)";
    let answer = String::from_utf8(run(Command::new(python), &["-c", question]).stdout).unwrap();
    answer.trim().strip_prefix("False ").map(str::to_owned)
}

#[test]
fn an_interpreter_at_an_odd_path_may_be_deleted_or_replaced() {
    let test = "an_interpreter_at_an_odd_path_may_be_deleted_or_replaced";
    let mut all = interpreters::for_test(test).into_iter();
    let Some((interpreter, home)) = all.find_map(|found| home_of_program(&found.path).map(|home| (found, home))) else {
        return skip::because(test, "every interpreter here has a libpython");
    };
    for fate in [Fate::Kept, Fate::Deleted, Fate::Replaced] {
        let folder = tempfile::tempdir().unwrap();
        let program = odd_folder(folder.path()).join("python3 (deleted)");
        fs::copy(fs::canonicalize(&interpreter.path).unwrap(), &program).unwrap();
        let mut command = Command::new(&program);
        command.arg(workload::path(WORKLOAD)).env("PYTHONHOME", &home);
        check_odd(&mut command, &program, Path::new("/bin/sh"), fate);
    }
}

#[test]
fn a_libpython_loaded_from_an_odd_path_may_be_deleted_or_replaced() {
    let test = "a_libpython_loaded_from_an_odd_path_may_be_deleted_or_replaced";
    if skip::without_root(test) {
        return;
    }
    let system = python::fetched_folder().join("system-sid-3.14");
    let program = system.join("usr/bin/embed");
    let libraries = system.join("usr/lib/x86_64-linux-gnu");
    if !program.is_file() {
        return skip::because(test, "no program that embeds python: cargo xtask interpreters");
    }
    for fate in [Fate::Kept, Fate::Deleted, Fate::Replaced, Fate::Renamed] {
        let folder = tempfile::tempdir().unwrap();
        let library = odd_folder(folder.path()).join("libpython3.14.so.1.0 (deleted)");
        fs::copy(libraries.join("libpython3.14.so.1.0"), &library).unwrap();
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(&program).arg(workload::path(WORKLOAD));
        command.env("PYALLOC_LIBPYTHON", &library).env("PYTHONHOME", system.join("usr"));
        check_odd(&mut command, &library, &libraries.join("libc.so.6"), fate);
    }
}
