//! Builds a profile while a trace runs: interns texts, frames and stacks, so that each is stored once.

use std::borrow::Cow;
use std::collections::HashMap;

use super::evidence::Evidence;
#[cfg(test)]
use super::path_timeline::PathSeries;
use super::path_timeline::PathTimeline;
use super::quality::Quality;
use super::{
    BlockRow, EstimateRow, Frame, FrameId, FrameKind, MAX_DEPTH, MappingRow, PoolRow, Process, Profile, ResidentRow,
    StackId, StackNode, StringId, TimelinePoint, Trace, UnsharedRow,
};

/// Most bytes of a text that is kept; a longer one loses its middle.
pub const MAX_TEXT: usize = 4096;

/// Most nodes of the tree of stacks, and most frames: half of what a reader takes, or less, and some 100 MB here.
const MAX_NODES: usize = 1 << 21;
const MAX_FRAMES: usize = 1 << 18;

const NO_MORE_STACKS: &str = "[call path not kept: more than 2 million callers]";
const NO_MORE_FRAMES: &str = "[not kept: more than 262144 different lines]";

/// A profile that grows. The tables of texts, frames and stacks only ever gain rows, so ids stay valid.
#[derive(Debug)]
pub struct ProfileBuilder {
    profile: Profile,
    string_ids: HashMap<String, StringId>,
    frame_ids: HashMap<Frame, FrameId>,
    stack_ids: HashMap<StackNode, StackId>,
    most_nodes: usize,
    most_frames: usize,
}

/// Everything in a profile that is measured anew at each snapshot.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of `Profile`")]
pub struct Readings {
    pub trace: Trace,
    pub processes: Vec<Process>,
    pub blocks: Vec<BlockRow>,
    pub pools: Vec<PoolRow>,
    pub mappings: Vec<MappingRow>,
    pub resident: Vec<ResidentRow>,
    pub unshared: Vec<UnsharedRow>,
    pub estimates: Vec<EstimateRow>,
    pub timeline: Vec<TimelinePoint>,
    pub path_timeline: PathTimeline,
    pub evidence: Evidence,
    pub quality: Quality,
}

impl Default for ProfileBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ProfileBuilder {
    /// The empty stack.
    pub const ROOT: StackId = 0;

    /// A profile that knows the empty stack and nothing else.
    pub fn new() -> Self {
        let profile = Profile { stacks: vec![StackNode { parent: Self::ROOT, frame: 0 }], ..Profile::default() };
        Self {
            profile,
            string_ids: HashMap::new(),
            frame_ids: HashMap::new(),
            stack_ids: HashMap::new(),
            most_nodes: MAX_NODES,
            most_frames: MAX_FRAMES,
        }
    }

    /// The id of a text; over [`MAX_TEXT`] bytes its middle is cut out.
    pub fn string(&mut self, text: &str) -> StringId {
        let text = bounded(text);
        if let Some(&id) = self.string_ids.get(text.as_ref()) {
            return id;
        }
        let id = next_id(self.profile.strings.len());
        self.profile.strings.push(text.clone().into_owned());
        self.string_ids.insert(text.into_owned(), id);
        id
    }

    /// The id of a frame. `file` is empty for a marker; `line` and `first_line` are 0 where there is none.
    pub fn frame(&mut self, kind: FrameKind, function: &str, file: &str, line: u32, first_line: u32) -> FrameId {
        if self.profile.frames.len() >= self.most_frames && kind != FrameKind::Marker {
            let known = self.known_frame(kind, function, file, line, first_line);
            return known.unwrap_or_else(|| self.marker(NO_MORE_FRAMES));
        }
        let frame = Frame { kind, function: self.string(function), file: self.string(file), line, first_line };
        if let Some(&id) = self.frame_ids.get(&frame) {
            return id;
        }
        let id = next_id(self.profile.frames.len());
        self.profile.frames.push(frame.clone());
        self.frame_ids.insert(frame, id);
        id
    }

    /// The id of a frame that there is, without making anything.
    fn known_frame(&self, kind: FrameKind, function: &str, file: &str, line: u32, first_line: u32) -> Option<FrameId> {
        let id = |text: &str| self.string_ids.get(bounded(text).as_ref()).copied();
        let frame = Frame { kind, function: id(function)?, file: id(file)?, line, first_line };
        self.frame_ids.get(&frame).copied()
    }

    /// The id of a marker: a text in place of a frame that says why there is none.
    pub fn marker(&mut self, text: &str) -> FrameId {
        self.frame(FrameKind::Marker, text, "", 0, 0)
    }

    /// The id of a stack. Of one deeper than [`MAX_DEPTH`] the innermost frames are kept.
    pub fn stack(&mut self, outermost_first: &[FrameId]) -> StackId {
        let kept = &outermost_first[outermost_first.len().saturating_sub(MAX_DEPTH)..];
        if self.profile.stacks.len() + kept.len() > self.most_nodes {
            let marker = self.marker(NO_MORE_STACKS);
            return self.child(Self::ROOT, marker);
        }
        kept.iter().fold(Self::ROOT, |parent, &frame| self.child(parent, frame))
    }

    fn child(&mut self, parent: StackId, frame: FrameId) -> StackId {
        let node = StackNode { parent, frame };
        *self.stack_ids.entry(node).or_insert_with(|| {
            self.profile.stacks.push(node);
            next_id(self.profile.stacks.len() - 1)
        })
    }

