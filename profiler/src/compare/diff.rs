//! Two profiles: what is new, gone, more and less, by function and by call path.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::caveats::{self, Named};
use super::merged::{CodeId, Grain, Merged, NodeId, Placed};
use super::places::Places;
use super::{Amount, chance};
use crate::profile::{Profile, StackId};

/// A call path's number in one process.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// The call path.
    pub stack: StackId,
    /// Its number.
    pub amount: Amount,
    /// True for bytes of small objects.
    pub small: bool,
}

/// One of the two.
#[derive(Clone, Debug)]
pub struct Side<'p> {
    /// The profile and its name.
    pub named: Named<'p>,
    /// The number of each call path.
    pub weights: Vec<Weight>,
}

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Tell lines apart, not only functions.
    pub by_line: bool,
    /// Numbers for each second of the runs.
    pub per_second: bool,
    /// The numbers are bytes that the heap ledger counts, so that it is known how runs of the same code differ.
    pub bytes: bool,
    /// The folder of the repository, as the profiles name it.
    pub root: Option<&'a str>,
}

/// A number before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// Before.
    pub before: Amount,
    /// After.
    pub after: Amount,
    /// The variance of the change between runs of the same code: [`chance`].
    pub chance: f64,
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
    /// It has grown.
    More,
    /// It has shrunk.
    Less,
    /// It is the same.
    Same,
}

impl Kind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Gone => "gone",
            Self::More => "more",
            Self::Less => "less",
            Self::Same => "same",
        }
    }
}

impl Change {
    /// What it is.
    pub const fn kind(&self) -> Kind {
        match (self.before.value, self.after.value) {
            (0, 0) => Kind::Same,
            (0, _) => Kind::New,
            (_, 0) => Kind::Gone,
            (before, after) if before < after => Kind::More,
            (before, after) if before > after => Kind::Less,
            _ => Kind::Same,
        }
    }

    /// How much it changed.
    pub fn delta(&self) -> i128 {
        i128::from(self.after.value) - i128::from(self.before.value)
    }

    /// The size of the change.
    pub const fn size(&self) -> u64 {
        self.after.value.abs_diff(self.before.value)
    }

    /// The standard error of the change; 0 where everything was counted.
    pub fn standard_error(&self) -> f64 {
        (self.before.variance + self.after.variance).max(0.0).sqrt()
    }

    /// True if a change of this size comes by sampling, or between runs of the same code, in more than one of twenty
    /// comparisons.
    pub fn is_noise(&self) -> bool {
        let error = (self.before.variance + self.after.variance + self.chance).max(0.0).sqrt();
        self.kind() != Kind::Same && (self.size() as f64) < 2.0 * error
    }
}

/// A function and what became of its number. A path counts for the one function that names it: its innermost own one.
#[derive(Clone, Debug)]
pub struct Function {
    /// The function; `None` for paths without any frame.
    pub code: Option<CodeId>,
    /// Its number.
    pub change: Change,
    /// The line of it with the largest number after, or before if it has gone; 0 if there is none.
    pub line: u32,
    /// Its path that changed most.
    pub heaviest: NodeId,
    /// How many paths it has.
    pub paths: usize,
}

/// What has changed.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The call paths of both.
    pub merged: Merged,
    /// By function, largest change first, noise last.
    pub functions: Vec<Function>,
    /// By call path, largest change first, noise last.
    pub paths: Vec<(NodeId, Change)>,
    /// All together.
    pub total: Change,
    /// Lengths of the runs, ms.
    pub duration_ms: [u64; 2],
    /// True if the numbers are for a second.
    pub per_second: bool,
    /// What a reader must know.
    pub caveats: Vec<String>,
}

