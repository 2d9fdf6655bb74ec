//! The call paths of what survives: which function allocates most of it, who called that, and what kind of code runs it.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::thresholds::CULPRIT_SHARE;
use crate::profile::verdict::Culprit;
use crate::profile::{Frame, FrameId, FrameKind, PoolRow, Profile, ResidentKind, StackId, StringId};
use crate::render::path::Names;

/// Bytes by stack, of some processes.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Bytes of each stack.
    pub by_stack: BTreeMap<StackId, u64>,
    /// Their sum.
    pub total: u64,
    /// Blocks and small objects.
    pub objects: u64,
}

/// What runs a call path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The code of a request handler: a web framework or server is on the path.
    Request,
    /// A job of a queue's worker.
    Job,
    /// A module that is being imported.
    Import,
    /// A thread of the program's own.
    Thread,
    /// An event loop's callback or task.
    Loop,
    /// The main program.
    #[default]
    Main,
}

impl Origin {
    /// "code of request handlers".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Request => "in request handlers",
            Self::Job => "in jobs",
            Self::Import => "while modules are imported",
            Self::Thread => "in a thread of its own",
            Self::Loop => "in the event loop's tasks",
            Self::Main => "in the main thread",
        }
    }
}

impl Paths {
    /// What survives in the processes that pass: blocks and small objects; and pages of which no block or object is known
    /// by path: what the program mapped itself, and the objects of builds whose pools are not counted.
    pub fn surviving(profile: &Profile, wanted: impl Fn(u32) -> bool) -> Self {
        let mut paths = Self::default();
        for row in profile.blocks.iter().filter(|row| wanted(row.process)) {
            paths.add(row.stack, row.inuse_space, row.inuse_objects);
        }
        let mut with_pools = BTreeSet::new();
        for row in profile.pools.iter().filter(|row| wanted(row.process)) {
            with_pools.insert(row.process);
            paths.add(row.stack, row.inuse_space, row.inuse_objects);
        }
        for row in profile.resident.iter().filter(|row| wanted(row.process)) {
            match row.kind {
                ResidentKind::Anonymous => paths.add(row.allocated_by.unwrap_or(row.stack), row.inuse_space, 0),
                ResidentKind::Objects if !with_pools.contains(&row.process) => paths.add(row.stack, row.inuse_space, 0),
                _ => {}
            }
        }
        paths
    }

    /// The most that was live at once beyond what survives, of blocks.
    pub fn bursts(profile: &Profile, wanted: impl Fn(u32) -> bool) -> Self {
        let mut paths = Self::default();
        for row in profile.blocks.iter().filter(|row| wanted(row.process)) {
            paths.add(row.stack, row.peak_space.saturating_sub(row.inuse_space), 0);
        }
        paths
    }

    /// The code of bursts: blocks as in [`Self::bursts`], and pools of small objects that were opened and are gone, in each
    /// of so many bursts.
    pub fn given_back(profile: &Profile, process: u32, times: u64) -> Self {
        let mut paths = Self::bursts(profile, |index| index == process);
        let rows = || profile.pools.iter().filter(|row| row.process == process);
        let pool = rows().filter_map(filled).max().unwrap_or(1 << 12);
        for row in rows() {
            let gone = row.opened.saturating_sub(row.live_pools).saturating_mul(pool);
            paths.add(row.stack, gone / times.max(1), 0);
        }
        paths
    }

    /// What was copied on write in the processes that pass.
    pub fn unshared(profile: &Profile, wanted: impl Fn(u32) -> bool) -> Self {
        let mut paths = Self::default();
        let rows = profile.unshared.iter().filter(|row| wanted(row.process));
        rows.for_each(|row| paths.add(row.stack, row.space, 0));
        paths
    }

    /// Adds bytes of a stack.
    pub fn add(&mut self, stack: StackId, bytes: u64, objects: u64) {
        if bytes > 0 {
            let sum = self.by_stack.entry(stack).or_default();
            *sum = sum.saturating_add(bytes);
            self.total = self.total.saturating_add(bytes);
            self.objects = self.objects.saturating_add(objects);
        }
    }

    /// The function that allocates most: of those below which at least half of the bytes are, the innermost one that is no
    /// helper of the standard library; and the innermost own code that leads there.
    pub fn culprit(&self, profile: &Profile, names: &Names<'_>) -> Option<Culprit> {
        let functions = self.functions(profile);
        let enough = |function: &&Function| function.bytes as f64 >= self.total as f64 * CULPRIT_SHARE;
        let innermost = |wanted: &[FrameKind]| {
            let fits = functions.iter().filter(enough).filter(|function| wanted.contains(&function.kind));
            fits.max_by(|a, b| a.depth.total_cmp(&b.depth).then(b.name.cmp(&a.name)))
        };
        let found = innermost(&[FrameKind::Own, FrameKind::Package])
            .or_else(|| innermost(&[FrameKind::Stdlib]))
            .or_else(|| innermost(&[FrameKind::Native, FrameKind::Marker]))?;
        let frame = profile.frame(found.frame)?;
        let own = innermost(&[FrameKind::Own]).filter(|own| own.name != found.name && found.kind != FrameKind::Own);
        Some(Culprit {
            code: names.code(frame),
            file: profile.text(frame.file).to_owned(),
            function: profile.text(frame.function).to_owned(),
            line: frame.line,
            called_from: own.and_then(|own| profile.frame(own.frame)).map(|own| names.code(own)).unwrap_or_default(),
            ..Culprit::default()
        })
    }

