//! Where CPython's own objects keep what they refer to: byte offsets on x86-64, one row a minor version with the GIL.
//!
//! Sources: `Include/cpython/{object,dictobject,funcobject,genobject,frameobject,code,setobject}.h`,
//! `Include/internal/pycore_{dict,frame,object,code,interp}.h` of each version, `Modules/_collectionsmodule.c` and
//! `Modules/_functoolsmodule.c`; `offsetof` of 3.8.18 to 3.13.0, and the live tests on each version up to 3.14. A row is
//! written as its difference from the version before.

use super::layout::Layout;

/// In every object: its count of references, its type, and of those with items how many.
pub const COUNT: u64 = 0;
/// See [`COUNT`].
pub const TYPE: u64 = 8;
/// See [`COUNT`].
pub const LENGTH: u64 = 16;
/// What the allocators round sizes up to, bytes.
pub const ALIGNED: u64 = 16;
/// Where the fields of an object without items begin.
pub const FIELDS: u64 = 16;
/// The collector's header before an object: the next and the previous one in its list, with flags in the low bits.
pub const GC_HEADER: u64 = 16;
/// See [`GC_HEADER`].
pub const GC_FLAGS: u64 = 3;
/// Bytes before the collector's header of objects whose attributes or weak references the interpreter manages (3.11+).
pub const PRE_HEADER: u64 = 16;
/// Before an object: the pointer to its attributes' dict, and in 3.11 that to their values.
pub const MANAGED_DICT: u64 = 24;
/// See [`MANAGED_DICT`].
pub const MANAGED_VALUES: u64 = 32;

/// Fields of a type, the same from 3.8 to 3.14.
pub mod kind {
    /// `tp_name`.
    pub const NAME: u64 = 24;
    /// `tp_basicsize`.
    pub const BASIC_SIZE: u64 = 32;
    /// `tp_itemsize`.
    pub const ITEM_SIZE: u64 = 40;
    /// `tp_flags`.
    pub const FLAGS: u64 = 168;
    /// `tp_weaklistoffset`.
    pub const WEAK_LIST: u64 = 208;
    /// `tp_members`.
    pub const MEMBERS: u64 = 240;
    /// `tp_base`.
    pub const BASE: u64 = 256;
    /// `tp_dict`.
    pub const DICT: u64 = 264;
    /// `tp_dictoffset`.
    pub const DICT_OFFSET: u64 = 288;
    /// `tp_cache`, `tp_subclasses`, `tp_weaklist`: references that keep nothing.
    pub const WEAK_FIELDS: [u64; 3] = [352, 360, 368];
    /// Bytes of a type that was not made at run time, at least.
    pub const STATIC_BYTES: u64 = 408;
    /// `Py_TPFLAGS_INLINE_VALUES` (3.13+).
    pub const INLINE_VALUES: u64 = 1 << 2;
    /// `Py_TPFLAGS_MANAGED_WEAKREF` (3.12+).
    pub const MANAGED_WEAKREF: u64 = 1 << 3;
    /// `Py_TPFLAGS_MANAGED_DICT` (3.11+).
    pub const MANAGED_DICT: u64 = 1 << 4;
    /// `Py_TPFLAGS_HEAPTYPE`.
    pub const HEAP: u64 = 1 << 9;
    /// `Py_TPFLAGS_READY`.
    pub const READY: u64 = 1 << 12;
    /// `Py_TPFLAGS_HAVE_GC`.
    pub const COLLECTED: u64 = 1 << 14;
    /// `PyMemberDef`: bytes, and where the offset stands.
    pub const MEMBER_BYTES: u64 = 40;
    /// See [`MEMBER_BYTES`].
    pub const MEMBER_OFFSET: u64 = 16;
}

