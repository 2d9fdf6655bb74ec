//! What two looks at the objects of a process tell: containers and caches that grow, types, and who keeps what.

use std::collections::BTreeMap;

use crate::diagnose::thresholds::{CONTAINER_GAIN, CONTAINER_GAIN_PER_MILLE};
use crate::profile::Profile;
use crate::profile::objects::{CacheRow, ContainerKind, ContainerRow, Holder, ObjectLook, RetainerRow};

/// A container that gained elements from the first look to the last.
#[derive(Clone, Debug)]
pub struct GrowingContainer {
    /// Index of its process.
    pub process: u32,
    /// As it was at the last look.
    pub now: ContainerRow,
    /// Elements gained.
    pub gained: u64,
    /// Bytes gained with them: an estimate.
    pub bytes: u64,
    /// It was not among those seen at the first look: what it gained is at most this.
    pub is_new: bool,
}

/// A cache of functools that gained entries.
#[derive(Clone, Debug)]
pub struct GrowingCache {
    /// Index of its process.
    pub process: u32,
    /// As it was at the last look.
    pub now: CacheRow,
    /// Entries gained.
    pub gained: u64,
    /// Bytes gained with them: an estimate.
    pub bytes: u64,
}

/// What the looks at one process tell.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    /// Index of the process.
    pub process: u32,
    /// Seconds between the looks.
    pub seconds: f64,
    /// Both looks saw everything.
    pub whole: bool,
    /// Bytes of Python objects gained.
    pub python_bytes: i64,
    /// The types that gained most: name, objects gained, bytes gained.
    pub types: Vec<(String, u64, u64)>,
    /// The containers that grow, the most bytes first.
    pub containers: Vec<GrowingContainer>,
    /// The caches of functools that grow.
    pub caches: Vec<GrowingCache>,
    /// Who keeps a sample of the objects that came between the looks.
    pub retainers: Vec<RetainerRow>,
    /// Bytes gained of objects to which nothing refers: an estimate.
    pub lost: u64,
    /// Bytes gained of objects whose keeper was found: an estimate.
    pub kept: u64,
}

/// Of each process with two looks or more.
pub fn all(profile: &Profile) -> Vec<ObjectFacts> {
    (0..profile.processes.len()).filter_map(|index| of_process(profile, u32::try_from(index).ok()?)).collect()
}

fn of_process(profile: &Profile, process: u32) -> Option<ObjectFacts> {
    let mut looks = profile.evidence.looks_at(process);
    let first = looks.next()?;
    let last = looks.next_back()?;
    let whole = !first.partial && !last.partial;
    let space = |look: &ObjectLook| look.types.iter().fold(0u64, |sum, row| sum.saturating_add(row.space));
    Some(ObjectFacts {
        process,
        seconds: last.at_ms.saturating_sub(first.at_ms) as f64 / 1000.0,
        whole,
        python_bytes: space(last).cast_signed().saturating_sub(space(first).cast_signed()),
        // What one look did not reach did not come.
        types: if whole { types(first, last) } else { Vec::new() },
        containers: containers(process, first, last, whole),
        caches: caches(process, first, last, whole),
        lost: held_by(last, is_lost),
        kept: held_by(last, is_kept),
        retainers: last.focused.clone(),
    })
}

fn held_by(look: &ObjectLook, wanted: impl Fn(Holder) -> bool) -> u64 {
    let rows = look.focused.iter().filter(|row| wanted(row.holder));
    rows.fold(0u64, |sum, row| sum.saturating_add(row.space))
}

const fn is_lost(holder: Holder) -> bool {
    matches!(holder, Holder::NoReferrer)
}

const fn is_kept(holder: Holder) -> bool {
    !matches!(holder, Holder::NoReferrer | Holder::Unknown)
}

fn types(first: &ObjectLook, last: &ObjectLook) -> Vec<(String, u64, u64)> {
    let before = |name: &str| first.types.iter().find(|row| row.name == name);
    let gained = last.types.iter().map(|row| {
        let (objects, space) = before(&row.name).map_or((0, 0), |before| (before.objects, before.space));
        (row.name.clone(), row.objects.saturating_sub(objects), row.space.saturating_sub(space))
    });
    let mut gained: Vec<_> = gained.filter(|(_, objects, _)| *objects > 0).collect();
    gained.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    gained
}

