//! `cargo xtask TASK`: see `cargo xtask help`.

mod bench;
mod ci;
mod command;
mod corpus;
mod demo;
mod dist;
mod interpreters;
mod interrupt;
mod matrix;
mod resident;
mod setup;
mod survive;
mod tally;
mod test;

use std::process::ExitCode;

use anyhow::Result;

const HELP: &str = "\
cargo xtask TASK

  setup        install what building and testing need, after saying what (nothing if nothing is missing)
  interpreters fetch more real interpreters for the tests, and packages for them, into target/interpreters
               (nothing if all are there)
  build-ebpf   build the kernel side alone, and print the path of the object
  matrix       records on every interpreter what it says itself, and writes docs/interpreters.md
  resident     traces processes of known composition and writes docs/resident.md
  corpus       diagnoses programs whose memory trouble is known, prints what was right, and writes docs/corpus.md;
               --only NAME for some of them, --repeat N, --cases FOLDER for cases from elsewhere instead
  demo         a small service that leaks, under load, traced: prints the report and the flamegraph's path
  dist         a static binary with manual pages and completions, in a tar: target/dist
  test         everything that is needed, then all tests; closes with `N passed, N failed, N skipped`
  ci           what CI runs: format, lints, tests
  bench        what tracing costs, as ratios; --pairs N for more than 5 pairs of runs;
               `bench soak`: what pyalloc itself takes over three minutes;
               `bench scale [--only KIND]`: what it takes for much of everything, and what it loses;
               `bench bystander`: what processes pay that are not traced, and traced ones for each other;
               `bench looks [--looks N]`: 10 000 looks at the objects of a process that never rests;
               `bench resident [--pairs N] [--only NAME]`: the ledgers that need no probe, on twelve programs
  survive      kills a traced program 50 times, by SIGKILL and by a control group's limit, and prints what is left
               of it; --repeats N for another number
  help         this text

Tracing needs root: demo, corpus, test, resident, bench and survive use sudo where they are not run as root.
";

/// Usage errors have the exit code that pyalloc itself gives them.
const USAGE: u8 = 2;
/// What a shell reports for Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = interrupt::watch().and_then(|()| match arguments[..] {
        ["setup"] => setup::run(),
        ["interpreters"] => interpreters::run_with_packages(),
        ["build-ebpf"] => build_ebpf(),
        ["matrix"] => matrix::run(),
        ["resident"] => resident::run(),
        ["corpus", ref options @ ..] => corpus::run(options),
        ["demo"] => demo::run(),
        ["dist"] => dist::run(),
        ["test"] => test::run(),
        ["ci"] => ci::run(),
        ["bench", ref options @ ..] => bench::run(options),
        ["survive", ref options @ ..] => survive::run(options),
        [bench::bystander::TASK] => bench::bystander::serve(),
        ["help" | "--help" | "-h"] => help(),
        _ => {
            eprint!("{HELP}");
            std::process::exit(USAGE.into());
        }
    });
    match result {
        _ if interrupt::happened() => ExitCode::from(INTERRUPTED),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build_ebpf() -> Result<()> {
    let path = xtask::ebpf::build(&xtask::ebpf::workspace_root().join("target/ebpf"))?;
    println!("{}", path.display());
    Ok(())
}

fn help() -> Result<()> {
    print!("{HELP}");
    Ok(())
}
