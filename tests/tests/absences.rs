//! What must stay absent: the table "Absences" in `ARCHITECTURE.md`, row by row. One test a row, and each fails if
//! its row is gone from the table.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fmt::Write as _;

use live_tests::source::{Source, rust, tracked};
use regex::Regex;

/// Fails if a line of code of the files `among` matches, outside `allowed`.
#[track_caller]
fn absent(row: &str, among: &[&str], allowed: &[&str], pattern: &str) {
    documented(row);
    let pattern = Regex::new(pattern).unwrap();
    let mut found = String::new();
    for source in rust().unwrap() {
        if !source.is_in(among) || source.is_in(allowed) {
            continue;
        }
        for (number, line) in source.code().filter(|(_, line)| pattern.is_match(line)) {
            writeln!(found, "{}:{number}: {}", source.path, line.trim()).unwrap();
        }
    }
    assert!(found.is_empty(), "{row}: see the table in ARCHITECTURE.md\n{found}");
}

#[track_caller]
fn documented(row: &str) {
    let text = include_str!("../../ARCHITECTURE.md");
    assert!(text.contains(&format!("\n| `{row}` |")), "ARCHITECTURE.md has no row `{row}` in its table of absences");
}

const ALL: &[&str] = &["profiler/", "profiler-common/", "profiler-ebpf/", "xtask/", "tests/"];

#[test]
fn only_the_kernel_room_knows_aya() {
    absent("only-kernel-knows-aya", ALL, &["profiler/src/kernel/"], r"\baya(_obj|_log)?::|\buse aya\b");
}

#[test]
fn unsafe_code_has_two_places() {
    absent("unsafe-in-two-places", ALL, &["profiler/src/kernel/", "profiler-ebpf/"], r"^[^\x22]*\bunsafe\b");
}

#[test]
fn unsafe_code_says_why_it_is_safe() {
    documented("unsafe-says-why");
    let missing: String = rust().unwrap().iter().flat_map(without_reason).collect();
    assert!(missing.is_empty(), "no `SAFETY:` line above:\n{missing}");
}

/// Most lines between a `SAFETY:` comment's first line and its block: the comment, and the statement's start.
const REACH: usize = 10;

/// The blocks and impls without a `SAFETY:` of their own: one between them and the block before.
fn without_reason(source: &Source) -> Vec<String> {
    let block = Regex::new(r"\bunsafe\s*(\{|impl\b)").unwrap();
    let lines: Vec<&str> = source.text.lines().collect();
    let is_block = |line: &str| block.is_match(line.split("//").next().unwrap_or_default()) && !line.contains("r\"");
    let has_reason = |index: usize| {
        let above = lines[..index].iter().rev().take(REACH).take_while(|line| !is_block(line));
        std::iter::once(&lines[index]).chain(above).any(|line| line.contains("SAFETY:"))
    };
    let bare = (0..lines.len()).filter(|index| is_block(lines[*index]) && !has_reason(*index));
    bare.map(|index| format!("{}:{}: {}\n", source.path, index + 1, lines[index].trim())).collect()
}

#[test]
fn ledger_and_diagnose_do_no_io() {
    let among = &["profiler/src/ledger/", "profiler/src/ledger.rs", "profiler/src/diagnose/"];
    let io = r"\bstd::(fs|net|process|env|os)\b|\bstd::\{.*\b(fs|net|process|env)\b|\b(procfs|libc|rustix|nix|tokio)::";
    absent("ledger-and-diagnose-do-no-io", among, &[], io);
}

#[test]
fn render_measures_nothing() {
    // `Duration` and `UNIX_EPOCH` print what the profile holds; only reading a clock is measuring.
    let clocks_and_files =
        r"\b(Instant|SystemTime)\b|\bstd::(fs|env|process)\b|\bstd::\{.*\b(fs|env)\b|\b(procfs|libc|rustix|nix)::";
    absent("render-measures-nothing", &["profiler/src/render/"], &[], clocks_and_files);
}

#[test]
fn layouts_of_cpython_have_two_places() {
    let among = &["profiler/", "profiler-common/", "xtask/"];
    // The names of the offsets are the record's, in profiler-common; filling and reading it is these rooms' alone.
    let allowed = &["profiler/src/python/", "profiler-ebpf/", "profiler-common/src/config.rs"];
    let offsets = r"\b(tstate_(cframe|frame|thread_id)|frame_(code|previous|lasti|owner|tlbc_index)|owner_skip_from|code_(adaptive|tlbc|firstlineno|filename|qualname|linetable|firsttraceable))\b";
    absent("cpython-layouts-in-two-places", among, allowed, offsets);
    let structures = r"\b(PyThreadState|_PyInterpreterFrame|PyCodeObject|_Py_DebugOffsets|autoTSSkey|co_code_adaptive|ob_(refcnt|size|type))\b";
    absent("cpython-layouts-in-two-places", &["profiler/", "xtask/"], allowed, structures);
}

#[test]
fn files_name_no_machine_and_no_registry() {
    documented("no-machine-and-no-registry");
    let pattern = Regex::new(
        r"(^|[^A-Za-z0-9_.])/(work|root|farm)/|\b(crates\.io|pypi\.org|pythonhosted\.org|debian\.org|npmjs\.(org|com)|golang\.org)\b",
    )
    .unwrap();
    let mut found = String::new();
    for source in tracked().unwrap().iter().filter(|source| source.path != "Cargo.lock") {
        for (index, line) in source.text.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
            writeln!(found, "{}:{}: {}", source.path, index + 1, line.trim()).unwrap();
        }
    }
    assert!(found.is_empty(), "{found}");
}
