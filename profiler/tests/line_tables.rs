//! Line tables against the interpreters' own word, for every instruction of large modules.

mod support;

use std::process::Command;

use pyalloc::python::linetable::{Format, Line, line};
use serde::Deserialize;

/// A line that `dump_line_tables.py` prints.
#[derive(Deserialize)]
struct Dumped {
    name: String,
    first: i32,
    table: String,
    lines: Vec<Option<i32>>,
}

const MODULES: [&str; 12] = [
    "argparse",
    "asyncio.base_events",
    "collections",
    "dataclasses",
    "email._header_value_parser",
    "inspect",
    "json.decoder",
    "_pydecimal",
    "subprocess",
    "tarfile",
    "typing",
    "unittest.mock",
];

fn format(minor: u8) -> Format {
    match minor {
        0..=9 => Format::Lnotab,
        10 => Format::Ranges,
        _ => Format::Locations,
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u32> = hexadecimal.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("a byte")).collect()
}

/// Compares every instruction; returns how many there were.
fn compare(code: &Dumped, format: Format) -> usize {
    let table = bytes(&code.table);
    for (unit, expected) in code.lines.iter().enumerate() {
        let lasti = u32::try_from(unit * 2).expect("a small offset");
        let found = line(format, &table, true, code.first, lasti);
        let expected = expected.map_or(Line::None, Line::At);
        assert_eq!(found, expected, "{} (line {}) at {lasti}", code.name, code.first);
    }
    code.lines.len()
}

#[test]
fn every_instruction_has_the_line_that_python_says() {
    for (python, minor) in support::known_interpreters() {
        let output = Command::new(&python)
            .arg(support::workload("dump_line_tables.py"))
            .args(MODULES)
            .arg(support::workload("nested.py"))
            .output()
            .expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        let codes: Vec<Dumped> =
            text.lines().map(|line| serde_json::from_str(line).expect("a dumped code object")).collect();
        let instructions: usize = codes.iter().map(|code| compare(code, format(minor))).sum();
        println!("{}: {} code objects, {instructions} code units", python.display(), codes.len());
        assert!(codes.len() > 1000 && instructions > 50_000);
    }
}
