//! Who holds an object, as a person would write it.

use std::cell::RefCell;

use super::address::AddressMap;
use super::graph::{Graph, Parent};
use super::heap::Heap;
use super::kinds::{Shape, text};
use super::references::Slot;
use super::roots::{Root, Roots, module_name};
use crate::profile::objects::Holder;
use crate::python::object_layout::{self as at, kind, lru};

/// References followed up from an object: what is further away says nothing to people.
const MOST_STEPS: usize = 8;
/// An attribute of a type with no more instances than this says enough; of one with more, who holds the instance is
/// said too.
const FEW: u64 = 16;

/// Classes that keep their items in a container of their own.
const WRAPPERS: [&str; 7] = [
    "queue.Queue",
    "asyncio.queues.Queue",
    "_weakrefset.WeakSet",
    "weakref.WeakValueDictionary",
    "weakref.WeakKeyDictionary",
    "collections.UserDict",
    "collections.UserList",
];

/// How an object is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// By what.
    pub holder: Holder,
    /// As a person would write it.
    pub text: String,
}

/// Names what is known of a heap.
pub struct Names<'a> {
    heap: &'a Heap<'a>,
    graph: &'a Graph,
    roots: &'a Roots,
    /// The names of files that hold static variables, by region.
    files: &'a dyn Fn(usize) -> String,
    functions: AddressMap<u32>,
    instances: Vec<u64>,
    modules: RefCell<AddressMap<String>>,
    /// Whether a dict is that of the attributes of what it is reached from, by its index.
    tables: RefCell<AddressMap<bool>>,
}

/// A reference from a parent, for people.
enum Step {
    /// An item of a container.
    Item,
    /// Something that needs no word: a cell, the tuple of a closure.
    Silent,
    /// The named field of an object that is one of some.
    Attribute(String),
    /// The whole story.
    Whole(Holder, String, String),
}

impl<'a> Names<'a> {
    /// Prepares to name.
    pub fn new(heap: &'a Heap<'a>, graph: &'a Graph, roots: &'a Roots, files: &'a dyn Fn(usize) -> String) -> Self {
        let mut functions = AddressMap::default();
        let mut instances = vec![0; heap.kinds.list.len()];
        for (index, object) in heap.objects.iter().enumerate() {
            instances[object.kind as usize] += 1;
            if heap.kinds.list[object.kind as usize].shape == Shape::Function
                && let Some(code) = heap.copy.word(object.address + heap.layouts.objects.function.code)
            {
                functions.entry(code).or_insert(index as u32);
            }
        }
        Self {
            heap,
            graph,
            roots,
            files,
            functions,
            instances,
            modules: RefCell::default(),
            tables: RefCell::default(),
        }
    }

    fn text_at(&self, address: u64) -> Option<String> {
        text(self.heap.copy, self.heap.layouts, self.heap.copy.word(address)?)
    }

    /// `module.QualName` of a function.
    pub fn function(&self, function: u64) -> String {
        let offsets = self.heap.layouts.objects.function;
        let name = self.text_at(function + offsets.qualname).unwrap_or_else(|| "?".to_owned());
        match self.text_at(function + offsets.module) {
            Some(module) => format!("{module}.{name}"),
            None => name,
        }
    }

    /// `module.QualName` of what a code object belongs to.
    pub fn code(&self, code: u64) -> String {
        if let Some(&function) = self.functions.get(&code) {
            return self.function(self.heap.address(function));
        }
        let base = &self.heap.layouts.base.code;
        let name = self.text_at(code + u64::from(base.qualname)).unwrap_or_else(|| "?".to_owned());
        match self.roots.modules.get(&code) {
            Some(module) if name == "<module>" => module.clone(),
            Some(module) => format!("{module}.{name}"),
            None => name,
        }
    }

    fn module(&self, module: u32) -> String {
        let address = self.heap.address(module);
        let mut known = self.modules.borrow_mut();
        let name = || module_name(self.heap, module).unwrap_or_else(|| "?".to_owned());
        known.entry(address).or_insert_with(name).clone()
    }

