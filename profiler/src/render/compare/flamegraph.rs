//! The difference as a picture: each frame is as wide as the larger of both, red where it grew and blue where it shrank.
//! So what is new and what is gone both have a place, which a picture of one of the two would not give them.

use std::collections::BTreeMap;

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, TextTruncateDirection};

use super::{Compared, names, words};
use crate::compare::Amount;
use crate::compare::diff::{Change, Diff, Kind};
use crate::render::RenderError;
use crate::render::path::NO_PATH;

/// Frames narrower than this share of the whole, in percent, are left out: on a screen they have no width.
const MIN_WIDTH_PERCENT: f64 = 0.05;
/// inferno adds numbers up in 64 bits; larger sums are scaled down to this.
const MOST: u128 = 1 << 62;

/// Renders.
pub(super) fn render(diff: &Diff, compared: &Compared<'_>) -> Result<String, RenderError> {
    let drawn = Drawn::new(diff, compared);
    if drawn.lines.is_empty() {
        return Ok(super::super::flamegraph::nothing(&format!("{}: nothing to draw", words::what(compared))));
    }
    let total: u128 = drawn.lines.values().map(|value| u128::from(*value)).sum();
    let divisor = total.div_ceil(MOST).max(1);
    let line = |(path, value): (&String, &u64)| format!("{path} {}", u128::from(*value) / divisor);
    let lines: Vec<String> = drawn.lines.iter().map(line).collect();
    let mut colours = drawn.colours;
    let mut drawing = flamegraph::Options::default();
    drawing.title = format!(
        "{}: {} ({} to {})",
        words::what(compared),
        words::delta(&diff.total, compared, diff.per_second),
        words::number(diff.total.before.value, compared, diff.per_second),
        words::number(diff.total.after.value, compared, diff.per_second)
    );
    drawing.subtitle = Some("width: the larger of before and after; red: more or new, blue: less or gone".to_owned());
    drawing.count_name =
        if compared.value.is_space() { "bytes, the larger of both" } else { "objects, the larger of both" }.to_owned();
    drawing.name_type = "Code:".to_owned();
    drawing.min_width = MIN_WIDTH_PERCENT;
    drawing.factor = divisor as f64;
    drawing.text_truncate_direction = TextTruncateDirection::Right;
    drawing.bgcolors = Some(BackgroundColor::Flat(Color { r: 0xfa, g: 0xfa, b: 0xf8 }));
    drawing.palette_map = Some(&mut colours);
    drawing.deterministic = true;
    let refused = |error: &dyn std::fmt::Display| RenderError::Flamegraph(error.to_string());
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut drawing, lines.iter().map(String::as_str), &mut svg)
        .map_err(|error| refused(&error))?;
    String::from_utf8(svg).map_err(|error| refused(&error))
}

/// Two numbers a line: before and after.
pub(super) fn folded(diff: &Diff) -> String {
    let mut lines: BTreeMap<String, Change> = BTreeMap::new();
    for (path, change) in &diff.paths {
        let mut frames: Vec<String> =
            diff.merged.path(*path).map(|code| field(&names::label(diff.merged.code_of(code)))).collect();
        frames.reverse();
        let sum = lines.entry(if frames.is_empty() { NO_PATH.to_owned() } else { frames.join(";") }).or_default();
        sum.before.add(change.before);
        sum.after.add(change.after);
    }
    lines.iter().map(|(path, change)| format!("{path} {} {}\n", change.before.value, change.after.value)).collect()
}

struct Drawn {
    lines: BTreeMap<String, u64>,
    colours: PaletteMap,
}

impl Drawn {
    fn new(diff: &Diff, compared: &Compared<'_>) -> Self {
        let changes = changes(diff);
        let mut colours = PaletteMap::default();
        colours.insert("", Color { r: 0xd8, g: 0xd8, b: 0xd8 });
        // A frame's text holds its change, so that two frames of one text have one colour.
        let labels: Vec<String> =
            (0..diff.merged.nodes.len()).map(|at| label(diff, compared, at, &changes[at])).collect();
        for (label, change) in labels.iter().zip(&changes) {
            colours.insert(label, colour(change));
        }
        let mut lines = BTreeMap::new();
        for (path, change) in &diff.paths {
            let mut frames = Vec::new();
            let mut at = *path as usize;
            while at != 0 {
                frames.push(labels[at].as_str());
                at = diff.merged.nodes[at].parent as usize;
            }
            frames.reverse();
            let width = change.before.value.max(change.after.value);
            let sum: &mut u64 =
                lines.entry(if frames.is_empty() { NO_PATH.to_owned() } else { frames.join(";") }).or_default();
            *sum = sum.saturating_add(width);
        }
        lines.retain(|_, width| *width > 0);
        Self { lines, colours }
    }
}

/// The change of each node with everything below it.
fn changes(diff: &Diff) -> Vec<Change> {
    let mut changes = vec![Change::default(); diff.merged.nodes.len()];
    for (path, change) in &diff.paths {
        changes[*path as usize] = *change;
    }
    // A parent stands before its children.
    for at in (1..changes.len()).rev() {
        let (before, after) = (changes[at].before, changes[at].after);
        let parent = &mut changes[diff.merged.nodes[at].parent as usize];
        parent.before.add(Amount::exact(before.value));
        parent.after.add(Amount::exact(after.value));
    }
    changes
}

fn label(diff: &Diff, compared: &Compared<'_>, at: usize, change: &Change) -> String {
    let Some(node) = diff.merged.nodes.get(at).filter(|_| at != 0) else { return String::new() };
    let name = names::label(diff.merged.code_of(node.code));
    let change = match change.kind() {
        Kind::New => "new".to_owned(),
        Kind::Gone => "gone".to_owned(),
        Kind::Same => "same".to_owned(),
        Kind::More | Kind::Less => words::delta(change, compared, diff.per_second),
    };
    field(&format!("{name} [{change}]"))
}

/// `;` ends a frame, `# ` at the start is a comment.
fn field(label: &str) -> String {
    let label = label.replace(';', "\\u{3b}");
    match label.trim_start().strip_prefix('#') {
        Some(rest) => format!("\\u{{23}}{rest}"),
        None => label,
    }
}

/// The larger the share that came or went, the stronger.
fn colour(change: &Change) -> Color {
    let whole = change.before.value.max(change.after.value).max(1);
    let share = change.size() as f64 / whole as f64;
    // Small shares of large frames are the interesting ones: the root lifts them.
    let pale = 225 - (share.sqrt() * 155.0).round() as u8;
    match change.delta() {
        0 => Color { r: 225, g: 225, b: 225 },
        delta if delta > 0 => Color { r: 240, g: pale, b: pale },
        _ => Color { r: pale, g: pale, b: 240 },
    }
}
