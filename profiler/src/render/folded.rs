//! Folded stacks: one line per call path, for flamegraph tools. Two paths that read the same are one line.

use std::collections::BTreeMap;

use super::path::{NO_PATH, Names, SMALL_OBJECTS};
use super::{Options, RenderError, program, select};
use crate::profile::{FrameKind, Process, Profile};

/// Longest name of a function or file, in columns: this is data, so names are kept.
const NAME_COLUMNS: usize = 4096;

/// Renders the profile; see [`super::Format::Folded`].
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let folded = Folded::new(profile, options, NAME_COLUMNS)?;
    Ok(folded.lines.iter().map(|(path, value)| format!("{path} {value}\n")).collect())
}

/// Call paths as text, in order, with their numbers.
pub(super) struct Folded {
    pub lines: BTreeMap<String, u64>,
    /// What kind of code each frame's text stands for; where two kinds read the same, the first.
    pub kinds: BTreeMap<String, FrameKind>,
}

impl Folded {
    /// Folds one number of one ledger; names have at most `columns` columns.
    pub(super) fn new(profile: &Profile, options: &Options, columns: usize) -> Result<Self, RenderError> {
        let rows = select::rows(profile, options.one_ledger(profile), options.one_value(profile))?;
        let names = Names::new(profile, columns);
        let labels: Vec<String> = profile.frames.iter().map(|frame| field(&names.label(frame))).collect();
        let process = |process: &Process| field(&format!("[{}]", program::named(process)));
        let processes: Vec<String> = match options.per_process {
            true => profile.processes.iter().map(process).collect(),
            false => Vec::new(),
        };
        let mut lines = BTreeMap::new();
        for row in rows {
            let mut path = path(profile, &labels, &row);
            path.extend(processes.get(row.process as usize).cloned());
            path.reverse();
            let sum: &mut u64 = lines.entry(path.join(";")).or_default();
            *sum = sum.saturating_add(row.value);
        }
        let kinds = profile.frames.iter().zip(labels).map(|(frame, label)| (label, frame.kind));
        Ok(Self { lines, kinds: kinds.rev().collect() })
    }
}

/// A path's frames, innermost first.
fn path(profile: &Profile, labels: &[String], row: &select::Row) -> Vec<String> {
    let small = row.small.then(|| SMALL_OBJECTS.to_owned());
    let frames = profile.frame_ids(row.stack).filter_map(|id| labels.get(id as usize).cloned());
    let mut path: Vec<String> = small.into_iter().chain(frames).collect();
    if path.is_empty() {
        path.push(NO_PATH.to_owned());
    }
    path
}

/// A frame's text that cannot be taken for anything else: `;` ends a frame, `# ` at the start is a comment.
fn field(label: &str) -> String {
    let label = label.replace(';', "\\u{3b}");
    match label.trim_start().strip_prefix('#') {
        Some(rest) => format!("\\u{{23}}{rest}"),
        None => label,
    }
}
