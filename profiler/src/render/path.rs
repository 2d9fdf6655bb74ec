//! Short names for code that a person recognizes: `app.py:21 remember` and not the whole path.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::sanitize;
use crate::profile::place::{last_parts, within_library};
use crate::profile::{Frame, FrameKind, Profile, StringId};

/// Widest name of a function or of a file in a report for people, in columns.
pub const NAME_COLUMNS: usize = 48;
/// Files that are named like a thousand others are told with their folder.
const NAMELESS: [&str; 2] = ["__init__.py", "__main__.py"];

/// In place of the file of a frame that stands for more than one function.
pub(super) const COARSE: [&str; 3] = ["file", "module", "type"];

/// Stands for the file of code whose file could not be read.
const NO_FILE: &str = "a file not known";

/// In place of a call path without any frame.
pub const NO_PATH: &str = "[no call path]";
/// The leaf that tells small objects in pools from blocks.
pub const SMALL_OBJECTS: &str = "[small objects]";

/// The short names of one profile: a file of the user's own code is told by its last parts, as many as tell it
/// from the others.
pub struct Names<'p> {
    profile: &'p Profile,
    own: HashMap<StringId, String>,
    columns: usize,
}

impl<'p> Names<'p> {
    /// Names of functions and files of at most `columns` columns.
    pub fn new(profile: &'p Profile, columns: usize) -> Self {
        let own = profile.frames.iter().filter(|frame| frame.kind == FrameKind::Own).map(|frame| frame.file);
        Self { profile, own: shortest_suffixes(profile, &own.collect()), columns }
    }

    /// `app.py:21 remember`; a marker's text.
    pub fn code(&self, frame: &Frame) -> String {
        match frame.kind {
            FrameKind::Marker => self.marker(frame),
            _ if self.is_coarse(frame) => self.function(frame),
            _ if frame.kind == FrameKind::Native || self.known_file(frame).is_none() => {
                format!("{} in {}", self.function(frame), self.file(frame))
            }
            _ => format!("{} {}", self.place(frame), self.function(frame)),
        }
    }

    /// As [`Self::code`], of a path that may have no frame.
    pub fn code_or_none(&self, frame: Option<&Frame>) -> String {
        frame.map_or_else(|| NO_PATH.to_owned(), |frame| self.code(frame))
    }

    /// `remember (app.py:21)`; a marker's text. Never ends in a number, which folded lines could not bear.
    pub fn label(&self, frame: &Frame) -> String {
        match frame.kind {
            FrameKind::Marker => self.marker(frame),
            _ => format!("{} ({})", self.function(frame), self.place(frame)),
        }
    }

    /// `app.py:21`
    pub fn place(&self, frame: &Frame) -> String {
        match (self.known_file(frame), frame.line) {
            (None, _) => NO_FILE.to_owned(),
            (Some(file), 0) => file,
            (Some(file), line) => format!("{file}:{line}"),
        }
    }

    pub(super) fn function(&self, frame: &Frame) -> String {
        or_unknown(&sanitize::name(self.profile.text(frame.function), self.columns), "function")
    }

    fn marker(&self, frame: &Frame) -> String {
        let text = self.function(frame);
        if text.starts_with('[') && text.ends_with(']') { text } else { format!("[{text}]") }
    }

    pub(super) fn file(&self, frame: &Frame) -> String {
        self.known_file(frame).unwrap_or_else(|| NO_FILE.to_owned())
    }

    /// The file's short name; `None` if there is no text of it, or one that says why there is none.
    fn known_file(&self, frame: &Frame) -> Option<String> {
        let full = self.profile.text(frame.file);
        let short = match frame.kind {
            FrameKind::Own => self.own.get(&frame.file).map_or(full, String::as_str),
            FrameKind::Package | FrameKind::Stdlib => within_library(full),
            FrameKind::Native | FrameKind::Marker => last_parts(full, 1),
        };
        let is_reason = full.starts_with("[unknown: ") && full.ends_with(']');
        (!is_reason && !short.trim().is_empty()).then(|| sanitize::name(short, self.columns))
    }

    /// True for a frame that stands for a whole file, module or type: see [`super::filter`].
    fn is_coarse(&self, frame: &Frame) -> bool {
        frame.line == 0 && COARSE.contains(&self.profile.text(frame.file))
    }

    /// The package or module that library code belongs to: `flask`, `json`, `libz.so.1`.
    pub fn package(&self, frame: &Frame) -> String {
        if self.is_coarse(frame) {
            return self.function(frame);
        }
        if self.known_file(frame).is_none() {
            return NO_FILE.to_owned();
        }
        let full = self.profile.text(frame.file);
        let package = match frame.kind {
            FrameKind::Native | FrameKind::Marker => last_parts(full, 1),
            _ => {
                let within = within_library(full).trim_start_matches("<frozen ").trim_end_matches('>');
                let first = within.split(['/', '.']).next().unwrap_or_default();
                if first.is_empty() { within } else { first }
            }
        };
        or_unknown(&sanitize::name(package, self.columns), "package")
    }

