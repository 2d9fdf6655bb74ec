//! The largest containers, and the caches of `functools`.

use std::collections::{HashMap, HashSet};

use super::graph::{Graph, Parent};
use super::heap::Heap;
use super::kinds::{Shape, text};
use super::lost::Verdicts;
use super::owner::{Names, Owner};
use super::references::Slot;
use super::values::{attribute, int, length};
use crate::profile::objects::{CacheRow, ContainerKind, ContainerRow};
use crate::python::object_layout::{self as at, lru};

/// Containers told of, by bytes and by length.
const BY_BYTES: usize = 160;
const BY_LENGTH: usize = 96;
/// Caches told of.
const CACHES: usize = 256;
/// A tuple of fewer items, or the dict of an object's attributes with fewer, is no container that people mean.
const LONG: u64 = 1000;
/// Elements of a container whose types are looked at.
const SAMPLE: u64 = 64;

/// The classes of queues, and the names of their queue and its bound.
const QUEUES: [(&[&str], ContainerKind, &str, &str); 2] = [
    (&["queue.Queue"], ContainerKind::Queue, "queue", "maxsize"),
    (&["asyncio.queues.Queue"], ContainerKind::AsyncioQueue, "_queue", "_maxsize"),
];

/// A container, before it has a name.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    object: u32,
    /// What has the elements: the deque of a queue.
    elements: u32,
    kind: ContainerKind,
    length: u64,
    bound: Option<u64>,
    deep: u64,
}

/// The largest containers, each with the index of its object.
pub fn containers(heap: &Heap<'_>, graph: &Graph, names: &Names<'_>) -> Vec<(u32, ContainerRow)> {
    let queues = queues(heap, graph);
    let inner: HashSet<u32> = queues.iter().map(|queue| queue.elements).collect();
    let plain = heap.indices().filter(|object| !inner.contains(object));
    let mut all: Vec<Candidate> = plain.filter_map(|object| candidate(heap, graph, names, object)).collect();
    all.extend(queues);
    all.sort_unstable_by_key(|found| (std::cmp::Reverse(found.length), found.object));
    let longest: Vec<_> = all.iter().take(BY_LENGTH).copied().collect();
    all.sort_unstable_by_key(|found| (std::cmp::Reverse(found.deep), found.object));
    all.truncate(BY_BYTES);
    let chosen: HashSet<u32> = all.iter().map(|found| found.object).collect();
    all.extend(longest.into_iter().filter(|found| !chosen.contains(&found.object)));
    all.iter().map(|found| (found.object, row(heap, names, found))).collect()
}

/// The rows, the most bytes first, after a second look at those that nothing refers to.
pub fn rows(found: Vec<(u32, ContainerRow)>, names: &Names<'_>, verdicts: &Verdicts) -> Vec<ContainerRow> {
    let checked = |(object, row): (u32, ContainerRow)| {
        let owner = verdicts.checked(Owner { holder: row.holder, text: row.owner.clone() }, object, names)?;
        Some(ContainerRow { holder: owner.holder, owner: owner.text, ..row })
    };
    let mut rows: Vec<_> = found.into_iter().filter_map(checked).collect();
    rows.sort_by(|a, b| (b.deep_space, a.address).cmp(&(a.deep_space, b.address)));
    rows
}

fn candidate(heap: &Heap<'_>, graph: &Graph, names: &Names<'_>, object: u32) -> Option<Candidate> {
    let kind = match heap.kind(object).shape {
        Shape::Dict => ContainerKind::Dict,
        Shape::List => ContainerKind::List,
        Shape::Set => ContainerKind::Set,
        Shape::Tuple => ContainerKind::Tuple,
        Shape::Deque => ContainerKind::Deque,
        Shape::ByteArray | Shape::BytesIo => ContainerKind::Buffer,
        _ => return None,
    };
    let length = length(heap, object).filter(|&length| length > 0)?;
    if kind == ContainerKind::Tuple && length < LONG {
        return None;
    }
    if let (ContainerKind::Dict, Parent::Object(above)) = (kind, graph.parent(object))
        && length < LONG
        && names.attributes_of(above, object).is_some()
    {
        return None;
    }
    let bound = match kind {
        ContainerKind::Deque => heap.copy.signed(heap.address(object) + at::DEQUE_BOUND),
        _ => None,
    };
    let bound = bound.and_then(|bound| u64::try_from(bound).ok());
    Some(Candidate { object, elements: object, kind, length, bound, deep: graph.deep(object) })
}

