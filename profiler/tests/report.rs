//! `pyalloc report` as a person runs it: output, exit codes, and one sentence for each bad file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use pyalloc::profile::builder::{ProfileBuilder, Readings};
use pyalloc::profile::{BlockRow, FrameKind, Process, file};
use tempfile::TempDir;

fn report(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("pyalloc").unwrap();
    command.arg("report").args(arguments).env_remove("NO_COLOR");
    command
}

fn folder_with_profile() -> (TempDir, PathBuf) {
    let mut builder = ProfileBuilder::new();
    let frame = builder.frame(FrameKind::Own, "remember", "/srv/app.py", 21, 19);
    let stack = builder.stack(&[frame]);
    let row = BlockRow {
        stack,
        alloc_objects: 1,
        alloc_space: 4096,
        inuse_objects: 1,
        inuse_space: 4096,
        largest: 4096,
        peak_space: 4096,
        ..BlockRow::default()
    };
    let processes = vec![Process { pid: 7, ..Process::default() }];
    let profile = builder.snapshot(Readings { processes, blocks: vec![row], ..Readings::default() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pyalloc");
    file::write(&path, profile, None).unwrap();
    (folder, path)
}

fn output(arguments: &[&str]) -> String {
    let assert = report(arguments).assert().success();
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// Exit code 2, nothing on stdout, one line on stderr that holds `expected`.
fn check_refused(arguments: &[&str], expected: &str) {
    let assert = report(arguments).assert().code(2).stdout("");
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.starts_with("pyalloc: ") && stderr.contains(expected), "{stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
}

fn check_bad_file(name: &str, bytes: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    check_refused(&[text(&path)], expected);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn each_format_goes_to_stdout_or_to_a_file() {
    let (folder, profile) = folder_with_profile();
    let starts = [
        ("text", "Process 7"),
        ("flamegraph", "<?xml"),
        ("folded", "remember (app.py:21) 4096"),
        ("json", "{"),
        ("html", "<!doctype html>"),
        ("speedscope", "{\"$schema\""),
    ];
    for (format, start) in starts {
        let printed = output(&[text(&profile), "--format", format]);
        assert!(printed.starts_with(start), "{printed}");
        let out = folder.path().join(format);
        assert_eq!(output(&[text(&profile), "--format", format, "-o", text(&out)]), "");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), printed);
    }
}

#[test]
fn each_bad_file_is_one_sentence() {
    let (folder, profile) = folder_with_profile();
    let bytes = std::fs::read(&profile).unwrap();
    let mut later = bytes.clone();
    later[8] = 9;
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    check_bad_file("x", b"\x7fELF random bytes", "is not a pyalloc profile");
    check_bad_file("x", b"", "is not a pyalloc profile");
    check_bad_file("x", &bytes[..bytes.len() - 5], "is truncated");
    check_bad_file("x", &later, "written by a later pyalloc (format 9, this one reads up to 1)");
    check_bad_file("x", &flipped, "is corrupt");
    check_bad_file("name\nwith a break \x1b[2J", b"?", "name\\nwith a break \\u{1b}[2J is not a pyalloc profile");
    check_refused(&["/nowhere/a.pyalloc"], "there is no such file");
    check_refused(&[text(folder.path())], "it is a folder");
}

#[test]
fn a_wrong_command_line_is_one_sentence() {
    let (folder, profile) = folder_with_profile();
    let profile = text(&profile);
    check_refused(&[], "required arguments were not provided: <FILE>; see `pyalloc --help`");
    check_refused(&[profile, "--format", "pdf"], "invalid value 'pdf'");
    check_refused(&[profile, "--top", "0"], "invalid value '0'");
    check_refused(
        &[profile, "--ledger", "mapping", "--value", "peak_space"],
        "the mapping ledger has no peak_space: it has inuse_space,",
    );
    check_refused(&[profile, "--process", "9"], "no process 9 in this profile: it has 7");
    check_refused(&[profile, "-o", text(folder.path())], "it is a folder; name a file in it");
    check_refused(&[profile, "-o", "/nowhere/x"], "there is no folder /nowhere");
    check_refused(&[profile, "-o", "/dev/full"], "the disk is full");
}

#[test]
fn processes_are_told_apart_when_asked() {
    let (_folder, profile) = folder_with_profile();
    let folded = output(&[text(&profile), "--format", "folded", "--per-process", "--process", "7"]);
    assert_eq!(folded, "[7 unknown command];remember (app.py:21) 4096\n");
    assert!(output(&[text(&profile), "--per-process"]).contains("Process 7 unknown command: top call paths"));
}

#[test]
fn help_teaches_with_an_example() {
    let help = output(&["--help"]);
    assert!(help.contains("pyalloc report app.pyalloc --format flamegraph -o app.svg"), "{help}");
    assert!(help.contains("temporary_space"), "{help}");
    let version = Command::cargo_bin("pyalloc").unwrap().arg("--version").assert().success();
    assert!(version.get_output().stdout.starts_with(b"pyalloc 0."));
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let (_folder, profile) = folder_with_profile();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let program = assert_cmd::cargo::cargo_bin("pyalloc");
    let child = std::process::Command::new(program).arg("report").arg(profile).stdout(writer).output().unwrap();
    assert_eq!(child.status.code(), Some(0));
    assert!(child.stderr.is_empty());
}

#[test]
fn pprof_is_gzip_on_a_pipe_and_in_a_file() {
    let (folder, profile) = folder_with_profile();
    let assert = report(&[text(&profile), "--format", "pprof"]).assert().success();
    let piped = assert.get_output().stdout.clone();
    assert_eq!(piped[..2], [0x1f, 0x8b]);
    let out = folder.path().join("a.pb.gz");
    assert_eq!(output(&[text(&profile), "--format", "pprof", "-o", text(&out)]), "");
    assert_eq!(std::fs::read(&out).unwrap(), piped);
}

#[test]
fn filters_choose_a_part_and_say_so() {
    let (_folder, profile) = folder_with_profile();
    let focus = output(&[text(&profile), "--focus", "remember .*app[.]py:21$"]);
    assert!(focus.contains("app.py:21 remember") && focus.contains("shows only call paths with a frame"), "{focus}");
    let ignored = report(&[text(&profile), "--ignore", "remember", "--format", "folded"]).assert().success().stdout("");
    let said = String::from_utf8(ignored.get_output().stderr.clone()).unwrap();
    assert!(said.contains("without a frame that matches remember"), "{said}");
    assert_eq!(output(&[text(&profile), "--by", "module", "--format", "folded"]), "app (module) 4096\n");
}

#[test]
fn filters_that_cannot_be_are_refused() {
    let (_folder, profile) = folder_with_profile();
    let file = text(&profile);
    check_refused(&[file, "--since", "1m"], "nothing is between 60.0 s and 0 ms");
    check_refused(&[file, "--since", "soon"], "invalid value 'soon' for '--since <TIME>'");
    check_refused(&[file, "--focus", "("], "invalid value '(' for '--focus <REGEX>'");
    check_refused(&[file, "--by", "thread"], "which thread allocated is not recorded");
    check_refused(&[file, "--by", "type"], "no objects by type");
}
