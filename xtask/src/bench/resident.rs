//! `cargo xtask bench resident`: what the ledgers cost that need no probe, those of pages and of mappings.
//!
//! Programs measure themselves from inside, while the trace is on: its start and end are not in the figures.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Venv;

use super::pairs::median;
use super::talker::{Talker, Trace};
use super::workloads::{self, Workload};

/// The ledgers that are measured.
const LEDGERS: [&str; 2] = ["--ledger", "resident,mapping"];

/// MiB and rounds of bench/workloads/faults.py.
const FAULTS: [&str; 2] = ["64", "10"];

/// What it is called, its kind, and how many Python frames are on the stack.
const FAULTING: [(&str, &str, &str); 4] = [
    ("page after page, in C", "fill", "1"),
    ("in random order, in C", "scatter", "1"),
    ("page after page, in Python", "python", "1"),
    ("the same, 30 frames deep", "python", "30"),
];

/// What a bench of these ledgers needs.
pub struct Bench<'a> {
    /// The programs.
    pub programs: &'a workloads::Bench<'a>,
    /// Their environment.
    pub venv: &'a Venv,
    /// How pyalloc becomes root.
    pub privilege: Privilege,
    /// pyalloc.
    pub pyalloc: &'a Path,
    /// How many pairs of runs make a median.
    pub pairs: usize,
}

impl Bench<'_> {
    /// Prints the table of programs and that of loops that only fault; or the row of the one named.
    pub fn run(&self, only: Option<&str>) -> Result<()> {
        let wanted: Vec<&Workload> =
            workloads::ALL.iter().filter(|workload| only.is_none_or(|only| only == workload.name)).collect();
        if wanted.is_empty() && only != Some("faults") {
            let names: Vec<&str> = workloads::ALL.iter().map(|workload| workload.name).collect();
            bail!("--only takes one of {}, faults", names.join(", "));
        }
        println!(
            "\n`pyalloc trace {} --pid`: time inside the program, traced against plain; medians of {} pairs of runs, in\n\
             turns; in brackets the smallest and the largest ratio\n",
            LEDGERS.join(" "),
            self.pairs
        );
        println!(
            "{:<27} {:>8} {:>8} {:>21} {:>21} {:>11} {:>9} {:>9}",
            "", "wall", "CPU", "wall, traced", "CPU, traced", "faults/s", "ns each", "pyalloc"
        );
        let mut all = Vec::new();
        for workload in wanted {
            let pairs = self.measure(|| self.programs.measured(workload)).context(workload.name)?;
            println!("{}", pairs.row(workload.name));
            all.push(pairs);
        }
        if all.len() > 1 {
            summarize(&all);
        }
        if only.is_none_or(|only| only == "faults") {
            println!("\nnothing but faults: maps {} MiB, touches each page, unmaps it", FAULTS[0]);
            for (name, kind, depth) in FAULTING {
                println!("{}", self.measure(|| self.faulting(kind, depth)).context(name)?.row(name));
            }
        }
        println!(
            "\nfaults/s: page faults in a second of the plain run's CPU time. ns each: of our program, by its own clock, as the\n\
             report has it. pyalloc: its own CPU time meanwhile, as a share of the\n\
             target's."
        );
        Ok(())
    }

    fn faulting(&self, kind: &str, depth: &str) -> Command {
        let mut command = Command::new(self.venv.python());
        command.arg(workspace_root().join("bench/measured.py")).arg(workspace_root().join("bench/workloads/faults.py"));
        command.arg(kind).args(FAULTS).arg(depth);
        command
    }

    fn measure(&self, command: impl Fn() -> Command) -> Result<Pairs> {
        // The first run reads files from the disk and compiles Python.
        self.plain(&mut command())?;
        let mut pairs = Pairs::default();
        for turn in 0..self.pairs {
            let (plain, traced) = if turn % 2 == 0 {
                let plain = self.plain(&mut command())?;
                (plain, self.traced(&mut command())?)
            } else {
                let traced = self.traced(&mut command())?;
                (self.plain(&mut command())?, traced)
            };
            pairs.0.push((plain, traced));
        }
        Ok(pairs)
    }

    fn plain(&self, command: &mut Command) -> Result<Used> {
        let mut program = ready(command)?;
        Used::by(&mut program)
    }

    fn traced(&self, command: &mut Command) -> Result<Traced> {
        let mut program = ready(command)?;
        let trace = Trace::attach(self.privilege, self.pyalloc, program.pid(), &LEDGERS, "resident.pyalloc")?;
        let before = trace.cpu_ms();
        let used = Used::by(&mut program)?;
        let own_ms = trace.cpu_ms().saturating_sub(before) as f64;
        Ok(Traced { used, fault_ns: self.fault_ns(&trace.end()?)?, own: own_ms * 1e6 / used.cpu_ns })
    }

    /// What the report says a fault cost.
    fn fault_ns(&self, profile: &Path) -> Result<f64> {
        let mut report = Command::new(self.pyalloc);
        let output = report.arg("report").arg(profile).args(["--format", "json"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rest = text.split_once("\"fault_cost_ns\":").context("the report says nothing of page faults")?.1;
        let number = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        number.parse().context("the report says nothing of page faults")
    }
}

fn ready(command: &mut Command) -> Result<Talker> {
    let mut program = Talker::start(command)?;
    program.line()?;
    Ok(program)
}

/// What a program has used, by its own clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Used {
    wall_ns: f64,
    cpu_ns: f64,
    faults: f64,
}

