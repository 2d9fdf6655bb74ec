//! The report for programs: `docs/report-json.md` documents every field. Names are as the target gave them;
//! what a terminal would obey is written as `\uXXXX`.

use std::fmt::Write as _;

use serde::Serialize;

use super::group::{Group, by_line};
use super::payload::{Payload, payloads};
use super::{Ledger, Options, RenderError, Value, sanitize, select};
use crate::profile::quality::Quality;
use crate::profile::{End, Frame, FrameId, FrameKind, MappingOrigin, Process, Profile, StackId, Trace};

/// Raised when a field changes its meaning or goes; new fields do not raise it.
const SCHEMA_VERSION: u32 = 1;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let values = options.values().into_iter();
    let report = Report {
        schema: "pyalloc-report",
        schema_version: SCHEMA_VERSION,
        trace: &profile.trace,
        processes: profile.processes.iter().map(process).collect(),
        ledgers: ledgers(profile),
        top_paths: values.map(|value| top_paths(profile, options, value)).collect::<Result<_, _>>()?,
        payloads: payloads(profile).iter().take(options.top).map(|place| payload(profile, place)).collect(),
        quality: &profile.quality,
    };
    let text = serde_json::to_string_pretty(&report).map_err(|error| RenderError::Json(error.to_string()))?;
    Ok(escaped(&text) + "\n")
}

#[derive(Serialize)]
struct Report<'p> {
    schema: &'static str,
    schema_version: u32,
    trace: &'p Trace,
    processes: Vec<ProcessOut<'p>>,
    ledgers: Ledgers,
    top_paths: Vec<TopPaths<'p>>,
    payloads: Vec<PayloadOut<'p>>,
    quality: &'p Quality,
}

#[derive(Serialize)]
struct ProcessOut<'p> {
    pid: u32,
    start_time: u64,
    command: &'p str,
    python: &'p str,
    interpreter: &'p str,
    notes: &'p [String],
    threads_start: u32,
    threads_end: u32,
    rss_start: u64,
    rss_end: u64,
    rss_peak: u64,
    end: &'p End,
}

fn process(process: &Process) -> ProcessOut<'_> {
    ProcessOut {
        pid: process.pid,
        start_time: process.start_time,
        command: &process.command,
        python: &process.python,
        interpreter: &process.interpreter,
        notes: &process.notes,
        threads_start: process.threads_start,
        threads_end: process.threads_end,
        rss_start: process.rss_start,
        rss_end: process.rss_end,
        rss_peak: process.rss_peak,
        end: &process.end,
    }
}

#[derive(Serialize)]
struct Ledgers {
    heap: Heap,
    mapping: Mapping,
}

#[derive(Serialize)]
struct Heap {
    inuse_space: u64,
    inuse_objects: u64,
    blocks_inuse_space: u64,
    blocks_inuse_objects: u64,
    small_objects_inuse_space: u64,
    small_objects_inuse_objects: u64,
    alloc_space: u64,
    alloc_objects: u64,
    temporary_space: u64,
    temporary_objects: u64,
}

#[derive(Serialize)]
struct Mapping {
    inuse_space: u64,
    inuse_objects: u64,
    alloc_space: u64,
    alloc_objects: u64,
    origins: Vec<Origin>,
}

#[derive(Serialize)]
struct Origin {
    origin: MappingOrigin,
    inuse_space: u64,
    inuse_objects: u64,
    alloc_space: u64,
    alloc_objects: u64,
}

fn ledgers(profile: &Profile) -> Ledgers {
    let heap = profile.heap_totals();
    let all = profile.mapping_totals(None);
    let mut seen: Vec<MappingOrigin> = profile.mappings.iter().map(|row| row.origin).collect();
    seen.sort_unstable();
    seen.dedup();
    Ledgers {
        heap: Heap {
            inuse_space: heap.surviving_space(),
            inuse_objects: heap.inuse_objects.saturating_add(heap.small_objects),
            blocks_inuse_space: heap.inuse_space,
            blocks_inuse_objects: heap.inuse_objects,
            small_objects_inuse_space: heap.small_space,
            small_objects_inuse_objects: heap.small_objects,
            alloc_space: heap.alloc_space,
            alloc_objects: heap.alloc_objects,
            temporary_space: heap.temporary_space,
            temporary_objects: heap.temporary_objects,
        },
        mapping: Mapping {
            inuse_space: all.inuse_space,
            inuse_objects: all.inuse_objects,
            alloc_space: all.alloc_space,
            alloc_objects: all.alloc_objects,
            origins: seen.into_iter().map(|origin| origin_totals(profile, origin)).collect(),
        },
    }
}

