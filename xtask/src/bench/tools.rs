//! What `pyalloc trace` costs whole programs, beside other memory profilers, in one run: programs measure themselves from
//! inside, while the tool is on. Its start and end are not in the figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Venv;

use super::fidelity::{self, Report};
use super::pairs::median;
use super::talker::{Talker, Trace};
use super::workloads::{self, Workload};

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// By itself.
    Plain,
    /// `pyalloc trace --pid`: every block.
    Every,
    /// The same, one block in so many bytes: [`INTERVAL`].
    Sampled,
    /// `memray run`.
    Memray,
    /// `memray run --trace-python-allocators`.
    MemrayPython,
    /// `python -X tracemalloc`.
    Tracemalloc,
}

impl Tool {
    /// All, in the order of the columns.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Every, Self::Sampled, Self::Memray, Self::MemrayPython, Self::Tracemalloc];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "by itself",
            Self::Every => "pyalloc",
            Self::Sampled => "pyalloc, sampled",
            Self::Memray => "memray",
            Self::MemrayPython => "memray, Python's allocators",
            Self::Tracemalloc => "tracemalloc",
        }
    }

    /// What is typed.
    fn command(self) -> &'static str {
        match self {
            Self::Plain => "python PROGRAM",
            Self::Every => "pyalloc trace --quiet --pid PID",
            Self::Sampled => "pyalloc trace --quiet --pid PID --sample-interval 524288",
            Self::Memray => "python -m memray run -q -f -o FILE PROGRAM",
            Self::MemrayPython => "python -m memray run --trace-python-allocators -q -f -o FILE PROGRAM",
            Self::Tracemalloc => "python -X tracemalloc PROGRAM",
        }
    }
}

/// Bytes between two samples: what Go's and jemalloc's profilers take.
const INTERVAL: &str = "524288";

/// What a program has used, by its own clocks, and what the trace of it says.
#[derive(Clone, Debug)]
pub struct Run {
    /// ns.
    pub wall: f64,
    /// ns.
    pub cpu: f64,
    /// CPU time of pyalloc itself meanwhile, as a share of the target's.
    pub own: f64,
    /// What pyalloc reports.
    pub report: Option<Report>,
}

/// What a bench of whole programs needs.
pub struct Bench<'a> {
    /// The programs.
    pub programs: &'a workloads::Bench<'a>,
    /// Where memray is, if it could be installed.
    pub memray: Option<PathBuf>,
    /// Their environment.
    pub venv: &'a Venv,
    /// How pyalloc becomes root.
    pub privilege: Privilege,
    /// pyalloc.
    pub pyalloc: &'a Path,
    /// How many rounds make a median.
    pub rounds: usize,
}

/// The runs of one program, by tool, round by round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(BTreeMap<Tool, Vec<Run>>);