impl Used {
    fn by(program: &mut Talker) -> Result<Self> {
        program.tell("run")?;
        let line = program.line()?;
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [wall_ns, cpu_ns, faults] => Ok(Self { wall_ns, cpu_ns, faults }),
            _ => bail!("the program said {line}"),
        }
    }
}

/// A traced run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Traced {
    used: Used,
    fault_ns: f64,
    /// pyalloc's own CPU time as a share of the target's.
    own: f64,
}

#[derive(Debug, Default)]
struct Pairs(Vec<(Used, Traced)>);

impl Pairs {
    fn ratios(&self, of: fn(&Used) -> f64) -> Vec<f64> {
        self.0.iter().map(|(plain, traced)| of(&traced.used) / of(plain)).collect()
    }

    fn wall(&self) -> Vec<f64> {
        self.ratios(|used| used.wall_ns)
    }

    fn cpu(&self) -> Vec<f64> {
        self.ratios(|used| used.cpu_ns)
    }

    fn row(&self, name: &str) -> String {
        let plain = |of: fn(&Used) -> f64| median(self.0.iter().map(|(plain, _)| of(plain)));
        let traced = |of: fn(&Traced) -> f64| median(self.0.iter().map(|(_, traced)| of(traced)));
        format!(
            "{name:<27} {:>6.2} s {:>6.2} s {:>21} {:>21} {:>11.0} {:>9.0} {:>7.1} %",
            plain(|used| used.wall_ns) / 1e9,
            plain(|used| used.cpu_ns) / 1e9,
            spread(&self.wall()),
            spread(&self.cpu()),
            plain(|used| used.faults * 1e9 / used.cpu_ns),
            traced(|traced| traced.fault_ns),
            traced(|traced| traced.own) * 100.0,
        )
    }
}

fn spread(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.2} to {most:.2})", median(ratios.iter().copied()))
}

/// The geometric mean of the medians with its standard error, and the worst.
fn summarize(all: &[Pairs]) {
    println!();
    for (what, of) in [("wall", Pairs::wall as fn(&Pairs) -> Vec<f64>), ("CPU", Pairs::cpu)] {
        let ratios: Vec<Vec<f64>> = all.iter().map(of).collect();
        let worst = ratios.iter().map(|ratios| median(ratios.iter().copied())).fold(0.0, f64::max);
        let (mean, error) = geometric_mean(&ratios);
        println!("{what}: geometric mean {mean:.3}, standard error {error:.3}, worst {worst:.3}");
    }
}

/// Of medians, with the standard error that follows from how the values differ.
fn geometric_mean(all: &[Vec<f64>]) -> (f64, f64) {
    /// How much less is known from a median than from a mean, for normally distributed values.
    const MEDIAN: f64 = 1.25;
    let number = all.len() as f64;
    let (mut sum, mut variance) = (0.0, 0.0);
    for ratios in all {
        sum += median(ratios.iter().copied()).ln();
        let count = ratios.len() as f64;
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count;
        let squares = ratios.iter().map(|ratio| (ratio.ln() - mean).powi(2)).sum::<f64>();
        variance += squares / (count - 1.0) / count;
    }
    let mean = (sum / number).exp();
    (mean, mean * MEDIAN * variance.sqrt() / number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometric_mean_knows_how_sure_it_is() {
        let (mean, error) = geometric_mean(&[vec![2.0; 5], vec![0.5; 5]]);
        assert!((mean - 1.0).abs() < 1e-9 && error < 1e-9, "{mean} {error}");
        let (_, error) = geometric_mean(&[vec![0.9, 1.0, 1.1, 0.95, 1.05]]);
        assert!(error > 0.02 && error < 0.07, "{error}");
    }

    #[test]
    fn a_row_is_of_pairs() {
        let used = |wall_ns, cpu_ns| Used { wall_ns, cpu_ns, faults: 2000.0 };
        let traced = |wall_ns, cpu_ns| Traced { used: used(wall_ns, cpu_ns), fault_ns: 700.0, own: 0.004 };
        let pairs = Pairs(vec![(used(4e9, 2e9), traced(4e9, 2.2e9)), (used(2e9, 1e9), traced(4e9, 1e9))]);
        let row = pairs.row("json_doc");
        for part in ["3.00 s", "1.50 s", "1.500 (1.00 to 2.00)", "1.050 (1.00 to 1.10)", " 1500 ", " 700 ", "0.4 %"] {
            assert!(row.contains(part), "{part}: {row}");
        }
    }
}
