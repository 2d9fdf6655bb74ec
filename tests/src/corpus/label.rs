//! What is true of a program of the corpus.

use anyhow::{Context as _, Result, bail};
use pyalloc::profile::verdict::Pattern;
use serde::Deserialize;

/// How the lines of a workload's head start that are its label, in TOML.
const MARK: &str = "# corpus: ";

/// What a workload is, and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The right verdict.
    pub pattern: Pattern,
    /// Verdicts that are as right, where a person would accept either.
    #[serde(default)]
    pub also: Vec<Pattern>,
    /// For a mixture: the patterns that must be found, each in a finding of its own.
    #[serde(default)]
    pub parts: Vec<Pattern>,
    /// Names of which one must stand in the first three lines: functions, containers, modules. None where nothing is at
    /// fault.
    #[serde(default)]
    pub culprit: Vec<String>,
    /// True if any verdict that is trouble is a false alarm.
    #[serde(default)]
    pub healthy: bool,
    /// How long to watch, seconds.
    pub seconds: f64,
    /// The version of CPython to run on, `3.9`; the newest where that is not here, or none is given.
    pub python: Option<String>,
    /// What the program needs beside the standard library.
    #[serde(default)]
    pub needs: Vec<Need>,
}

/// Something that is made or started for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The environment of `workloads/corpus/requirements.txt`, on the newest interpreter.
    Servers,
    /// A Redis server.
    Redis,
    /// The extension module `workloads/corpus/native/lostext.c`.
    Lostext,
}

impl Label {
    /// From a workload's text.
    ///
    /// # Errors
    /// It has no label, or one with an unknown word.
    pub fn parse(text: &str) -> Result<Self> {
        let toml: String =
            text.lines().filter_map(|line| line.strip_prefix(MARK)).flat_map(|line| [line, "\n"]).collect();
        if toml.is_empty() {
            bail!("no line starts with `{MARK}`");
        }
        toml::from_str(&toml).context("the label is not right")
    }

    /// Whether a verdict is right; of a mixture, whether what was found covers its parts.
    pub fn accepts(&self, verdict: Pattern, found: &[Pattern]) -> bool {
        let is_named = verdict == self.pattern || self.also.contains(&verdict);
        match self.pattern {
            Pattern::Mixed => !self.parts.is_empty() && self.parts.iter().all(|part| found.contains(part)),
            _ => is_named,
        }
    }

    /// Whether one of the culprit's names is a word of the text.
    pub fn names_culprit(&self, text: &str) -> bool {
        self.culprit.iter().any(|name| has_word(text, name))
    }
}

/// Whether the name stands there, not as a part of a longer one: `Bus.listeners` in `app.Bus.listeners` does.
fn has_word(text: &str, name: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + name.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(pattern: &str, more: &str) -> Label {
        Label::parse(&format!("\"\"\"Words.\"\"\"\n# corpus: pattern = \"{pattern}\"\n# corpus: seconds = 9\n{more}"))
            .unwrap()
    }

    #[test]
    fn a_label_is_read_from_the_head() {
        let read =
            label("native_leak", "# corpus: culprit = [\"lost\"]\n# corpus: needs = [\"lostext\"]\nimport kit\n");
        assert_eq!((read.pattern, read.seconds, read.needs), (Pattern::NativeLeak, 9.0, vec![Need::Lostext]));
        assert!(Label::parse("import kit\n").is_err());
        assert!(Label::parse("# corpus: pattern = \"bad luck\"\n# corpus: seconds = 9\n").is_err());
        assert!(
            Label::parse("# corpus: pattern = \"mixed\"\n# corpus: seconds = 9\n# corpus: secconds = 9\n").is_err()
        );
    }

    #[test]
    fn a_mixture_is_right_when_its_parts_are_found() {
        let mixed = label("mixed", "# corpus: parts = [\"native_leak\", \"retained_references\"]\n");
        let parts = [Pattern::RetainedReferences, Pattern::NativeLeak];
        assert!(mixed.accepts(Pattern::Mixed, &parts));
        assert!(mixed.accepts(Pattern::NativeLeak, &parts));
        assert!(!mixed.accepts(Pattern::Mixed, &parts[1..]));
        let plain = label("no_growth", "# corpus: also = [\"levels_off\"]\n");
        assert!(plain.accepts(Pattern::LevelsOff, &[]) && plain.accepts(Pattern::NoGrowth, &[]));
        assert!(!plain.accepts(Pattern::NativeLeak, &[Pattern::NoGrowth]));
    }

    #[test]
    fn a_name_is_found_as_a_word() {
        let check =
            |text: &str, name: &str, expected: bool| assert_eq!(has_word(text, name), expected, "{name}: {text}");
        check("kept by app.Bus.listeners (list)", "Bus.listeners", true);
        check("kept by app.Omnibus.listeners", "Bus.listeners", false);
        check("emit, emitted", "emit", true);
        check("emitted by réemit", "emit", false);
    }
}
