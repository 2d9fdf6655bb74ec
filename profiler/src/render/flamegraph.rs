//! The flamegraph, drawn by inferno: own code, packages, standard library, native code and markers in hues of
//! their own. inferno finds a frame's colour in a map by its text, so that no mark of it shows in the titles.

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, TextTruncateDirection};

use super::folded::Folded;
use super::{Options, RenderError, program, sanitize, units};
use crate::profile::{FrameKind, Profile};

/// Longest name of a function or file, in columns.
const NAME_COLUMNS: usize = 80;
/// Longest note of what is left out, in columns.
const NOTE_COLUMNS: usize = 120;
/// Frames narrower than this share of the whole, in percent, are left out: on a screen they have no width.
const MIN_WIDTH_PERCENT: f64 = 0.05;
/// inferno adds numbers up in 64 bits; larger sums are scaled down to this and back in the titles.
const MOST: u128 = 1 << 62;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let value = options.one_value(profile);
    let folded = Folded::new(profile, options, NAME_COLUMNS)?;
    if folded.lines.is_empty() {
        return Ok(nothing(&format!("{}: nothing to draw, all {} are zero", title(profile, options), value.name())));
    }
    let (lines, factor) = lines(&folded);
    let mut colours = colours(&folded);
    let mut drawing = flamegraph::Options::default();
    drawing.title = title(profile, options);
    drawing.subtitle = Some(subtitle(profile));
    drawing.count_name = if value.is_space() { "bytes" } else { "objects" }.to_owned();
    drawing.name_type = "Code:".to_owned();
    drawing.min_width = MIN_WIDTH_PERCENT;
    drawing.factor = factor;
    drawing.text_truncate_direction = TextTruncateDirection::Right;
    drawing.bgcolors = Some(BackgroundColor::Flat(Color { r: 0xfa, g: 0xfa, b: 0xf8 }));
    drawing.palette_map = Some(&mut colours);
    // Without it inferno picks colours by chance for what is not in the map.
    drawing.deterministic = true;
    let mut svg = Vec::new();
    let refused = |error: &dyn std::fmt::Display| RenderError::Flamegraph(error.to_string());
    flamegraph::from_lines(&mut drawing, lines.iter().map(String::as_str), &mut svg).map_err(|e| refused(&e))?;
    String::from_utf8(svg).map_err(|error| refused(&error))
}

/// What is left out is said: a part is not to be taken for the whole.
fn subtitle(profile: &Profile) -> String {
    let left_out = profile.left_out.join("; ");
    if left_out.is_empty() {
        LEGEND.to_owned()
    } else {
        format!("{}. {LEGEND}", sanitize::name(&left_out, NOTE_COLUMNS))
    }
}

const LEGEND: &str = "orange: own code, blue: packages, green: standard library, purple: native code, grey: no code";

fn title(profile: &Profile, options: &Options) -> String {
    let value = options.one_value(profile);
    let what = format!("{} ledger, {} ({})", options.one_ledger(profile).name(), value.in_words(), value.name());
    match profile.processes.as_slice() {
        [] => what,
        [process] => format!("{}: {what}", program::named(process)),
        [first, others @ ..] => {
            format!("{} and {}: {what}", program::named(first), units::counted(others.len() as u64, "other process"))
        }
    }
}

/// The lines for inferno, and the factor that its titles multiply by.
fn lines(folded: &Folded) -> (Vec<String>, f64) {
    let total: u128 = folded.lines.values().map(|value| u128::from(*value)).sum();
    let divisor = total.div_ceil(MOST).max(1);
    let line = |(path, value): (&String, &u64)| format!("{path} {}", u128::from(*value) / divisor);
    (folded.lines.iter().map(line).collect(), divisor as f64)
}

fn colours(folded: &Folded) -> PaletteMap {
    let mut colours = PaletteMap::default();
    colours.insert("", Color { r: 0xd8, g: 0xd8, b: 0xd8 });
    for (text, kind) in &folded.kinds {
        colours.insert(text, colour(*kind, text));
    }
    for path in folded.lines.keys() {
        // Markers that are not frames: small objects, processes.
        for text in path.split(';').filter(|text| !folded.kinds.contains_key(*text)) {
            colours.insert(text, colour(FrameKind::Marker, text));
        }
    }
    colours
}

/// A kind's hue, a little lighter or darker by the text, so that neighbours can be told apart.
fn colour(kind: FrameKind, text: &str) -> Color {
    let (r, g, b) = match kind {
        FrameKind::Own => (240, 140, 50),
        FrameKind::Package => (120, 165, 225),
        FrameKind::Stdlib => (130, 195, 130),
        FrameKind::Native => (185, 145, 215),
        FrameKind::Marker => (190, 190, 190),
    };
    let shade = (text.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte)) % 31) as u8;
    Color { r: r - 15 + shade, g: g - 15 + shade, b: b - 15 + shade }
}

/// inferno refuses to draw nothing.
pub(super) fn nothing(text: &str) -> String {
    let text = escaped(text);
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg version=\"1.1\" width=\"1200\" height=\"60\" \
         viewBox=\"0 0 1200 60\" xmlns=\"http://www.w3.org/2000/svg\">\n<text x=\"600\" y=\"35\" \
         text-anchor=\"middle\" font-family=\"monospace\" font-size=\"14\">{text}</text>\n</svg>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