fn containers(process: u32, first: &ObjectLook, last: &ObjectLook, whole: bool) -> Vec<GrowingContainer> {
    // What was not listed at the first look was smaller than everything that was.
    let least = first.containers.iter().map(|row| row.deep_space).min().unwrap_or(0);
    let mut growing = Vec::new();
    for now in &last.containers {
        let before = first.same(now);
        // It may have been as large at the first look, and too small to be listed; or that look did not reach it.
        if before.is_none() && (!whole || now.deep_space < least.saturating_mul(2)) {
            continue;
        }
        let (length, deep) = before.map_or((0, least.min(now.deep_space)), |row| (row.length, row.deep_space));
        let gained = now.length.saturating_sub(length);
        let enough = CONTAINER_GAIN.max(length / 1000 * CONTAINER_GAIN_PER_MILLE);
        if gained < enough || now.kind == ContainerKind::Tuple {
            continue;
        }
        growing.push(GrowingContainer {
            process,
            bytes: if whole {
                now.deep_space.saturating_sub(deep)
            } else {
                at_least(gained, now.deep_space, now.length)
            },
            gained,
            is_new: before.is_none(),
            now: now.clone(),
        });
    }
    growing.sort_by_key(|row| (std::cmp::Reverse(row.bytes), row.now.address));
    growing
}

fn caches(process: u32, first: &ObjectLook, last: &ObjectLook, whole: bool) -> Vec<GrowingCache> {
    let mut growing: Vec<GrowingCache> = last
        .caches
        .iter()
        .filter_map(|now| {
            let before = first.caches.iter().find(|row| row.address == now.address && row.function == now.function);
            if before.is_none() && !whole {
                return None;
            }
            let (size, deep) = before.map_or((0, 0), |row| (row.currsize, row.deep_space));
            let gained = now.currsize.saturating_sub(size);
            let grown = now.deep_space.saturating_sub(deep);
            let bytes = if whole { grown } else { at_least(gained, now.deep_space, now.currsize) };
            (gained >= CONTAINER_GAIN).then(|| GrowingCache { process, now: now.clone(), gained, bytes })
        })
        .collect();
    growing.sort_by_key(|row| (std::cmp::Reverse(row.bytes), row.now.address));
    growing
}

/// What elements hold of which a look has reached a part: how much it did not reach differs from look to look.
fn at_least(gained: u64, deep: u64, length: u64) -> u64 {
    (u128::from(gained) * u128::from(deep) / u128::from(length.max(1))) as u64
}

impl ObjectFacts {
    /// Bytes of Python objects that are gained in so many seconds, by what was gained between the looks; `None` if these did
    /// not see everything.
    pub fn gained_in(&self, seconds: f64) -> Option<f64> {
        let part = (self.seconds / seconds.max(1.0)).clamp(0.01, 1.0);
        (self.whole && self.seconds > 0.0).then(|| self.python_bytes.max(0) as f64 / part)
    }

    /// Share of the bytes gained, of a sample, that nothing refers to.
    pub fn lost_share(&self) -> f64 {
        let all = self.lost.saturating_add(self.kept);
        if all == 0 { 0.0 } else { self.lost as f64 / all as f64 }
    }

    /// The containers that grow without a bound and whose owner is known, none within another of them.
    pub fn unbounded(&self) -> Vec<&GrowingContainer> {
        let mut found: Vec<&GrowingContainer> = Vec::new();
        let wanted = |row: &&GrowingContainer| row.now.bound.is_none() && row.has_owner() && !row.holds_weakly();
        for row in self.containers.iter().filter(wanted) {
            let is_within = |outer: &&&GrowingContainer| {
                let rest = row.now.owner.strip_prefix(outer.now.owner.as_str());
                rest.is_some_and(|rest| rest.starts_with(['[', '.']))
            };
            if !found.iter().any(|outer| is_within(&outer)) {
                found.push(row);
            }
        }
        found
    }

    /// Whether a container is what one of the caches of functools has its entries in.
    pub fn is_of_functools(&self, row: &GrowingContainer) -> bool {
        let function = row.now.owner.strip_prefix("cache of ");
        function.is_some_and(|function| self.caches.iter().any(|cache| cache.now.function == function))
    }

    /// The one with most bytes that is no cache and no queue; else the one with most bytes.
    pub fn keeper(&self) -> Option<&GrowingContainer> {
        let all = self.unbounded();
        let plain = all.iter().find(|row| row.keeps_work() || !row.is_cache_or_queue()).copied();
        plain.or_else(|| all.first().copied())
    }
}

