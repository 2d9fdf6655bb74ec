//! `cargo xtask bench`: what tracing costs, as ratios measured in one run on one machine.

pub mod bystander;
mod fidelity;
mod looks;
mod machine;
mod pairs;
mod process;
mod resident;
mod scale;
mod soak;
mod talker;
mod tools;
mod workloads;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::binary;
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::{self, Interpreter, Venv};

use crate::{command, setup};
use pairs::Rounds;
use workloads::Bench;

/// Fewer pairs than this make no median worth printing.
const LEAST_PAIRS: usize = 5;

/// How long `bench soak` traces, seconds.
const SOAK_SECONDS: u64 = 180;

/// How many rounds `bench bystander` makes.
const BYSTANDER_ROUNDS: usize = 7;

/// Prints the machine, the cost of a probe, and the workloads' wall time traced against plain; or, for `soak`, what
/// pyalloc itself takes over minutes; for `scale`, what it takes for much of everything; for `bystander`, what others pay;
/// for `looks`, what looks at objects do to a process that never rests; for `resident`, what the ledgers cost that need no
/// probe; for `tools`, the same programs under other memory profilers.
pub fn run(options: &[&str]) -> Result<()> {
    match options {
        ["soak"] => soak(SOAK_SECONDS),
        ["soak", "--seconds", number] => {
            soak(number.parse().with_context(|| format!("--seconds takes a number, not `{number}`"))?)
        }
        ["scale"] => with_everything(|privilege, pyalloc, python| scale::run(privilege, pyalloc, python, None)),
        ["scale", "--only", kind] => {
            with_everything(|privilege, pyalloc, python| scale::run(privilege, pyalloc, python, Some(kind)))
        }
        ["bystander"] => {
            with_everything(|privilege, pyalloc, python| bystander::run(privilege, pyalloc, python, BYSTANDER_ROUNDS))
        }
        ["looks"] => with_everything(|privilege, pyalloc, python| looks::run(privilege, pyalloc, python, looks::LOOKS)),
        ["looks", "--looks", number] => {
            let looks = number.parse().with_context(|| format!("--looks takes a number, not `{number}`"))?;
            with_everything(|privilege, pyalloc, python| looks::run(privilege, pyalloc, python, looks))
        }
        ["resident", rest @ ..] => {
            let (only, rest) = only(rest);
            resident(pairs_wanted(rest)?, only)
        }
        ["tools", rest @ ..] => {
            let (only, rest) = only(rest);
            tools(rounds_wanted(rest)?, only)
        }
        _ => programs(pairs_wanted(options)?),
    }
}

