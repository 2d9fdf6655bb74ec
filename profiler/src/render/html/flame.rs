//! The flamegraphs of the page: one tree of call paths for all, and for each number the bytes at its nodes. What is too
//! small to be seen is drawn as part of its caller.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::profile::{FrameKind, Profile, StackId};
use crate::render::path::{NO_PATH, Names, SMALL_OBJECTS};
use crate::render::select::Row;

/// Most nodes of one number's flamegraph.
pub(super) const MOST_NODES: usize = 6000;
/// A node with less than this part of the whole is not drawn: 0.05 %, less than a column of a screen.
const LEAST_PART: u64 = 2000;
/// Longest name of a function or file, in columns.
const NAME_COLUMNS: usize = 160;

/// Texts, frames and call paths, each once, as they are used.
#[derive(Serialize)]
pub(super) struct Tree<'p> {
    #[serde(skip)]
    profile: &'p Profile,
    #[serde(skip)]
    names: Names<'p>,
    #[serde(skip)]
    text_ids: HashMap<String, usize>,
    #[serde(skip)]
    frame_ids: HashMap<FrameKey, usize>,
    #[serde(skip)]
    node_ids: HashMap<(usize, usize), usize>,
    /// Every text.
    texts: Vec<String>,
    /// Kind of code, name, place: by the index of the text.
    frames: Vec<[usize; 3]>,
    /// The caller of each node; the root, node 0, has itself.
    parents: Vec<usize>,
    /// The frame of each node; the root has none, and 0.
    node_frames: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum FrameKey {
    Profile(u32),
    Marker(&'static str),
}

/// A number's bytes by process and node.
#[derive(Serialize)]
pub(super) struct Flame {
    /// The sum of all.
    total: u64,
    /// Of it, drawn as part of the caller.
    folded: u64,
    /// Process, node, value; process, node, value; ...
    rows: Vec<u64>,
}

impl<'p> Tree<'p> {
    pub(super) fn new(profile: &'p Profile) -> Self {
        Self {
            profile,
            names: Names::new(profile, NAME_COLUMNS),
            text_ids: HashMap::new(),
            frame_ids: HashMap::new(),
            node_ids: HashMap::new(),
            texts: Vec::new(),
            frames: Vec::new(),
            parents: vec![0],
            node_frames: vec![0],
        }
    }

    fn text(&mut self, text: String) -> usize {
        let next = self.texts.len();
        let id = *self.text_ids.entry(text.clone()).or_insert(next);
        if id == next {
            self.texts.push(text);
        }
        id
    }

    /// The page's number of a frame.
    pub(super) fn frame(&mut self, id: u32) -> Option<usize> {
        let frame = self.profile.frame(id)?;
        if let Some(&known) = self.frame_ids.get(&FrameKey::Profile(id)) {
            return Some(known);
        }
        let (name, place) = match frame.kind {
            FrameKind::Marker => (self.names.code(frame), String::new()),
            _ => (self.names.function(frame), self.names.place(frame)),
        };
        Some(self.add_frame(FrameKey::Profile(id), frame.kind, name, place))
    }

    fn marker(&mut self, text: &'static str) -> usize {
        match self.frame_ids.get(&FrameKey::Marker(text)) {
            Some(&known) => known,
            None => self.add_frame(FrameKey::Marker(text), FrameKind::Marker, text.to_owned(), String::new()),
        }
    }

    fn add_frame(&mut self, key: FrameKey, kind: FrameKind, name: String, place: String) -> usize {
        let (name, place) = (self.text(name), self.text(place));
        self.frames.push([kind as usize, name, place]);
        self.frame_ids.insert(key, self.frames.len() - 1);
        self.frames.len() - 1
    }

    fn child(&mut self, parent: usize, frame: usize) -> usize {
        let next = self.parents.len();
        let id = *self.node_ids.entry((parent, frame)).or_insert(next);
        if id == next {
            self.parents.push(parent);
            self.node_frames.push(frame);
        }
        id
    }

    /// The node of a stack.
    fn node(&mut self, stack: StackId, small: bool) -> usize {
        let mut path: Vec<u32> = self.profile.frame_ids(stack).collect();
        path.reverse();
        let mut node = 0;
        for id in path {
            if let Some(frame) = self.frame(id) {
                node = self.child(node, frame);
            }
        }
        if small {
            let frame = self.marker(SMALL_OBJECTS);
            node = self.child(node, frame);
        }
        node
    }

    /// The frames of a stack, innermost first.
    pub(super) fn path(&mut self, stack: StackId) -> Vec<usize> {
        let profile = self.profile;
        let path: Vec<usize> = profile.frame_ids(stack).filter_map(|id| self.frame(id)).collect();
        if path.is_empty() { vec![self.marker(NO_PATH)] } else { path }
    }

    /// A number's flamegraph of at most `most` nodes; `process` gives a process its number on the page.
    pub(super) fn flame(&mut self, rows: &[Row], most: usize, process: impl Fn(u32) -> u64) -> Flame {
        let (sums, total) = inclusive(self.profile, rows);
        let least = least(&sums, total, most);
        let mut flame = Flame { total, folded: 0, rows: Vec::new() };
        let mut cells: BTreeMap<(u64, usize), u64> = BTreeMap::new();
        for row in rows {
            let kept = self.nearest(row.stack, &sums, least);
            let small = row.small && kept == row.stack && row.value >= least;
            if kept != row.stack || small != row.small {
                flame.folded = flame.folded.saturating_add(row.value);
            }
            let node = match (kept, row.stack) {
                (0, 0) if !small => {
                    let frame = self.marker(NO_PATH);
                    self.child(0, frame)
                }
                _ => self.node(kept, small),
            };
            let cell = cells.entry((process(row.process), node)).or_default();
            *cell = cell.saturating_add(row.value);
        }
        flame.rows = cells.into_iter().flat_map(|((process, node), value)| [process, node as u64, value]).collect();
        flame
    }

    /// The nearest caller that is drawn, or the stack itself.
    fn nearest(&self, stack: StackId, sums: &[u64], least: u64) -> StackId {
        let mut at = stack;
        while at != 0 && sums.get(at as usize).is_none_or(|sum| *sum < least) {
            at = self.profile.stacks.get(at as usize).map_or(0, |node| if node.parent < at { node.parent } else { 0 });
        }
        at
    }
}

/// By stack, the sum of it and of all that it calls; and the sum of all.
fn inclusive(profile: &Profile, rows: &[Row]) -> (Vec<u64>, u64) {
    let mut sums: Vec<u64> = vec![0; profile.stacks.len()];
    let mut total: u64 = 0;
    for row in rows {
        total = total.saturating_add(row.value);
        if let Some(sum) = sums.get_mut(row.stack as usize) {
            *sum = sum.saturating_add(row.value);
        }
    }
    // A caller stands before what it calls.
    for at in (1..sums.len()).rev() {
        let parent = profile.stacks[at].parent as usize;
        if parent < at {
            sums[parent] = sums[parent].saturating_add(sums[at]);
        }
    }
    (sums, total)
}

/// The least sum of a node that is drawn, so that no more than `most` are.
fn least(sums: &[u64], total: u64, most: usize) -> u64 {
    let least = (total / LEAST_PART).max(1);
    let mut drawn: Vec<u64> = sums.iter().copied().filter(|sum| *sum >= least).collect();
    if drawn.len() <= most {
        return least;
    }
    let (_, last, _) = drawn.select_nth_unstable_by_key(most, |sum| std::cmp::Reverse(*sum));
    last.saturating_add(1)
}
