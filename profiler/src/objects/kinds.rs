//! The types of a process: recognized, named, and what shape their objects have.

use super::address::AddressMap;
use super::copy::Copy;
use super::table;
use crate::python::layout::Layout;
use crate::python::object;
use crate::python::object_layout::{self as at, ObjectLayout, kind};

/// Characters kept of a name: a hostile one could be endless.
const NAME: usize = 200;
/// Metatypes, and bases, above a type.
const MOST_ABOVE: usize = 64;
/// Objects are smaller than this without their items.
const MOST_BASIC: u64 = 1 << 20;
/// Named fields of one type.
const MOST_MEMBERS: u64 = 256;

/// What an object refers to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Python's own names")]
pub enum Shape {
    /// Its fields are searched for references.
    Plain,
    /// It refers to nothing: numbers, `str`, `bytes`.
    Leaf,
    Str,
    Bytes,
    Int,
    ByteArray,
    BytesIo,
    Dict,
    List,
    Tuple,
    Set,
    Deque,
    Type,
    Module,
    Function,
    Method,
    Cell,
    Code,
    Frame,
    Generator,
    Weakref,
    LruCache,
}

/// A type.
#[derive(Debug)]
pub struct Kind {
    /// Its address.
    pub address: u64,
    /// `module.QualName`; builtins without a module.
    pub name: String,
    /// Bytes of an object without items.
    pub basic: u64,
    /// Bytes of an item; 0 for none.
    pub item: u64,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_dictoffset`.
    pub dict: i64,
    /// `tp_weaklistoffset`.
    pub weak: i64,
    /// Where a type made at run time keeps the names of its objects' attributes; else 0.
    pub keys: u64,
    /// Index of its base.
    pub base: Option<u32>,
    /// Offsets of the fields that have names, its bases' included.
    pub named: Vec<u64>,
    /// The shape of its objects.
    pub shape: Shape,
}

impl Kind {
    /// Whether the collector has its objects.
    pub fn is_collected(&self) -> bool {
        self.flags & kind::COLLECTED != 0
    }

    /// Bytes before an object: the collector's header, and what is before that.
    pub fn before(&self, layout: &ObjectLayout) -> u64 {
        let managed = match layout.attributes {
            at::Attributes::Dict => 0,
            at::Attributes::Values => kind::MANAGED_DICT,
            at::Attributes::Tagged | at::Attributes::Inline => kind::MANAGED_DICT | kind::MANAGED_WEAKREF,
        };
        let pre = if self.flags & managed != 0 { at::PRE_HEADER } else { 0 };
        pre + if self.is_collected() { at::GC_HEADER } else { 0 }
    }
}

/// The types found so far.
#[derive(Debug, Default)]
pub struct Kinds {
    known: AddressMap<Option<u32>>,
    /// By index.
    pub list: Vec<Kind>,
}

impl Kinds {
    /// The type at an address; `None` if there is none.
    pub fn at(&mut self, copy: &Copy<'_>, layouts: Layouts, address: u64) -> Option<u32> {
        self.find(copy, layouts, address, 0)
    }

    /// The type at an address, if it was found before.
    pub fn known(&self, address: u64) -> Option<u32> {
        self.known.get(&address).copied().flatten()
    }

    fn find(&mut self, copy: &Copy<'_>, layouts: Layouts, address: u64, depth: usize) -> Option<u32> {
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let found = self.read(copy, layouts, address, depth);
        let index = found.map(|kind| {
            self.list.push(kind);
            (self.list.len() - 1) as u32
        });
        self.known.insert(address, index);
        index
    }

    fn read(&mut self, copy: &Copy<'_>, layouts: Layouts, address: u64, depth: usize) -> Option<Kind> {
        let word = |offset: u64| copy.word(address.checked_add(offset)?);
        if depth > MOST_ABOVE || !copy.is_writable(address) || !ends_in_type(copy, address) {
            return None;
        }
        let (flags, basic, item) = (word(kind::FLAGS)?, word(kind::BASIC_SIZE)?, word(kind::ITEM_SIZE)?);
        if flags & kind::READY == 0 || !(at::FIELDS..MOST_BASIC).contains(&basic) || item > MOST_BASIC {
            return None;
        }
        let plain = copy.text(word(kind::NAME)?, NAME as u64)?;
        let above = word(kind::BASE)?;
        let base = if above == 0 { None } else { Some(self.find(copy, layouts, above, depth + 1)?) };
        let made = flags & kind::HEAP != 0;
        let inherited = base.and_then(|base| self.list.get(base as usize)).map_or(Shape::Plain, |base| base.shape);
        let shape = own_shape(&plain, made).unwrap_or(inherited);
        let mut named =
            base.and_then(|base| self.list.get(base as usize)).map_or(Vec::new(), |base| base.named.clone());
        named.extend(members(copy, address).map(|(_, offset)| offset));
        Some(Kind {
            address,
            name: if made { full_name(copy, layouts, address, plain) } else { plain },
            basic,
            item,
            flags,
            dict: word(kind::DICT_OFFSET)?.cast_signed(),
            weak: word(kind::WEAK_LIST)?.cast_signed(),
            keys: if made { word(layouts.objects.type_keys)? } else { 0 },
            base,
            named,
            shape,
        })
    }

    /// The name of the field at an offset of a type's objects, as `__slots__` or C code named it.
    pub fn field(&self, copy: &Copy<'_>, index: u32, offset: u64) -> Option<String> {
        let mut above = self.list.get(index as usize);
        while let Some(kind) = above {
            if let Some(name) = member(copy, kind.address, offset) {
                return Some(name);
            }
            above = kind.base.and_then(|base| self.list.get(base as usize));
        }
        None
    }

    /// Whether a type, or one of its bases, has one of these names.
    pub fn is_one_of(&self, index: u32, names: &[&str]) -> bool {
        let mut above = self.list.get(index as usize);
        while let Some(kind) = above {
            if names.contains(&kind.name.as_str()) {
                return true;
            }
            above = kind.base.and_then(|base| self.list.get(base as usize));
        }
        false
    }
}

/// The two rows of a version.
#[derive(Clone, Copy, Debug)]
pub struct Layouts {
    /// Threads, frames, code, strings.
    pub base: &'static Layout,
    /// The objects.
    pub objects: &'static ObjectLayout,
}

/// Whether a chain of metatypes ends, as every one does, in `type`, which is its own type.
fn ends_in_type(copy: &Copy<'_>, address: u64) -> bool {
    let mut kind = address;
    for _ in 0..4 {
        match kind.checked_add(at::TYPE).and_then(|address| copy.word(address)) {
            Some(above) if above == kind => return true,
            Some(above) => kind = above,
            None => return false,
        }
    }
    false
}

/// The shape of the objects of a type that C code made, by its name.
fn own_shape(name: &str, made: bool) -> Option<Shape> {
    Some(match name {
        "collections.deque" => Shape::Deque,
        "functools._lru_cache_wrapper" => Shape::LruCache,
        "_io.BytesIO" => Shape::BytesIo,
        _ if made => return None,
        "dict" => Shape::Dict,
        "list" => Shape::List,
        "tuple" => Shape::Tuple,
        "set" | "frozenset" => Shape::Set,
        "str" => Shape::Str,
        "bytes" => Shape::Bytes,
        "int" => Shape::Int,
        "float" | "complex" | "NoneType" | "ellipsis" | "NotImplementedType" => Shape::Leaf,
        "bytearray" => Shape::ByteArray,
        "type" => Shape::Type,
        "module" => Shape::Module,
        "function" => Shape::Function,
        "method" => Shape::Method,
        "cell" => Shape::Cell,
        "code" => Shape::Code,
        "frame" => Shape::Frame,
        "generator" | "coroutine" | "async_generator" => Shape::Generator,
        "weakref"
        | "weakref.ReferenceType"
        | "weakproxy"
        | "weakref.ProxyType"
        | "weakcallableproxy"
        | "weakref.CallableProxyType" => Shape::Weakref,
        _ => return None,
    })
}

/// `module.QualName` of a type made at run time; its plain name where that is not to be had.
fn full_name(copy: &Copy<'_>, layouts: Layouts, address: u64, plain: String) -> String {
    let pointer = |offset: u64| copy.word(address.checked_add(offset)?);
    let named = pointer(layouts.objects.type_qualname).and_then(|name| text(copy, layouts, name));
    let module = pointer(kind::DICT).and_then(|dict| {
        let table = table::read(copy, layouts.objects, dict)?;
        text(copy, layouts, table.value_of(copy, layouts, "__module__")?)
    });
    match (module, named) {
        (Some(module), Some(name)) if module == "builtins" => name,
        (Some(module), Some(name)) => format!("{module}.{name}"),
        _ => plain,
    }
}

/// The text of a `str`, shortened; `None` for anything else.
pub fn text(copy: &Copy<'_>, layouts: Layouts, address: u64) -> Option<String> {
    let mut text = object::read_str(copy, address, &layouts.base.string).ok()?;
    if let Some((end, _)) = text.char_indices().nth(NAME) {
        text.truncate(end);
    }
    Some(text)
}

/// The name of the field at an offset, if the type itself names it.
fn member(copy: &Copy<'_>, address: u64, offset: u64) -> Option<String> {
    let (name, _) = members(copy, address).find(|member| member.1 == offset)?;
    copy.text(name, NAME as u64)
}

/// The fields that a type itself names: the address of the name, and the offset.
fn members(copy: &Copy<'_>, address: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = address.checked_add(kind::MEMBERS).and_then(|place| copy.word(place)).filter(|&first| first != 0);
    let member = move |index: u64| {
        let entry = first?.checked_add(index * kind::MEMBER_BYTES)?;
        let name = copy.word(entry).filter(|&name| name != 0)?;
        Some((name, copy.word(entry.checked_add(kind::MEMBER_OFFSET)?)?))
    };
    (0..MOST_MEMBERS).map_while(member)
}
