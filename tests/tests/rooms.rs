//! The rooms of `profiler/src` depend on each other one way: the table "Rooms" in `ARCHITECTURE.md` says which may
//! use which, and this test reads it there.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::collections::{BTreeMap, BTreeSet};

use live_tests::source::{Source, rust};
use regex::Regex;

/// Uses by room.
type Table = BTreeMap<String, BTreeSet<String>>;

/// The rows "| `room` | what it is for | `room`, `room` |" below the heading "## Rooms".
fn table() -> Table {
    let text = include_str!("../../ARCHITECTURE.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Rooms\n")).expect("a section `Rooms`");
    let name = Regex::new(r"`([a-z_]+)`").unwrap();
    let names = |cell: &str| name.captures_iter(cell).map(|found| found[1].to_owned()).collect::<BTreeSet<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        (names(cells[0]).pop_first().expect("a room's name"), names(cells[2]))
    })
    .collect()
}

/// The room of a file below `profiler/src`; the crate's roots have none.
fn room(source: &Source) -> Option<&str> {
    let inside = source.path.strip_prefix("profiler/src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (room != "lib" && room != "main").then_some(room)
}

/// The rooms that a file names: `crate::room`, and those in `crate::{...}`.
fn used(source: &Source) -> BTreeSet<String> {
    let code: String = source.code().flat_map(|(_, line)| [line, "\n"]).collect();
    let direct = Regex::new(r"\bcrate::([a-z_]+)\b").unwrap();
    let group = Regex::new(r"\bcrate::\{").unwrap();
    let mut found: BTreeSet<String> = direct.captures_iter(&code).map(|name| name[1].to_owned()).collect();
    for start in group.find_iter(&code) {
        found.extend(heads(&code[start.end()..]));
    }
    found
}

/// The first names of the items of a use group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut word, mut heads) = (0, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ if depth == 0 => word.push(character),
            _ => {}
        }
    }
    heads.extend(word.split(',').filter_map(|item| item.trim().split("::").next()).map(str::to_owned));
    heads
}

#[test]
fn every_room_has_a_row_and_keeps_to_it() {
    let table = table();
    let mut faults = String::new();
    for source in rust().unwrap() {
        let Some(room) = room(&source) else { continue };
        let Some(allowed) = table.get(room) else {
            faults += &format!("{}: the table `Rooms` has no row for `{room}`\n", source.path);
            continue;
        };
        let strangers = used(&source).into_iter().filter(|name| name != room && table.contains_key(name));
        for stranger in strangers.filter(|name| !allowed.contains(name)) {
            faults += &format!("{}: `{room}` may not use `{stranger}`\n", source.path);
        }
    }
    assert!(faults.is_empty(), "see the table `Rooms` in ARCHITECTURE.md\n{faults}");
}

/// A room that uses none of the others in the table.
fn first_free(table: &Table) -> Option<String> {
    let uses_others =
        |room: &str, uses: &BTreeSet<String>| uses.iter().any(|other| other != room && table.contains_key(other));
    table.iter().find(|(room, uses)| !uses_others(room, uses)).map(|(room, _)| room.clone())
}

#[test]
fn the_table_has_no_circle() {
    let mut left = table();
    while let Some(free) = first_free(&left) {
        left.remove(&free);
    }
    assert!(left.is_empty(), "these rooms use each other in a circle: {:?}", left.keys());
}

#[test]
fn uses_are_found_in_both_forms() {
    let text =
        "use crate::profile::Profile;\nuse crate::{ledger::{Heap, Row}, event,\n    symbol::Names};\n// crate::tui\n";
    let source = Source { path: "profiler/src/render/text.rs".to_owned(), text: text.to_owned() };
    let expected: BTreeSet<String> = ["event", "ledger", "profile", "symbol"].map(str::to_owned).into();
    assert_eq!(used(&source), expected);
    assert_eq!(room(&source), Some("render"));
}
