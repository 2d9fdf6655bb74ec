//! One tree of call paths for several profiles. Lines are left out unless asked for: code moves, and a function that
//! has moved down by a line is no new one.

use std::collections::HashMap;

use super::places::Places;
use crate::profile::{Frame, FrameKind, Profile};

/// Index into [`Merged::codes`].
pub type CodeId = u32;
/// Index into [`Merged::nodes`]; node 0 is the root, an empty path.
pub type NodeId = u32;

/// A function; with `by_line` one line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// What kind of code it is, in the first profile that has it.
    pub kind: FrameKind,
    /// Its qualified name, or a marker's text.
    pub function: String,
    /// Its file's name, the same in all profiles; see [`Places`]. Empty for a marker.
    pub file: String,
    /// The line; 0 unless lines are told apart.
    pub line: u32,
}

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The caller's node; the root's is itself. A parent stands before its children.
    pub parent: NodeId,
    /// The function; meaningless for the root.
    pub code: CodeId,
}

/// What is told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grain {
    /// Lines are told apart.
    pub by_line: bool,
    /// Native frames are left out: not all of the profiles have them.
    pub without_native: bool,
}

/// The call paths of several profiles.
#[derive(Clone, Debug)]
pub struct Merged {
    grain: Grain,
    /// Every function once.
    pub codes: Vec<Code>,
    /// The tree.
    pub nodes: Vec<Node>,
    code_ids: HashMap<(String, String, u32), CodeId>,
    node_ids: HashMap<Node, NodeId>,
}

/// Where the stacks and frames of one profile are in the tree.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// By stack.
    pub nodes: Vec<NodeId>,
    /// By frame.
    pub codes: Vec<CodeId>,
}

impl Placed {
    /// The node of a stack.
    pub fn node(&self, stack: u32) -> NodeId {
        self.nodes.get(stack as usize).copied().unwrap_or(0)
    }
}

impl Merged {
    /// Nothing yet.
    pub fn new(grain: Grain) -> Self {
        let nodes = vec![Node { parent: 0, code: 0 }];
        Self { grain, codes: Vec::new(), nodes, code_ids: HashMap::new(), node_ids: HashMap::new() }
    }

    /// Adds the paths of a profile, the one at `index` in `places`.
    pub fn add(&mut self, profile: &Profile, places: &Places, index: usize) -> Placed {
        let codes: Vec<CodeId> = profile.frames.iter().map(|frame| self.code(profile, frame, places, index)).collect();
        let mut nodes: Vec<NodeId> = Vec::with_capacity(profile.stacks.len());
        for (at, stack) in profile.stacks.iter().enumerate() {
            // A reader has checked that callers stand first; the root has none.
            let parent = if at == 0 { None } else { nodes.get(stack.parent as usize).copied() };
            let node = match (parent, codes.get(stack.frame as usize)) {
                (Some(parent), Some(&code)) if !self.is_left_out(code) => self.child(parent, code),
                (Some(parent), _) => parent,
                (None, _) => 0,
            };
            nodes.push(node);
        }
        Placed { nodes, codes }
    }

    fn is_left_out(&self, code: CodeId) -> bool {
        self.grain.without_native && self.codes[code as usize].kind == FrameKind::Native
    }

    fn code(&mut self, profile: &Profile, frame: &Frame, places: &Places, index: usize) -> CodeId {
        let file = places.name(index, frame.kind, profile.text(frame.file));
        let line = if self.grain.by_line { frame.line } else { 0 };
        let key = (profile.text(frame.function).to_owned(), file, line);
        if let Some(&id) = self.code_ids.get(&key) {
            return id;
        }
        let id = id(self.codes.len());
        self.codes.push(Code { kind: frame.kind, function: key.0.clone(), file: key.1.clone(), line });
        self.code_ids.insert(key, id);
        id
    }

    fn child(&mut self, parent: NodeId, code: CodeId) -> NodeId {
        let node = Node { parent, code };
        let nodes = &mut self.nodes;
        *self.node_ids.entry(node).or_insert_with(|| {
            nodes.push(node);
            id(nodes.len() - 1)
        })
    }

    /// The functions of a path, innermost first.
    pub fn path(&self, node: NodeId) -> impl Iterator<Item = CodeId> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize).filter(|_| at != 0)?;
            at = node.parent;
            Some(node.code)
        })
    }

    /// A function. Every id of this tree has one.
    pub fn code_of(&self, code: CodeId) -> &Code {
        &self.codes[code as usize]
    }

    /// For each node the function that names its path: the innermost own one, else the innermost of a package, else
    /// the innermost. `None` for the root.
    pub fn named(&self) -> Vec<Option<CodeId>> {
        let mut named: Vec<Option<CodeId>> = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            if at == 0 {
                named.push(None);
                continue;
            }
            let above = named[node.parent as usize];
            let rank = |code: CodeId| match self.code_of(code).kind {
                FrameKind::Own => 2,
                FrameKind::Package => 1,
                _ => 0,
            };
            let better = above.is_some_and(|above| rank(above) > rank(node.code));
            named.push(if better { above } else { Some(node.code) });
        }
        named
    }

    /// For each node whether Python imports a module there: below its import system, and not yet in own code again.
    pub fn imports(&self) -> Vec<bool> {
        let mut imports: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            let above = at > 0 && imports[node.parent as usize];
            let here = at > 0 && {
                let code = self.code_of(node.code);
                code.kind != FrameKind::Own && (above || code.file.starts_with("<frozen importlib"))
            };
            imports.push(here);
        }
        imports
    }
}

fn id(length: usize) -> u32 {
    // A profile has at most millions of rows, and a comparison a few dozens of profiles.
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;

    fn profile(line: u32, native: bool) -> Profile {
        let mut builder = ProfileBuilder::new();
        let main = builder.frame(FrameKind::Own, "main", "/srv/app.py", line, 1);
        let loads = builder.frame(FrameKind::Stdlib, "loads", "/usr/lib/python3.11/json/__init__.py", 3, 1);
        let inflate = builder.frame(FrameKind::Native, "inflate", "/lib/libz.so.1", 0, 0);
        builder.stack(&[main, loads, inflate][..if native { 3 } else { 2 }]);
        builder.into_profile()
    }

    fn nodes(grain: Grain) -> (usize, Vec<NodeId>, Merged) {
        let (one, other) = (profile(3, true), profile(4, false));
        let places = Places::new(&[&one, &other], None);
        let mut merged = Merged::new(grain);
        let placed = [merged.add(&one, &places, 0), merged.add(&other, &places, 1)];
        (merged.nodes.len(), placed.map(|placed| *placed.nodes.last().unwrap()).to_vec(), merged)
    }

    #[test]
    fn a_path_is_the_same_though_its_lines_have_moved() {
        let (count, ends, merged) = nodes(Grain::default());
        assert_eq!((count, ends.as_slice()), (4, [3, 2].as_slice()));
        let names = |node| merged.path(node).map(|code| merged.code_of(code).function.as_str()).collect::<Vec<_>>();
        assert_eq!(names(3), ["inflate", "loads", "main"]);
        assert_eq!(merged.named()[3].map(|code| merged.code_of(code).function.as_str()), Some("main"));
        assert_eq!(nodes(Grain { without_native: true, ..Grain::default() }).1, [2, 2]);
        assert_eq!(nodes(Grain { by_line: true, ..Grain::default() }).0, 6);
    }
}
