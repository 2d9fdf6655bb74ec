//! How far a trace that looks at a part of the allocations says the same as one that looks at all.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;

/// Ranks that are compared.
const RANKS: usize = 10;

/// What matters of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The share of the target's CPU time that the trace took, as it says itself.
    pub taken: f64,
    /// The places that allocated most, first the most.
    allocates: Vec<String>,
    /// Likewise of what survives.
    keeps: Vec<String>,
    /// Bytes, and their standard error.
    allocated: (f64, f64),
    /// Bytes of blocks, and their standard error.
    surviving: (f64, f64),
}

/// Of a part against all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Rank-weighted overlap of the first ten places: 1 if they are the same.
    pub allocated_overlap: f64,
    /// Likewise.
    pub surviving_overlap: f64,
    /// How many standard errors the totals differ by.
    pub allocated_off: f64,
    /// Likewise.
    pub surviving_off: f64,
}

/// Reads a profile by way of its report as JSON and of bench/digest.py.
pub fn read(pyalloc: &Path, python: &Path, profile: &Path) -> Result<Report> {
    let mut report = Command::new(pyalloc);
    report.arg("report").arg(profile).args(["--format", "json", "--top", &RANKS.to_string()]);
    let mut report = report.stdout(Stdio::piped()).spawn().context("cannot run pyalloc report")?;
    let json = report.stdout.take().context("standard output is a pipe")?;
    let mut digest = Command::new(python);
    digest.arg(workspace_root().join("bench/digest.py")).stdin(json);
    let output = digest.output().context("cannot run bench/digest.py")?;
    if !report.wait()?.success() || !output.status.success() {
        bail!("pyalloc's report cannot be read: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(of_lines(&String::from_utf8_lossy(&output.stdout)))
}

fn of_lines(text: &str) -> Report {
    let mut report = Report::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        let number = |index| value.split(' ').nth(index).and_then(|word| word.parse().ok()).unwrap_or(0.0);
        match name {
            "taken" => report.taken = number(0),
            "allocated" => report.allocated = (number(0), number(1)),
            "surviving" => report.surviving = (number(0), number(1)),
            "allocates" => report.allocates.push(value.to_owned()),
            "keeps" => report.keeps.push(value.to_owned()),
            _ => {}
        }
    }
    report
}

/// Compares.
pub fn compare(some: &Report, all: &Report) -> Agreement {
    Agreement {
        allocated_overlap: overlap(&some.allocates, &all.allocates),
        surviving_overlap: overlap(&some.keeps, &all.keeps),
        allocated_off: off(some.allocated, all.allocated),
        surviving_off: off(some.surviving, all.surviving),
    }
}

/// In standard errors of the first.
fn off(some: (f64, f64), all: (f64, f64)) -> f64 {
    /// Two runs of one program are not the same to the byte.
    const SAME: f64 = 0.005;
    /// Of fewer bytes than lie between two samples, most likely none is drawn, and what is not drawn states no error.
    const DRAWN: f64 = 524_288.0;
    (some.0 - all.0).abs() / some.1.max(SAME * all.0).max(DRAWN)
}

/// Of those that are among the first of both, the weights by their rank in `all`, of all of these: rank r weighs 1/r.
fn overlap(some: &[String], all: &[String]) -> f64 {
    let weight = |rank: usize| 1.0 / (rank + 1) as f64;
    let whole: f64 = (0..all.len().min(RANKS)).map(weight).sum();
    let is_in_both = |(_, place): &(usize, &String)| some.iter().take(RANKS).any(|other| other == *place);
    let both = all.iter().take(RANKS).enumerate().filter(is_in_both);
    if whole == 0.0 { 1.0 } else { both.map(|(rank, _)| weight(rank)).sum::<f64>() / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_weighted_by_rank() {
        let places = |names: &str| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(overlap(&places("a b c"), &places("a b c")), 1.0);
        assert_eq!(overlap(&places("b a c"), &places("a b c")), 1.0);
        assert_eq!(overlap(&places("x y z"), &places("a b c")), 0.0);
        assert_eq!(overlap(&[], &[]), 1.0);
        assert!((overlap(&places("b c x"), &places("a b c")) - (0.5 + 1.0 / 3.0) / (1.5 + 1.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn a_report_is_read_and_compared() {
        let report = |megabytes: u64, error: u64, code: &str| {
            let (space, error) = (megabytes * 1_000_000, error * 1_000_000);
            of_lines(&format!("taken 0.04\nallocated {space} {error}\nallocates a b.py:3 {code}\n"))
        };
        let (some, all) = (report(900, 50, "f"), report(1000, 0, "f"));
        assert_eq!((some.taken, some.allocates.len(), some.keeps.len()), (0.04, 1, 0));
        let found = compare(&some, &all);
        assert_eq!((found.allocated_overlap, found.allocated_off), (1.0, 2.0));
        assert_eq!(compare(&report(900, 50, "g"), &all).allocated_overlap, 0.0);
    }
}
