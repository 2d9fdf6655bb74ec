//! What an object refers to, and how large it is: by its shape exactly, else by the words in it.

use super::copy::Copy;
use super::kinds::{Kind, Layouts, Shape};
use super::table;
use crate::python::object_layout::{self as at, Attributes, kind};

/// Items of one object that are followed.
pub const MOST_ITEMS: u64 = 1 << 28;
/// A list with as many items is read again in the moment in which it is followed.
const LONG_LIST: u64 = 256;
/// How often that is tried.
const TRIES: usize = 3;
/// Bytes of a module's state.
const MOST_STATE: u64 = 64 << 10;
/// Words of a frame.
const MOST_VARIABLES: u64 = 1 << 14;

/// Where in an object a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A key of a dict, an item of a set.
    Key,
    /// The value of the dict's key at this address.
    Value(u64),
    /// An item of a list, tuple or deque.
    Item,
    /// A field at this offset.
    Field(u64),
    /// The attribute whose name is the `str` at this address.
    Attribute(u64),
    /// The dict of the object's attributes.
    Attributes,
    /// A variable of a frame, by its number, of the code at this address.
    Variable(u64, u64),
    /// In the state that C code keeps for a module.
    State,
    /// On the value stack of a frame of the code at this address.
    Stack(u64),
}

/// A reference.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Where it is.
    pub slot: Slot,
    /// The word there: the address of an object, if it is one.
    pub target: u64,
    /// Whether it must be an object: else any word of memory is looked at.
    pub exact: bool,
}

/// A process's memory, and how to read it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The memory.
    pub copy: &'a Copy<'a>,
    /// The layouts of its interpreter.
    pub layouts: Layouts,
}

