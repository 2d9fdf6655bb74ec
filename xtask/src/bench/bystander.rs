//! `cargo xtask bench bystander`: what other processes pay while one is traced, and what traced ones pay for each other.

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::prctl;
use nix::time::{ClockId, clock_gettime};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Interpreter;

use super::pairs::median;
use super::talker::{Talker, Trace};

/// The hidden task of the child that measures itself.
pub const TASK: &str = "__bystander";

/// What a bystander does, over and over.
const DONE: [(&str, &str); 6] = [
    ("malloc", "malloc(64), free"),
    ("getppid", "getppid, a system call that does nothing"),
    ("mmap", "mmap, munmap"),
    ("fault", "a page fault (4 KiB, of zeroes)"),
    ("loop", "an empty round of a Python loop"),
    ("blocks", "bytearray(600) in Python"),
];

/// Others that are traced meanwhile.
const BESIDE: [u32; 4] = [0, 1, 7, 19];

/// Prints both tables.
pub fn run(privilege: Privilege, pyalloc: &Path, python: &Interpreter, rounds: usize) -> Result<()> {
    let bench = Bench { privilege, pyalloc, python };
    bench.bystanders(rounds)?;
    bench.children(rounds)?;
    bench.neighbours(rounds)
}

struct Bench<'a> {
    privilege: Privilege,
    pyalloc: &'a Path,
    python: &'a Interpreter,
}

impl Bench<'_> {
    fn bystanders(&self, rounds: usize) -> Result<()> {
        println!(
            "\nns of CPU time in a process that is not traced, medians of {rounds} rounds; in brackets the median of the"
        );
        println!("differences from the same round without a trace\n");
        println!("{:<42} {:>9} {:>20} {:>20}", "", "no trace", "another is traced", "a tree of 8 is");
        let mut own = Talker::start(Command::new(std::env::current_exe()?).arg(TASK))?;
        let mut script = self.python(0)?;
        let (one, tree) = (self.python(0)?, self.python(7)?);
        let mut all: Vec<Vec<[f64; 3]>> = vec![Vec::new(); DONE.len()];
        for _ in 0..rounds {
            let mut round = vec![[0.0; 3]; DONE.len()];
            for (side, traced) in [None, Some(one.pid()), Some(tree.pid())].into_iter().enumerate() {
                let trace = traced.map(|pid| self.trace(pid, &[])).transpose()?;
                for (row, (order, _)) in round.iter_mut().zip(DONE) {
                    let talker = if matches!(order, "loop" | "blocks") { &mut script } else { &mut own };
                    row[side] = talker.ask(order)?;
                }
                trace.map(Trace::end).transpose()?;
            }
            all.iter_mut().zip(round).for_each(|(rows, row)| rows.push(row));
        }
        for ((_, what), rows) in DONE.iter().zip(&all) {
            let column = |side: usize| median(rows.iter().map(|row| row[side]));
            let more = |side: usize| median(rows.iter().map(|row| row[side] - row[0]));
            println!(
                "{what:<42} {:>9.1} {:>11.1} ({:>+6.1}) {:>11.1} ({:>+6.1})",
                column(0),
                column(1),
                more(1),
                column(2),
                more(2)
            );
        }
        Ok(())
    }

    /// A child of a traced process that is not traced: it gets the breakpoints with its parent's memory.
    fn children(&self, rounds: usize) -> Result<()> {
        let mut columns: [Vec<f64>; 3] = Default::default();
        let mut parent = self.python(0)?;
        for _ in 0..rounds {
            parent.ask("fork")?;
            columns[0].push(parent.ask("child blocks")?);
            parent.ask("end child")?;
            let trace = self.trace(parent.pid(), &["--no-children"])?;
            parent.ask("fork")?;
            // The breakpoints are taken out some milliseconds after the fork.
            std::thread::sleep(Duration::from_millis(300));
            columns[1].push(parent.ask("child blocks")?);
            trace.end()?;
            columns[2].push(parent.ask("child blocks")?);
            parent.ask("end child")?;
        }
        let [before, traced, after] = columns.map(|column| median(column.into_iter()));
        println!(
            "\nbytearray(600) in a forked child: {before:.1} ns; its parent traced with --no-children: {traced:.1} ns; after the trace: {after:.1} ns"
        );
        Ok(())
    }

    /// A traced process, with others traced beside it that do nothing.
    fn neighbours(&self, rounds: usize) -> Result<()> {
        println!(
            "\nns for bytearray(600) in a traced process, with so many others in the same trace, medians of {rounds} rounds\n"
        );
        println!("{:<20} {:>9} {:>9} {:>9} {:>9}", "links", BESIDE[0], BESIDE[1], BESIDE[2], BESIDE[3]);
        let trees: Vec<Talker> = BESIDE.iter().map(|&number| self.python(number)).collect::<Result<_>>()?;
        let mut trees = trees;
        for links in [&[][..], &["--links", "multi"], &["--links", "session"]] {
            let mut columns = vec![Vec::new(); trees.len()];
            for _ in 0..rounds {
                for (tree, column) in trees.iter_mut().zip(&mut columns) {
                    let trace = self.trace(tree.pid(), links)?;
                    column.push(tree.ask("blocks")?);
                    trace.end()?;
                }
            }
            let row: String =
                columns.into_iter().map(|column| format!(" {:>9.0}", median(column.into_iter()))).collect();
            println!("{:<20}{row}", links.last().unwrap_or(&"as chosen"));
        }
        Ok(())
    }

    fn python(&self, forks: u32) -> Result<Talker> {
        let script = workspace_root().join("bench/bystander.py");
        let mut command = Command::new(&self.python.path);
        command.arg(script);
        if forks > 0 {
            command.arg(forks.to_string());
        }
        let mut talker = Talker::start(&mut command)?;
        talker.line()?;
        Ok(talker)
    }

    fn trace(&self, pid: u32, options: &[&str]) -> Result<Trace> {
        Trace::attach(self.privilege, self.pyalloc, pid, options, "bystander.pyalloc")
    }
}

/// The child's side: a number of ns for each order.
pub fn serve() -> Result<()> {
    // A fault is to bring one page.
    prctl::set_thp_disable(true)?;
    for order in io::stdin().lines() {
        let ns = match order?.as_str() {
            "malloc" => per_round(20_000, || drop(black_box(Vec::<u8>::with_capacity(black_box(64))))),
            "getppid" => per_round(20_000, || {
                black_box(nix::unistd::getppid());
            }),
            "fault" => per_round(1, map_and_touch) / f64::from(TOUCHED),
            _ => per_round(2_000, map_and_unmap),
        };
        println!("{ns}");
    }
    Ok(())
}

/// A block so large that the C library maps it.
fn map_and_unmap() {
    drop(black_box(Vec::<u8>::with_capacity(black_box(64 << 20))));
}

/// Pages touched in one round.
const TOUCHED: u32 = 4096;

/// As above; so many faults that the mapping and unmapping do not count.
fn map_and_touch() {
    let mut memory = black_box(vec![0u8; black_box(64 << 20)]);
    for page in memory.chunks_mut(4096).take(TOUCHED as usize) {
        page[0] = black_box(1);
    }
}

/// CPU time a round, ns: the least of five.
fn per_round(rounds: u32, mut work: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let began = cpu_ns();
        for _ in 0..rounds {
            work();
        }
        least = least.min((cpu_ns() - began) / f64::from(rounds));
    }
    least
}

fn cpu_ns() -> f64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) else { return f64::NAN };
    now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64
}