    /// Share of the bytes below the culprit's function.
    pub fn share_of(&self, profile: &Profile, culprit: &Culprit) -> f64 {
        let of = |frame: &Frame| {
            profile.text(frame.function) == culprit.function && profile.text(frame.file) == culprit.file
        };
        let through = self.by_stack.iter().filter(|(stack, _)| profile.frames_of(**stack).any(of));
        through.map(|(_, bytes)| *bytes as f64).sum::<f64>() / (self.total as f64).max(1.0)
    }

    fn functions(&self, profile: &Profile) -> Vec<Function> {
        let mut functions: BTreeMap<(StringId, StringId), Sums> = BTreeMap::new();
        for (&stack, &bytes) in &self.by_stack {
            let frames: Vec<FrameId> = profile.frame_ids(stack).collect();
            let mut seen = BTreeSet::new();
            for (above, id) in frames.iter().enumerate() {
                let Some(frame) = profile.frame(*id) else { continue };
                let name = (frame.file, frame.function);
                // The innermost call of a recursive function stands for it.
                if !seen.insert(name) {
                    continue;
                }
                let sums = functions.entry(name).or_default();
                sums.bytes = sums.bytes.saturating_add(bytes);
                sums.depth += bytes as f64 * (frames.len() - above) as f64;
                *sums.lines.entry(*id).or_default() += bytes;
            }
        }
        functions
            .into_iter()
            .filter_map(|(name, sums)| {
                let heaviest = sums.lines.iter().max_by_key(|(id, bytes)| (**bytes, std::cmp::Reverse(**id)));
                let frame = *heaviest?.0;
                let kind = profile.frame(frame)?.kind;
                Some(Function { name, bytes: sums.bytes, depth: sums.depth / sums.bytes.max(1) as f64, frame, kind })
            })
            .collect()
    }

    /// The heaviest lines of code that a person can change, with their bytes.
    pub fn lines(&self, profile: &Profile, most: usize) -> Vec<(FrameId, u64)> {
        let mut lines: BTreeMap<FrameId, u64> = BTreeMap::new();
        for (&stack, &bytes) in &self.by_stack {
            if let Some(frame) = profile.naming_frame(stack) {
                *lines.entry(frame).or_default() += bytes;
            }
        }
        let mut lines: Vec<(FrameId, u64)> = lines.into_iter().collect();
        lines.sort_by_key(|(frame, bytes)| (std::cmp::Reverse(*bytes), *frame));
        lines.truncate(most);
        lines
    }

    /// Bytes by what runs the paths.
    pub fn origins(&self, profile: &Profile, names: &Names<'_>) -> BTreeMap<Origin, u64> {
        let mut origins = BTreeMap::new();
        for (&stack, &bytes) in &self.by_stack {
            *origins.entry(origin(profile, names, stack)).or_default() += bytes;
        }
        origins
    }

    /// What runs most of the bytes.
    pub fn main_origin(&self, profile: &Profile, names: &Names<'_>) -> Origin {
        let origins = self.origins(profile, names);
        origins.into_iter().max_by_key(|(origin, bytes)| (*bytes, std::cmp::Reverse(*origin))).unwrap_or_default().0
    }
}

#[derive(Default)]
struct Sums {
    bytes: u64,
    depth: f64,
    lines: BTreeMap<FrameId, u64>,
}

struct Function {
    name: (StringId, StringId),
    bytes: u64,
    /// Frames from the outermost one, on average by bytes.
    depth: f64,
    /// The heaviest of its lines.
    frame: FrameId,
    kind: FrameKind,
}

/// The functions of importlib that run a module; others only tell of one.
const IMPORTS: [&str; 4] = ["_find_and_load", "_find_and_load_unlocked", "_load_unlocked", "import_module"];
const REQUEST: &str = "flask werkzeug django starlette fastapi aiohttp.web aiohttp.web_protocol tornado.web falcon bottle \
                       pyramid sanic gunicorn.workers uvicorn.protocols hypercorn wsgiref http.server socketserver grpc \
                       quart litestar waitress cheroot cherrypy";