    /// The module that a frame's code is in, as an import would name it: `json.decoder`, `libz`.
    pub fn module(&self, frame: &Frame) -> String {
        let full = self.profile.text(frame.file);
        let within = match frame.kind {
            FrameKind::Native => last_parts(full, 1).split('.').next().unwrap_or_default(),
            FrameKind::Own => last_parts(full, 1),
            _ => within_library(full).trim_start_matches("<frozen ").trim_end_matches('>'),
        };
        let stem = within.strip_suffix(".py").unwrap_or(within);
        // orjson/orjson.cpython-311-x86_64-linux-gnu.so
        let stem = stem.split(".cpython-").next().unwrap_or(stem);
        let module = stem.replace('/', ".");
        module.strip_suffix(".__init__").map_or(module.clone(), str::to_owned)
    }
}

fn or_unknown(text: &str, what: &str) -> String {
    if text.trim().is_empty() { format!("unknown {what}") } else { text.to_owned() }
}

fn shortest_suffixes(profile: &Profile, files: &BTreeSet<StringId>) -> HashMap<StringId, String> {
    const MOST_PARTS: usize = 8;
    let mut short = HashMap::new();
    let mut open: Vec<StringId> = files.iter().copied().collect();
    for parts in 1..=MOST_PARTS {
        let mut by_suffix: BTreeMap<&str, Vec<StringId>> = BTreeMap::new();
        for &file in &open {
            by_suffix.entry(last_parts(profile.text(file), parts)).or_default().push(file);
        }
        open.clear();
        for (suffix, files) in by_suffix {
            match files.as_slice() {
                [file] if !NAMELESS.contains(&suffix) => {
                    short.insert(*file, suffix.to_owned());
                }
                _ => open.extend(files),
            }
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;

    fn code(kind: FrameKind, files: &[&str]) -> Vec<String> {
        let mut builder = ProfileBuilder::new();
        for file in files {
            builder.frame(kind, "f", file, 7, 1);
        }
        let profile = builder.into_profile();
        let names = Names::new(&profile, NAME_COLUMNS);
        profile.frames.iter().map(|frame| names.code(frame)).collect()
    }

    #[test]
    fn own_files_are_as_short_as_they_can_be_told_apart() {
        let files = ["/srv/shop/app.py", "/srv/shop/a/views.py", "/srv/shop/b/views.py", "/srv/shop/__init__.py"];
        let expected = ["app.py:7 f", "a/views.py:7 f", "b/views.py:7 f", "shop/__init__.py:7 f"];
        assert_eq!(code(FrameKind::Own, &files), expected);
        assert_eq!(
            code(FrameKind::Own, &["<string>", "app.py", "/app.py", "", "[unknown: memory cannot be read]"]),
            ["<string>:7 f", "app.py:7 f", "/app.py:7 f", "f in a file not known", "f in a file not known"]
        );
    }

    #[test]
    fn library_files_are_told_from_their_package_on() {
        let files = [
            "/v/lib/python3.11/site-packages/flask/app.py",
            "/usr/lib/python3.11/json/decoder.py",
            "<frozen importlib._bootstrap>",
            "/opt/odd/place/x.py",
        ];
        let expected =
            ["flask/app.py:7 f", "json/decoder.py:7 f", "<frozen importlib._bootstrap>:7 f", "place/x.py:7 f"];
        assert_eq!(code(FrameKind::Package, &files), expected);
    }

    #[test]
    fn modules_and_packages_are_named_as_an_import_names_them() {
        let mut builder = ProfileBuilder::new();
        builder.frame(FrameKind::Stdlib, "f", "/usr/lib/python3.11/json/__init__.py", 1, 1);
        builder.frame(FrameKind::Package, "f", "/v/lib/python3.11/site-packages/six.py", 1, 1);
        builder.frame(FrameKind::Stdlib, "f", "<frozen importlib._bootstrap>", 1, 1);
        builder.frame(FrameKind::Native, "f", "/v/site-packages/orjson/orjson.cpython-311-x86_64-linux-gnu.so", 0, 0);
        builder.frame(FrameKind::Native, "f", "/lib/x86_64-linux-gnu/libz.so.1", 0, 0);
        let profile = builder.into_profile();
        let names = Names::new(&profile, NAME_COLUMNS);
        let all: Vec<_> = profile.frames.iter().map(|frame| (names.module(frame), names.package(frame))).collect();
        let expected = [
            ("json", "json"),
            ("six", "six"),
            ("importlib._bootstrap", "importlib"),
            ("orjson", "orjson.cpython-311-x86_64-linux-gnu.so"),
            ("libz", "libz.so.1"),
        ];
        assert_eq!(all, expected.map(|(module, package)| (module.to_owned(), package.to_owned())));
    }
}
