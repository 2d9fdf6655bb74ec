//! Who keeps the objects: those of the types with the most bytes, a sample of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::heap::Heap;
use super::lost::Verdicts;
use super::owner::{Names, Owner};
use crate::profile::objects::{Holder, RetainerRow};

/// Types sampled, the most bytes first.
const TYPES: usize = 24;
/// The largest objects of a type, which are all looked at: a sample would make too much or nothing of them.
const LARGEST: usize = 32;
/// Of the others so many.
const SAMPLE: usize = 200;
/// Places told of a type; the rest are one row.
const PLACES: usize = 8;
/// Rows in all.
const ROWS: usize = 256;

/// Objects of one type, some of them looked at.
#[derive(Debug)]
struct Sample {
    kind: u32,
    /// Those looked at.
    objects: Vec<(u32, Owner)>,
    /// How many there are.
    count: u64,
    /// Their bytes.
    space: u64,
}

/// What keeps samples of objects, object by object.
#[derive(Debug)]
pub struct Held {
    samples: Vec<Sample>,
}

impl Held {
    /// Looks at a sample of the objects, of those at chosen addresses, of the types with the most bytes of them.
    pub fn by_type(heap: &Heap<'_>, names: &Names<'_>, chosen: impl Fn(u64) -> bool) -> Self {
        let mut kinds: Vec<(u64, u32)> = (0..heap.kinds.list.len() as u32).map(|kind| (0, kind)).collect();
        let chosen: Vec<u32> = heap.indices().filter(|&object| chosen(heap.address(object))).collect();
        for &object in &chosen {
            let object = heap.objects[object as usize];
            kinds[object.kind as usize].0 += object.space;
        }
        kinds.sort_unstable_by_key(|&(space, kind)| (Reverse(space), kind));
        kinds.truncate(TYPES);
        let mut members: HashMap<u32, Vec<u32>> = kinds.iter().map(|&(_, kind)| (kind, Vec::new())).collect();
        for object in chosen {
            if let Some(members) = members.get_mut(&heap.objects[object as usize].kind) {
                members.push(object);
            }
        }
        let mut samples = Vec::new();
        for (_, kind) in kinds {
            let mut all = members.remove(&kind).unwrap_or_default();
            let space = |object: &u32| heap.objects[*object as usize].space;
            if all.len() > LARGEST {
                all.select_nth_unstable_by_key(LARGEST, |object| (Reverse(space(object)), *object));
            }
            let mut rest = all.split_off(LARGEST.min(all.len()));
            rest.sort_unstable();
            let step = rest.len().div_ceil(SAMPLE).max(1);
            let chosen: Vec<u32> = rest.iter().copied().step_by(step).collect();
            samples.push(Sample::of(kind, &all, heap, names));
            let sums = (rest.len() as u64, rest.iter().map(space).sum());
            let sample = Sample::of(kind, &chosen, heap, names);
            samples.push(Sample { count: sums.0, space: sums.1, ..sample });
        }
        Self { samples }
    }

    /// Looks at these objects.
    pub fn by_address(heap: &Heap<'_>, names: &Names<'_>, focus: &[u32]) -> Self {
        let mut kinds: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &object in focus {
            kinds.entry(heap.objects[object as usize].kind).or_default().push(object);
        }
        Self { samples: kinds.iter().map(|(kind, objects)| Sample::of(*kind, objects, heap, names)).collect() }
    }

    /// The objects that nothing refers to, from which those of the samples hang.
    pub fn without_referrer(&self, names: &Names<'_>) -> HashSet<u32> {
        let each = self.samples.iter().flat_map(|sample| &sample.objects);
        each.filter(|(_, owner)| owner.holder == Holder::NoReferrer).map(|&(object, _)| names.top(object)).collect()
    }