/// Compares.
pub fn diff(before: &Side<'_>, after: &Side<'_>, options: &Options<'_>) -> Diff {
    let profiles = [after.named.profile, before.named.profile];
    let native = profiles.map(|profile| profile.trace.native);
    let grain = Grain { by_line: options.by_line, without_native: native[0] != native[1] };
    let places = Places::new(&profiles, options.root);
    let mut merged = Merged::new(grain);
    let after_placed = merged.add(profiles[0], &places, 0);
    let before_placed = merged.add(profiles[1], &places, 1);
    let mut sums: HashMap<NodeId, Change> = HashMap::new();
    let mut lines = Lines::default();
    for (side, placed, is_after) in [(before, &before_placed, false), (after, &after_placed, true)] {
        let factor = factor(side, options);
        for weight in &side.weights {
            let amount = weight.amount.scaled(factor);
            let change = sums.entry(placed.node(weight.stack)).or_default();
            if weight.small {
                change.chance += chance::of_small_objects(weight.amount.value) * factor * factor;
            }
            if is_after { &mut change.after } else { &mut change.before }.add(amount);
            lines.add(side.named.profile, placed, weight.stack, amount.value, is_after);
        }
    }
    if options.bytes {
        let imports = merged.imports();
        let longest = [before, after].map(|side| factor(side, options)).into_iter().fold(0.0, f64::max);
        for (_, change) in sums.iter_mut().filter(|(node, _)| imports[**node as usize]) {
            change.chance += chance::of_imports() * longest * longest;
        }
    }
    let mut paths: Vec<(NodeId, Change)> = sums.into_iter().collect();
    paths.sort_by_key(|(node, change)| (change.is_noise(), Reverse(change.size()), *node));
    Diff {
        functions: functions(&merged, &paths, &lines),
        total: total(&paths),
        merged,
        paths,
        duration_ms: [before, after].map(|side| side.named.profile.trace.duration_ms),
        per_second: options.per_second,
        caveats: caveats::between(before.named, after.named),
    }
}

fn factor(side: &Side<'_>, options: &Options<'_>) -> f64 {
    if options.per_second { 1000.0 / side.named.profile.trace.duration_ms.max(1) as f64 } else { 1.0 }
}

fn total(paths: &[(NodeId, Change)]) -> Change {
    let mut total = Change::default();
    for (_, change) in paths {
        total.before.add(change.before);
        total.after.add(change.after);
    }
    total
}

fn functions(merged: &Merged, paths: &[(NodeId, Change)], lines: &Lines) -> Vec<Function> {
    let named = merged.named();
    let mut functions: HashMap<Option<CodeId>, Function> = HashMap::new();
    for (node, change) in paths {
        let code = named.get(*node as usize).copied().flatten();
        // The paths come with the largest change first.
        let new = || Function { code, change: Change::default(), line: 0, heaviest: *node, paths: 0 };
        let function = functions.entry(code).or_insert_with(new);
        function.change.before.add(change.before);
        function.change.after.add(change.after);
        function.change.chance += change.chance;
        function.paths += 1;
    }
    let mut functions: Vec<Function> = functions.into_values().collect();
    for function in &mut functions {
        function.line = function.code.map_or(0, |code| lines.most(code));
    }
    functions.sort_by_key(|one| (one.change.is_noise(), Reverse(one.change.size()), one.heaviest));
    functions
}

/// Which lines of a function have how much, for a place to look at.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    by_code: HashMap<CodeId, HashMap<u32, (u64, u64)>>,
}

impl Lines {
    /// Adds a path's number to the line that names it.
    pub fn add(&mut self, profile: &Profile, placed: &Placed, stack: StackId, value: u64, is_after: bool) {
        let Some(id) = profile.naming_frame(stack) else { return };
        let (Some(&code), Some(frame)) = (placed.codes.get(id as usize), profile.frame(id)) else { return };
        let sums = self.by_code.entry(code).or_default().entry(frame.line).or_default();
        let sum = if is_after { &mut sums.0 } else { &mut sums.1 };
        *sum = sum.saturating_add(value);
    }

