//! Stacks where they are hard to tell: code that the interpreter calls in the middle of other code's work, stacks that
//! are left and taken up again, threads that Python does not know. Each against what the target says of itself.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use profiler_common::MAX_FRAMES;
use pyalloc::profile::builder::ProfileBuilder;
use pyalloc::profile::{self, BlockRow, FrameKind, Profile};
use serde::Deserialize;
use support::Target;
use support::stale::Stale;
use support::tracer::{Frame, Tracer, frames_of, without_root};

/// A line that `stacks/main.py` prints.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Said {
    Stack { what: String, size: u64, frames: Vec<Frame> },
    Native { blocks: Vec<(u64, u64)> },
    Untold { what: String, size: u64 },
    Stale(Stale),
    Child { pid: u32 },
    Absent { what: String, why: String },
}

/// What other blocks of the same stack may add: less than one more of those told, which have 3 MB or more.
const SLACK: u64 = 2_900_000;
/// What native threads may allocate besides what they are told to.
const NATIVE_SLACK: u64 = 512 << 10;

/// The marker of a thread's state that is one of several, where it should not be guessed which.
const UNTOLD: &str = "[stack unknown: in one of several interpreters, without the GIL]";

/// The marker of a thread that has no Python stack.
const NATIVE: &str = "[native thread, no Python stack]";

/// One interpreter's row.
#[derive(Debug, Default)]
struct Row {
    right: usize,
    of: usize,
    absent: Vec<(String, String)>,
    stale: Vec<(u64, u64, u64)>,
    wrong: Vec<String>,
}

/// Blocks that stacks of the same names made: what the target calls them, how many bytes, and their sizes.
#[derive(Debug, Default)]
struct Group {
    situations: Vec<String>,
    space: u64,
    sizes: Vec<u64>,
}

impl Group {
    fn add(&mut self, situation: String, size: u64) {
        self.situations.push(situation);
        self.space += size;
        self.sizes.push(size);
    }
}

fn compare(profile: &Profile, said: Vec<Said>) -> Row {
    let mut row = Row::default();
    let mut groups: BTreeMap<Vec<Frame>, Group> = BTreeMap::new();
    for said in said {
        match said {
            Said::Absent { what, why } => row.absent.push((what, why)),
            Said::Native { blocks } => native(profile, &blocks, &mut row),
            Said::Child { .. } => {}
            Said::Stale(stale) => {
                row.of += 1;
                let found = stale.found(profile);
                row.right += usize::from(found.wrong.is_empty());
                row.stale.push((found.right, found.unknown, stale.rounds));
                row.wrong.extend(found.wrong);
            }
            Said::Stack { what, size, frames } => groups.entry(as_recorded(frames)).or_default().add(what, size),
            Said::Untold { what, size } => groups.entry(vec![marker(UNTOLD)]).or_default().add(what, size),
        }
    }
    let recorded = recorded(profile);
    let told: BTreeSet<u64> = groups.values().flat_map(|group| group.sizes.iter().copied()).collect();
    for (frames, group) in &groups {
        let count = group.situations.len();
        row.of += count;
        let found = recorded.get(frames).map_or(0, |(space, _)| *space);
        if (group.space..group.space + SLACK).contains(&found) {
            row.right += count;
        } else {
            let instead =
                recorded.iter().find(|(_, (_, sizes))| sizes.contains(&group.sizes[0])).map(|(frames, _)| frames);
            row.wrong.push(format!("{}: {}", group.situations.join(", "), difference(frames, instead, group, found)));
        }
    }
    for (frames, (_, sizes)) in &recorded {
        if sizes.iter().any(|size| told.contains(size)) && !groups.contains_key(frames) {
            row.wrong.push(format!("blocks of {sizes:?} bytes at {}", frames.first().map_or_else(String::new, shown)));
        }
    }
    row
}

fn marker(text: &str) -> Frame {
    (String::new(), text.to_owned(), 0)
}

/// A stack as a profile has it: of one that is too deep the innermost frames, of a very long text both ends.
fn as_recorded(mut frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() > MAX_FRAMES {
        frames.truncate(MAX_FRAMES);
        frames.push(marker(&format!("[outer frames cut: stack deeper than {MAX_FRAMES}]")));
    }
    let mut builder = ProfileBuilder::new();
    let mut text = |text: &str| {
        let id = builder.string(text);
        builder.profile().text(id).to_owned()
    };
    frames.iter().map(|(file, name, line)| (text(file), text(name), *line)).collect()
}

/// What was recorded of each stack: its bytes, and the largest block of each row. Stacks that differ in what names do not
/// show, as the instruction on a line, are one.
fn recorded(profile: &Profile) -> BTreeMap<Vec<Frame>, (u64, Vec<u64>)> {
    let mut recorded: BTreeMap<Vec<Frame>, (u64, Vec<u64>)> = BTreeMap::new();
    for block in &profile.blocks {
        let (space, sizes) = recorded.entry(frames_of(profile, block)).or_default();
        *space += block.alloc_space;
        sizes.push(block.largest);
    }
    recorded
}

