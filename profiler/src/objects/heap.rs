//! All objects that a look finds, and what each refers to.

use std::collections::HashSet;

use super::address::AddressMap;
use super::copy::Copy;
use super::kinds::{Kind, Kinds, Layouts, Shape};
use super::references::{Reference, Slot, View};
use crate::python::object_layout as at;

/// No object has as many references: a count above is none.
const MOST_COUNT: u64 = 1 << 32;
/// References of one object that may be wrong before it is doubted itself.
const FEW: usize = 8;
/// Objects between two looks at the clock.
const STEP: u32 = 1024;

/// An object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its address.
    pub address: u64,
    /// Index of its type.
    pub kind: u32,
    /// Bytes, with the headers before it and what only it has.
    pub space: u64,
}

/// The objects found, by index, and their references.
pub struct Heap<'a> {
    /// The memory.
    pub copy: &'a Copy<'a>,
    /// How to read it.
    pub layouts: Layouts,
    /// The types.
    pub kinds: Kinds,
    /// The objects.
    pub objects: Vec<Object>,
    /// What did not pass the checks.
    pub discarded: u64,
    /// Whether a bound ended the search.
    pub partial: bool,
    index: AddressMap<u32>,
    /// What turned out to be no object when it was followed.
    invalid: HashSet<u32>,
    /// For each object where its references begin in `targets`, and the end.
    starts: Vec<usize>,
    targets: Vec<u32>,
    /// For each object how many of its references are certain: they are the first ones.
    certain: Vec<u32>,
    most: usize,
}

/// A word in an object that may be a reference.
struct Word {
    target: u64,
    /// It must be one.
    exact: bool,
    /// Nothing says that there is a reference in this place: what looks like one may be left over from what was there before.
    guessed: bool,
}

impl<'a> Heap<'a> {
    /// Without objects yet; never more than `most`.
    pub fn new(copy: &'a Copy<'a>, layouts: Layouts, most: usize) -> Self {
        Self {
            copy,
            layouts,
            kinds: Kinds::default(),
            objects: Vec::new(),
            discarded: 0,
            partial: false,
            index: AddressMap::default(),
            invalid: HashSet::new(),
            starts: vec![0],
            targets: Vec::new(),
            certain: Vec::new(),
            most,
        }
    }