impl Bench<'_> {
    /// Runs all programs, or the one named, and gives the table as Markdown.
    pub fn run(&self, only: Option<&str>) -> Result<String> {
        let is_wanted = |name: &str| only.is_none_or(|only| only.split(',').any(|one| one == name));
        let wanted = |workload: &&Workload| is_wanted(workload.name);
        let mut all = Vec::new();
        for workload in workloads::ALL.iter().filter(wanted) {
            let rounds = self.rounds(|| self.programs.measured(workload)).context(workload.name)?;
            println!("{}", rounds.progress(workload.name));
            all.push((workload.name.to_owned(), rounds));
        }
        for (name, arguments, malloc) in WORST.iter().filter(|worst| is_wanted(worst.0)) {
            let rounds = self.rounds(|| self.worst(arguments, *malloc)).context(*name)?;
            println!("{}", rounds.progress(name));
            all.push(((*name).to_owned(), rounds));
        }
        if all.is_empty() {
            let names: Vec<&str> = workloads::ALL.iter().map(|workload| workload.name).collect();
            bail!(
                "--only takes some of {}, {}, with commas between",
                names.join(", "),
                WORST.map(|worst| worst.0).join(", ")
            );
        }
        Ok(page(&all, self.rounds))
    }

    fn worst(&self, arguments: &[&str], malloc: bool) -> Command {
        let mut command = Command::new(self.venv.python());
        command.arg(workspace_root().join("bench/measured.py")).arg(workspace_root().join("bench/workloads/worst.py"));
        command.args(arguments);
        if malloc {
            command.env("PYTHONMALLOC", "malloc");
        }
        command
    }

    fn tools(&self) -> impl Iterator<Item = Tool> {
        let has = |tool: &Tool| self.memray.is_some() || !matches!(tool, Tool::Memray | Tool::MemrayPython);
        Tool::ALL.into_iter().filter(has)
    }

    /// Which tool runs first rotates, so that a drift of the machine favours none.
    fn rounds(&self, command: impl Fn() -> Command) -> Result<Rounds> {
        // The first run reads files from the disk and compiles Python; it counts for none.
        self.measure(command(), Tool::Plain)?;
        let tools: Vec<Tool> = self.tools().collect();
        let mut rounds = Rounds::default();
        for first in 0..self.rounds {
            for turn in 0..tools.len() {
                let tool = tools[(first + turn) % tools.len()];
                let run = self.measure(command(), tool).with_context(|| tool.name())?;
                rounds.0.entry(tool).or_default().push(run);
            }
        }
        Ok(rounds)
    }

    fn measure(&self, command: Command, tool: Tool) -> Result<Run> {
        let mut program = Talker::start(&mut self.under(command, tool))?;
        program.line()?;
        let options: &[&str] = match tool {
            Tool::Every => &[],
            Tool::Sampled => &["--sample-interval", INTERVAL],
            _ => {
                let (wall, cpu) = used(&mut program)?;
                return Ok(Run { wall, cpu, own: 0.0, report: None });
            }
        };
        let trace = Trace::attach(self.privilege, self.pyalloc, program.pid(), options, "tools.pyalloc")?;
        let before = trace.cpu_ms();
        let (wall, cpu) = used(&mut program)?;
        let own = trace.cpu_ms().saturating_sub(before) as f64 * 1e6 / cpu;
        Ok(Run { wall, cpu, own, report: Some(fidelity::read(self.pyalloc, &self.venv.python(), &trace.end()?)?) })
    }

    /// The command with the tool in it.
    fn under(&self, command: Command, tool: Tool) -> Command {
        let options: &[&str] = match tool {
            Tool::Plain | Tool::Every | Tool::Sampled => return command,
            Tool::Memray => &["-m", "memray", "run", "-q", "-f", "-o"],
            Tool::MemrayPython => &["-m", "memray", "run", "--trace-python-allocators", "-q", "-f", "-o"],
            Tool::Tracemalloc => &["-X", "tracemalloc"],
        };
        let mut under = Command::new(command.get_program());
        under.args(options);
        if tool != Tool::Tracemalloc {
            under.arg(workspace_root().join("target/bench/tools.memray"));
        }
        under.args(command.get_args());
        under.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        under.envs(self.memray.iter().map(|path| ("PYTHONPATH", path)));
        under
    }
}

/// What allocates and does nothing else: its name, its arguments, and whether every object is a block of malloc.
const WORST: [(&str, [&str; 3], bool); 4] = [
    ("blocks", ["blocks", "2000000", "1"], false),
    ("blocks_4_threads", ["blocks", "2000000", "4"], false),
    ("lists", ["lists", "10000000", "1"], false),
    ("lists_by_malloc", ["lists", "2000000", "1"], true),
];

fn used(program: &mut Talker) -> Result<(f64, f64)> {
    program.tell("run")?;
    let line = program.line()?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [wall, cpu, _faults] => Ok((wall, cpu)),
        _ => bail!("the program said {line}"),
    }
}

impl Rounds {
    /// The median of the ratios against the plain run of the same round.
    fn ratio(&self, tool: Tool, of: fn(&Run) -> f64) -> Option<f64> {
        let (plain, runs) = (self.0.get(&Tool::Plain)?, self.0.get(&tool)?);
        Some(median(plain.iter().zip(runs).map(|(plain, run)| of(run) / of(plain))))
    }

    fn median(&self, tool: Tool, of: fn(&Run) -> f64) -> f64 {
        median(self.0.get(&tool).into_iter().flatten().map(of))
    }

    fn progress(&self, name: &str) -> String {
        let ratios = Tool::ALL
            .into_iter()
            .skip(1)
            .filter_map(|tool| Some(format!("{} {:.2}", tool.name(), self.ratio(tool, |run| run.cpu)?)));
        format!("{name:<16} {}", ratios.collect::<Vec<_>>().join("  "))
    }

    /// Of the same round: sampled against all.
    fn agreement(&self) -> Vec<fidelity::Agreement> {
        let reports = |tool| self.0.get(&tool).into_iter().flatten().filter_map(|run: &Run| run.report.as_ref());
        reports(Tool::Sampled).zip(reports(Tool::Every)).map(|(some, all)| fidelity::compare(some, all)).collect()
    }
}