/// `list`: its array, and for how many it has room.
pub const LIST_ITEMS: u64 = 24;
/// See [`LIST_ITEMS`].
pub const LIST_ROOM: u64 = 32;
/// `set`: used entries, the mask, the table of {key, hash}, and the small table inside.
pub const SET_USED: u64 = 24;
/// See [`SET_USED`].
pub const SET_MASK: u64 = 32;
/// See [`SET_USED`].
pub const SET_TABLE: u64 = 40;
/// See [`SET_USED`].
pub const SET_SMALL_TABLE: u64 = 64;
/// Bytes of an entry of a set's table.
pub const SET_ENTRY: u64 = 16;
/// `collections.deque`: the leftmost block, the index in it, and the bound (-1: none).
pub const DEQUE_LEFT: u64 = 24;
/// See [`DEQUE_LEFT`].
pub const DEQUE_LEFT_INDEX: u64 = 40;
/// See [`DEQUE_LEFT`].
pub const DEQUE_BOUND: u64 = 64;
/// A deque's block: the one to the left, so many items, the one to the right.
pub const DEQUE_BLOCK_ITEMS: u64 = 64;
/// `bytearray`: bytes allocated.
pub const BYTEARRAY_ROOM: u64 = 24;
/// `io.BytesIO`: the bytes object, and how much of it is used.
pub const BYTES_IO_BUFFER: u64 = 16;
/// See [`BYTES_IO_BUFFER`].
pub const BYTES_IO_LENGTH: u64 = 32;
/// `weakref`: the callback, the only reference that keeps something.
pub const WEAKREF_CALLBACK: u64 = 24;
/// `cell`: its content.
pub const CELL_CONTENT: u64 = 16;
/// A bound method: its object.
pub const METHOD_SELF: u64 = 24;
/// A module: its dict.
pub const MODULE_DICT: u64 = 16;
/// A module: its definition, which has the bytes of its state, and the state (what C code keeps for it).
pub const MODULE_DEFINITION: u64 = 24;
/// See [`MODULE_DEFINITION`].
pub const MODULE_STATE: u64 = 32;
/// See [`MODULE_DEFINITION`].
pub const DEFINITION_STATE_BYTES: u64 = 56;
/// `dict`: used entries, keys, values of a split one.
pub const DICT_USED: u64 = 16;
/// See [`DICT_USED`].
pub const DICT_KEYS: u64 = 32;
/// See [`DICT_USED`].
pub const DICT_VALUES: u64 = 40;

/// `functools._lru_cache_wrapper`, the same from 3.8 to 3.14.
pub mod lru {
    /// The dict of the entries.
    pub const CACHE: u64 = 72;
    /// Hits.
    pub const HITS: u64 = 80;
    /// The function.
    pub const FUNCTION: u64 = 88;
    /// The bound; -1 for none.
    pub const MAXSIZE: u64 = 96;
    /// Misses.
    pub const MISSES: u64 = 104;
}

/// How a dict's keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Size at 8, entries used at 32, indices from 40 on, entries of {hash, key, value} (up to 3.10).
    Sized,
    /// Logarithms of the size and of the indices' bytes at 8 and 9, the kind at 10, entries used at 24, indices from 32 on;
    /// entries of strings have no hash (3.11+).
    Logarithms,
}

/// Where an object's attributes are, beside what `tp_dictoffset` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Nowhere else (up to 3.10).
    Dict,
    /// Before the object a pointer to values, and one to a dict (3.11).
    Values,
    /// Before the object one pointer: to values if its lowest bit is set, then a byte less (3.12).
    Tagged,
    /// Behind the object, if the values' byte 3 is set; before it the pointer to a dict (3.13+).
    Inline,
}

/// Offsets in a function object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "CPython's own names without func_")]
pub struct Function {
    pub code: u64,
    pub globals: u64,
    pub defaults: u64,
    pub kwdefaults: u64,
    pub closure: u64,
    pub module: u64,
    pub qualname: u64,
}

/// Offsets in a code object, of the names of its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// `co_name`.
    pub name: u64,
    /// `co_stacksize`, i32.
    pub stack: u64,
    /// The tuples of names, in the order in which the variables lie in a frame: one in 3.11+.
    pub names: &'static [u64],
    /// How many of the last names are those of the closure, i32; with three tuples the last tuple are.
    pub free: Option<u64>,
}

