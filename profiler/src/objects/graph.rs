//! How each object is reached: the shortest way from a root, and what hangs below it.

use super::heap::Heap;
use super::kinds::Shape;
use super::roots::Root;

/// What an object is reached from first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Not reached.
    None,
    /// From this object.
    Object(u32),
    /// It is a root.
    Root(Root),
}

/// The ways, a forest over all objects.
pub struct Graph {
    parents: Vec<Parent>,
    /// The objects in the order in which they were reached.
    order: Vec<u32>,
    /// Bytes of each object with all that hangs below it.
    deep: Vec<u64>,
}

impl Graph {
    /// Finds the ways from the roots, and then from what no root leads to.
    pub fn new(heap: &Heap<'_>, roots: &[(u32, Root)]) -> Self {
        let count = heap.objects.len();
        let mut graph = Self { parents: vec![Parent::None; count], order: Vec::with_capacity(count), deep: Vec::new() };
        // What a guess leads to may be held by something else that is known to.
        let named = roots.iter().filter(|(_, root)| root.is_named()).copied().collect::<Vec<_>>();
        graph.reach(&named, |object| heap.certain_targets(object));
        graph.reach(roots, |object| heap.targets(object));
        let mut referred = vec![false; count];
        for object in 0..count as u32 {
            for &target in heap.targets(object) {
                referred[target as usize] |= target != object;
            }
        }
        let lost = |graph: &Self, object: &u32| graph.parents[*object as usize] == Parent::None;
        let alone: Vec<_> = (0..count as u32)
            .filter(|object| lost(&graph, object) && !referred[*object as usize])
            .map(|object| (object, Root::NoReferrer))
            .collect();
        let mut seen: Vec<bool> = graph.parents.iter().map(|parent| *parent != Parent::None).collect();
        graph.level(heap, alone, &mut seen);
        for object in 0..count as u32 {
            if lost(&graph, &object) {
                graph.level(heap, vec![(object, Root::Cycle)], &mut seen);
            }
        }
        graph.deep = graph.sums(heap);
        graph
    }

    /// From the roots by their levels: what is nearest to a root, its level added, is reached from it.
    ///
    /// What was reached before keeps its way, and is gone through again for what is reached from it.
    fn reach<'a>(&mut self, roots: &[(u32, Root)], targets: impl Fn(u32) -> &'a [u32]) {
        let last = roots.iter().map(|(_, root)| root.level()).max().unwrap_or(0);
        let (mut seen, mut front) = (vec![false; self.parents.len()], Vec::new());
        for level in 0..=last {
            for &(object, root) in roots.iter().filter(|(_, root)| root.level() == level) {
                self.take(object, Parent::Root(root), &mut seen, &mut front);
            }
            if level < last {
                front = self.step(&targets, &mut seen, &front);
            }
        }
        while !front.is_empty() {
            front = self.step(&targets, &mut seen, &front);
        }
    }

    /// From roots that are all as good, to what was not reached before.
    fn level(&mut self, heap: &Heap<'_>, roots: Vec<(u32, Root)>, seen: &mut [bool]) {
        let mut front = Vec::new();
        for (object, root) in roots {
            self.take(object, Parent::Root(root), seen, &mut front);
        }
        while !front.is_empty() {
            front = self.step(|object| heap.targets(object), seen, &front);
        }
    }

    fn take(&mut self, object: u32, parent: Parent, seen: &mut [bool], front: &mut Vec<u32>) {
        if std::mem::replace(&mut seen[object as usize], true) {
            return;
        }
        front.push(object);
        let entry = &mut self.parents[object as usize];
        if *entry == Parent::None {
            *entry = parent;
            self.order.push(object);
        }
    }

    fn step<'a>(&mut self, targets: impl Fn(u32) -> &'a [u32], seen: &mut [bool], front: &[u32]) -> Vec<u32> {
        let mut next = Vec::new();
        for &object in front {
            for &target in targets(object) {
                self.take(target, Parent::Object(object), seen, &mut next);
            }
        }
        next
    }

    fn sums(&self, heap: &Heap<'_>) -> Vec<u64> {
        let mut deep: Vec<u64> = heap.objects.iter().map(|object| object.space).collect();
        for &object in self.order.iter().rev() {
            // What a function or a type has belongs to the code, not to who holds it.
            if let Parent::Object(parent) = self.parents[object as usize]
                && !matches!(heap.kind(object).shape, Shape::Function | Shape::Code | Shape::Type | Shape::Module)
            {
                deep[parent as usize] += deep[object as usize];
            }
        }
        deep
    }

    /// What an object is reached from.
    pub fn parent(&self, object: u32) -> Parent {
        self.parents.get(object as usize).copied().unwrap_or(Parent::None)
    }

    /// Bytes of an object with all that is reached first through it.
    pub fn deep(&self, object: u32) -> u64 {
        self.deep.get(object as usize).copied().unwrap_or(0)
    }
}
