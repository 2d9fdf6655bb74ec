//! The matrix: on every interpreter at hand, what `pyalloc trace` records against what the target says of itself.
//!
//! A row of `python::layout` may say `verified` only if this test holds for it: every stack frame by frame (file,
//! qualified name, line), the bytes of known blocks, and no frame that names code that was not running.

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use pyalloc::profile::{BlockRow, Profile};
use serde::Deserialize;
use support::Target;
use support::stale::Stale;
use support::tracer::{Frame, Tracer, frames_of, without_root};

/// A line that `matrix.py` prints.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Said {
    Stack { size: u64, frames: Vec<Frame> },
    Many { function: String, count: u64, size: u64 },
    Churn { function: String, made: u64, kept: u64, size: u64 },
    Grown { function: String, size: u64 },
    Stale(Stale),
    Small { function: String, count: u64, size: u64 },
}

impl Said {
    /// With the bytes that a debug hook adds. It stands before the raw domain too, from which larger blocks come.
    fn with_hooks(mut self, hook: u64) -> Self {
        match &mut self {
            Self::Stale(stale) => stale.base += 2 * hook,
            Self::Stack { size, .. }
            | Self::Many { size, .. }
            | Self::Churn { size, .. }
            | Self::Grown { size, .. } => *size += 2 * hook,
            Self::Small { size, .. } => *size += hook,
        }
        self
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
/// Each debug hook that a block goes through makes it `hook` bytes larger than `sys.getsizeof` says.
fn trace(command: &mut Command, hook: u64) -> Result<Row, String> {
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
            line => said.push(serde_json::from_str::<Said>(line).expect("a report").with_hooks(hook)),
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
            Said::Churn { function, made, kept, size } => churn(profile, function, (*made, *kept), *size, &mut row),
            Said::Grown { function, size } => grown(profile, function, *size, &mut row),
            Said::Stale(stale) => {
                let found = stale.found(profile);
                row.stale = (found.right, found.unknown);
                row.wrong.extend(found.wrong);
            }
            Said::Small { function, count, size } => small(profile, function, *count, *size, &mut row),
        }
    }
    row
}

fn stack(profile: &Profile, size: u64, expected: &[Frame], row: &mut Row) {
    row.stacks.1 += 1;
    let of_size: Vec<_> = profile.blocks.iter().filter(|block| block.largest == size).collect();
    let [block] = of_size[..] else {
        row.wrong.push(format!("{} stacks allocated {size} bytes, expected at {:?}", of_size.len(), expected.first()));
        return;
    };
    let found = frames_of(profile, block);
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
            name == function
                || name.starts_with(&format!("{function}.<locals>"))
                || name == "<listcomp>" && block.largest == size
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

/// What a function made, and what is left of it.
fn churn(profile: &Profile, function: &str, expected: (u64, u64), size: u64, row: &mut Row) {
    row.bytes.1 += 1;
    let (made, kept, space) = of_function(profile, function, size).fold((0, 0, 0), |(made, kept, space), block| {
        (made + block.alloc_objects, kept + block.inuse_objects, space + block.alloc_space)
    });
    if ((made, kept), space) == (expected, expected.0 * size) {
        row.bytes.0 += 1;
    } else {
        row.wrong.push(format!("{function} made {made} blocks, {space} bytes, and kept {kept}; expected {expected:?}"));
    }
}

/// A block that realloc has moved and enlarged again and again is one block of its last size.
fn grown(profile: &Profile, function: &str, size: u64, row: &mut Row) {
    row.bytes.1 += 1;
    let left = |block: &&BlockRow| block.inuse_objects > 0;
    let found: Vec<u64> = of_function(profile, function, size).filter(left).map(|block| block.inuse_space).collect();
    if found == [size] {
        row.bytes.0 += 1;
    } else {
        row.wrong.push(format!("{function} has blocks of {found:?} bytes, expected one of {size}"));
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
    if without_root("matrix") {
        return;
    }
    let mut rows = Vec::new();
    for (name, python) in support::chosen_interpreters(&CHOSEN) {
        let row = trace(&mut Command::new(&python), 0);
        tell(&name, &row);
        rows.push((name, row));
    }
    conclude(&rows, "PYALLOC_MATRIX_TABLE");
}

/// One of each version, and of each way to build it.
const CHOSEN: [&str; 7] =
    ["system", "pyenv", "debian sid 3.14", "debian sid 3.15", "manylinux 3.8", "manylinux 3.14t", "musllinux 3.13"];

fn tell(name: &str, row: &Result<Row, String>) {
    match row {
        Ok(row) => {
            println!(
                "{name}: stacks {:?}, bytes {:?}, stale {:?}, small {}",
                row.stacks, row.bytes, row.stale, row.small
            );
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
    let wrong: Vec<_> =
        rows.iter().filter(|(_, row)| !matches!(row, Ok(row) if row.right())).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "not right: {wrong:?}");
}

/// Bytes that a debug hook adds to each block: its size, its domain, and room to see writes beyond its ends.
const DEBUG_HOOK: u64 = 24;

/// Settings and libraries that change who hands out memory; empty values where a version does not have it.
fn variants(minor: u8) -> Vec<(String, &'static str, String, u64)> {
    let mut variants = Vec::new();
    let mut set = |name: &str, variable, value: &str, hook| {
        variants.push((name.to_owned(), variable, value.to_owned(), hook));
    };
    set("PYTHONMALLOC=malloc", "PYTHONMALLOC", "malloc", 0);
    set("PYTHONMALLOC=debug", "PYTHONMALLOC", "debug", DEBUG_HOOK);
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
    if without_root("matrix") {
        return;
    }
    // One each of: linked statically with pymalloc inlined, a shared library, the newest.
    let chosen = ["system", "pyenv 3.13", "debian sid 3.15"];
    let mut rows = Vec::new();
    for (name, python) in support::chosen_interpreters(if support::wants_all() { &chosen } else { &chosen[..1] }) {
        if !chosen.iter().any(|start| name.starts_with(start)) || name.ends_with("dlopen") || name.ends_with("linked") {
            continue;
        }
        let minor = support::minor_version(&python).unwrap_or(0);
        for (variant, variable, value, hook) in variants(minor) {
            let row = trace(Command::new(&python).env(variable, value), hook);
            let name = format!("{name}, {variant}");
            tell(&name, &row);
            rows.push((name, row));
        }
    }
    conclude(&rows, "PYALLOC_ALLOCATORS_TABLE");
}
