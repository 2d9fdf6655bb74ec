//! What the objects of the processes are, where somebody looked at them.

use std::collections::HashMap;

use serde::Serialize;

use crate::profile::Profile;
use crate::profile::objects::ObjectLook;
use crate::render::sanitize;

/// Most rows of each table.
const MOST: usize = 40;
/// Longest name, in columns.
const COLUMNS: usize = 120;

/// The last look at one process, and how much there is more than at its first.
#[derive(Serialize)]
pub(super) struct LookOut {
    process: u64,
    at_ms: u64,
    objects: u64,
    partial: bool,
    /// Name, objects, bytes, more objects than at the first look, more bytes.
    types: Vec<(String, u64, u64, i64, i64)>,
    containers: Vec<ContainerOut>,
    /// Function, entries, the most of them, hits, misses, bytes.
    caches: Vec<(String, u64, Option<u64>, u64, u64, u64)>,
    /// Type, path, objects, bytes.
    retainers: Vec<(String, String, u64, u64)>,
}

/// A container.
#[derive(Serialize)]
struct ContainerOut {
    kind: String,
    type_name: String,
    owner: String,
    length: u64,
    bound: Option<u64>,
    space: u64,
    /// Bytes more than at the first look.
    more: i64,
}

/// One for each process that was looked at.
pub(super) fn looks(profile: &Profile, process: impl Fn(u32) -> u64) -> Vec<LookOut> {
    let made = profile.evidence.looks.iter().filter(|look| look.not_available.is_none());
    let mut of_process: Vec<(u32, &ObjectLook, &ObjectLook)> = Vec::new();
    for look in made {
        match of_process.iter_mut().find(|(index, ..)| *index == look.process) {
            Some((_, _, last)) => *last = look,
            None => of_process.push((look.process, look, look)),
        }
    }
    of_process.into_iter().map(|(index, first, last)| look_out(process(index), first, last)).collect()
}

fn look_out(process: u64, first: &ObjectLook, last: &ObjectLook) -> LookOut {
    let name = |text: &str| sanitize::name(text, COLUMNS);
    let before: HashMap<&str, (u64, u64)> =
        first.types.iter().map(|row| (row.name.as_str(), (row.objects, row.space))).collect();
    let types = last.types.iter().take(MOST).map(|row| {
        let (objects, space) = before.get(row.name.as_str()).copied().unwrap_or_default();
        (name(&row.name), row.objects, row.space, change(objects, row.objects), change(space, row.space))
    });
    let containers = last.containers.iter().take(MOST).map(|row| ContainerOut {
        kind: format!("{:?}", row.kind).to_lowercase(),
        type_name: name(&row.type_name),
        owner: name(&row.owner),
        length: row.length,
        bound: row.bound,
        space: row.deep_space,
        more: first.same(row).map_or(0, |old| change(old.deep_space, row.deep_space)),
    });
    let caches = last
        .caches
        .iter()
        .take(MOST)
        .map(|row| (name(&row.function), row.currsize, row.maxsize, row.hits, row.misses, row.deep_space));
    let retainers = last.retainers.iter().take(MOST);
    LookOut {
        process,
        at_ms: last.at_ms,
        objects: last.objects,
        partial: last.partial,
        types: types.collect(),
        containers: containers.collect(),
        caches: caches.collect(),
        retainers: retainers.map(|row| (name(&row.type_name), name(&row.path), row.objects, row.space)).collect(),
    }
}

fn change(from: u64, to: u64) -> i64 {
    let size = i64::try_from(to.abs_diff(from)).unwrap_or(i64::MAX);
    if to < from { -size } else { size }
}
