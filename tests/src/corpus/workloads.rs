//! The workloads of `workloads/corpus`.

use std::fs;

use anyhow::{Context as _, Result};

use super::label::Label;
use crate::workload;

/// One workload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its file's name without the ending.
    pub name: String,
    /// What is true of it.
    pub label: Label,
}

/// Files beside the workloads that are none.
const HELPERS: [&str; 6] = ["kit", "lines", "web_load", "exports", "growing", "ask_celery"];

/// All of them, by name.
///
/// # Errors
/// One has no label, or a wrong one.
pub fn all() -> Result<Vec<Entry>> {
    let folder = workload::path("corpus");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".py")?.to_owned()))
        .filter(|name| !HELPERS.contains(&name.as_str()))
        .collect();
    names.sort();
    names.into_iter().map(entry).collect()
}

/// One of them, by its name.
///
/// # Errors
/// There is none, or its label is wrong.
pub fn entry(name: impl Into<String>) -> Result<Entry> {
    let name = name.into();
    let path = workload::path("corpus").join(format!("{name}.py"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let label = Label::parse(&text).with_context(|| format!("{}", path.display()))?;
    Ok(Entry { name, label })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pyalloc::profile::verdict::Pattern;

    use super::*;

    #[test]
    fn every_pattern_has_four_workloads() {
        let mut counts: BTreeMap<Pattern, usize> = BTreeMap::new();
        for entry in all().unwrap() {
            *counts.entry(entry.label.pattern).or_default() += 1;
        }
        assert_eq!(counts.len(), 11, "{counts:?}");
        assert!(counts.values().all(|count| *count >= 4), "{counts:?}");
    }

    #[test]
    fn what_is_in_trouble_has_a_culprit_and_what_is_healthy_has_none() {
        for Entry { name, label } in all().unwrap() {
            assert_eq!(label.pattern.is_trouble(), !label.culprit.is_empty(), "{name}");
            assert!(!(label.healthy && label.pattern.is_trouble()), "{name}");
            assert_eq!(label.pattern == Pattern::Mixed, label.parts.len() >= 2, "{name}");
        }
    }
}