/// Everything of the objects that depends on the minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLayout {
    /// 11 in 3.11.
    pub minor: u8,
    /// `ht_qualname` of a type made at run time.
    pub type_qualname: u64,
    /// `ht_cached_keys` of such a type.
    pub type_keys: u64,
    /// How dicts' keys are written.
    pub keys: Keys,
    /// Where the values begin in split values.
    pub values: u64,
    /// Where attributes are.
    pub attributes: Attributes,
    /// Function objects.
    pub function: Function,
    /// Code objects.
    pub variables: Variables,
    /// In a frame: the globals.
    pub frame_globals: u64,
    /// In a frame: the variables, and behind them the value stack.
    pub frame_variables: u64,
    /// In a frame object: the pointer to the frame; `None` where it is the frame itself.
    pub frame_object_frame: Option<u64>,
    /// In a generator or coroutine: the frame, or up to 3.10 the pointer to it.
    pub generator_frame: u64,
    /// Bytes of the interpreter's state.
    pub interpreter_bytes: u64,
    /// In a tuple: the items; 3.14 has a hash before them.
    pub tuple_items: u64,
    /// Digits of an int are counted in a word with three flag bits (3.12+).
    pub int_tagged: bool,
    /// Counts have 32 bits, the rest of their word is flags (3.14) or zero (3.12, 3.13).
    pub short_counts: bool,
}

const V3_8: ObjectLayout = ObjectLayout {
    minor: 8,
    type_qualname: 864,
    type_keys: 872,
    keys: Keys::Sized,
    values: 0,
    attributes: Attributes::Dict,
    function: Function { code: 16, globals: 24, defaults: 32, kwdefaults: 40, closure: 48, module: 88, qualname: 104 },
    variables: Variables { name: 112, stack: 32, names: &[72, 88, 80], free: None },
    frame_globals: 48,
    frame_variables: 360,
    frame_object_frame: None,
    generator_frame: 16,
    interpreter_bytes: 2720,
    tuple_items: 24,
    int_tagged: false,
    short_counts: false,
};

const V3_9: ObjectLayout =
    ObjectLayout { minor: 9, type_qualname: 856, type_keys: 864, interpreter_bytes: 5656, ..V3_8 };

const V3_10: ObjectLayout = ObjectLayout {
    minor: 10,
    type_qualname: 864,
    type_keys: 872,
    function: Function { code: 48, globals: 16, defaults: 56, kwdefaults: 64, closure: 72, module: 104, qualname: 40 },
    frame_variables: 352,
    interpreter_bytes: 113_528,
    ..V3_9
};

const V3_11: ObjectLayout = ObjectLayout {
    minor: 11,
    keys: Keys::Logarithms,
    attributes: Attributes::Values,
    variables: Variables { name: 120, stack: 68, names: &[96], free: Some(92) },
    frame_globals: 8,
    frame_variables: 72,
    frame_object_frame: Some(24),
    generator_frame: 80,
    interpreter_bytes: 107_752,
    ..V3_10
};

const V3_12: ObjectLayout = ObjectLayout {
    minor: 12,
    type_qualname: 872,
    type_keys: 880,
    attributes: Attributes::Tagged,
    variables: Variables { stack: 64, free: Some(88), ..V3_11.variables },
    frame_globals: 24,
    generator_frame: 72,
    interpreter_bytes: 383_552,
    int_tagged: true,
    short_counts: true,
    ..V3_11
};

const V3_13: ObjectLayout =
    ObjectLayout { minor: 13, values: 8, attributes: Attributes::Inline, interpreter_bytes: 194_968, ..V3_12 };

const V3_14: ObjectLayout = ObjectLayout { minor: 14, frame_variables: 80, tuple_items: 32, ..V3_13 };

/// Every version whose objects can be read.
pub const OBJECT_LAYOUTS: [ObjectLayout; 7] = [V3_8, V3_9, V3_10, V3_11, V3_12, V3_13, V3_14];

impl ObjectLayout {
    /// The row for an interpreter.
    ///
    /// # Errors
    /// A sentence that says why there is none: a build without the GIL, or a version that was not tested.
    pub fn of(layout: &Layout) -> Result<&'static Self, String> {
        if layout.free_threaded {
            return Err("a free-threaded build keeps no lists of its objects".to_owned());
        }
        let row = OBJECT_LAYOUTS.iter().find(|row| row.minor == layout.minor);
        row.ok_or_else(|| format!("the objects of Python 3.{} are not known; known are 3.8 to 3.14", layout.minor))
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::LAYOUTS;
    use super::*;

    #[test]
    fn every_version_with_the_gil_has_a_row_and_the_others_a_reason() {
        for layout in &LAYOUTS {
            match ObjectLayout::of(layout) {
                Ok(row) => assert!(row.minor == layout.minor && !layout.free_threaded),
                Err(reason) => assert!(layout.free_threaded || layout.minor > 14, "{reason}"),
            }
        }
    }
}