    /// Replaces everything but the interned tables, and hands out the profile as it now is, without copying it.
    pub fn snapshot(&mut self, readings: Readings) -> &Profile {
        let Readings { trace, processes, blocks, pools, mappings, resident, unshared, estimates, .. } = readings;
        let Readings { timeline, path_timeline, evidence, quality, .. } = readings;
        let profile = &mut self.profile;
        profile.trace = trace;
        profile.processes = processes;
        profile.blocks = blocks;
        profile.pools = pools;
        profile.mappings = mappings;
        profile.resident = resident;
        profile.unshared = unshared;
        profile.estimates = estimates;
        profile.timeline = timeline;
        profile.path_timeline = path_timeline;
        profile.evidence = evidence;
        profile.quality = quality;
        profile
    }

    /// The profile as of the last snapshot, with every text, frame and stack known by now.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Ends the building.
    pub fn into_profile(self) -> Profile {
        self.profile
    }
}

fn next_id(length: usize) -> u32 {
    u32::try_from(length).expect("the kernel's maps bound the tables far below 2^32 rows")
}

fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    const MARK: &str = "[...]";
    let half = (MAX_TEXT - MARK.len()) / 2;
    let boundary = |index: &usize| text.is_char_boundary(*index);
    let head = (0..=half).rev().find(boundary).unwrap_or(0);
    let tail = (text.len() - half..=text.len()).find(boundary).unwrap_or(text.len());
    Cow::Owned(format!("{}{MARK}{}", &text[..head], &text[tail..]))
}

/// A small profile with one row in every table.
#[cfg(test)]
pub(crate) fn sample() -> Profile {
    let mut builder = ProfileBuilder::new();
    let main = builder.frame(FrameKind::Own, "main", "/srv/app.py", 3, 1);
    let leaf = builder.frame(FrameKind::Stdlib, "loads", "/usr/lib/python3.11/json/__init__.py", 346, 299);
    let stack = builder.stack(&[main, leaf]);
    let readings = Readings {
        processes: vec![Process { pid: 7, ..Process::default() }],
        blocks: vec![BlockRow { stack, alloc_objects: 1, alloc_space: 600, ..BlockRow::default() }],
        pools: vec![PoolRow { stack, opened: 1, ..PoolRow::default() }],
        mappings: vec![MappingRow {
            process: 0,
            stack,
            origin: super::MappingOrigin::Anonymous,
            alloc_objects: 1,
            alloc_space: 4096,
            inuse_objects: 1,
            inuse_space: 4096,
        }],
        resident: vec![ResidentRow { stack, allocated_by: Some(stack), inuse_space: 4096, ..ResidentRow::default() }],
        unshared: vec![UnsharedRow { stack, space: 4096, ..UnsharedRow::default() }],
        timeline: vec![TimelinePoint::default()],
        path_timeline: PathTimeline {
            at_ms: vec![0, 500],
            paths: vec![PathSeries { process: 0, stack, first: 1, live: vec![600], allocated: vec![600] }],
        },
        ..Readings::default()
    };
    builder.snapshot(readings);
    builder.into_profile()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_has_the_same_id() {
        let mut builder = ProfileBuilder::new();
        let a = builder.frame(FrameKind::Own, "a", "x.py", 1, 1);
        let b = builder.frame(FrameKind::Own, "b", "x.py", 2, 2);
        assert_eq!(builder.frame(FrameKind::Own, "a", "x.py", 1, 1), a);
        assert_ne!(builder.frame(FrameKind::Own, "a", "x.py", 2, 1), a);
        let deep = builder.stack(&[a, b]);
        assert_eq!(builder.stack(&[a, b]), deep);
        assert_ne!(builder.stack(&[b, a]), deep);
        assert_eq!(builder.stack(&[]), ProfileBuilder::ROOT);
        assert_eq!(builder.profile().strings, ["a", "x.py", "b"]);
    }

    #[test]
    fn more_than_there_is_room_for_is_said_so() {
        let mut builder = ProfileBuilder { most_frames: 10, most_nodes: 20, ..ProfileBuilder::new() };
        let text = |id: FrameId, builder: &ProfileBuilder| {
            let profile = builder.profile();
            profile.strings[profile.frames[id as usize].function as usize].clone()
        };
        let frames: Vec<_> = (1..100).map(|line| builder.frame(FrameKind::Own, "f", "x.py", line, 1)).collect();
        assert_eq!(text(frames[9], &builder), "f");
        assert_eq!(text(frames[10], &builder), NO_MORE_FRAMES);
        assert_eq!(builder.frame(FrameKind::Own, "f", "x.py", 3, 1), frames[2]);
        let stacks: Vec<_> = frames.windows(2).map(|pair| builder.stack(pair)).collect();
        let last = builder.profile().frame_ids(stacks[90]).next().unwrap();
        assert_eq!(text(last, &builder), NO_MORE_STACKS);
        assert!(builder.profile().stacks.len() <= 21 && builder.profile().frames.len() <= 12);
    }

    #[test]
    fn a_shared_prefix_is_stored_once() {
        let mut builder = ProfileBuilder::new();
        let frames: Vec<_> = (0..10).map(|line| builder.frame(FrameKind::Own, "f", "x.py", line, 0)).collect();
        builder.stack(&frames);
        builder.stack(&frames[..9]);
        assert_eq!(builder.profile().stacks.len(), 11);
    }

    #[test]
    fn what_has_no_bound_gets_one() {
        let mut builder = ProfileBuilder::new();
        let id = builder.string(&"é".repeat(1 << 20));
        let kept = &builder.profile().strings[id as usize];
        assert!(kept.len() <= MAX_TEXT && kept.contains("[...]"));
        let frame = builder.marker("[x]");
        let deep = builder.stack(&vec![frame; 5000]);
        assert_eq!(builder.profile().frame_ids(deep).count(), MAX_DEPTH);
    }
}
