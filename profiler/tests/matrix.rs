//! The matrix: on every interpreter at hand, what `pyalloc trace` records against what the target says of itself.
//!
//! A row of `python::layout` may say `verified` only if this test holds for it: every stack frame by frame (file,
//! qualified name, line), the bytes of known blocks, and no frame that names code that was not running.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use pyalloc::profile::{BlockRow, Profile, file};
use serde::Deserialize;
use support::Target;

type Frame = (String, String, u32);

/// A line that `matrix.py` prints.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Said {
    Stack { size: u64, frames: Vec<Frame> },
    Many { function: String, count: u64, size: u64 },
    Stale { base: u64, step: u64, count: u64, rounds: u64 },
    Small { function: String, count: u64, size: u64 },
}

impl Said {
    fn with_header(mut self, header: u64) -> Self {
        match &mut self {
            Self::Stale { base: size, .. }
            | Self::Stack { size, .. }
            | Self::Many { size, .. }
            | Self::Small { size, .. } => *size += header,
        }
        self
    }
}

/// Why the live tests cannot run here.
fn without_root() -> bool {
    let missing = !rustix::process::geteuid().is_root();
    if missing {
        println!("SKIPPED matrix: loading BPF programs needs root");
    }
    missing
}

/// A tracer attached to a target; killed when dropped.
struct Tracer {
    child: std::process::Child,
    profile: PathBuf,
}