impl ObjectFacts {
    /// Whether objects grow in number that may hold memory which no look sees (an array's data, a compiled expression), as
    /// many as stand for so many blocks. What Python's own types hold is seen.
    pub fn may_hide(&self, blocks: u64) -> bool {
        /// One object for so many blocks still stands for them.
        const BLOCKS_EACH: u64 = 20;
        let foreign = self.types.iter().filter(|(name, ..)| name.contains('.') && !name.starts_with("__main__."));
        foreign
            .map(|(_, gained, _)| *gained)
            .any(|gained| gained.saturating_mul(BLOCKS_EACH) >= blocks.max(BLOCKS_EACH))
    }

    /// What keeps the objects that came, by the container nearest to a name: the most bytes first.
    pub fn keepers(&self) -> Vec<(String, Holder, u64)> {
        let mut keepers: BTreeMap<(&str, Holder), u64> = BTreeMap::new();
        for row in &self.retainers {
            let container = row.path.split_once("[...]").map_or(row.path.as_str(), |(container, _)| container);
            let bytes = keepers.entry((container, row.holder)).or_default();
            *bytes = bytes.saturating_add(row.space);
        }
        let mut keepers: Vec<_> =
            keepers.into_iter().map(|((path, holder), bytes)| (path.to_owned(), holder, bytes)).collect();
        keepers.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        keepers
    }
}

/// Whether it is known who holds a container, and that is a name in a program.
pub fn has_owner(row: &ContainerRow) -> bool {
    use Holder::{Interpreter, NoReferrer, Unknown};
    !row.owner.is_empty() && !matches!(row.holder, Interpreter | NoReferrer | Unknown)
}

/// `app.cache.SESSIONS (dict)`, or what is known.
pub fn named(row: &ContainerRow) -> String {
    let kind = if row.type_name.is_empty() { "container" } else { &row.type_name };
    match row.owner.as_str() {
        "" => format!("a {kind} whose owner was not found"),
        owner => format!("{owner} ({kind})"),
    }
}

impl GrowingContainer {
    /// Whether it is known who holds it, and that is a name in a program.
    pub fn has_owner(&self) -> bool {
        has_owner(&self.now)
    }

    /// Whether its elements only refer to what others keep.
    pub fn holds_weakly(&self) -> bool {
        let name = self.now.element_type.rsplit('.').next().unwrap_or_default();
        ["ReferenceType", "weakref", "KeyedRef", "WeakMethod"].contains(&name)
    }

    /// `app.cache.SESSIONS (dict)`, or what is known.
    pub fn name(&self) -> String {
        named(&self.now)
    }

    /// Whether it is a store by key or a queue, and lets in more without end.
    pub fn is_cache_or_queue(&self) -> bool {
        use ContainerKind::{AsyncioQueue, Deque, Dict, Queue, Set};
        matches!(self.now.kind, Dict | Deque | Queue | AsyncioQueue | Set)
    }

    /// Whether its elements are the state of work: tasks, threads, timers and the like.
    pub fn keeps_work(&self) -> bool {
        const WORK: [&str; 9] =
            ["Task", "Future", "coroutine", "Thread", "Timer", "TimerHandle", "Handle", "async_generator", "Process"];
        let name = self.now.element_type.rsplit('.').next().unwrap_or_default();
        WORK.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::objects::TypeRow;

    fn row(owner: &str, address: u64, length: u64) -> ContainerRow {
        let owner = owner.to_owned();
        ContainerRow {
            owner,
            address,
            length,
            kind: ContainerKind::Dict,
            deep_space: length * 100,
            ..Default::default()
        }
    }

    fn look(containers: Vec<ContainerRow>, partial: bool) -> ObjectLook {
        let types = vec![TypeRow { name: "dict".to_owned(), objects: containers.len() as u64, space: 1 << 30 }];
        ObjectLook { containers, types, partial, ..ObjectLook::default() }
    }

    #[test]
    fn what_one_look_did_not_reach_did_not_grow() {
        let gained = |partial: bool| {
            let first = look(vec![row("app.CACHE", 1, 1000)], partial);
            let last = look(vec![row("app.CACHE", 1, 9000), row("keyword.kwlist", 2, 5000)], false);
            let mut profile = Profile::default();
            profile.evidence.looks = vec![first, last];
            let facts = of_process(&profile, 0).unwrap();
            let names: Vec<_> = facts.containers.iter().map(|row| (row.now.owner.clone(), row.bytes)).collect();
            (names, facts.types.len())
        };
        let row = |owner: &str, bytes| (owner.to_owned(), bytes);
        assert_eq!(gained(false).0, [row("app.CACHE", 800_000), row("keyword.kwlist", 400_000)]);
        assert_eq!(gained(false).1, 1);
        assert_eq!(gained(true), (vec![row("app.CACHE", 800_000)], 0));
    }
}
