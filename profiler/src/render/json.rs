//! The report for programs: `docs/report-json.md` documents every field. Names are as the target gave them;
//! what a terminal would obey is written as `\uXXXX`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::estimate;
use super::group::{Group, by_line};
use super::payload::{Payload, payloads};
use super::select::{self, Row};
use super::sides::Sides;
use super::units::standard_error;
use super::{Ledger, Options, RenderError, Value, sanitize};
use crate::profile::quality::Quality;
use crate::profile::reconcile::{Part, Reconciliation};
use crate::profile::tree::{Node, Tree, grew};
use crate::profile::{
    Allocators, End, EstimateOf, Filling, Frame, FrameId, FrameKind, KilledBy, MappingOrigin, Process, Profile,
    Residency, ResidentKind, StackId, Trace, UnsharedCause,
};

/// Raised when a field changes its meaning or goes; new fields do not raise it.
const SCHEMA_VERSION: u32 = 1;
/// Most processes whose call paths are listed one by one.
const MOST_PROCESSES: usize = 20;
/// Most processes listed for one entry.
const MOST_PARTS: usize = 10;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let tree = Tree::new(profile);
    let report = Report {
        schema: "pyalloc-report",
        schema_version: SCHEMA_VERSION,
        trace: &profile.trace,
        only_process: options.process,
        left_out: &profile.left_out,
        processes: profile.processes.iter().zip(&tree.nodes).map(|(info, node)| process(info, node)).collect(),
        tree: sums(profile, &tree),
        ledgers: ledgers(profile, &tree),
        reconciliation: reconciliation(profile),
        top_paths: top_lists(profile, options)?,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    only_process: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    left_out: &'p [String],
    processes: Vec<ProcessOut<'p>>,
    tree: TreeOut,
    ledgers: Ledgers,
    reconciliation: Option<ReconciliationOut>,
    top_paths: Vec<TopPaths<'p>>,
    payloads: Vec<PayloadOut<'p>>,
    quality: &'p Quality,
}

#[derive(Serialize)]
struct ProcessOut<'p> {
    pid: u32,
    container_pid: Option<u32>,
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
    killed_by: &'p Option<KilledBy>,
    pools_read_before_end_ms: Option<u64>,
    parent: Option<u32>,
    seen_at_ms: u64,
    ended_at_ms: Option<u64>,
    unprobed_us: u64,
    without_probes: Option<&'p str>,
    pss_end: u64,
    uss_end: u64,
    counted: bool,
    grew: bool,
    heap_inuse_space: u64,
    heap_alloc_space: u64,
    mapping_inuse_space: u64,
    mapping_alloc_space: u64,
    residency_start: &'p Option<Residency>,
    residency_end: &'p Option<Residency>,
    allocators: &'p Option<Allocators>,
    filling: &'p Option<Filling>,
}

fn process<'p>(process: &'p Process, node: &Node) -> ProcessOut<'p> {
    ProcessOut {
        pid: process.pid,
        container_pid: process.container_pid,
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
        killed_by: &process.killed_by,
        pools_read_before_end_ms: process.pools_read_before_end_ms,
        parent: process.parent,
        seen_at_ms: process.seen_at_ms,
        ended_at_ms: process.ended_at_ms,
        unprobed_us: process.unprobed_us,
        without_probes: process.without_probes.as_deref(),
        pss_end: process.pss_end,
        uss_end: process.uss_end,
        counted: node.counted,
        grew: grew(process),
        heap_inuse_space: node.heap.surviving_space(),
        heap_alloc_space: node.heap.alloc_space,
        mapping_inuse_space: node.mapping.inuse_space,
        mapping_alloc_space: node.mapping.alloc_space,
        residency_start: &process.residency_start,
        residency_end: &process.residency_end,
        allocators: &process.allocators,
        filling: &process.filling,
    }
}

#[derive(Serialize)]
struct ReconciliationOut {
    processes: u64,
    rss_start: u64,
    rss_end: u64,
    came: u64,
    swapped: u64,
    given_back: u64,
    hugetlb: u64,
    held_unknown: bool,
    parts: Vec<PartOfRss>,
    unshared: Vec<UnsharedOut>,
    touched_by_estimate: Estimated,
    unshared_by_estimate: Estimated,
}

#[derive(Serialize)]
struct Estimated {
    space: u64,
    standard_error: u64,
}

impl Estimated {
    fn of(profile: &Profile, table: EstimateOf) -> Self {
        let (space, standard_error) = estimate::of_table(profile, table).unwrap_or_default();
        Self { space, standard_error }
    }
}

#[derive(Serialize)]
struct PartOfRss {
    part: Part,
    start: i64,
    end: i64,
    change: i64,
}