    /// How to read it.
    pub fn view(&self) -> View<'a> {
        View { copy: self.copy, layouts: self.layouts }
    }

    /// The index of the object at an address, if it was found.
    pub fn find(&self, address: u64) -> Option<u32> {
        self.index.get(&address).copied()
    }

    /// Every object that there is, by index.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        (0..self.objects.len() as u32).filter(|object| !self.invalid.contains(object))
    }

    /// An object's type.
    pub fn kind(&self, object: u32) -> &Kind {
        &self.kinds.list[self.objects[object as usize].kind as usize]
    }

    /// An object's address.
    pub fn address(&self, object: u32) -> u64 {
        self.objects[object as usize].address
    }

    /// What an object refers to, as far as it was followed.
    pub fn targets(&self, object: u32) -> &[u32] {
        match (self.starts.get(object as usize), self.starts.get(object as usize + 1)) {
            (Some(&start), Some(&end)) => &self.targets[start..end],
            _ => &[],
        }
    }

    /// Of these, the ones in places that are known to hold references.
    pub fn certain_targets(&self, object: u32) -> &[u32] {
        let certain = self.certain.get(object as usize).copied().unwrap_or(0);
        self.targets(object).get(..certain as usize).unwrap_or_default()
    }

    /// The type of the object at an address, if there is one.
    pub fn identify(&mut self, address: u64) -> Option<u32> {
        if !address.is_multiple_of(8) || !self.copy.is_writable(address) {
            return None;
        }
        let kind = self.copy.word(address.checked_add(at::TYPE)?)?;
        if kind < 4096 || !kind.is_multiple_of(8) || !self.is_count(self.copy.word(address)?) {
            return None;
        }
        self.kinds.at(self.copy, self.layouts, kind)
    }

    /// Whether a word may be a count of references of something that lives.
    fn is_count(&self, word: u64) -> bool {
        if !self.layouts.objects.short_counts {
            return (1..MOST_COUNT).contains(&word);
        }
        // 3.14 has 16 bits for what overflows, then flags; before, the upper half is zero.
        word & 0xffff_ffff != 0 && (word >> 32) & 0xffff == 0
    }

    /// Adds the object at an address, if there is one and it was not found before.
    pub fn add(&mut self, address: u64) -> Option<u32> {
        if let Some(known) = self.find(address) {
            return Some(known);
        }
        let kind = self.identify(address)?;
        self.insert(address, kind)
    }

    /// Adds an object of a known type.
    pub fn insert(&mut self, address: u64, kind: u32) -> Option<u32> {
        if self.objects.len() >= self.most {
            self.partial = true;
            return None;
        }
        let of = self.kinds.list.get(kind as usize)?;
        let space = self.view().space(address, of)?;
        // One that goes on behind the end of its memory is a word that looks like an object.
        let inside = space.saturating_sub(of.before(self.layouts.objects) + at::ALIGNED);
        let fits = match of.shape {
            Shape::Tuple | Shape::Bytes | Shape::Int => self.copy.holds(address, inside),
            // Its text may lie elsewhere.
            Shape::Str => inside <= self.copy.largest(),
            _ => true,
        };
        if !fits {
            self.discarded += 1;
            return None;
        }
        let index = self.objects.len() as u32;
        self.objects.push(Object { address, kind, space });
        self.index.insert(address, index);
        Some(index)
    }

    /// Follows the references of all objects, and of those found on the way.
    pub fn follow(&mut self) {
        let mut next = 0;
        let (mut found, mut guessed) = (Vec::new(), Vec::new());
        while (next as usize) < self.objects.len() {
            if next % STEP == 0 && self.copy.is_late() {
                self.partial = true;
                return;
            }
            self.references(next, &mut found);
            let (first, mut wrong) = (self.targets.len(), 0);
            for word in &found {
                match self.add(word.target) {
                    Some(target) if word.guessed => guessed.push(target),
                    Some(target) => self.targets.push(target),
                    None if word.exact && !self.partial => wrong += 1,
                    None => {}
                }
            }
            self.certain.push((self.targets.len() - first) as u32);
            self.targets.append(&mut guessed);
            // What refers to so much that is none is no object itself: freed, or written anew while it was read.
            if wrong > FEW && wrong * 2 > found.len() {
                self.targets.truncate(first);
                self.invalid.insert(next);
                wrong = 1;
            }
            self.discarded += wrong as u64;
            self.starts.push(self.targets.len());
            next += 1;
        }
    }

    /// The words in an object that may be references, and whether each must be one.
    fn references(&mut self, object: u32, found: &mut Vec<Word>) {
        found.clear();
        let Object { address, kind, .. } = self.objects[object as usize];
        let Some(kind) = self.kinds.list.get(kind as usize) else { return };
        let view = self.view();
        let items = if kind.shape == Shape::List { view.items_now(address) } else { None };
        let mut push = |reference: Reference| {
            if reference.target >= 4096 && reference.target.is_multiple_of(8) {
                found.push(Word {
                    target: reference.target,
                    exact: reference.exact,
                    guessed: is_guessed(&reference, kind),
                });
            }
        };
        let whole = match items {
            Some(items) => {
                items.into_iter().for_each(|target| push(Reference { slot: Slot::Item, target, exact: true }));
                view.fields(address, kind, &mut push)
            }
            None => view.each(address, kind, &mut push),
        };
        if whole.is_none() && !self.copy.is_spent() {
            self.discarded += 1;
        }
    }
}

/// C code has a module's state and an object's fields as it likes: which of these are references only names tell.
fn is_guessed(reference: &Reference, of: &Kind) -> bool {
    match reference.slot {
        Slot::State => true,
        Slot::Field(offset) => of.shape == Shape::Plain && !of.named.contains(&offset),
        _ => false,
    }
}