/// `queue.Queue` and `asyncio.Queue`, and their subclasses.
fn queues(heap: &Heap<'_>, graph: &Graph) -> Vec<Candidate> {
    let mut kinds = HashMap::new();
    for index in 0..heap.kinds.list.len() as u32 {
        if let Some(queue) = QUEUES.iter().find(|queue| heap.kinds.is_one_of(index, queue.0)) {
            kinds.insert(index, queue);
        }
    }
    let of = |object: u32| kinds.get(&heap.objects[object as usize].kind).map(|queue| (object, *queue));
    let instances = heap.indices().filter_map(of);
    let found = instances.filter_map(|(object, (_, kind, elements, bound))| {
        let elements = heap.find(attribute(heap, object, elements)?)?;
        let bound = attribute(heap, object, bound).and_then(|bound| int(heap, bound));
        let bound = bound.and_then(|bound| u64::try_from(bound).ok()).filter(|&bound| bound > 0);
        let length = length(heap, elements)?;
        Some(Candidate { object, elements, kind: *kind, length, bound, deep: graph.deep(object) })
    });
    found.collect()
}

fn row(heap: &Heap<'_>, names: &Names<'_>, found: &Candidate) -> ContainerRow {
    let owner = names.owner(found.object);
    ContainerRow {
        kind: found.kind,
        type_name: heap.kind(found.object).name.clone(),
        address: heap.address(found.object),
        owner: owner.text,
        holder: owner.holder,
        length: found.length,
        bound: found.bound,
        space: heap.objects[found.elements as usize].space,
        deep_space: found.deep,
        element_type: element_type(heap, found.elements, found.length),
    }
}

/// The commonest type in a sample of the elements, of a dict its values.
fn element_type(heap: &Heap<'_>, object: u32, length: u64) -> String {
    let step = (length / SAMPLE).max(1);
    let mut seen = 0_u64;
    let mut counts: HashMap<u32, u64> = HashMap::new();
    let of = heap.kind(object);
    // What a list refers to may have been read after the list itself, see `View::items_now`.
    if of.shape == Shape::List {
        for &element in heap.targets(object).iter().step_by(step as usize) {
            *counts.entry(heap.objects[element as usize].kind).or_default() += 1;
        }
        return commonest(heap, &counts);
    }
    heap.view().each(heap.address(object), of, &mut |reference| {
        let is_element = match reference.slot {
            Slot::Value(_) | Slot::Item => true,
            Slot::Key => of.shape == Shape::Set,
            _ => false,
        };
        if is_element {
            if seen.is_multiple_of(step)
                && let Some(element) = heap.find(reference.target)
            {
                *counts.entry(heap.objects[element as usize].kind).or_default() += 1;
            }
            seen += 1;
        }
    });
    commonest(heap, &counts)
}

fn commonest(heap: &Heap<'_>, counts: &HashMap<u32, u64>) -> String {
    let name = |kind: u32| heap.kinds.list[kind as usize].name.as_str();
    let most = counts.iter().max_by_key(|(kind, count)| (**count, name(**kind)));
    most.map(|(kind, _)| name(*kind).to_owned()).unwrap_or_default()
}

/// The caches of `functools`, the most bytes first.
pub fn caches(heap: &Heap<'_>, graph: &Graph, names: &Names<'_>) -> Vec<CacheRow> {
    let all = heap.indices().filter(|object| heap.kind(*object).shape == Shape::LruCache);
    let mut rows: Vec<_> = all.filter_map(|object| cache(heap, graph, names, object)).collect();
    rows.sort_by(|a, b| (b.deep_space, &a.function, a.address).cmp(&(a.deep_space, &b.function, b.address)));
    rows.truncate(CACHES);
    rows
}

fn cache(heap: &Heap<'_>, graph: &Graph, names: &Names<'_>, object: u32) -> Option<CacheRow> {
    let address = heap.address(object);
    let word = |offset: u64| heap.copy.word(address + offset);
    let function = word(lru::FUNCTION)?;
    let entries = heap.find(word(lru::CACHE)?)?;
    let (file, line) = place(heap, function).unwrap_or_default();
    Some(CacheRow {
        function: names.callable(function),
        file,
        line,
        address,
        currsize: length(heap, entries)?,
        maxsize: word(lru::MAXSIZE).and_then(|most| u64::try_from(most.cast_signed()).ok()),
        hits: word(lru::HITS)?,
        misses: word(lru::MISSES)?,
        deep_space: graph.deep(entries),
    })
}

/// The file and the first line of a function.
fn place(heap: &Heap<'_>, function: u64) -> Option<(String, u32)> {
    heap.find(function).filter(|&object| heap.kind(object).shape == Shape::Function)?;
    let code = heap.copy.word(function + heap.layouts.objects.function.code)?;
    let offsets = heap.layouts.base.code;
    let file = text(heap.copy, heap.layouts, heap.copy.word(code + u64::from(offsets.filename))?)?;
    Some((file, heap.copy.half(code + u64::from(offsets.firstlineno))?))
}