    /// The name of a type that is itself the object.
    fn kind_at(&self, address: u64) -> String {
        let known = self.heap.kinds.known(address).and_then(|index| self.heap.kinds.list.get(index as usize));
        known.map_or_else(|| "?".to_owned(), |kind| kind.name.clone())
    }

    /// Who holds an object.
    pub fn owner(&self, object: u32) -> Owner {
        let mut at = object;
        let mut suffix = String::new();
        let mut nearest = None;
        let none = || Owner::default();
        for steps in 0..=MOST_STEPS {
            let parent = match self.graph.parent(at) {
                Parent::None => return nearest.unwrap_or_else(none),
                Parent::Root(root) => return self.root(at, root, &suffix, nearest),
                Parent::Object(parent) => parent,
            };
            let (holder, step) = self.step(parent, at);
            if steps == MOST_STEPS {
                break;
            }
            match step {
                Step::Silent => {}
                Step::Attribute(_) if self.is_wrapper(holder) => {}
                Step::Item => suffix.insert_str(0, "[...]"),
                Step::Attribute(name) => {
                    let kind = self.heap.objects[holder as usize].kind;
                    let whole = format!("{}.{name}{suffix}", self.heap.kind(holder).name);
                    let owner = Owner { holder: Holder::InstanceAttribute, text: whole };
                    if self.instances[kind as usize] <= FEW {
                        return owner;
                    }
                    nearest.get_or_insert(owner);
                    suffix.insert_str(0, &format!(".{name}"));
                }
                Step::Whole(holder, before, after) => {
                    return Owner { holder, text: format!("{before}{suffix}{after}") };
                }
            }
            // Items of items of items say nothing more.
            while suffix.starts_with("[...][...][...]") {
                suffix.replace_range(..5, "");
            }
            at = holder;
        }
        nearest.unwrap_or_else(none)
    }

    /// The root that an object is reached from.
    pub fn top(&self, object: u32) -> u32 {
        let mut at = object;
        while let Parent::Object(parent) = self.graph.parent(at) {
            at = parent;
        }
        at
    }

    fn root(&self, object: u32, root: Root, suffix: &str, nearest: Option<Owner>) -> Owner {
        let owner = |holder, text: String| Owner { holder, text };
        match root {
            Root::Module => owner(Holder::ModuleGlobal, format!("module {}{suffix}", self.module(object))),
            Root::Type => {
                owner(Holder::ClassAttribute, format!("class {}{suffix}", self.kind_at(self.heap.address(object))))
            }
            Root::Frame(Slot::Variable(code, number)) => self.variable(code, number, suffix),
            Root::Frame(slot) => match slot {
                Slot::Stack(code) => owner(Holder::FrameLocal, format!("an expression{suffix} of {}", self.code(code))),
                _ => owner(Holder::FrameLocal, suffix.to_owned()),
            },
            // Who holds the instance is not a name: the attribute is one.
            _ if nearest.is_some() => nearest.unwrap_or_default(),
            // What has a name may refer to it, and was not looked at.
            _ if self.heap.partial => Owner::default(),
            Root::Thread => owner(Holder::Interpreter, format!("thread state{suffix}")),
            Root::Interpreter => owner(Holder::Interpreter, format!("interpreter{suffix}")),
            Root::File(region) => {
                owner(Holder::Interpreter, format!("static variable of {}{suffix}", (self.files)(region)))
            }
            Root::NoReferrer => owner(Holder::NoReferrer, suffix.to_owned()),
            Root::Cycle => owner(Holder::Unknown, format!("cycle{suffix}")),
        }
    }

    fn variable(&self, code: u64, number: u64, suffix: &str) -> Owner {
        let name = self.heap.view().variable_name(code, number);
        let name = name.and_then(|name| text(self.heap.copy, self.heap.layouts, name));
        let name = name.unwrap_or_else(|| "?".to_owned());
        let free = self.heap.view().first_free(code).is_some_and(|first| number >= first);
        let (holder, word) = if free { (Holder::Closure, "closure") } else { (Holder::FrameLocal, "local") };
        Owner { holder, text: format!("{word} {name}{suffix} of {}", self.code(code)) }
    }

