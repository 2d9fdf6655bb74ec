//! The objects in a process's memory, read from outside while it runs: of which types, in which containers, who keeps them.
//!
//! Memory is copied in pieces and walked at home; nothing is believed that does not agree with its neighbours, and what
//! does not is left out and counted. The target is not stopped and nothing is written to it.

mod address;
mod containers;
mod copy;
mod graph;
mod heap;
mod kinds;
mod lost;
mod owner;
mod references;
mod retainers;
mod roots;
mod search;
mod subject;
mod table;
mod values;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

pub use subject::Subject;

use copy::Copy;
use graph::Graph;
use heap::Heap;
use kinds::Layouts;
use lost::Verdicts;
use owner::Names;
use retainers::Held;
use roots::{Root, Roots};

use crate::process::bounded::{Bounded, Budget};
use crate::process::maps::Region;
use crate::process::memory::Memory;
use crate::profile::objects::{Holder, ObjectLook, TypeRow};
use crate::python::object_layout::{GC_HEADER, ObjectLayout, PRE_HEADER};
use crate::python::{Interpreter, arenas, threads};

/// Types told of.
const TYPES: usize = 256;
/// Interpreters of a process that are looked at.
const INTERPRETERS: usize = 64;

/// What a look may cost, and what it is for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes copied, and wall time, for the walk; as much again for the second look at what nothing refers to.
    pub budget: Budget,
    /// Objects.
    pub objects: usize,
    /// Addresses of blocks or objects: who keeps these is told in [`ObjectLook::focused`]. Without any, who keeps what came
    /// since the first look.
    pub focus: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let budget = Budget { bytes: 512 << 20, time: Duration::from_secs(5) };
        Self { budget, objects: 4_000_000, focus: Vec::new() }
    }
}

/// Reads the objects of one process: what does not change is found once.
#[derive(Debug)]
pub struct Reader {
    layouts: Result<Layouts, String>,
    pools: Option<arenas::Place>,
    pool_size: u64,
    runtime: Range<u64>,
    /// Where objects were at the first look that saw everything, in order.
    before: Option<Vec<u64>>,
}

impl Reader {
    /// Prepares for a process; `regions` are of this moment.
    pub fn new(memory: &impl Memory, python: &Interpreter, regions: &[Region]) -> Self {
        let layouts = ObjectLayout::of(python.layout).map(|objects| Layouts { base: python.layout, objects });
        // Without pymalloc the collector's lists are the way to the objects.
        let pools =
            layouts.is_ok().then(|| arenas::find(&python.allocators(), python.layout, memory, regions).ok()).flatten();
        let size = python.image.export("_PyRuntime").map_or(0, |symbol| symbol.size);
        let runtime = python.runtime..python.runtime.saturating_add(size);
        Self { layouts, pools, pool_size: python.layout.pool_size, runtime, before: None }
    }