impl Tracer {
    fn attach(target: &Target, folder: &Path) -> Result<Self, String> {
        let profile = folder.join("matrix.pyalloc");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pyalloc"))
            .args(["trace", "--quiet", "--pid", &target.pid().to_string(), "--output"])
            .arg(&profile)
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

    fn finish(mut self) -> Profile {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("pyalloc can be signalled");
        let status = self.child.wait().expect("pyalloc ends");
        assert!(status.success() || status.code() == Some(130), "{status}");
        file::read(&self.profile).expect("a profile")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One interpreter's row.
#[derive(Debug, Default)]
struct Row {
    stacks: (usize, usize),
    bytes: (usize, usize),
    stale: (u64, u64),
    small: String,
    notes: Vec<String>,
    wrong: Vec<String>,
}

impl Row {
    fn right(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Traces `matrix.py` and compares.
///
/// `header` bytes are asked for more for every block than `sys.getsizeof` says.
fn trace(command: &mut Command, header: u64) -> Result<Row, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut target = Target::start_command(command.arg(support::workload("matrix.py")).stderr(Stdio::null()));
    assert_eq!(target.line(), "ready\n");
    let tracer = Tracer::attach(&target, folder.path())?;
    target.child.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("the target reads");
    let mut said: Vec<Said> = Vec::new();
    loop {
        match target.line().as_str() {
            "done\n" => break,
            "" => return Err("the target ended".to_owned()),
            line => said.push(serde_json::from_str::<Said>(line).expect("a report").with_header(header)),
        }
    }
    let profile = tracer.finish();
    Ok(compare(&profile, &said))
}

fn compare(profile: &Profile, said: &[Said]) -> Row {
    let notes = profile.processes.iter().flat_map(|process| process.notes.clone()).collect();
    let mut row = Row { notes, ..Row::default() };
    for said in said {
        match said {
            Said::Stack { size, frames } => stack(profile, *size, frames, &mut row),
            Said::Many { function, count, size } => many(profile, function, *count, *size, &mut row),
            Said::Stale { base, step, count, rounds } => stale(profile, *base, *step, *count, *rounds, &mut row),
            Said::Small { function, count, size } => small(profile, function, *count, *size, &mut row),
        }
    }
    row
}

fn frames_of(profile: &Profile, block: &BlockRow) -> Vec<Frame> {
    let text = |id| profile.text(id).to_owned();
    profile.frames_of(block.stack).map(|frame| (text(frame.file), text(frame.function), frame.line)).collect()
}

fn stack(profile: &Profile, size: u64, expected: &[Frame], row: &mut Row) {
    row.stacks.1 += 1;
    let of_size: Vec<_> = profile.blocks.iter().filter(|block| block.largest == size).collect();
    let [block] = of_size[..] else {
        row.wrong.push(format!("{} stacks allocated {size} bytes, expected at {:?}", of_size.len(), expected.first()));
        return;
    };
    // Either end may come first: innermost first is what Python says.
    let mut found = frames_of(profile, block);
    if found.first() != expected.first() {
        found.reverse();
    }
    if found == expected {
        row.stacks.0 += 1;
        return;
    }
    let at = found.iter().zip(expected).position(|(one, other)| one != other);
    let differs = at.map_or_else(
        || format!("{} frames, expected {}", found.len(), expected.len()),
        |at| format!("frame {at} is {:?}, expected {:?}", found[at], expected[at]),
    );
    row.wrong.push(format!("block of {size}: {differs}"));
}

/// The blocks of a size or more whose innermost frame, or the one that it was inlined from, is the function's.
fn of_function<'a>(profile: &'a Profile, function: &'a str, size: u64) -> impl Iterator<Item = &'a BlockRow> {
    profile.blocks.iter().filter(move |block| {
        let frames = profile.frames_of(block.stack).take(2);
        let named = frames.map(|frame| profile.text(frame.function)).any(|name| {
            name == function || name.starts_with(&format!("{function}.<locals>")) || name == "<listcomp>" && block.largest == size
        });
        named && block.largest == size
    })
}

fn many(profile: &Profile, function: &str, count: u64, size: u64, row: &mut Row) {
    row.bytes.1 += 1;
    let (objects, space) = of_function(profile, function, size)
        .fold((0, 0), |(objects, space), block| (objects + block.inuse_objects, space + block.inuse_space));
    if (objects, space) == (count, count * size) {
        row.bytes.0 += 1;
    } else {
        row.wrong.push(format!("{function} has {objects} blocks, {space} bytes; expected {count}, {}", count * size));
    }
}

/// Every block of one of the sizes must have been made by the function that makes it, or by one not known.
fn stale(profile: &Profile, base: u64, step: u64, count: u64, rounds: u64, row: &mut Row) {
    let sizes: BTreeMap<u64, u64> = (0..count).map(|number| (base + number * step, number)).collect();
    let mut objects = 0;
    for block in &profile.blocks {
        let Some(number) = sizes.get(&block.largest) else { continue };
        let frames = frames_of(profile, block);
        let named: Vec<_> = frames.iter().filter(|(_, name, _)| name.contains("stale_")).collect();
        let expected = (format!("stale_{number}.py"), format!("stale_{number}"), u32::try_from(number + 2).unwrap_or(0));
        // The line may make small blocks too, where they are counted each.
        let made = block.alloc_space / block.largest;
        match named[..] {
            [frame] if *frame == expected => objects += made,
            [] if frames.iter().any(|(_, name, _)| name.contains("unknown")) => row.stale.1 += made,
            _ => row.wrong.push(format!("stale code: blocks of {} bytes are said to be of {named:?}", block.largest)),
        }
    }
    row.stale.0 = objects;
    if objects + row.stale.1 != rounds {
        row.wrong.push(format!("stale code: {objects} right and {} unknown of {rounds}", row.stale.1));
    }
}

/// How small objects are counted: told, and held against the truth.
fn small(profile: &Profile, function: &str, count: u64, size: u64, row: &mut Row) {
    let is_function = |stack| {
        profile.frames_of(stack).take(2).any(|frame| {
            let name = profile.text(frame.function);
            name == function || name == "<listcomp>"
        })
    };
    let pools: u64 = profile.pools.iter().filter(|pool| is_function(pool.stack)).map(|pool| pool.inuse_space).sum();
    let blocks: u64 = of_function(profile, function, size).map(|block| block.inuse_objects).sum();
    // A pool's blocks are rounded up to 16 bytes.
    let truth = count * size.next_multiple_of(16);
    row.small = match (pools, blocks) {
        (0, 0) => "no".to_owned(),
        (0, _) if blocks == count => "each".to_owned(),
        (0, _) => format!("{} of {count}", blocks),
        _ => format!("by pools, {} %", pools * 100 / truth),
    };
    let plausible = match (pools, blocks) {
        (0, blocks) => blocks == 0 || blocks == count,
        (pools, _) => (truth * 9 / 10..=truth * 11 / 10).contains(&pools),
    };
    if !plausible {
        row.wrong.push(format!("small objects: {}", row.small));
    }
}

/// The table of `docs/interpreters.md`.
fn table(rows: &[(String, Result<Row, String>)]) -> String {
    let mut text = String::from(
        "| interpreter | stacks right | bytes right | stale code: right, unknown, wrong | small objects counted |\n\
         |---|---|---|---|---|\n",
    );
    for (name, row) in rows {
        // Writing to a String cannot fail.
        let _ = match row {
            Ok(row) => {
                let wrong = row.wrong.iter().filter(|wrong| wrong.starts_with("stale")).count();
                writeln!(
                    text,
                    "| {name} | {} of {} | {} of {} | {}, {}, {wrong} | {} |",
                    row.stacks.0, row.stacks.1, row.bytes.0, row.bytes.1, row.stale.0, row.stale.1, row.small
                )
            }
            Err(reason) => writeln!(text, "| {name} | refused: {reason} | | | |"),
        };
    }
    text
}

#[test]
fn every_interpreter_is_recorded_as_it_says_itself() {
    if without_root() {
        return;
    }
    let mut rows = Vec::new();
    for (name, python) in every_interpreter() {
        let row = trace(&mut Command::new(&python), 0);
        tell(&name, &row);
        rows.push((name, row));
    }
    conclude(&rows, "PYALLOC_MATRIX_TABLE");
}

/// The interpreters that `PYALLOC_MATRIX_ONLY` is in the name of: all of them without it.
fn every_interpreter() -> Vec<(String, PathBuf)> {
    let only = env::var("PYALLOC_MATRIX_ONLY").unwrap_or_default();
    support::every_interpreter().into_iter().filter(|(name, _)| name.contains(&only)).collect()
}

fn tell(name: &str, row: &Result<Row, String>) {
    match row {
        Ok(row) => {
            println!("{name}: stacks {:?}, bytes {:?}, stale {:?}, small {}", row.stacks, row.bytes, row.stale, row.small);
            row.notes.iter().for_each(|note| println!("    note: {note}"));
            row.wrong.iter().take(12).for_each(|wrong| println!("    WRONG: {wrong}"));
        }
        Err(reason) => println!("{name}: {reason}"),
    }
}

/// Prints the table, writes it where a variable says, and fails if a row is not right.
fn conclude(rows: &[(String, Result<Row, String>)], variable: &str) {
    let table = table(rows);
    println!("{table}");
    if let Some(path) = env::var_os(variable) {
        fs::write(path, table).expect("the table can be written");
    }
    let wrong: Vec<_> = rows.iter().filter(|(_, row)| !matches!(row, Ok(row) if row.right())).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "not right: {wrong:?}");
}

/// Bytes that the debug hooks add to each block: its size, its domain, and room to see writes beyond its ends.
const DEBUG_HEADER: u64 = 24;

/// Settings and libraries that change who hands out memory; empty values where a version does not have it.
fn variants(minor: u8) -> Vec<(String, &'static str, String, u64)> {
    let mut variants = Vec::new();
    let mut set = |name: &str, variable, value: &str, header| {
        variants.push((name.to_owned(), variable, value.to_owned(), header));
    };
    set("PYTHONMALLOC=malloc", "PYTHONMALLOC", "malloc", 0);
    set("PYTHONMALLOC=debug", "PYTHONMALLOC", "debug", DEBUG_HEADER);
    if minor >= 13 {
        set("PYTHONMALLOC=mimalloc", "PYTHONMALLOC", "mimalloc", 0);
    }
    if minor >= 14 {
        set("PYTHON_JIT=1", "PYTHON_JIT", "1", 0);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters/allocators");
    for (package, file) in [
        ("libjemalloc2", "libjemalloc.so.2"),
        ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
        ("libmimalloc2.0", "libmimalloc.so.2.0"),
    ] {
        let library = folder.join(package).join("usr/lib/x86_64-linux-gnu").join(file);
        match library.canonicalize() {
            Ok(library) => set(&format!("{file} preloaded"), "LD_PRELOAD", &library.display().to_string(), 0),
            Err(_) => println!("{file}: not fetched by `cargo xtask interpreters`, not tested"),
        }
    }
    variants
}

#[test]
fn other_allocators_are_recorded_as_exactly() {
    if without_root() {
        return;
    }
    // One each of: linked statically with pymalloc inlined, a shared library, the newest.
    let chosen = ["system", "pyenv 3.13", "debian sid 3.15"];
    let mut rows = Vec::new();
    for (name, python) in every_interpreter() {
        if !chosen.iter().any(|start| name.starts_with(start)) || name.ends_with("dlopen") || name.ends_with("linked") {
            continue;
        }
        let minor = support::minor_version(&python).unwrap_or(0);
        for (variant, variable, value, header) in variants(minor) {
            let row = trace(Command::new(&python).env(variable, value), header);
            let name = format!("{name}, {variant}");
            tell(&name, &row);
            rows.push((name, row));
        }
    }
    conclude(&rows, "PYALLOC_ALLOCATORS_TABLE");
}
