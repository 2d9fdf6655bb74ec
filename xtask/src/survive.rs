//! `cargo xtask survive`: a program is killed many times, and what the profiles then say is held against the truth.

use anyhow::{Context as _, Result, bail};
use xtask::binary;
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::{self, Venv};

use crate::{command, setup};

/// Kills of each kind.
const REPEATS: &str = "50";

/// Prints the table of docs/survival.md.
pub fn run(options: &[&str]) -> Result<()> {
    let repeats = match options {
        [] => REPEATS,
        ["--repeats", number] if number.parse::<u32>().is_ok_and(|number| number > 0) => number,
        _ => bail!("survive takes only --repeats N, not `{}`", options.join(" ")),
    };
    let privilege = Privilege::require("tracing, and making a control group,")?;
    setup::run()?;
    let pyalloc = binary::build()?;
    let python = python::newest()?;
    let memray = Venv::ensure("memray", &python, &workspace_root().join("bench/memray.txt"));
    let mut bench = privilege.command(&python.path);
    bench.arg(workspace_root().join("bench/survive.py"));
    bench.arg("--pyalloc").arg(pyalloc).arg("--python").arg(&python.path).args(["--repeats", repeats]);
    match memray {
        Ok(memray) => _ = bench.arg("--memray").arg(memray.python()),
        Err(error) => println!("without memray: {error:#}"),
    }
    command::run(&mut bench).context("the kills were not all counted")
}