const JOB: &str = "celery rq dramatiq huey apscheduler concurrent.futures multiprocessing.pool kombu arq";

/// What runs a path: the most telling frame on it.
fn origin(profile: &Profile, names: &Names<'_>, stack: StackId) -> Origin {
    let mut found = Origin::Main;
    for frame in profile.frames_of(stack) {
        let module = names.module(frame);
        let inside = |modules: &str| {
            let is_in = |outer: &str| {
                module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
            };
            modules.split_whitespace().any(is_in)
        };
        let here = match frame.kind {
            FrameKind::Own | FrameKind::Native | FrameKind::Marker => Origin::Main,
            _ if module.starts_with("importlib") && IMPORTS.contains(&profile.text(frame.function)) => Origin::Import,
            _ if inside(REQUEST) => Origin::Request,
            _ if inside(JOB) => Origin::Job,
            _ if module == "threading" && profile.text(frame.function).contains("run") => Origin::Thread,
            _ if module.starts_with("asyncio.events") || module.starts_with("uvloop") => Origin::Loop,
            _ => Origin::Main,
        };
        found = found.min(here);
    }
    found
}

/// Bytes of a live pool that a row's stack opened. A profile from before `opened_space` charged them to the opener.
fn filled(row: &PoolRow) -> Option<u64> {
    if row.opened_space > 0 { row.opened_space } else { row.inuse_space }.checked_div(row.live_pools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;
    use crate::render::path::NAME_COLUMNS;

    #[test]
    fn the_culprit_is_the_innermost_function_with_most_of_it() {
        let mut builder = ProfileBuilder::new();
        let main = builder.frame(FrameKind::Own, "main", "/srv/app.py", 9, 1);
        let keep = builder.frame(FrameKind::Own, "keep", "/srv/store.py", 5, 4);
        let publish = builder.frame(FrameKind::Package, "publish", "/v/site-packages/mq/client.py", 7, 1);
        let lock = builder.frame(FrameKind::Stdlib, "__init__", "/usr/lib/python3.11/threading.py", 2, 1);
        let small = builder.frame(FrameKind::Own, "small", "/srv/store.py", 50, 49);
        let stacks = [
            builder.stack(&[main, keep, publish, lock]),
            builder.stack(&[main, keep, publish]),
            builder.stack(&[main, keep, small]),
        ];
        let profile = builder.into_profile();
        let names = Names::new(&profile, NAME_COLUMNS);
        let mut paths = Paths::default();
        [60, 30, 10].into_iter().zip(stacks).for_each(|(bytes, stack)| paths.add(stack, bytes, 1));
        let culprit = paths.culprit(&profile, &names).unwrap();
        assert_eq!(
            (culprit.code.as_str(), culprit.called_from.as_str()),
            ("mq/client.py:7 publish", "store.py:5 keep")
        );
        assert!((paths.share_of(&profile, &culprit) - 0.9).abs() < 1e-9);
    }

    #[test]
    fn a_burst_of_pools_is_counted_by_what_its_openers_pools_hold() {
        let mut builder = ProfileBuilder::new();
        let burst = builder.frame(FrameKind::Own, "burst", "/srv/app.py", 9, 1);
        let stack = builder.stack(&[burst]);
        let row = PoolRow { stack, opened: 101, live_pools: 1, inuse_space: 1 << 20, ..PoolRow::default() };
        let mut profile = builder.into_profile();
        // It keeps a megabyte in pools that others opened.
        profile.pools.push(PoolRow { opened_space: 3000, ..row });
        assert_eq!(Paths::given_back(&profile, 0, 1).total, 300_000);
        let older = Profile { pools: vec![PoolRow { inuse_space: 3000, ..row }], ..profile };
        assert_eq!(Paths::given_back(&older, 0, 1).total, 300_000);
    }

    #[test]
    fn paths_are_told_by_what_runs_them() {
        let mut builder = ProfileBuilder::new();
        let own = builder.frame(FrameKind::Own, "work", "/srv/app.py", 9, 1);
        let flask = builder.frame(FrameKind::Package, "wsgi_app", "/v/site-packages/flask/app.py", 7, 1);
        let thread = builder.frame(FrameKind::Stdlib, "Thread.run", "/usr/lib/python3.11/threading.py", 2, 1);
        let task = builder.frame(FrameKind::Stdlib, "Handle._run", "/usr/lib/python3.11/asyncio/events.py", 2, 1);
        let stacks = [vec![own], vec![thread, own], vec![thread, flask, own], vec![task, own]];
        let stacks = stacks.map(|frames| builder.stack(&frames));
        let profile = builder.into_profile();
        let names = Names::new(&profile, NAME_COLUMNS);
        let found = stacks.map(|stack| origin(&profile, &names, stack));
        assert_eq!(found, [Origin::Main, Origin::Thread, Origin::Request, Origin::Loop]);
    }
}