fn origin_totals(profile: &Profile, origin: MappingOrigin) -> Origin {
    let totals = profile.mapping_totals(Some(origin));
    Origin {
        origin,
        inuse_space: totals.inuse_space,
        inuse_objects: totals.inuse_objects,
        alloc_space: totals.alloc_space,
        alloc_objects: totals.alloc_objects,
    }
}

#[derive(Serialize)]
struct TopPaths<'p> {
    ledger: &'static str,
    value: &'static str,
    total: u64,
    groups: usize,
    top: Vec<GroupOut<'p>>,
}

#[derive(Serialize)]
struct GroupOut<'p> {
    code: Option<FrameOut<'p>>,
    value: u64,
    share: f64,
    blocks: u64,
    small_objects: u64,
    pids: Vec<u32>,
    paths: usize,
    heaviest_path: PathOut<'p>,
}

#[derive(Serialize)]
struct PathOut<'p> {
    value: u64,
    frames: Vec<FrameOut<'p>>,
}

#[derive(Serialize)]
struct FrameOut<'p> {
    kind: FrameKind,
    function: &'p str,
    file: &'p str,
    line: u32,
}

fn top_paths<'p>(profile: &'p Profile, options: &Options, value: Value) -> Result<TopPaths<'p>, RenderError> {
    let ledger: Ledger = options.ledger;
    let rows = select::rows(profile, ledger, value)?;
    let groups = by_line(profile, &rows);
    let total = groups.iter().fold(0, |sum: u64, group| sum.saturating_add(group.value));
    let top = groups.iter().take(options.top).map(|entry| group(profile, entry, total)).collect();
    Ok(TopPaths { ledger: ledger.name(), value: value.name(), total, groups: groups.len(), top })
}

fn group<'p>(profile: &'p Profile, group: &Group, total: u64) -> GroupOut<'p> {
    let (heaviest, heaviest_value) = group.heaviest();
    let pid = |index: &u32| profile.processes.get(*index as usize).map(|process| process.pid);
    GroupOut {
        code: group.frame.and_then(|id| frame(profile, id)),
        value: group.value,
        share: rounded(group.value as f64 / total.max(1) as f64),
        blocks: group.blocks,
        small_objects: group.small,
        pids: group.processes.iter().filter_map(pid).collect(),
        paths: group.paths.len(),
        heaviest_path: PathOut { value: heaviest_value, frames: frames(profile, heaviest) },
    }
}

fn frames(profile: &Profile, stack: StackId) -> Vec<FrameOut<'_>> {
    let mut frames: Vec<_> = profile.frame_ids(stack).filter_map(|id| frame(profile, id)).collect();
    frames.reverse();
    frames
}

fn frame(profile: &Profile, id: FrameId) -> Option<FrameOut<'_>> {
    let Frame { kind, function, file, line, .. } = *profile.frame(id)?;
    Some(FrameOut { kind, function: profile.text(function), file: profile.text(file), line })
}

#[derive(Serialize)]
struct PayloadOut<'p> {
    label: Option<&'static str>,
    code: Option<FrameOut<'p>>,
    largest_block: u64,
    peak_space: u64,
    alloc_objects: u64,
    alloc_space: u64,
    bytes_per_call: u64,
    inuse_space: u64,
    temporary_space: u64,
    largest_path: Vec<FrameOut<'p>>,
}

fn payload<'p>(profile: &'p Profile, place: &Payload) -> PayloadOut<'p> {
    PayloadOut {
        label: place.label,
        code: place.frame.and_then(|id| frame(profile, id)),
        largest_block: place.largest,
        peak_space: place.burst,
        alloc_objects: place.alloc_objects,
        alloc_space: place.alloc_space,
        bytes_per_call: place.per_call(),
        inuse_space: place.inuse_space,
        temporary_space: place.temporary_space,
        largest_path: frames(profile, place.heaviest),
    }
}

fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// What is not seen stands in strings only, where JSON lets any letter be written by its number.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter != '\n' && sanitize::is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    }
    out
}