    /// The rows, the most bytes first.
    pub fn rows(self, heap: &Heap<'_>, names: &Names<'_>, verdicts: &Verdicts) -> Vec<RetainerRow> {
        let mut kinds: BTreeMap<u32, BTreeMap<Owner, Sums>> = BTreeMap::new();
        for sample in self.samples {
            let places = kinds.entry(sample.kind).or_default();
            for (owner, sums) in sample.places(heap, names, verdicts) {
                places.entry(owner).or_default().add(&sums);
            }
        }
        let mut rows = Vec::new();
        for (kind, places) in kinds {
            rows.extend(of_kind(&heap.kinds.list[kind as usize].name, places));
        }
        rows.sort_by(|a, b| (b.space, &a.type_name, &a.path).cmp(&(a.space, &b.type_name, &b.path)));
        rows.truncate(ROWS);
        rows
    }
}

/// What is held in one place.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sampled: u64,
    objects: u64,
    space: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.sampled += other.sampled;
        self.objects += other.objects;
        self.space += other.space;
    }
}

impl Sample {
    /// All of these are looked at, and stand for themselves.
    fn of(kind: u32, objects: &[u32], heap: &Heap<'_>, names: &Names<'_>) -> Self {
        let space = objects.iter().map(|&object| heap.objects[object as usize].space).sum();
        let owned = objects.iter().map(|&object| (object, names.owner(object))).collect();
        Self { kind, objects: owned, count: objects.len() as u64, space }
    }

    /// What is held in which place, as an estimate of all.
    fn places(self, heap: &Heap<'_>, names: &Names<'_>, verdicts: &Verdicts) -> BTreeMap<Owner, Sums> {
        let mut places: BTreeMap<Owner, Sums> = BTreeMap::new();
        let mut seen = Sums::default();
        for (object, owner) in self.objects {
            let Some(owner) = verdicts.checked(owner, object, names) else { continue };
            let one = Sums { sampled: 1, objects: 1, space: heap.objects[object as usize].space };
            places.entry(owner).or_default().add(&one);
            seen.add(&one);
        }
        let scaled =
            |part: u64, of: u64, whole: u64| (u128::from(part) * u128::from(whole) / u128::from(of.max(1))) as u64;
        for sums in places.values_mut() {
            sums.objects = scaled(sums.objects, seen.objects, self.count);
            sums.space = scaled(sums.space, seen.space, self.space);
        }
        places
    }
}

/// The rows of one type: the places with the most bytes, and one for all others.
fn of_kind(name: &str, places: BTreeMap<Owner, Sums>) -> Vec<RetainerRow> {
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by(|a, b| (b.1.space, &a.0).cmp(&(a.1.space, &b.0)));
    if places.len() > PLACES + 1 {
        let rest = places.split_off(PLACES);
        let mut sums = Sums::default();
        rest.iter().for_each(|(_, place)| sums.add(place));
        places.push((Owner { holder: Holder::Unknown, text: format!("{} other places", rest.len()) }, sums));
    }
    let row = |(owner, sums): (Owner, Sums)| RetainerRow {
        type_name: name.to_owned(),
        path: owner.text,
        holder: owner.holder,
        sampled: sums.sampled,
        objects: sums.objects,
        space: sums.space,
    };
    places.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_beyond_the_first_are_one_row_and_nothing_is_lost() {
        let place = |number: u64| {
            let owner = Owner { holder: Holder::ModuleGlobal, text: format!("app.G{number}") };
            (owner, Sums { sampled: 1, objects: 10, space: 100 * number })
        };
        let rows = of_kind("str", (1..=12).map(place).collect());
        assert_eq!(rows.len(), PLACES + 1);
        assert_eq!((rows[0].path.as_str(), rows[0].space), ("app.G12", 1200));
        assert_eq!((rows[8].path.as_str(), rows[8].holder, rows[8].objects), ("4 other places", Holder::Unknown, 40));
        assert_eq!(rows.iter().map(|row| row.space).sum::<u64>(), 7800);
    }
}
