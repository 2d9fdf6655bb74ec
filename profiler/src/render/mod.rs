//! Renderers: one format per file, pure functions from a profile to text. They measure nothing, read no clock
//! and ask no terminal, so that the same profile renders to the same bytes.

#![forbid(unsafe_code)]

mod chain;
pub mod compare;
pub mod diagnosis;
mod estimate;
mod fate;
pub mod filter;
mod flamegraph;
mod folded;
mod group;
mod html;
mod json;
pub mod live;
mod page;
pub mod path;
mod payload;
mod pprof;
mod program;
pub mod sanitize;
mod select;
mod sides;
mod speedscope;
mod text;
pub mod units;

#[cfg(test)]
mod golden;

use std::borrow::Cow;

use thiserror::Error;

use crate::profile::Profile;

/// Width of a text report where no terminal says otherwise, in columns.
pub const DEFAULT_WIDTH: usize = 100;
/// Narrowest text report, in columns: a narrower terminal wraps.
pub const MIN_WIDTH: usize = 72;

/// How to render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// SVG.
    Flamegraph,
    /// One line per call path: frames from the outside in, joined by `;`, a blank, and the number.
    Folded,
    /// For programs; `docs/report-json.md`.
    Json,
    /// One page for a browser.
    Html,
    /// For speedscope.
    Speedscope,
    /// For pprof: gzip, and no text.
    Pprof,
}

impl Format {
    /// True for one that is no text.
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Pprof)
    }

    /// True for one that says itself what a filter has left out.
    pub const fn tells_left_out(self) -> bool {
        !matches!(self, Self::Folded)
    }
}

/// Which ledger. Their bytes are never added together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// Blocks of the C allocator and small objects in pymalloc's pools.
    Heap,
    /// Address space asked for.
    Mapping,
    /// Pages brought into memory during the trace and still there.
    Resident,
}

/// Which number of a call path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes allocated during the trace and still live at its end. Heap: blocks and small objects.
    InuseSpace,
    /// Their number.
    InuseObjects,
    /// Bytes allocated during the trace. Heap: blocks only.
    AllocSpace,
    /// Their number.
    AllocObjects,
    /// Bytes of blocks given back within `profiler_common::ledger::TEMPORARY_MS`. Heap only.
    TemporarySpace,
    /// Most bytes of blocks of one call path live at once; paths peak at different moments. Heap only.
    PeakSpace,
    /// Resident bytes, by who touched the pages first. Resident only.
    TouchedSpace,
    /// Resident bytes, by who allocated what lies in the pages. Resident only.
    OwnedSpace,
}

/// What to show, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The ledger; `None` is the heap, for text and json the resident ledger too, where the profile has them.
    pub ledger: Option<Ledger>,
    /// The number; `None` is the first that the ledger has, for text and json those that say most.
    pub value: Option<Value>,
    /// How many call paths to list.
    pub top: usize,
    /// Escape codes for colour in the text report.
    pub colour: bool,
    /// Columns of the text report.
    pub width: usize,
    /// Only the process of this pid.
    pub process: Option<u32>,
    /// Call paths of each process, not merged over processes.
    pub per_process: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ledger: None,
            value: None,
            top: 10,
            colour: false,
            width: DEFAULT_WIDTH,
            process: None,
            per_process: false,
        }
    }
}

/// Why a profile cannot be rendered as asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RenderError {
    /// The ledger has no such number.
    #[error("the {} ledger has no {}: it has {}", .ledger.name(), .value.name(), .ledger.value_names())]
    NoSuchValue {
        /// The ledger.
        ledger: Ledger,
        /// The number asked for.
        value: Value,
    },
    /// The process that is asked for is not in the profile.
    #[error("no process {pid} in this profile: it has {known}")]
    NoSuchProcess {
        /// The pid asked for.
        pid: u32,
        /// Pids that are there.
        known: String,
    },
    /// The times asked for hold nothing.
    #[error("nothing is between {since} and {until}: the trace lasts {duration}, and both count from its start")]
    EmptyWindow {
        /// From, in words.
        since: String,
        /// To, in words.
        until: String,
        /// Of the trace, in words.
        duration: String,
    },
    /// Types are asked for, and no process's objects were looked at.
    #[error("this profile has no objects by type: `pyalloc diagnose` looks at them while it traces")]
    NoTypes,
    /// The flamegraph library refused.
    #[error("cannot draw the flamegraph: {0}; `--format folded` gives the same data as text")]
    Flamegraph(String),
    /// It is asked for as text.
    #[error("this format is no text")]
    NoText,
    /// The serializer refused.
    #[error("cannot write the report as json: {0}")]
    Json(String),
    /// The compressor refused.
    #[error("cannot compress the profile for pprof: {0}")]
    Gzip(String),
}