#[derive(Serialize)]
struct UnsharedOut {
    cause: UnsharedCause,
    space: u64,
}

fn reconciliation(profile: &Profile) -> Option<ReconciliationOut> {
    let sum = Reconciliation::of_counted(profile)?;
    let part = |part: Part| PartOfRss {
        part,
        start: sum.start[part as usize],
        end: sum.end[part as usize],
        change: sum.change(part),
    };
    let mut unshared: BTreeMap<UnsharedCause, u64> = BTreeMap::new();
    for row in &profile.unshared {
        let space = unshared.entry(row.cause).or_default();
        *space = space.saturating_add(row.space);
    }
    Some(ReconciliationOut {
        processes: sum.processes,
        rss_start: sum.rss_start,
        rss_end: sum.rss_end,
        came: sum.came,
        swapped: sum.swapped,
        given_back: sum.given_back,
        hugetlb: sum.hugetlb,
        held_unknown: sum.held_unknown,
        parts: Part::ALL.map(part).into(),
        unshared: unshared.into_iter().map(|(cause, space)| UnsharedOut { cause, space }).collect(),
        touched_by_estimate: Estimated::of(profile, EstimateOf::Resident),
        unshared_by_estimate: Estimated::of(profile, EstimateOf::Unshared),
    })
}

#[derive(Serialize)]
struct TreeOut {
    processes: usize,
    counted: usize,
    any_running: bool,
    rss_start: u64,
    rss_end: u64,
    rss_growth: u64,
    pss_end: u64,
    uss_end: u64,
    heap_inuse_space: u64,
    heap_ended_inuse_space: u64,
}

fn sums(profile: &Profile, tree: &Tree) -> TreeOut {
    let counted = || profile.processes.iter().zip(&tree.nodes).filter(|(_, node)| node.counted);
    let sum =
        |number: fn(&Process) -> u64| counted().fold(0, |sum: u64, (process, _)| sum.saturating_add(number(process)));
    TreeOut {
        processes: profile.processes.len(),
        counted: tree.counted(),
        any_running: tree.any_running,
        rss_start: tree.rss_at_start(profile).1,
        rss_end: tree.rss_at_end(profile).1,
        rss_growth: tree.growth(profile),
        pss_end: sum(|process| process.pss_end),
        uss_end: sum(|process| process.uss_end),
        heap_inuse_space: tree.surviving(),
        heap_ended_inuse_space: tree.gone(),
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
    samples: u64,
    blocks_inuse_space_standard_error: u64,
    blocks_inuse_objects_standard_error: u64,
    alloc_space_standard_error: u64,
    alloc_objects_standard_error: u64,
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

fn ledgers(profile: &Profile, tree: &Tree) -> Ledgers {
    let made = profile.heap_totals();
    let heap = profile.heap_totals_of(|process| tree.counts(process));
    let made_errors = profile.heap_variances_of(|_| true);
    let errors = profile.heap_variances_of(|process| tree.counts(process));
    let mapped = profile.mapping_totals(None);
    let still = profile.mapping_totals_of(None, |process| tree.counts(process));
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
            alloc_space: made.alloc_space,
            alloc_objects: made.alloc_objects,
            temporary_space: made.temporary_space,
            temporary_objects: made.temporary_objects,
            samples: made_errors.samples,
            blocks_inuse_space_standard_error: standard_error(errors.inuse_space),
            blocks_inuse_objects_standard_error: standard_error(errors.inuse_objects),
            alloc_space_standard_error: standard_error(made_errors.alloc_space),
            alloc_objects_standard_error: standard_error(made_errors.alloc_objects),
        },
        mapping: Mapping {
            inuse_space: still.inuse_space,
            inuse_objects: still.inuse_objects,
            alloc_space: mapped.alloc_space,
            alloc_objects: mapped.alloc_objects,
            origins: seen.into_iter().map(|origin| origin_totals(profile, tree, origin)).collect(),
        },
    }
}

fn origin_totals(profile: &Profile, tree: &Tree, origin: MappingOrigin) -> Origin {
    let totals = profile.mapping_totals(Some(origin));
    let still = profile.mapping_totals_of(Some(origin), |process| tree.counts(process));
    Origin {
        origin,
        inuse_space: still.inuse_space,
        inuse_objects: still.inuse_objects,
        alloc_space: totals.alloc_space,
        alloc_objects: totals.alloc_objects,
    }
}

#[derive(Serialize)]
struct TopPaths<'p> {
    ledger: &'static str,
    value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u32>,
    total: u64,
    groups: usize,
    top: Vec<GroupOut<'p>>,
}