    /// The line with the largest number after; of what has gone, before. 0 if there is none.
    pub fn most(&self, code: CodeId) -> u32 {
        let lines = self.by_code.get(&code).into_iter().flatten();
        lines.max_by_key(|(line, sums)| (**sums, Reverse(**line))).map_or(0, |(line, _)| *line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::{ProfileBuilder, Readings};
    use crate::profile::{FrameKind, Trace};

    fn profile(functions: &[(&str, u32)]) -> (Profile, Vec<StackId>) {
        let mut builder = ProfileBuilder::new();
        let main = builder.frame(FrameKind::Own, "main", "/srv/app.py", 1, 1);
        let stacks = functions.iter().map(|(function, line)| {
            let leaf = builder.frame(FrameKind::Own, function, "/srv/app.py", *line, 1);
            builder.stack(&[main, leaf])
        });
        let stacks = stacks.collect();
        let trace = Trace { duration_ms: 2000, complete: true, ..Trace::default() };
        builder.snapshot(Readings { trace, ..Readings::default() });
        (builder.into_profile(), stacks)
    }

    fn weights(stacks: &[StackId], values: &[u64]) -> Vec<Weight> {
        let weight =
            |(stack, value): (&StackId, &u64)| Weight { stack: *stack, amount: Amount::exact(*value), small: false };
        stacks.iter().zip(values).map(weight).collect()
    }

    fn compared(per_second: bool) -> Diff {
        let (before, old) = profile(&[("keeps", 3), ("grows", 5), ("leaves", 9)]);
        let (after, new) = profile(&[("keeps", 4), ("grows", 6), ("grows", 7), ("comes", 9)]);
        let before = Side { named: Named { name: "A", profile: &before }, weights: weights(&old, &[100, 50, 30]) };
        let after = Side { named: Named { name: "B", profile: &after }, weights: weights(&new, &[100, 30, 70, 8]) };
        diff(&before, &after, &Options { per_second, ..Options::default() })
    }

    #[test]
    fn functions_are_new_gone_more_less_and_the_same() {
        let diff = compared(false);
        let told: Vec<_> = diff
            .functions
            .iter()
            .map(|function| {
                let code = diff.merged.code_of(function.code.unwrap());
                (code.function.as_str(), function.change.kind(), function.change.delta(), function.line)
            })
            .collect();
        let expected = [
            ("grows", Kind::More, 50, 7),
            ("leaves", Kind::Gone, -30, 9),
            ("comes", Kind::New, 8, 9),
            ("keeps", Kind::Same, 0, 4),
        ];
        assert_eq!(told, expected);
        assert_eq!((diff.total.before.value, diff.total.after.value), (180, 208));
        assert!(diff.caveats.is_empty());
    }

    #[test]
    fn rates_are_for_a_second() {
        let diff = compared(true);
        assert_eq!((diff.total.before.value, diff.total.after.value), (90, 104));
    }

    #[test]
    fn a_change_within_two_standard_errors_is_noise() {
        let change = |after, variance| {
            let after = Amount { value: after, variance };
            Change { before: Amount::exact(100), after, ..Change::default() }
        };
        assert!(change(150, 900.0).is_noise());
        assert!(!change(170, 900.0).is_noise());
        assert!(!change(101, 0.0).is_noise());
        assert!(!change(100, 900.0).is_noise());
    }

    /// Two runs of the same code: a pool has moved from one path to another, and a folder was read once more.
    #[test]
    fn what_runs_of_the_same_code_differ_by_is_noise_and_comes_last() {
        const KIB: u64 = 1 << 10;
        let run = || {
            let mut builder = ProfileBuilder::new();
            let main = builder.frame(FrameKind::Own, "main", "/srv/app.py", 1, 1);
            let find = builder.frame(FrameKind::Stdlib, "_fill_cache", "<frozen importlib._bootstrap_external>", 1, 1);
            let mut stacks: Vec<StackId> = Vec::new();
            for function in ["opens", "opened", "leaks"] {
                let leaf = builder.frame(FrameKind::Own, function, "/srv/app.py", 3, 1);
                stacks.push(builder.stack(&[main, leaf]));
            }
            stacks.push(builder.stack(&[main, find]));
            (builder.into_profile(), stacks)
        };
        let (before, stacks) = run();
        let (after, _) = run();
        let side = |profile, values: [(u64, bool); 4]| {
            let weight = |(stack, (value, small)): (&StackId, (u64, bool))| Weight {
                stack: *stack,
                amount: Amount::exact(value),
                small,
            };
            let weights = stacks.iter().zip(values).map(weight).collect();
            Side { named: Named { name: "A", profile }, weights }
        };
        let before = side(&before, [(0, true), (48 * KIB, true), (2 * KIB, false), (300 * KIB, false)]);
        let after = side(&after, [(16 * KIB, true), (32 * KIB, true), (5 * KIB, false), (332 * KIB, false)]);
        let told = |bytes| {
            let diff = diff(&before, &after, &Options { bytes, ..Options::default() });
            let name = |code: CodeId| diff.merged.code_of(code).function.clone();
            let functions = diff.functions.iter().map(|one| (name(one.code.unwrap()), one.change.is_noise()));
            functions.collect::<Vec<_>>()
        };
        let expected = [("leaks", false), ("main", true), ("opens", true), ("opened", true)];
        assert_eq!(told(true), expected.map(|(name, noise)| (name.to_owned(), noise)));
        assert_eq!(told(false)[0], ("main".to_owned(), false), "what is no bytes has no such noise");
    }
}