/// The program named by `--only`, and the other options.
fn only<'a, 'b>(options: &'a [&'b str]) -> (Option<&'b str>, &'a [&'b str]) {
    match options {
        [rest @ .., "--only", name] | ["--only", name, rest @ ..] => (Some(name), rest),
        rest => (None, rest),
    }
}

/// The table goes into the page of costs, if it is of all programs.
fn tools(rounds: usize, only: Option<&str>) -> Result<()> {
    let newest = python::newest()?;
    let memray = Venv::ensure("memray", &newest, &workspace_root().join("bench/memray.txt"));
    let memray = memray.and_then(|memray| memray.packages()).inspect_err(|error| println!("without memray: {error:#}"));
    with_programs(|privilege, pyalloc, venv, programs| {
        let bench = tools::Bench { programs, memray: memray.ok(), venv, privilege, pyalloc, rounds };
        let table = bench.run(only)?;
        println!("\n{table}");
        if only.is_none() {
            tools::write(&machine::describe(&newest), &table)?;
        }
        Ok(())
    })
}

fn resident(pairs: usize, only: Option<&str>) -> Result<()> {
    with_programs(|privilege, pyalloc, venv, programs| {
        resident::Bench { programs, venv, privilege, pyalloc, pairs }.run(only)
    })
}

fn soak(seconds: u64) -> Result<()> {
    with_everything(|privilege, pyalloc, python| soak::run(privilege, pyalloc, python, seconds))
}

/// Gets what a bench needs, and says on what machine it runs.
fn with_everything(bench: impl FnOnce(Privilege, &Path, &Interpreter) -> Result<()>) -> Result<()> {
    let privilege = Privilege::require("the bench traces a process, which")?;
    setup::run()?;
    let pyalloc = binary::build()?;
    let python = python::newest()?;
    println!("\n{}", machine::describe(&python));
    bench(privilege, &pyalloc, &python)
}

/// As [`with_everything`], with the programs.
fn with_programs(bench: impl FnOnce(Privilege, &Path, &Venv, &Bench<'_>) -> Result<()>) -> Result<()> {
    let privilege = Privilege::require("the bench traces processes, which")?;
    setup::run()?;
    let pyalloc = binary::build()?;
    let python = python::newest()?;
    let venv = Venv::ensure("bench", &python, &workspace_root().join("bench/requirements.txt"))?;
    let programs = Bench::new(privilege, &pyalloc, &venv)?;
    println!("\n{}", machine::describe(&python));
    bench(privilege, &pyalloc, &venv, &programs)
}

fn programs(pairs: usize) -> Result<()> {
    with_programs(|privilege, pyalloc, venv, bench| {
        probes(privilege, pyalloc, &venv.python())?;
        println!("\nwall time of whole programs, traced against plain (launched: start and end of the trace included)");
        println!("medians of {pairs} rounds of runs, in turns; in brackets the smallest and the largest ratio\n");
        for workload in workloads::ALL.iter().filter(|workload| workloads::OF_ALL_PROBES.contains(&workload.name)) {
            println!("{}", Rounds::measure(pairs, |side| bench.seconds(workload, side))?.row(workload.name));
        }
        Ok(())
    })
}

/// As many rounds as there is time for.
fn rounds_wanted(options: &[&str]) -> Result<usize> {
    match options {
        ["--rounds", number] => match number.parse() {
            Ok(rounds @ 1..) => Ok(rounds),
            _ => bail!("--rounds takes a number from 1 on, not `{number}`"),
        },
        [] => Ok(LEAST_PAIRS),
        _ => bail!("bench tools takes --rounds N and --only NAME,..., not `{}`", options.join(" ")),
    }
}

fn pairs_wanted(options: &[&str]) -> Result<usize> {
    let pairs = match options {
        [] => LEAST_PAIRS,
        ["--pairs", number] => number.parse().with_context(|| format!("--pairs takes a number, not `{number}`"))?,
        _ => bail!("bench takes only --pairs N, not `{}`", options.join(" ")),
    };
    if pairs < LEAST_PAIRS {
        bail!("--pairs {pairs}: at least {LEAST_PAIRS}, for a median that means something");
    }
    Ok(pairs)
}

/// pyalloc measures its own probes on itself: ns per malloc and free, untraced, at an emulated site and naively.
fn probes(privilege: Privilege, pyalloc: &Path, python: &Path) -> Result<()> {
    let mut known = Command::new(pyalloc);
    known.args(["bench-probes", "--help"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !known.status().is_ok_and(|status| status.success()) {
        println!("\ncost of a probe: not measured, this build of pyalloc has no `bench-probes`");
        return Ok(());
    }
    println!("\ncost of a probe");
    command::run(privilege.command(pyalloc).arg("bench-probes").arg("--python").arg(python))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_one_or_more() {
        assert_eq!(rounds_wanted(&[]).unwrap(), 5);
        assert_eq!(rounds_wanted(&["--rounds", "1"]).unwrap(), 1);
        for wrong in [&["--rounds", "0"][..], &["--rounds"], &["--pairs", "3"]] {
            assert!(rounds_wanted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pairs_are_five_or_more() {
        assert_eq!(pairs_wanted(&[]).unwrap(), 5);
        assert_eq!(pairs_wanted(&["--pairs", "9"]).unwrap(), 9);
        for wrong in [&["--pairs", "4"][..], &["--pairs", "many"], &["--pairs"], &["fast"]] {
            assert!(pairs_wanted(wrong).is_err(), "{wrong:?}");
        }
    }
}