#[derive(Serialize)]
struct GroupOut<'p> {
    code: Option<FrameOut<'p>>,
    value: u64,
    standard_error: u64,
    share: f64,
    blocks: u64,
    small_objects: u64,
    pids: Vec<u32>,
    top_processes: Vec<PartOut>,
    paths: usize,
    heaviest_path: PathOut<'p>,
    #[serde(flatten)]
    other_side: Option<OtherSide<'p>>,
}

/// Who is on the other side of a resident page.
#[derive(Serialize)]
struct OtherSide<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_by: Option<Vec<SideOut<'p>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_no_allocation: Option<Vec<KindOut>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    touched_by: Option<Vec<SideOut<'p>>>,
}

#[derive(Serialize)]
struct SideOut<'p> {
    code: Option<FrameOut<'p>>,
    value: u64,
}

#[derive(Serialize)]
struct KindOut {
    kind: ResidentKind,
    value: u64,
}

/// What a process has of a group.
#[derive(Serialize)]
struct PartOut {
    process: u32,
    value: u64,
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

/// A list for each value, over all processes or for each of the biggest.
fn top_lists<'p>(profile: &'p Profile, options: &Options) -> Result<Vec<TopPaths<'p>>, RenderError> {
    let kinds = options.lists(profile);
    let rows =
        kinds.iter().map(|(ledger, value)| select::rows(profile, *ledger, *value)).collect::<Result<Vec<_>, _>>()?;
    let lists = || kinds.iter().zip(&rows);
    if !options.per_process {
        return Ok(lists().map(|(kind, rows)| top_paths(profile, options, *kind, None, rows)).collect());
    }
    let (processes, _) = select::biggest(&rows, MOST_PROCESSES);
    let of_process = |process: u32| {
        lists().map(move |(kind, rows)| {
            let rows: Vec<Row> = rows.iter().filter(|row| row.process == process).copied().collect();
            top_paths(profile, options, *kind, Some(process), &rows)
        })
    };
    Ok(processes.into_iter().flat_map(of_process).collect())
}

fn top_paths<'p>(
    profile: &'p Profile,
    options: &Options,
    (ledger, value): (Ledger, Value),
    process: Option<u32>,
    rows: &[Row],
) -> TopPaths<'p> {
    let groups = by_line(profile, rows);
    let total = groups.iter().fold(0, |sum: u64, group| sum.saturating_add(group.value));
    let top = groups.iter().take(options.top).map(|entry| group(profile, (ledger, value), entry, total)).collect();
    TopPaths { ledger: ledger.name(), value: value.name(), process, total, groups: groups.len(), top }
}

fn group<'p>(profile: &'p Profile, (ledger, value): (Ledger, Value), group: &Group, total: u64) -> GroupOut<'p> {
    let (heaviest, heaviest_value) = group.heaviest();
    let part = |(process, value)| PartOut { process, value };
    let pid = |index: &u32| profile.processes.get(*index as usize).map(|process| process.pid);
    GroupOut {
        code: group.frame.and_then(|id| frame(profile, id)),
        value: group.value,
        standard_error: standard_error(group.variance),
        share: rounded(group.value as f64 / total.max(1) as f64),
        blocks: group.blocks,
        small_objects: group.small,
        pids: group.processes.keys().filter_map(pid).collect(),
        top_processes: group.by_process().into_iter().take(MOST_PARTS).map(part).collect(),
        paths: group.paths.len(),
        heaviest_path: PathOut { value: heaviest_value, frames: frames(profile, heaviest) },
        other_side: (ledger == Ledger::Resident).then(|| other_side(profile, &Sides::of(profile, value, group))),
    }
}

fn other_side<'p>(profile: &'p Profile, sides: &Sides) -> OtherSide<'p> {
    let side = |(id, value): (Option<FrameId>, u64)| SideOut { code: id.and_then(|id| frame(profile, id)), value };
    let code: Vec<SideOut<'_>> = sides.by_code().into_iter().take(MOST_PARTS).map(side).collect();
    if !sides.touched {
        return OtherSide { allocated_by: None, in_no_allocation: None, touched_by: Some(code) };
    }
    let nobody = sides.nobody.iter().map(|(&kind, &value)| KindOut { kind, value }).collect();
    OtherSide { allocated_by: Some(code), in_no_allocation: Some(nobody), touched_by: None }
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
    ended_inuse_space: u64,
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
        ended_inuse_space: place.gone_space,
        temporary_space: place.temporary_space,
        largest_path: frames(profile, place.heaviest),
    }
}

fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// What is not seen stands in strings only, where JSON lets any letter be written by its number.
pub(super) fn escaped(json: &str) -> String {
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
