//! One name for the same file in profiles of different checkouts, environments and temporary folders: else everything
//! would be new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::profile::place::{below_library, last_parts};
use crate::profile::{FrameKind, Profile};

/// Files of one name that are tried for where a checkout has moved; `__init__.py` says nothing.
const MOST_NAMESAKES: usize = 32;

/// How the files of several profiles are named.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The repository, with a slash at its end; empty if it was not told.
    root: String,
    /// For each profile: where its checkout was, and what stands for that.
    moved: Vec<(String, String)>,
}

impl Places {
    /// Finds where the checkouts of the profiles were: those after the first are told by its names. `root` is the
    /// folder of the repository, as the profiles name it.
    pub fn new(profiles: &[&Profile], root: Option<&str>) -> Self {
        let root = root.map(|root| format!("{}/", root.trim_end_matches('/'))).unwrap_or_default();
        let own: Vec<BTreeSet<&str>> = profiles.iter().map(|profile| own_files(profile)).collect();
        let first = own.first().cloned().unwrap_or_default();
        let moved = own.iter().map(|files| moved(files, &first)).collect();
        Self { root, moved }
    }

    /// The name of a file of the profile at `index`.
    pub fn name(&self, index: usize, kind: FrameKind, file: &str) -> String {
        match kind {
            FrameKind::Marker => return String::new(),
            FrameKind::Native => return last_parts(file, 1).to_owned(),
            FrameKind::Package | FrameKind::Stdlib => {
                if let Some(within) = below_library(file) {
                    return within.to_owned();
                }
            }
            FrameKind::Own => {}
        }
        let moved = self.moved.get(index).filter(|(from, _)| !from.is_empty());
        let there = moved.and_then(|(from, to)| file.strip_prefix(from.as_str()).map(|rest| format!("{to}{rest}")));
        let file = there.as_deref().unwrap_or(file);
        let inside = file.strip_prefix(self.root.as_str()).filter(|_| !self.root.is_empty());
        without_temporary(inside.unwrap_or(file))
    }
}

fn own_files(profile: &Profile) -> BTreeSet<&str> {
    let own = profile.frames.iter().filter(|frame| frame.kind == FrameKind::Own);
    own.map(|frame| profile.text(frame.file)).filter(|file| file.starts_with('/')).collect()
}

/// The prefix of most files that are not in `first`, and the one that they have there. Empty where nothing moved.
fn moved(files: &BTreeSet<&str>, first: &BTreeSet<&str>) -> (String, String) {
    let mut namesakes: HashMap<&str, Vec<&str>> = HashMap::new();
    for file in first {
        namesakes.entry(last_parts(file, 1)).or_default().push(file);
    }
    let mut votes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut stayed = 0;
    for file in files {
        if first.contains(file) {
            stayed += 1;
            continue;
        }
        let candidates = namesakes.get(last_parts(file, 1)).filter(|files| files.len() <= MOST_NAMESAKES);
        let best = candidates.into_iter().flatten().map(|other| prefixes(file, other));
        if let Some(prefixes) = best.min_by_key(|(from, _)| from.len()) {
            *votes.entry(prefixes).or_default() += 1;
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    let most = most.filter(|((from, _), votes)| *votes > stayed && !from.is_empty());
    most.map(|((from, to), _)| (from.to_owned(), to.to_owned())).unwrap_or_default()
}

/// What is left of two paths without the parts that they end in both; each ends in a slash.
fn prefixes<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let mut parts = 1;
    loop {
        let (mine, others) = (last_parts(one, parts + 1), last_parts(other, parts + 1));
        let whole = mine.len() == one.len() || others.len() == other.len();
        if mine != others || whole {
            break;
        }
        parts += 1;
    }
    let without = |path: &'a str| &path[..path.len() - last_parts(path, parts).len()];
    (without(one), without(other))
}

/// Names that are made anew at each run are left out: `/tmp/tmpa1b2c3d4/`, `/tmp/pytest-of-me/pytest-12/`.
fn without_temporary(file: &str) -> String {
    let Some(at) = file.find("/tmp") else {
        return file.to_owned();
    };
    let mut parts: Vec<&str> = file[at + 1..].split('/').collect();
    let made_anew = |part: &str| {
        part.strip_prefix("tmp").is_some_and(|rest| rest.len() == 8)
            || part.strip_prefix("pytest-").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
            || part.starts_with("pytest-of-")
    };
    let last = parts.len().saturating_sub(1);
    for part in parts.iter_mut().take(last).skip(1).filter(|part| made_anew(part)) {
        *part = "*";
    }
    format!("{}/{}", &file[..at], parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;

    fn profile(files: &[&str]) -> Profile {
        let mut builder = ProfileBuilder::new();
        for file in files {
            builder.frame(FrameKind::Own, "f", file, 1, 1);
        }
        builder.into_profile()
    }

    #[test]
    fn another_checkout_has_the_same_names() {
        let after =
            profile(&["/home/ci/new/shop/app.py", "/home/ci/new/shop/db/store.py", "/home/ci/new/tests/test_a.py"]);
        let before = profile(&["/srv/old/shop/app.py", "/srv/old/shop/db/store.py", "/srv/old/tests/test_b.py"]);
        let places = Places::new(&[&after, &before], Some("/home/ci/new"));
        let name = |index, file| places.name(index, FrameKind::Own, file);
        assert_eq!(name(0, "/home/ci/new/shop/app.py"), "shop/app.py");
        assert_eq!(name(1, "/srv/old/shop/app.py"), "shop/app.py");
        assert_eq!(name(1, "/srv/old/tests/test_b.py"), "tests/test_b.py");
        assert_eq!(name(1, "/elsewhere/x.py"), "/elsewhere/x.py");
    }

    #[test]
    fn a_file_that_is_gone_moves_nothing() {
        let after = profile(&["/srv/shop/app.py", "/srv/shop/views.py"]);
        let before = profile(&["/srv/shop/app.py", "/srv/shop/old/views.py"]);
        let places = Places::new(&[&after, &before], None);
        assert_eq!(places.name(1, FrameKind::Own, "/srv/shop/old/views.py"), "/srv/shop/old/views.py");
    }

    #[test]
    fn environments_and_temporary_folders_do_not_count() {
        let places = Places::default();
        let check = |kind, file, expected| assert_eq!(places.name(0, kind, file), expected);
        check(FrameKind::Package, "/v1/lib/python3.11/site-packages/flask/app.py", "flask/app.py");
        check(FrameKind::Stdlib, "/usr/lib/python3.12/json/decoder.py", "json/decoder.py");
        check(FrameKind::Stdlib, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>");
        check(FrameKind::Native, "/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1");
        check(FrameKind::Own, "/tmp/pytest-of-me/pytest-12/test_x0/mod.py", "/tmp/*/*/test_x0/mod.py");
        check(FrameKind::Own, "/tmp/tmpa1b2c3d4/gen.py", "/tmp/*/gen.py");
        check(FrameKind::Own, "/tmp/mine/gen.py", "/tmp/mine/gen.py");
        check(FrameKind::Own, "/tmp", "/tmp");
    }
}
