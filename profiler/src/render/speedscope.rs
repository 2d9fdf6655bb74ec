//! For speedscope (<https://www.speedscope.app>): one sampled profile for each number that a ledger has, or for each
//! process. The format: <https://www.speedscope.app/file-format-schema.json>.

use std::collections::BTreeMap;

use serde::Serialize;

use super::path::{NO_PATH, SMALL_OBJECTS};
use super::select::{self, Row};
use super::{Ledger, Options, RenderError, Value, program, sanitize};
use crate::profile::{Frame, Profile};

/// Longest name of a function or file, in columns.
const NAME_COLUMNS: usize = 4096;
/// Most processes that get a profile of their own.
const MOST_PROCESSES: usize = 100;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let mut frames: Vec<FrameOut> = profile.frames.iter().map(|row| frame(profile, row)).collect();
    let no_path = marker(&mut frames, NO_PATH);
    let small = marker(&mut frames, SMALL_OBJECTS);
    let marks = Marks { no_path, small };
    let profiles = match options.per_process {
        true => each_process(profile, options, &marks)?,
        false => each_value(profile, options, &marks)?,
    };
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: name(profile),
        exporter: format!("pyalloc@{}", sanitize::name(&profile.trace.pyalloc_version, 40)),
        active_profile_index: 0,
        shared: Shared { frames },
        profiles,
    };
    serde_json::to_string(&file).map(|text| text + "\n").map_err(|error| RenderError::Json(error.to_string()))
}

#[derive(Serialize)]
struct File {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: String,
    #[serde(rename = "activeProfileIndex")]
    active_profile_index: u32,
    shared: Shared,
    profiles: Vec<ProfileOut>,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<FrameOut>,
}

#[derive(Serialize)]
struct FrameOut {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct ProfileOut {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start_value: u64,
    #[serde(rename = "endValue")]
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Frames that no profile has.
struct Marks {
    no_path: usize,
    small: usize,
}

fn frame(profile: &Profile, frame: &Frame) -> FrameOut {
    let text = |id| sanitize::name(profile.text(id), NAME_COLUMNS);
    FrameOut { name: text(frame.function), file: text(frame.file), line: Some(frame.line).filter(|line| *line > 0) }
}

fn marker(frames: &mut Vec<FrameOut>, text: &str) -> usize {
    frames.push(FrameOut { name: text.to_owned(), file: String::new(), line: None });
    frames.len() - 1
}

fn name(profile: &Profile) -> String {
    let first = profile.processes.first().map_or_else(|| "pyalloc".to_owned(), program::named);
    let left_out = profile.left_out.iter().map(|note| format!("; {}", sanitize::visible(note)));
    first + &left_out.collect::<String>()
}

/// One for each number asked for; unless one is, for each that says something.
fn each_value(profile: &Profile, options: &Options, marks: &Marks) -> Result<Vec<ProfileOut>, RenderError> {
    let all = |ledger: Ledger| ledger.values().iter().map(move |value| (ledger, *value));
    let wanted: Vec<(Ledger, Value)> = match (options.value, options.ledger) {
        (Some(value), _) => vec![(options.one_ledger(profile), value)],
        (None, Some(ledger)) => all(ledger).collect(),
        (None, None) => [Ledger::Heap, Ledger::Mapping, Ledger::Resident].into_iter().flat_map(all).collect(),
    };
    let mut profiles = Vec::new();
    for (ledger, value) in wanted {
        let rows = select::rows(profile, ledger, value)?;
        if !rows.is_empty() || options.value.is_some() {
            let title = format!("{}: {} ({})", ledger.name(), value.in_words(), value.name());
            profiles.push(sampled(profile, title, value, &rows, marks));
        }
    }
    if profiles.is_empty() {
        // A file without a profile is one that speedscope refuses.
        let value = options.one_value(profile);
        profiles.push(sampled(profile, format!("nothing: no {}", value.in_words()), value, &[], marks));
    }
    Ok(profiles)
}

fn each_process(profile: &Profile, options: &Options, marks: &Marks) -> Result<Vec<ProfileOut>, RenderError> {
    let value = options.one_value(profile);
    let rows = select::rows(profile, options.one_ledger(profile), value)?;
    let (processes, _) = select::biggest(std::slice::from_ref(&rows), MOST_PROCESSES);
    let of_process = |index: u32| {
        let own: Vec<Row> = rows.iter().filter(|row| row.process == index).copied().collect();
        let process = profile.processes.get(index as usize).map_or_else(String::new, program::named);
        sampled(profile, format!("{process}: {}", value.in_words()), value, &own, marks)
    };
    let mut profiles: Vec<ProfileOut> = processes.into_iter().map(of_process).collect();
    if profiles.is_empty() {
        profiles.push(sampled(profile, format!("nothing: no {}", value.in_words()), value, &[], marks));
    }
    Ok(profiles)
}

fn sampled(profile: &Profile, name: String, value: Value, rows: &[Row], marks: &Marks) -> ProfileOut {
    let mut sums: BTreeMap<Vec<usize>, u64> = BTreeMap::new();
    for row in rows {
        let mut path: Vec<usize> = profile.frame_ids(row.stack).map(|id| id as usize).collect();
        path.reverse();
        if path.is_empty() {
            path.push(marks.no_path);
        }
        path.extend(row.small.then_some(marks.small));
        let sum = sums.entry(path).or_default();
        *sum = sum.saturating_add(row.value);
    }
    let end_value = sums.values().fold(0, |sum: u64, value| sum.saturating_add(*value));
    let (samples, weights) = sums.into_iter().unzip();
    let unit = if value.is_space() { "bytes" } else { "none" };
    ProfileOut { kind: "sampled", name, unit, start_value: 0, end_value, samples, weights }
}
