//! Cases from elsewhere: a folder each, with what is true in `case.toml`, started by `run_case.sh NAME [--fixed]`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pyalloc::profile::verdict::Pattern;
use serde::Deserialize;

use super::label::Label;
use super::start::{self, Started};
use crate::guard::Guard;

/// How long a case is watched, seconds.
const WATCHED: f64 = 20.0;
/// The program has this long to begin: nothing says that it has.
const BEGINNING: Duration = Duration::from_millis(1500);
/// Shorter names of functions (`get`, `read`) are words of any sentence.
const SHORTEST: usize = 5;

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// What is true of it.
    pub label: Label,
    script: PathBuf,
}

/// What we read of `case.toml`.
#[derive(Debug, Deserialize)]
struct File {
    pattern_letter: String,
    pattern: String,
    python: String,
    package: String,
    truth: Truth,
    expected: Expected,
}

#[derive(Debug, Deserialize)]
struct Truth {
    functions: Vec<String>,
    leaker: String,
    retained_by: String,
}

#[derive(Debug, Deserialize)]
struct Expected {
    kind: String,
}

/// The cases of a folder, by name.
///
/// # Errors
/// It cannot be read, or a case's file is not right.
pub fn all(folder: &Path) -> Result<Vec<Case>> {
    let script = folder.join("run_case.sh");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten() {
        let path = entry.path().join("case.toml");
        if let Ok(text) = fs::read_to_string(&path) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let label = label(&text).with_context(|| format!("{}", path.display()))?;
            cases.push(Case { name, label, script: script.clone() });
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}

fn label(text: &str) -> Result<Label> {
    let file: File = toml::from_str(text)?;
    // `b/g ...`: either is right.
    let letters = file.pattern.split_whitespace().next().unwrap_or_default();
    let mut patterns = [file.pattern_letter.as_str()].into_iter().chain(letters.split('/')).filter_map(pattern);
    let pattern = patterns.next().with_context(|| format!("no pattern has the letter {}", file.pattern_letter))?;
    Ok(Label {
        pattern,
        also: patterns.filter(|other| *other != pattern).collect(),
        culprit: culprit(&file),
        seconds: WATCHED,
        python: Some(file.python),
        ..Label::default()
    })
}

/// The letters of the cases.
fn pattern(letter: &str) -> Option<Pattern> {
    Some(match letter {
        "a" => Pattern::RetainedReferences,
        "b" => Pattern::UnboundedCacheOrQueue,
        "c" => Pattern::NativeLeak,
        "d" => Pattern::PayloadOrTrafficPressure,
        "e" => Pattern::ProcessModelMultiplication,
        "f" => Pattern::HeldByAllocator,
        "g" => Pattern::BackgroundStateWhileIdle,
        _ => return None,
    })
}

/// The functions, what looks like an identifier in the words on who leaks and who keeps, and for native code its package.
fn culprit(file: &File) -> Vec<String> {
    let named = file.truth.functions.iter().map(String::as_str);
    let words = [&file.truth.leaker, &file.truth.retained_by].into_iter().flat_map(|text| text.split_whitespace());
    let identifiers = words
        .map(|word| word.trim_matches(|character: char| !character.is_alphanumeric() && character != '_'))
        .filter(|word| word.chars().all(|character| character.is_alphanumeric() || "._".contains(character)))
        .filter(|word| word.contains(['.', '_']));
    let package =
        file.package.split("==").next().filter(|_| ["native", "reference"].contains(&file.expected.kind.as_str()));
    let names = named.chain(identifiers).filter(|name| name.len() >= SHORTEST && !name.starts_with('<'));
    let mut names: Vec<String> = names.chain(package).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

impl Case {
    /// Starts it, the fixed version if asked for, and returns when it has begun.
    ///
    /// # Errors
    /// The script cannot be run, or prints no pid.
    pub fn start(&self, fixed: bool) -> Result<Started> {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(&self.name).args(fixed.then_some("--fixed"));
        let mut program = Guard::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let mut output = BufReader::new(program.child().stdout.take().context("standard output is a pipe")?);
        let mut line = String::new();
        output.read_line(&mut line).context("cannot read from the case")?;
        let pid = line.split_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok());
        let pid = pid.with_context(|| format!("{} said no pid: {line}", self.name))?;
        start::drain(output);
        thread::sleep(BEGINNING);
        Ok(Started::new(pid, format!("CPython {}", self.label.python.as_deref().unwrap_or_default()), program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = r#"
        pattern = "b/g unbounded queue while the broker is down"
        pattern_letter = "b"
        python = "3.9"
        package = "some-mqtt==1.6.1"
        [expected]
        kind = "python"
        [truth]
        functions = ["publish", "get", "<listcomp>"]
        leaker = "Client.publish (self._out_messages[message.mid] = message)"
        retained_by = "Client._out_messages"
    "#;

    #[test]
    fn a_case_has_the_patterns_of_its_letters() {
        let label = label(CASE).unwrap();
        assert_eq!(
            (label.pattern, label.also),
            (Pattern::UnboundedCacheOrQueue, vec![Pattern::BackgroundStateWhileIdle])
        );
        assert!(super::label(&CASE.replace("\"b\"", "\"z\"").replace("b/g", "z")).is_err());
    }

    #[test]
    fn its_culprit_is_named_by_functions_and_holders() {
        assert_eq!(label(CASE).unwrap().culprit, ["Client._out_messages", "Client.publish", "publish"]);
        let native = label(&CASE.replace("\"python\"", "\"native\"")).unwrap();
        assert!(native.culprit.contains(&"some-mqtt".to_owned()));
    }
}
