//! Everything that the page shows, as plain data: bytes and milliseconds are numbers, sentences are whole.

use serde::Serialize;

use super::flame::Tree as Paths;
use super::objects::{LookOut, looks};
use super::paths::{View, views};
use super::processes::{ProcessOut, Rest, Shown};
use super::readings::{Memory, Traffic};
use super::verdict::VerdictOut;
use crate::profile::Profile;
use crate::profile::quality::CountClass;
use crate::profile::reconcile::{Part, Reconciliation};
use crate::profile::tree::Tree;
use crate::render::path::{NAME_COLUMNS, Names};
use crate::render::payload::payloads;
use crate::render::{Options, RenderError, program, sanitize, text};

/// Most lines of the table of payloads.
const MOST_PAYLOADS: usize = 40;
/// Longest sentence from the target, in columns.
const NOTE_COLUMNS: usize = 400;

/// The page's data.
#[derive(Serialize)]
pub(super) struct Data<'p> {
    pub title: String,
    left_out: Vec<String>,
    verdict: Option<VerdictOut>,
    headline: Vec<String>,
    summary: Summary,
    trace: Vec<[String; 2]>,
    started_unix_ms: u64,
    duration_ms: u64,
    processes: Vec<ProcessOut>,
    rest: Option<Rest>,
    memory: Memory,
    traffic: Option<Traffic>,
    moments: Vec<u64>,
    rss_change: Option<RssChange>,
    paths: Paths<'p>,
    views: Vec<View>,
    payloads: Vec<PayloadOut>,
    looks: Vec<LookOut>,
    quality: Vec<Vec<String>>,
    losses: Vec<Loss>,
}

/// The numbers at the top, bytes.
#[derive(Serialize)]
struct Summary {
    processes: usize,
    counted: usize,
    rss_start: u64,
    rss_end: u64,
    rss_growth: u64,
    surviving: u64,
    allocated: u64,
    allocations: u64,
    without_heap: bool,
    lost: u64,
}

#[derive(Serialize)]
struct RssChange {
    rows: Vec<(&'static str, i64, i64)>,
    rss: (u64, u64),
    sentences: Vec<String>,
    unshared: Vec<(&'static str, u64)>,
}

#[derive(Serialize)]
struct PayloadOut {
    label: Option<&'static str>,
    code: String,
    kind: Option<usize>,
    largest: u64,
    burst: u64,
    calls: u64,
    per_call: u64,
    allocated: u64,
    surviving: u64,
    frames: Vec<usize>,
}

#[derive(Serialize)]
struct Loss {
    class: CountClass,
    value: u64,
    meaning: String,
}

impl<'p> Data<'p> {
    /// Everything, with flamegraphs of at most `most_nodes` nodes.
    pub(super) fn new(profile: &'p Profile, options: &Options, most_nodes: usize) -> Result<Self, RenderError> {
        let tree = Tree::new(profile);
        let shown = Shown::new(profile, &tree);
        let number = |index: u32| shown.number(index);
        let mut paths = Paths::new(profile);
        let views = views(profile, options, &mut paths, most_nodes, number)?;
        let payloads = payloads_out(profile, &mut paths);
        Ok(Self {
            title: title(profile),
            left_out: profile.left_out.iter().map(|note| sanitize::name(note, NOTE_COLUMNS)).collect(),
            verdict: VerdictOut::new(profile),
            headline: text::sentences::headline(profile, &tree)?,
            summary: summary(profile, &tree),
            trace: text::sentences::trace_facts(&profile.trace),
            started_unix_ms: profile.trace.started_unix_ms,
            duration_ms: profile.trace.duration_ms,
            processes: shown.rows(profile, &tree),
            rest: shown.rest(profile, &tree),
            memory: Memory::new(profile, number),
            traffic: Traffic::new(profile),
            moments: profile.path_timeline.at_ms.clone(),
            rss_change: rss_change(profile),
            paths,
            views,
            payloads,
            looks: looks(profile, number),
            quality: text::sentences::quality_facts(profile),
            losses: losses(profile),
        })
    }
}

fn title(profile: &Profile) -> String {
    match profile.processes.as_slice() {
        [] => "pyalloc: no process".to_owned(),
        [process] => program::named(process),
        [first, others @ ..] => format!("{} and {} more", program::named(first), others.len()),
    }
}

fn summary(profile: &Profile, tree: &Tree) -> Summary {
    let heap = profile.heap_totals();
    let lost = profile.quality.counts.iter().filter(|count| count.class == CountClass::Dropped);
    Summary {
        processes: profile.processes.len(),
        counted: tree.counted(),
        rss_start: tree.rss_at_start(profile).1,
        rss_end: tree.rss_at_end(profile).1,
        rss_growth: tree.growth(profile),
        surviving: tree.surviving(),
        allocated: heap.alloc_space,
        allocations: heap.alloc_objects,
        without_heap: profile.trace.without_heap,
        lost: lost.fold(0, |sum: u64, count| sum.saturating_add(count.value)),
    }
}

fn rss_change(profile: &Profile) -> Option<RssChange> {
    let sum = Reconciliation::of_counted(profile)?;
    let row = |part: Part| (text::part_name(part, &sum), sum.start[part as usize], sum.end[part as usize]);
    Some(RssChange {
        rows: Part::ALL.map(row).into(),
        rss: (sum.rss_start, sum.rss_end),
        sentences: text::sentences::rss_sentences(profile, &sum),
        unshared: text::unshared_by_cause(profile).collect(),
    })
}

fn payloads_out(profile: &Profile, paths: &mut Paths<'_>) -> Vec<PayloadOut> {
    let names = Names::new(profile, NAME_COLUMNS);
    let mut rows = Vec::new();
    for place in payloads(profile).iter().take(MOST_PAYLOADS) {
        let frame = place.frame.and_then(|id| profile.frame(id));
        rows.push(PayloadOut {
            label: place.label,
            code: names.code_or_none(frame),
            kind: frame.map(|frame| frame.kind as usize),
            largest: place.largest,
            burst: place.burst,
            calls: place.alloc_objects,
            per_call: place.per_call(),
            allocated: place.alloc_space,
            surviving: place.inuse_space,
            frames: paths.path(place.heaviest),
        });
    }
    rows
}

fn losses(profile: &Profile) -> Vec<Loss> {
    let lost = profile.quality.counts.iter().filter(|count| count.class != CountClass::Seen && count.value > 0);
    let loss = |count: &crate::profile::quality::Count| Loss {
        class: count.class,
        value: count.value,
        meaning: sanitize::name(&count.meaning, NOTE_COLUMNS),
    };
    lost.map(loss).collect()
}