    /// The slot in which a parent has a child.
    fn slot(&self, parent: u32, child: u32) -> Option<Slot> {
        let target = self.heap.address(child);
        let mut found = None;
        self.heap.view().each(self.heap.address(parent), self.heap.kind(parent), &mut |reference| {
            if reference.target == target && found.is_none() {
                found = Some(reference.slot);
            }
        });
        found
    }

    /// The step from a child up, and the object that it ends at.
    fn step(&self, parent: u32, child: u32) -> (u32, Step) {
        let shape = self.heap.kind(parent).shape;
        let slot = match (shape, self.graph.parent(parent)) {
            // Which of many items it is does not matter.
            (Shape::List | Shape::Set | Shape::Deque, _) => None,
            (Shape::Dict, Parent::Object(above)) if self.attributes_of(above, parent).is_none() => None,
            (Shape::Dict, Parent::Root(_) | Parent::None) => None,
            _ => self.slot(parent, child),
        };
        match (shape, slot) {
            (Shape::Dict, Some(slot)) => match self.graph.parent(parent) {
                Parent::Object(above) => (above, self.named(above, parent, slot)),
                _ => (parent, Step::Item),
            },
            (_, Some(Slot::Attribute(name))) => (parent, Step::Attribute(self.name(name))),
            (_, Some(Slot::Variable(code, number))) => {
                let owner = self.variable(code, number, "\0");
                let (before, after) = owner.text.split_once('\0').unwrap_or((&owner.text, ""));
                (parent, Step::Whole(owner.holder, before.to_owned(), after.to_owned()))
            }
            (_, Some(Slot::Stack(code))) => {
                let after = format!(" of {}", self.code(code));
                (parent, Step::Whole(Holder::FrameLocal, "an expression".to_owned(), after))
            }
            (Shape::Tuple, _) if self.is_closure(parent) => (parent, Step::Silent),
            (Shape::Cell, _) => self.cell(parent),
            (Shape::Module, Some(Slot::State)) => {
                let text = format!("state of module {}", self.module(parent));
                (parent, Step::Whole(Holder::ModuleGlobal, text, String::new()))
            }
            (Shape::Function, Some(Slot::Field(offset))) => (parent, self.of_function(parent, offset)),
            (Shape::LruCache, Some(Slot::Field(lru::CACHE))) => (parent, self.cache(parent)),
            (Shape::Method, Some(Slot::Field(at::METHOD_SELF))) => (parent, Step::Attribute("__self__".to_owned())),
            (Shape::Dict | Shape::List | Shape::Tuple | Shape::Set | Shape::Deque, _) => (parent, Step::Item),
            (_, Some(Slot::Field(offset))) => (parent, self.field(parent, offset)),
            _ => (parent, Step::Silent),
        }
    }

    /// Whether a dict is that of an object's attributes.
    pub fn attributes_of(&self, above: u32, dict: u32) -> Option<()> {
        let known = self.tables.borrow().get(&dict.into()).copied();
        let is = known.unwrap_or_else(|| {
            let is = self.finds_attributes(above, dict).is_some();
            self.tables.borrow_mut().insert(dict.into(), is);
            is
        });
        is.then_some(())
    }

    fn finds_attributes(&self, above: u32, dict: u32) -> Option<()> {
        let shape = self.heap.kind(above).shape;
        let plain = matches!(shape, Shape::Dict | Shape::List | Shape::Tuple | Shape::Set | Shape::Deque | Shape::Cell);
        if plain && !self.has_attributes(above) {
            return None;
        }
        (self.slot(above, dict)? == Slot::Attributes).then_some(())
    }

    /// Whether an object is a class's way to be a container: what it has in its attributes are its items.
    fn is_wrapper(&self, object: u32) -> bool {
        let kind = self.heap.objects[object as usize].kind;
        self.heap.kinds.is_one_of(kind, &WRAPPERS)
    }

    fn has_attributes(&self, object: u32) -> bool {
        let kind = self.heap.kind(object);
        kind.dict != 0 || kind.flags & kind::MANAGED_DICT != 0
    }