/// Puts the table into docs/cost.md, in place of the one before.
pub fn write(machine: &str, table: &str) -> Result<()> {
    let path = workspace_root().join("docs/cost.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("docs/cost.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("docs/cost.md has no place for the table")?;
    let machine = machine.lines().map(|line| format!("* {line}\n")).collect::<String>();
    let text = format!("{before}{BEGIN}\n{machine}\n{table}\n{END}{after}");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

const BEGIN: &str = "<!-- written by cargo xtask bench tools -->";
const END: &str = "<!-- end -->";

fn page(all: &[(String, Rounds)], rounds: usize) -> String {
    let mut text = format!(
        "Medians of {rounds} rounds, each tool once a round in turn; ratios against the plain run of the same round.\n"
    );
    if rounds < 5 {
        text += "Fewer than five rounds: an indication, no more.\n";
    }
    text += "\n| | how it is run |\n|---|---|\n";
    for tool in Tool::ALL {
        text += &format!("| {} | `{}` |\n", tool.name(), tool.command());
    }
    for (title, of) in [("CPU time", (|run| run.cpu) as fn(&Run) -> f64), ("Wall time", |run| run.wall)] {
        text += &format!("\n{}\n", table(title, all, of));
    }
    text + &fidelity_table(all)
}

fn table(title: &str, all: &[(String, Rounds)], of: fn(&Run) -> f64) -> String {
    let tools: Vec<Tool> = Tool::ALL
        .into_iter()
        .skip(1)
        .filter(|tool| all.iter().any(|(_, rounds)| rounds.0.contains_key(tool)))
        .collect();
    let mut text = format!("| {title} | by itself |");
    tools.iter().for_each(|tool| text += &format!(" {} |", tool.name()));
    text += &format!("\n|---|{}\n", "---|".repeat(tools.len() + 1));
    for (name, rounds) in all {
        text += &format!("| {name} | {:.2} s |", rounds.median(Tool::Plain, of) / 1e9);
        for &tool in &tools {
            text += &rounds.ratio(tool, of).map_or(" |".to_owned(), |ratio| format!(" {ratio:.3} |"));
        }
        text.push('\n');
    }
    let programs: Vec<&Rounds> = all.iter().filter(|(name, _)| is_program(name)).map(|(_, rounds)| rounds).collect();
    if programs.len() > 1 {
        text += "| **geometric mean of the programs** | |";
        for &tool in &tools {
            let ratios: Vec<f64> = programs.iter().filter_map(|rounds| rounds.ratio(tool, of)).collect();
            text += &format!(" **{:.3}** |", geometric_mean(&ratios));
        }
        text.push('\n');
    }
    text
}

fn is_program(name: &str) -> bool {
    workloads::ALL.iter().any(|workload| workload.name == name)
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn fidelity_table(all: &[(String, Rounds)]) -> String {
    let mut text = "\n| sampled against every block | taken, by the report | pyalloc's own | overlap, allocated | overlap, surviving | allocated off by | surviving off by |\n|---|---|---|---|---|---|---|\n".to_owned();
    for (name, rounds) in all {
        let found = rounds.agreement();
        if found.is_empty() {
            continue;
        }
        let of = |part: fn(&fidelity::Agreement) -> f64| median(found.iter().map(part));
        let report = |part: fn(&Report) -> f64| {
            median(rounds.0.get(&Tool::Sampled).into_iter().flatten().filter_map(|run| run.report.as_ref()).map(part))
        };
        text += &format!(
            "| {name} | {:.1} % | {:.1} % | {:.2} | {:.2} | {:.1} σ | {:.1} σ |\n",
            100.0 * report(|report| report.taken),
            100.0 * rounds.median(Tool::Sampled, |run| run.own),
            of(|found| found.allocated_overlap),
            of(|found| found.surviving_overlap),
            of(|found| found.allocated_off),
            of(|found| found.surviving_off),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(plain: f64, traced: f64) -> Rounds {
        let runs = |wall| vec![Run { wall, cpu: wall, own: 0.01, report: None }; 5];
        Rounds(BTreeMap::from([(Tool::Plain, runs(plain * 1e9)), (Tool::Every, runs(traced * 1e9))]))
    }

    #[test]
    fn the_page_has_ratios_and_their_geometric_mean() {
        let all = [
            ("json_loads".to_owned(), rounds(2.0, 2.2)),
            ("blocks".to_owned(), rounds(1.0, 9.0)),
            ("pillow".to_owned(), rounds(1.0, 1.0)),
        ];
        let text = page(&all, 5);
        assert!(text.contains("| json_loads | 2.00 s | 1.100 |"), "{text}");
        assert!(text.contains("| **geometric mean of the programs** | | **1.049** |"), "{text}");
        assert!(text.contains("| CPU time | by itself | pyalloc |\n"), "{text}");
    }
}
