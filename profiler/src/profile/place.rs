//! Paths of source files as people name them.

/// The path below site-packages or the standard library's folder; else its last two parts.
pub fn within_library(path: &str) -> &str {
    below_library(path).unwrap_or_else(|| last_parts(path, 2))
}

/// The path below site-packages or the standard library's folder; `None` if it is in neither.
pub fn below_library(path: &str) -> Option<&str> {
    for folder in ["/site-packages/", "/dist-packages/"] {
        if let Some(at) = path.rfind(folder) {
            return Some(&path[at + folder.len()..]);
        }
    }
    let standard = path.match_indices("/lib/python3").map(|(at, text)| at + text.len()).last();
    let (_, within) = standard.and_then(|at| path[at..].split_once('/'))?;
    (!within.is_empty()).then_some(within)
}

/// The last parts of a path, at most so many.
pub fn last_parts(path: &str, parts: usize) -> &str {
    let slashes = path.rmatch_indices('/').map(|(at, _)| at);
    let at = slashes.take(parts).nth(parts.saturating_sub(1));
    at.map_or(path, |at| &path[at + 1..])
}