/// Renders a profile in a format that is text.
///
/// # Errors
/// [`RenderError::NoSuchValue`] if the ledger does not have the number asked for, [`RenderError::NoSuchProcess`] if
/// the profile does not have the process, [`RenderError::NoText`] for a format that is none.
pub fn render(profile: &Profile, format: Format, options: &Options) -> Result<String, RenderError> {
    let profile = match options.process {
        Some(pid) => Cow::Owned(filter::process::only(profile, pid)?),
        None => Cow::Borrowed(profile),
    };
    let profile = profile.as_ref();
    match format {
        Format::Html => html::render(profile, options),
        Format::Speedscope => speedscope::render(profile, options),
        Format::Pprof => Err(RenderError::NoText),
        Format::Text => text::render(profile, options),
        Format::Flamegraph => flamegraph::render(profile, options),
        Format::Folded => folded::render(profile, options),
        Format::Json => json::render(profile, options),
    }
}

/// Renders a profile in any format, as the bytes of its file.
///
/// # Errors
/// As [`render`].
pub fn document(profile: &Profile, format: Format, options: &Options) -> Result<Vec<u8>, RenderError> {
    if format != Format::Pprof {
        return render(profile, format, options).map(String::into_bytes);
    }
    match options.process {
        Some(pid) => pprof::render(&filter::process::only(profile, pid)?, options),
        None => pprof::render(profile, options),
    }
}

impl Options {
    /// The ledgers and numbers that a report lists the top call paths by.
    fn lists(&self, profile: &Profile) -> Vec<(Ledger, Value)> {
        if let Some(value) = self.value {
            return vec![(self.one_ledger(profile), value)];
        }
        let ledgers = match self.ledger {
            Some(ledger) => vec![ledger],
            None if profile.trace.without_heap => vec![Ledger::Resident],
            None if profile.resident.is_empty() => vec![Ledger::Heap],
            None => vec![Ledger::Heap, Ledger::Resident],
        };
        let lists = |ledger: Ledger| ledger.telling().iter().map(move |value| (ledger, *value));
        ledgers.into_iter().flat_map(lists).collect()
    }

    /// The ledger of a format that shows one: without one asked for, the first that has the number asked for.
    fn one_ledger(&self, profile: &Profile) -> Ledger {
        let first = if profile.trace.without_heap { Ledger::Resident } else { Ledger::Heap };
        let of_value = |value| [first, Ledger::Resident].into_iter().find(|ledger| ledger.values().contains(&value));
        self.ledger.or_else(|| self.value.and_then(of_value)).unwrap_or(first)
    }

    /// The number of a format that shows one.
    fn one_value(&self, profile: &Profile) -> Value {
        self.value.unwrap_or(self.one_ledger(profile).values()[0])
    }
}

impl Ledger {
    /// The word for it on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Mapping => "mapping",
            Self::Resident => "resident",
        }
    }

    fn values(self) -> &'static [Value] {
        use Value::{
            AllocObjects, AllocSpace, InuseObjects, InuseSpace, OwnedSpace, PeakSpace, TemporarySpace, TouchedSpace,
        };
        match self {
            Self::Heap => &[InuseSpace, InuseObjects, AllocSpace, AllocObjects, TemporarySpace, PeakSpace],
            Self::Mapping => &[InuseSpace, InuseObjects, AllocSpace, AllocObjects],
            Self::Resident => &[TouchedSpace, OwnedSpace],
        }
    }

    /// The numbers that say most.
    fn telling(self) -> &'static [Value] {
        match self {
            Self::Heap | Self::Mapping => &[Value::InuseSpace, Value::AllocSpace],
            Self::Resident => &[Value::TouchedSpace],
        }
    }

    fn value_names(self) -> String {
        self.values().iter().map(|value| value.name()).collect::<Vec<_>>().join(", ")
    }
}

impl Value {
    /// The word for it on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InuseSpace => "inuse_space",
            Self::InuseObjects => "inuse_objects",
            Self::AllocSpace => "alloc_space",
            Self::AllocObjects => "alloc_objects",
            Self::TemporarySpace => "temporary_space",
            Self::PeakSpace => "peak_space",
            Self::TouchedSpace => "touched_space",
            Self::OwnedSpace => "owned_space",
        }
    }

    /// What it counts.
    const fn in_words(self) -> &'static str {
        match self {
            Self::InuseSpace => "surviving bytes",
            Self::InuseObjects => "surviving objects",
            Self::AllocSpace => "bytes allocated",
            Self::AllocObjects => "allocations",
            Self::TemporarySpace => "bytes given back within 100 ms",
            Self::PeakSpace => "most bytes live at once",
            Self::TouchedSpace => "resident bytes touched",
            Self::OwnedSpace => "resident bytes allocated",
        }
    }

    /// What was so at the end: in a process that had ended by then, it is no more.
    const fn is_of_the_end(self) -> bool {
        matches!(self, Self::InuseSpace | Self::InuseObjects | Self::TouchedSpace | Self::OwnedSpace)
    }

    /// True for bytes, false for a number of objects.
    pub const fn is_space(self) -> bool {
        !matches!(self, Self::InuseObjects | Self::AllocObjects)
    }
}