    /// Makes a look; `regions` are of this moment, and `again` reads them once more. Which process it is and when it was is
    /// for the caller to fill in.
    pub fn look(
        &mut self,
        memory: &impl Memory,
        regions: &[Region],
        again: impl FnOnce() -> Vec<Region>,
        options: &Options,
    ) -> ObjectLook {
        let layouts = match &self.layouts {
            Ok(layouts) => *layouts,
            Err(reason) => return ObjectLook { not_available: Some(reason.clone()), ..ObjectLook::default() },
        };
        let copy = Copy::new(memory, regions, options.budget);
        let mut heap = Heap::new(&copy, layouts, options.objects);
        let mut roots = Roots::default();
        let arenas = self.find_objects(&mut heap, &mut roots, regions, memory, options.budget);
        let focus = focused(&mut heap, &options.focus);
        heap.follow();
        roots.named(&mut heap);
        let graph = Graph::new(&heap, &roots.list);
        let file = |region: usize| file_name(regions, region);
        let names = Names::new(&heap, &graph, &roots, &file);
        let held = Held::by_type(&heap, &names, |_| true);
        let asked = match &self.before {
            Some(before) if focus.is_empty() => {
                Held::by_type(&heap, &names, |address| before.binary_search(&address).is_err())
            }
            _ => Held::by_address(&heap, &names, &focus),
        };
        let mut alone = held.without_referrer(&names);
        alone.extend(asked.without_referrer(&names));
        let containers = containers::containers(&heap, &graph, &names);
        let unheld = containers.iter().filter(|(_, row)| row.holder == Holder::NoReferrer);
        alone.extend(unheld.map(|(object, _)| names.top(*object)));
        let partial = heap.partial || copy.is_spent();
        let (verdicts, read_again) = if partial {
            (Verdicts::default(), 0)
        } else {
            lost::verdicts(&heap, memory, &again(), alone.into_iter(), &arenas, options.budget)
        };
        if self.before.is_none() && !partial {
            let mut all: Vec<u64> = heap.objects.iter().map(|object| object.address).collect();
            all.sort_unstable();
            self.before = Some(all);
        }
        ObjectLook {
            process: 0,
            at_ms: 0,
            took_us: copy.began().elapsed().as_micros() as u64,
            bytes_read: copy.bytes_read() + read_again,
            not_available: None,
            objects: heap.objects.len() as u64,
            discarded: heap.discarded,
            partial,
            types: types(&heap),
            containers: containers::rows(containers, &names, &verdicts),
            caches: containers::caches(&heap, &graph, &names),
            retainers: held.rows(&heap, &names, &verdicts),
            focused: asked.rows(&heap, &names, &verdicts),
        }
    }

    /// The collector's lists, the pools, and what the roots refer to. Gives the parts of the arenas in use.
    fn find_objects(
        &self,
        heap: &mut Heap<'_>,
        roots: &mut Roots,
        regions: &[Region],
        memory: &impl Memory,
        budget: Budget,
    ) -> Vec<(Range<u64>, u64)> {
        let (copy, base) = (heap.copy, heap.layouts.base);
        search::lists(heap, self.runtime.clone());
        for state in interpreters(copy, base, self.runtime.start) {
            let range = state..state.saturating_add(heap.layouts.objects.interpreter_bytes);
            search::lists(heap, range.clone());
            roots.words(heap, range, Root::Interpreter);
        }
        let cut =
            self.pools.as_ref().map(|place| arenas::cut(place, &Bounded::new(memory, budget))).unwrap_or_default();
        for arena in &cut {
            search::pools(heap, arena.clone(), self.pool_size);
        }
        for thread in threads::read(copy, base, self.runtime.start).unwrap_or_default() {
            roots.thread(heap, &thread);
        }
        self.statics(heap, roots, regions, &cut);
        cut.into_iter().map(|arena| (arena, self.pool_size)).collect()
    }

    /// Static variables: writable parts of files, and what the loader put behind them.
    fn statics(&self, heap: &mut Heap<'_>, roots: &mut Roots, regions: &[Region], arenas: &[Range<u64>]) {
        let mut last: Option<(usize, u64)> = None;
        let runtime = self.runtime.start;
        let own = regions.iter().find(|region| (region.start..region.end).contains(&runtime));
        let own = own.and_then(|region| file_of(regions, region)).map(|index| regions[index].path());
        for (index, region) in regions.iter().enumerate() {
            let file = match (region.path(), last) {
                (Some(_), _) => Some(index),
                (None, Some((file, end))) if end == region.start && is_anonymous(region) => Some(file),
                _ => None,
            };
            last = file.map(|file| (file, region.end));
            if let Some(file) = file.filter(|_| region.permissions.write && !region.permissions.shared) {
                let root = if Some(regions[file].path()) == own { Root::Interpreter } else { Root::File(file) };
                for part in outside(region.start..region.end, arenas) {
                    roots.words(heap, part, root);
                }
            }
        }
    }
}