    /// The value of a key of the dict of an object's attributes.
    fn named(&self, above: u32, _dict: u32, slot: Slot) -> Step {
        let Slot::Value(key) = slot else { return Step::Item };
        let name = self.name(key);
        match self.heap.kind(above).shape {
            Shape::Module => Step::Whole(Holder::ModuleGlobal, format!("{}.{name}", self.module(above)), String::new()),
            Shape::Type => {
                let class = self.kind_at(self.heap.address(above));
                Step::Whole(Holder::ClassAttribute, format!("{class}.{name}"), String::new())
            }
            Shape::Function => {
                let function = self.function(self.heap.address(above));
                Step::Whole(Holder::ModuleGlobal, format!("{function}.{name}"), String::new())
            }
            _ => Step::Attribute(name),
        }
    }

    fn name(&self, address: u64) -> String {
        text(self.heap.copy, self.heap.layouts, address).unwrap_or_else(|| "?".to_owned())
    }

    fn is_closure(&self, tuple: u32) -> bool {
        let Parent::Object(function) = self.graph.parent(tuple) else { return false };
        let closure = self.heap.address(function) + self.heap.layouts.objects.function.closure;
        self.heap.kind(function).shape == Shape::Function
            && self.heap.copy.word(closure) == Some(self.heap.address(tuple))
    }

    /// A variable that functions share.
    fn cell(&self, cell: u32) -> (u32, Step) {
        let Parent::Object(tuple) = self.graph.parent(cell) else { return (cell, Step::Silent) };
        let Parent::Object(function) = self.graph.parent(tuple) else { return (cell, Step::Silent) };
        if !self.is_closure(tuple) {
            return (cell, Step::Silent);
        }
        let function = self.heap.address(function);
        let named = || {
            let view = self.heap.view();
            let code = self.heap.copy.word(function + self.heap.layouts.objects.function.code)?;
            let items = self.heap.address(tuple) + self.heap.layouts.objects.tuple_items;
            let count = self.heap.copy.word(self.heap.address(tuple) + at::LENGTH)?.min(256);
            let cell = Some(self.heap.address(cell));
            let index = (0..count).find(|index| self.heap.copy.word(items + index * 8) == cell)?;
            let name = view.variable_name(code, view.first_free(code)? + index)?;
            text(self.heap.copy, self.heap.layouts, name)
        };
        let before = format!("closure {}", named().unwrap_or_else(|| "?".to_owned()));
        (cell, Step::Whole(Holder::Closure, before, format!(" of {}", self.function(function))))
    }

    fn of_function(&self, function: u32, offset: u64) -> Step {
        let offsets = self.heap.layouts.objects.function;
        let name = self.function(self.heap.address(function));
        if offset == offsets.defaults || offset == offsets.kwdefaults {
            Step::Whole(Holder::ModuleGlobal, "default argument".to_owned(), format!(" of {name}"))
        } else if offset == offsets.globals {
            Step::Whole(Holder::ModuleGlobal, "globals".to_owned(), format!(" of {name}"))
        } else {
            Step::Whole(Holder::ModuleGlobal, name, String::new())
        }
    }

    fn cache(&self, wrapper: u32) -> Step {
        let function = self.heap.copy.word(self.heap.address(wrapper) + lru::FUNCTION).unwrap_or(0);
        Step::Whole(Holder::ModuleGlobal, format!("cache of {}", self.callable(function)), String::new())
    }

    /// The name of something that can be called.
    pub fn callable(&self, address: u64) -> String {
        match self.heap.find(address).map(|index| self.heap.kind(index)) {
            Some(kind) if kind.shape == Shape::Function => self.function(address),
            Some(kind) if kind.shape == Shape::Type => self.kind_at(address),
            Some(kind) => kind.name.clone(),
            None => "?".to_owned(),
        }
    }

    fn field(&self, parent: u32, offset: u64) -> Step {
        let name = self.heap.kinds.field(self.heap.copy, self.heap.objects[parent as usize].kind, offset);
        match name {
            Some(name) => Step::Attribute(name),
            // C code gave it no name.
            None => Step::Attribute("<native>".to_owned()),
        }
    }
}
