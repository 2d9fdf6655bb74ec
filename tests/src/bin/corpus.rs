//! What `cargo xtask corpus` runs: diagnoses the programs of the corpus, and writes the tables of `docs/corpus.md`.
//!
//!     corpus [--only NAME] [--repeat N] [--cases FOLDER] [--record FOLDER]

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use live_tests::corpus::cases::{self, Case};
use live_tests::corpus::label::Label;
use live_tests::corpus::run::{self, Told};
use live_tests::corpus::score::{Score, Scored};
use live_tests::corpus::start::{self, Started};
use live_tests::corpus::{page, workloads};
use pyalloc::profile::verdict::Pattern;
use xtask::ebpf::workspace_root;

/// What was asked for.
struct Options {
    /// Only programs with this in their name.
    only: Option<String>,
    /// How often each is diagnosed.
    repeat: u32,
    /// Cases instead of the corpus.
    cases: Option<PathBuf>,
    /// Where the profiles are kept.
    record: Option<PathBuf>,
}

impl Options {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { only: None, repeat: 1, cases: None, record: None };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} takes a value"));
            match word.as_str() {
                "--only" => options.only = Some(value()?),
                "--repeat" => options.repeat = value()?.parse().context("--repeat takes a number")?,
                "--cases" => options.cases = Some(PathBuf::from(value()?)),
                "--record" => options.record = Some(PathBuf::from(value()?)),
                _ => bail!("corpus takes --only NAME, --repeat N, --cases FOLDER and --record FOLDER, not `{word}`"),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Diagnoses one program that has started.
    fn said(&self, name: &str, label: &Label, seconds: f64, started: Result<Started>) -> Scored {
        let keep = self.record.as_ref().map(|folder| folder.join(format!("{}.pyalloc", name.replace(", ", "-"))));
        let told = started.and_then(|started| run::diagnose(&started, seconds, keep.as_deref()));
        let told = told.map_err(|error| format!("{error:#}"));
        let scored = Scored { name: name.to_owned(), label: label.clone(), told };
        print(&scored);
        scored
    }
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let (section, scored) = match &options.cases {
        Some(folder) => ("cases", diagnose_cases(&options, cases::all(folder)?)),
        None => ("corpus", diagnose_corpus(&options)?),
    };
    if scored.is_empty() {
        bail!("no program has that in its name");
    }
    let score = Score::of(&scored);
    let tables = format!("{}\n{}\n{}", page::matrix(&score), page::rates(&score), page::rows(&scored));
    println!("\n{tables}");
    if options.only.is_none() {
        write(section, &tables)?;
    }
    Ok(())
}

fn diagnose_corpus(options: &Options) -> Result<Vec<Scored>> {
    let mut scored = Vec::new();
    for entry in workloads::all()?.into_iter().filter(|entry| options.wants(&entry.name)) {
        for _ in 0..options.repeat {
            let seconds = entry.label.seconds;
            scored.push(options.said(&entry.name, &entry.label, seconds, start::start(&entry)));
        }
    }
    Ok(scored)
}

/// Each case, and then its fixed version, which must not be called trouble.
fn diagnose_cases(options: &Options, cases: Vec<Case>) -> Vec<Scored> {
    let mut scored = Vec::new();
    for case in cases.iter().filter(|case| options.wants(&case.name)) {
        for _ in 0..options.repeat {
            scored.push(options.said(&case.name, &case.label, case.label.seconds, case.start(false)));
            let name = format!("{}, fixed", case.name);
            scored.push(options.said(&name, &fixed(&case.label), case.label.seconds, case.start(true)));
        }
    }
    scored
}

fn fixed(label: &Label) -> Label {
    Label {
        pattern: Pattern::NoGrowth,
        also: vec![Pattern::LevelsOff, Pattern::NotEnoughData],
        healthy: true,
        python: label.python.clone(),
        ..Label::default()
    }
}

fn print(scored: &Scored) {
    let right = if scored.is_right() { "right" } else { "WRONG" };
    let named =
        scored.names_culprit().map_or("", |named| if named { ", culprit named" } else { ", CULPRIT NOT NAMED" });
    match &scored.told {
        Ok(Told { diagnosis, opening, beside_s, .. }) => {
            println!("{:30} {right}: {}{named} (+{beside_s:.1} s)", scored.name, diagnosis.pattern.words());
            opening.lines().for_each(|line| println!("      {line}"));
        }
        Err(reason) => println!("{:30} no answer: {reason}", scored.name),
    }
}

/// Puts the tables into their place on the page, and leaves the rest of it as it is.
fn write(section: &str, tables: &str) -> Result<()> {
    let path = workspace_root().join("docs/corpus.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text =
        page::with_section(&text, section, tables).with_context(|| format!("{} has no place", path.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