/// The parts of a range that lie in none of these: an arena that the kernel has put behind a file's variables is none.
fn outside(range: Range<u64>, arenas: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut inside: Vec<_> = arenas.iter().filter(|arena| arena.start < range.end && range.start < arena.end).collect();
    inside.sort_unstable_by_key(|arena| arena.start);
    let (mut parts, mut at) = (Vec::new(), range.start);
    for arena in inside {
        parts.push(at..arena.start.max(at));
        at = at.max(arena.end);
    }
    parts.push(at.min(range.end)..range.end);
    parts.retain(|part| !part.is_empty());
    parts
}

fn is_anonymous(region: &Region) -> bool {
    matches!(region.name, crate::process::maps::RegionName::Anonymous)
}

/// The region of the file that a region belongs to: its own, or that of its neighbour before.
fn file_of(regions: &[Region], region: &Region) -> Option<usize> {
    let index = regions.iter().position(|other| other.start == region.start)?;
    (0..=index).rev().find(|&index| regions[index].path().is_some())
}

fn file_name(regions: &[Region], region: usize) -> String {
    let name = regions.get(region).and_then(Region::path).and_then(|path| path.file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn interpreters(copy: &Copy<'_>, base: &crate::python::layout::Layout, runtime: u64) -> Vec<u64> {
    let mut states = Vec::new();
    let mut state = threads::head(copy, base, runtime).unwrap_or(0);
    while state != 0 && states.len() < INTERPRETERS && !states.contains(&state) {
        states.push(state);
        state = copy.word(state.wrapping_add(base.interpreter.next)).unwrap_or(0);
    }
    states
}

/// The objects at these addresses, or behind the headers that begin there.
fn focused(heap: &mut Heap<'_>, addresses: &[u64]) -> Vec<u32> {
    let at = |heap: &mut Heap<'_>, address: u64| {
        let places = [0, GC_HEADER, GC_HEADER + PRE_HEADER].map(|before| address.saturating_add(before));
        let known = places.iter().find_map(|&place| heap.find(place));
        known.or_else(|| places.iter().find_map(|&place| heap.add(place)))
    };
    let mut found: Vec<_> = addresses.iter().filter_map(|&address| at(heap, address)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Objects and bytes by type, the most bytes first.
fn types(heap: &Heap<'_>) -> Vec<TypeRow> {
    let mut sums = vec![(0, 0); heap.kinds.list.len()];
    for object in heap.indices() {
        let object = heap.objects[object as usize];
        let sum: &mut (u64, u64) = &mut sums[object.kind as usize];
        (sum.0, sum.1) = (sum.0 + 1, sum.1 + object.space);
    }
    let mut by_name: HashMap<&str, (u64, u64)> = HashMap::new();
    for (kind, (objects, space)) in heap.kinds.list.iter().zip(sums).filter(|(_, sum)| sum.0 > 0) {
        let sum = by_name.entry(&kind.name).or_default();
        (sum.0, sum.1) = (sum.0 + objects, sum.1 + space);
    }
    let row = |(name, (objects, space)): (&str, (u64, u64))| TypeRow { name: name.to_owned(), objects, space };
    let mut rows: Vec<_> = by_name.into_iter().map(row).collect();
    rows.sort_by(|a, b| (b.space, &a.name).cmp(&(a.space, &b.name)));
    rows.truncate(TYPES);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_of_arenas() {
        let check = |arenas: &[(u64, u64)], expected: &[(u64, u64)]| {
            let arenas: Vec<_> = arenas.iter().map(|&(start, end)| start..end).collect();
            let parts: Vec<_> = outside(10..100, &arenas).iter().map(|part| (part.start, part.end)).collect();
            assert_eq!(parts, expected);
        };
        check(&[], &[(10, 100)]);
        check(&[(0, 10), (100, 200)], &[(10, 100)]);
        check(&[(40, 50), (20, 30)], &[(10, 20), (30, 40), (50, 100)]);
        check(&[(0, 20), (90, 200)], &[(20, 90)]);
        check(&[(0, 200)], &[]);
    }
}