fn difference(expected: &[Frame], found: Option<&Vec<Frame>>, group: &Group, space: u64) -> String {
    let Some(found) = found else {
        return format!("{space} bytes at {:?}, expected {}", expected.first().map(shown), group.space);
    };
    match found.iter().zip(expected).position(|(one, other)| one != other) {
        Some(at) => format!("frame {at} is {}, expected {}", shown(&found[at]), shown(&expected[at])),
        None => format!("{} frames, expected {}; {space} bytes, expected {}", found.len(), expected.len(), group.space),
    }
}

/// A frame, without the whole of a very long name.
fn shown((file, name, line): &Frame) -> String {
    let cut = |text: &str| text.chars().take(60).collect::<String>();
    format!("{:?} {:?} {line}", cut(file), cut(name))
}

/// Blocks of threads that have no Python stack: all of them are said to be such, and no others are.
fn native(profile: &Profile, blocks: &[(u64, u64)], row: &mut Row) {
    row.of += 1;
    let is_marker = |leaf: &profile::Frame| leaf.kind == FrameKind::Marker && profile.text(leaf.function) == NATIVE;
    let is_native = |block: &&BlockRow| profile.leaf(block.stack).is_some_and(is_marker);
    let found: u64 = profile.blocks.iter().filter(is_native).map(|block| block.inuse_space).sum();
    let expected = blocks.iter().map(|(count, size)| count * size).sum();
    if (expected..expected + NATIVE_SLACK).contains(&found) {
        row.right += 1;
    } else {
        row.wrong.push(format!("native threads have {found} bytes, expected {expected}"));
    }
}

/// Traces `stacks/main.py` and compares.
fn trace(python: &Path, natives: &Path, packages: Option<&Path>) -> Result<Row, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(python);
    command.arg(support::workload("stacks/main.py")).arg(natives).args(packages);
    let mut target = Target::start_command(command.stderr(Stdio::inherit()));
    assert_eq!(target.line(), "ready\n");
    let tracer = Tracer::attach(&target, folder.path())?;
    target.child.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("the target reads");
    let mut said: Vec<Said> = Vec::new();
    loop {
        match target.line().as_str() {
            "done\n" => break,
            "" => return Err("the target ended".to_owned()),
            line => said.push(serde_json::from_str(line).expect("a report")),
        }
        // Waiting for the child costs the time between two copies of a profile: only once.
        if let Some(Said::Child { pid }) = said.last() {
            tracer.wait_until_probed(*pid);
            target.child.stdin.as_mut().expect("a pipe").write_all(b"probed\n").expect("the target reads");
        }
    }
    Ok(compare(&tracer.finish(), said))
}

/// The shared library of the threads that Python does not know. Without a C library of its own it runs with each.
fn natives(folder: &Path) -> PathBuf {
    let library = folder.join("natives.so");
    let built = Command::new("cc")
        .args(["-O1", "-fPIC", "-shared", "-nostdlib", "-fno-builtin", "-fno-stack-protector", "-o"])
        .arg(&library)
        .arg(support::workload("stacks/natives.c"))
        .status()
        .expect("a C compiler");
    assert!(built.success());
    library
}

/// One of each way in which stacks are kept, so that the test takes seconds.
const CHOSEN: [&str; 6] = ["system", "pyenv 3.8", "pyenv 3.13", "debian sid 3.15", "manylinux 3.14t", "musllinux 3.12"];

#[test]
fn every_situation_has_the_stack_that_python_says() {
    if without_root("every_situation_has_the_stack_that_python_says") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let natives = natives(folder.path());
    let mut rows = Vec::new();
    for (name, python) in support::chosen_interpreters(&CHOSEN) {
        let packages = support::packages(&python);
        let row = trace(&python, &natives, packages.as_deref());
        tell(&name, &row);
        rows.push((name, row));
    }
    conclude(&rows);
}

fn tell(name: &str, row: &Result<Row, String>) {
    match row {
        Ok(row) => {
            println!("{name}: {} of {}", row.right, row.of);
            println!("    stale code, right and unknown of all: {:?}", row.stale);
            row.absent.iter().for_each(|(what, why)| println!("    without {what}: {why}"));
            row.wrong.iter().take(30).for_each(|wrong| println!("    WRONG: {wrong}"));
        }
        Err(reason) => println!("{name}: {reason}"),
    }
}

/// Prints the table, writes it where a variable says, and fails if a row is not right.
fn conclude(rows: &[(String, Result<Row, String>)]) {
    let mut table = String::from("| interpreter | stacks right | not there |\n|---|---|---|\n");
    for (name, row) in rows {
        // Writing to a String cannot fail.
        let _ = match row {
            Ok(row) => {
                let absent: Vec<&str> = row.absent.iter().map(|(what, _)| what.as_str()).collect();
                writeln!(table, "| {name} | {} of {} | {} |", row.right, row.of, absent.join(", "))
            }
            Err(reason) => writeln!(table, "| {name} | refused: {reason} | |"),
        };
    }
    println!("{table}");
    if let Some(path) = env::var_os("PYALLOC_SITUATIONS_TABLE") {
        fs::write(path, table).expect("the table can be written");
    }
    let wrong: Vec<_> =
        rows.iter().filter(|(_, row)| !matches!(row, Ok(row) if row.wrong.is_empty())).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "not right: {wrong:?}");
}
