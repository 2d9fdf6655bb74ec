//! The project's own files, as git knows them, for tests about what must not be in them.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;

/// A tracked text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the project's folder on.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// Whether it lies in one of the folders, or is one of the files.
    pub fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| match self.path.strip_prefix(place) {
            Some(rest) => rest.is_empty() || place.ends_with('/'),
            None => false,
        })
    }

    /// Its lines of code, numbered from 1: without comments, and without the unit tests at its end.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(index, line)| (index + 1, without_comment(line)))
    }
}

/// Cuts at `//`, but not at the one in `scheme://`.
fn without_comment(line: &str) -> &str {
    let cut = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    cut.map_or(line, |(at, _)| &line[..at])
}

/// Every tracked file that is text and still there.
pub fn tracked() -> Result<Vec<Source>> {
    let root = workspace_root();
    let output = Command::new("git").current_dir(&root).args(["ls-files", "-z"]).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a tracked file has a name that is not UTF-8")?;
    let sources = names.split_terminator('\0').filter_map(|path| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(Source { path: path.to_owned(), text })
    });
    Ok(sources.collect())
}

/// Every tracked Rust file.
pub fn rust() -> Result<Vec<Source>> {
    Ok(tracked()?.into_iter().filter(|source| source.path.ends_with(".rs")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_are_no_code() {
        let text = "//! doc\nlet a = 1; // one\nlet b = \"http://x\";\n#[cfg(test)]\nmod tests {}\n";
        let source = Source { path: "a.rs".to_owned(), text: text.to_owned() };
        let code: Vec<_> = source.code().collect();
        assert_eq!(code, [(1, ""), (2, "let a = 1; "), (3, "let b = \"http://x\";")]);
    }

    #[test]
    fn a_place_is_a_folder_or_a_file() {
        let source = Source { path: "profiler/src/kernel/ring.rs".to_owned(), text: String::new() };
        assert!(source.is_in(&["profiler/src/kernel/"]));
        assert!(source.is_in(&["profiler/src/kernel/ring.rs"]));
        assert!(!source.is_in(&["profiler/src/ker"]));
    }
}