impl View<'_> {
    fn word(&self, address: u64, offset: u64) -> Option<u64> {
        self.copy.word(address.checked_add(offset)?)
    }

    /// How many items an object with items has.
    pub fn length(&self, address: u64, of: &Kind) -> Option<u64> {
        if of.shape == Shape::Int && self.layouts.objects.int_tagged {
            return self.word(address, at::LENGTH).map(|tag| tag >> 3);
        }
        self.word(address, at::LENGTH).map(|length| length.cast_signed().unsigned_abs())
    }

    /// Calls back for each reference of an object; `None` if it did not pass the checks, after those that did.
    pub fn each(&self, address: u64, of: &Kind, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let exact = |slot, target| Reference { slot, target, exact: true };
        match of.shape {
            Shape::Leaf | Shape::Str | Shape::Bytes | Shape::Int | Shape::ByteArray => {}
            Shape::Weakref => back(exact(Slot::Field(at::WEAKREF_CALLBACK), self.word(address, at::WEAKREF_CALLBACK)?)),
            Shape::Dict => {
                let table = table::read(self.copy, self.layouts.objects, address)?;
                for (key, value) in table.pairs(self.copy) {
                    back(exact(Slot::Value(key), value));
                    back(exact(Slot::Key, key));
                }
            }
            Shape::List => {
                let items = self.word(address, at::LIST_ITEMS)?;
                self.items(items, self.length(address, of)?, back)?;
            }
            Shape::Tuple => {
                let items = address.checked_add(self.layouts.objects.tuple_items)?;
                self.items(items, self.length(address, of)?, back)?;
            }
            Shape::Set => self.set(address, back)?,
            Shape::Deque => self.deque(address, of, back)?,
            Shape::Frame => self.frame_object(address, back)?,
            Shape::Generator => self.generator(address, back)?,
            Shape::Module => self.module_state(address, back)?,
            _ => {}
        }
        self.fields(address, of, back)
    }

    /// The references in the fields and attributes that its shape does not explain.
    pub fn fields(&self, address: u64, of: &Kind, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let first = match of.shape {
            Shape::Leaf | Shape::Weakref => return Some(()),
            Shape::Dict => at::DICT_VALUES + 8,
            Shape::List => at::LIST_ROOM + 8,
            Shape::Set => at::SET_SMALL_TABLE + 8 * at::SET_ENTRY,
            Shape::Deque => at::DEQUE_BOUND + 8,
            Shape::Frame if self.layouts.objects.frame_object_frame.is_none() => at::LENGTH + 8,
            Shape::ByteArray => 56,
            Shape::Tuple | Shape::Str | Shape::Bytes | Shape::Int => of.basic,
            _ => at::FIELDS,
        };
        let weak: &[u64] = if of.shape == Shape::Type { &kind::WEAK_FIELDS } else { &[] };
        for offset in (first..of.basic.min(self.fields_end(address, of))).step_by(8) {
            if offset.cast_signed() != of.weak && offset.cast_signed() != of.dict && !weak.contains(&offset) {
                back(Reference { slot: Slot::Field(offset), target: self.word(address, offset)?, exact: false });
            }
        }
        if of.item == 8 && of.shape == Shape::Plain {
            let count = self.length(address, of)?.min(1 << 16);
            for index in 0..count {
                let target = self.word(address, of.basic + index * 8)?;
                back(Reference { slot: Slot::Field(of.basic + index * 8), target, exact: false });
            }
        }
        self.attributes(address, of, back)
    }

    fn fields_end(&self, address: u64, of: &Kind) -> u64 {
        match of.shape {
            // Behind it are other variables.
            Shape::Type if self.word(address, kind::FLAGS).is_none_or(|flags| flags & kind::HEAP == 0) => {
                kind::STATIC_BYTES
            }
            // What follows is the frame.
            Shape::Generator | Shape::Frame if self.layouts.objects.frame_object_frame.is_some() => {
                self.layouts.objects.generator_frame
            }
            // What follows is no reference, or looked at by its own shape.
            Shape::Frame => self.layouts.objects.frame_globals + 16,
            _ => of.basic,
        }
    }

    /// The attributes of an instance.
    fn attributes(&self, address: u64, of: &Kind, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let layout = self.layouts.objects;
        let mut dict = match of.dict {
            0 => 0,
            offset @ 1.. => self.word(address, offset.cast_unsigned())?,
            offset if layout.attributes == Attributes::Dict || of.flags & kind::MANAGED_DICT == 0 => {
                let size = (of.basic + of.item * self.length(address, of)?.min(MOST_ITEMS)).next_multiple_of(8);
                self.copy.word(address.checked_add(size)?.checked_add_signed(offset)?)?
            }
            _ => 0,
        };
        let mut values = 0;
        if of.flags & kind::MANAGED_DICT != 0 && layout.attributes != Attributes::Dict {
            dict = self.copy.word(address.checked_sub(at::MANAGED_DICT)?)?;
            match layout.attributes {
                Attributes::Dict => {}
                Attributes::Values => values = self.copy.word(address.checked_sub(at::MANAGED_VALUES)?)?,
                Attributes::Tagged if dict & 1 != 0 => (dict, values) = (0, dict + 1),
                Attributes::Tagged => {}
                Attributes::Inline if of.flags & kind::INLINE_VALUES != 0 => {
                    let inline = address.checked_add(of.basic)?;
                    let valid = self.copy.byte(inline.checked_add(3)?)? != 0;
                    values = if valid && dict == 0 { inline } else { 0 };
                }
                Attributes::Inline => {}
            }
        }
        if dict != 0 {
            back(Reference { slot: Slot::Attributes, target: dict, exact: true });
        }
        if values != 0 && of.keys != 0 {
            let entries = table::entries(self.copy, layout, of.keys)?;
            for (index, key) in entries.keys(self.copy) {
                let target = self.word(values, layout.values + index * 8)?;
                back(Reference { slot: Slot::Attribute(key), target, exact: true });
            }
        }
        Some(())
    }

    /// The items of a long list as they are now. One that grows moves its items at every eighth of its length, and what
    /// was copied of it may be of two moments; `None` if it is short, or if it moves just now.
    pub fn items_now(&self, address: u64) -> Option<Vec<u64>> {
        let head = || self.copy.words_now(address.checked_add(at::LENGTH)?, 2);
        let copied = self.word(address, at::LENGTH)?;
        if !(LONG_LIST..=MOST_ITEMS).contains(&copied) {
            return None;
        }
        (0..TRIES).find_map(|_| {
            let [length, items] = head()?[..] else { return None };
            let words = self.copy.words_now(items, length.min(MOST_ITEMS))?;
            (head()? == [length, items]).then_some(words)
        })
    }

    fn items(&self, start: u64, count: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        if count > MOST_ITEMS {
            return None;
        }
        for index in 0..count {
            let target = self.word(start, index * 8)?;
            back(Reference { slot: Slot::Item, target, exact: true });
        }
        Some(())
    }

    fn set(&self, address: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let (mask, start) = (self.word(address, at::SET_MASK)?, self.word(address, at::SET_TABLE)?);
        if !(mask.wrapping_add(1)).is_power_of_two() || mask > MOST_ITEMS || mask < self.word(address, at::SET_USED)? {
            return None;
        }
        for index in 0..=mask {
            let entry = start.checked_add(index * at::SET_ENTRY)?;
            // A deleted entry has the address of a dummy and the hash -1.
            let (key, hash) = (self.copy.word(entry)?, self.copy.signed(entry + 8)?);
            if key != 0 && hash != -1 {
                back(Reference { slot: Slot::Key, target: key, exact: true });
            }
        }
        Some(())
    }

    fn deque(&self, address: u64, of: &Kind, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let mut block = self.word(address, at::DEQUE_LEFT)?;
        let mut index = self.word(address, at::DEQUE_LEFT_INDEX)?;
        let length = self.length(address, of)?;
        if length > MOST_ITEMS || index >= at::DEQUE_BLOCK_ITEMS {
            return None;
        }
        for _ in 0..length {
            if index == at::DEQUE_BLOCK_ITEMS {
                block = self.word(block, 8 + at::DEQUE_BLOCK_ITEMS * 8)?;
                index = 0;
            }
            let target = self.word(block, 8 + index * 8)?;
            back(Reference { slot: Slot::Item, target, exact: true });
            index += 1;
        }
        Some(())
    }

    fn module_state(&self, address: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let (definition, state) = (self.word(address, at::MODULE_DEFINITION)?, self.word(address, at::MODULE_STATE)?);
        if definition == 0 || state == 0 {
            return Some(());
        }
        let bytes = self.word(definition, at::DEFINITION_STATE_BYTES)?.min(MOST_STATE);
        for offset in (0..bytes).step_by(8) {
            let target = self.word(state, offset)?;
            back(Reference { slot: Slot::State, target, exact: false });
        }
        Some(())
    }

    fn generator(&self, address: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let frame = self.layouts.objects.generator_frame;
        if self.layouts.objects.frame_object_frame.is_some() {
            // One that has ended has cleared its frame, and may have no code any more.
            let _ = self.frame(address.checked_add(frame)?, back);
        }
        Some(())
    }

    fn frame_object(&self, address: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        match self.layouts.objects.frame_object_frame {
            Some(offset) => self.frame(self.word(address, offset)?, back),
            None => self.frame(address, back),
        }
    }

    /// The variables and the value stack of a frame.
    pub fn frame(&self, frame: u64, back: &mut dyn FnMut(Reference)) -> Option<()> {
        let layout = self.layouts.objects;
        let code = self.word(frame, self.layouts.base.frame.code.into())? & self.layouts.base.frame.pointer_mask;
        let variables = self.variable_count(code)?;
        let stack = u64::from(self.copy.half(code.checked_add(layout.variables.stack)?)?);
        if variables + stack > MOST_VARIABLES {
            return None;
        }
        for index in 0..variables + stack {
            let target = self.word(frame, layout.frame_variables + index * 8)? & self.layouts.base.frame.pointer_mask;
            let slot = if index < variables { Slot::Variable(code, index) } else { Slot::Stack(code) };
            back(Reference { slot, target, exact: false });
        }
        Some(())
    }

    /// The tuples of the names of a code object's variables: address, and how many.
    fn name_tuples(&self, code: u64) -> impl Iterator<Item = Option<(u64, u64)>> {
        self.layouts.objects.variables.names.iter().map(move |&offset| {
            let tuple = self.word(code, offset)?;
            Some((tuple, self.word(tuple, at::LENGTH)?))
        })
    }

    fn variable_count(&self, code: u64) -> Option<u64> {
        let mut count = 0_u64;
        for tuple in self.name_tuples(code) {
            count = count.checked_add(tuple?.1)?;
        }
        (count <= MOST_VARIABLES).then_some(count)
    }

    /// The address of the name of a variable of a code object.
    pub fn variable_name(&self, code: u64, number: u64) -> Option<u64> {
        let mut left = number;
        for tuple in self.name_tuples(code) {
            let (tuple, count) = tuple?;
            if left < count {
                return self.word(tuple, self.layouts.objects.tuple_items + left * 8);
            }
            left -= count;
        }
        None
    }

    /// The number of the first variable that the code closes over.
    pub fn first_free(&self, code: u64) -> Option<u64> {
        let free = match self.layouts.objects.variables.free {
            Some(offset) => u64::from(self.copy.half(code.checked_add(offset)?)?),
            None => self.name_tuples(code).last()??.1,
        };
        self.variable_count(code)?.checked_sub(free)
    }

    /// Bytes of an object, with the headers before it and what only it has; `None` if its sizes make no sense.
    pub fn space(&self, address: u64, of: &Kind) -> Option<u64> {
        let layout = self.layouts.objects;
        let mut own = of.basic;
        let mut apart = 0;
        match of.shape {
            Shape::Str => own = own.wrapping_add(self.text_bytes(address, of)?),
            Shape::Frame | Shape::Generator => {}
            Shape::Dict => apart = table::read(self.copy, layout, address)?.space,
            Shape::List => apart = self.word(address, at::LIST_ROOM)?.checked_mul(8)?,
            Shape::ByteArray => apart = self.word(address, at::BYTEARRAY_ROOM)?,
            Shape::Set => {
                let mask = self.word(address, at::SET_MASK)?;
                let inside = self.word(address, at::SET_TABLE)? == address + at::SET_SMALL_TABLE;
                apart = if inside { 0 } else { mask.checked_add(1)?.checked_mul(at::SET_ENTRY)? };
            }
            Shape::Deque => {
                let block = (at::DEQUE_BLOCK_ITEMS + 2) * 8;
                apart = (self.length(address, of)? / at::DEQUE_BLOCK_ITEMS + 1).checked_mul(block)?;
            }
            _ if of.item > 0 => {
                own += self.length(address, of)?.checked_mul(of.item)?;
                // One that was given back, with something else where its length was, ends where no memory is.
                self.copy.holds(address, own).then_some(())?;
            }
            _ => own += self.inline_bytes(address, of),
        }
        let whole = (own.checked_add(of.before(layout))?).next_multiple_of(at::ALIGNED);
        let space = whole.checked_add(apart.next_multiple_of(at::ALIGNED))?;
        (space < 1 << 44).then_some(space)
    }

    fn inline_bytes(&self, address: u64, of: &Kind) -> u64 {
        let layout = self.layouts.objects;
        if layout.attributes != Attributes::Inline || of.flags & kind::INLINE_VALUES == 0 {
            return 0;
        }
        let room = address.checked_add(of.basic).and_then(|values| self.copy.byte(values));
        layout.values + 8 * u64::from(room.unwrap_or(0))
    }

    /// Bytes of the text of a `str`, beyond its type's basic size; negative ones wrap, and the sum is right.
    fn text_bytes(&self, address: u64, of: &Kind) -> Option<u64> {
        let string = &self.layouts.base.string;
        let length = self.word(address, string.length as u64)?;
        let state = self.copy.half(address.checked_add(string.state as u64)?)? >> string.kind_shift;
        let (width, compact, ascii) = (u64::from(state & 7), state & 8 != 0, state & 16 != 0);
        if length > 1 << 40 || !matches!(width, 0 | 1 | 2 | 4) {
            return None;
        }
        let text = (length + 1) * width;
        Some(match (compact, ascii) {
            (true, true) => (string.ascii_data as u64 + text).wrapping_sub(of.basic),
            (true, false) => (string.compact_data as u64 + text).wrapping_sub(of.basic),
            _ => text,
        })
    }
}
