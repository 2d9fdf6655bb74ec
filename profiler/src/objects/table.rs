//! Dicts: where their entries are. Every size is held against the others and against the copy.

use super::copy::Copy;
use super::kinds::{Layouts, text};
use crate::python::object_layout::{self as at, Keys, ObjectLayout};

/// A dict may have as many entries as this; more is no dict.
const MOST: u64 = 1 << 40;

/// A dict's table of keys, and its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Entries in use.
    pub used: u64,
    /// Bytes of the table, if only this dict has it; and of split values.
    pub space: u64,
    entries: Entries,
    /// The values, if they are apart from the keys.
    values: Option<u64>,
}

/// The entries of a table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Address of the first.
    start: u64,
    /// Those that were used once.
    pub count: u64,
    /// Bytes of each.
    stride: u64,
    /// Where the key is in it; the value follows.
    key: u64,
    /// Bytes of the whole table.
    space: u64,
}

/// Reads the keys' table at an address.
pub fn entries(copy: &Copy<'_>, layout: &ObjectLayout, keys: u64) -> Option<Entries> {
    let word = |offset: u64| copy.word(keys.checked_add(offset)?);
    let found = match layout.keys {
        Keys::Sized => {
            let size = word(8)?;
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            if !size.is_power_of_two() || size > MOST {
                return None;
            }
            Entries { start: keys + 40 + size * width, count: word(32)?, stride: 24, key: 8, space: size }
        }
        Keys::Logarithms => {
            let head = word(8)?.to_le_bytes();
            let (size, index_bytes, kind) = (u32::from(head[0]), u32::from(head[1]), head[2]);
            if size > 40 || index_bytes > 43 || kind > 2 {
                return None;
            }
            let (stride, key) = if kind == 0 { (24, 8) } else { (16, 0) };
            Entries { start: keys + 32 + (1 << index_bytes), count: word(24)?, stride, key, space: 1 << size }
        }
    };
    // The table has room for two thirds of its size.
    let room = found.space / 3 * 2 + 2;
    let valid = found.count <= room && found.start.checked_add(found.count * found.stride).is_some();
    valid.then(|| Entries { space: found.start - keys + found.space * 2 / 3 * found.stride, ..found })
}

/// Reads the dict at an address.
pub fn read(copy: &Copy<'_>, layout: &ObjectLayout, dict: u64) -> Option<Table> {
    let word = |offset: u64| copy.word(dict.checked_add(offset)?);
    let (used, keys, values) = (word(at::DICT_USED)?, word(at::DICT_KEYS)?, word(at::DICT_VALUES)?);
    let entries = entries(copy, layout, keys)?;
    if used > entries.count {
        return None;
    }
    let (values, space) = match values {
        0 => (None, entries.space),
        values => (Some(values + layout.values), layout.values + entries.count * 8),
    };
    Some(Table { used, space, entries, values })
}

impl Entries {
    /// The keys, and the place in the table of each.
    pub fn keys<'a>(self, copy: &'a Copy<'_>) -> impl Iterator<Item = (u64, u64)> + 'a {
        (0..self.count).map_while(move |index| Some((index, copy.word(self.start + index * self.stride + self.key)?)))
    }

    fn value(self, copy: &Copy<'_>, index: u64) -> Option<u64> {
        copy.word(self.start + index * self.stride + self.key + 8)
    }
}

impl Table {
    /// The entries, keys with values.
    pub fn pairs<'a>(self, copy: &'a Copy<'_>) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.entries.keys(copy).filter_map(move |(index, key)| {
            let value = match self.values {
                Some(values) => copy.word(values.checked_add(index * 8)?)?,
                None => self.entries.value(copy, index)?,
            };
            (value != 0 && key != 0).then_some((key, value))
        })
    }

    /// The value of a key that is a `str`.
    pub fn value_of(self, copy: &Copy<'_>, layouts: Layouts, name: &str) -> Option<u64> {
        let long = |key: u64| copy.word(key.checked_add(layouts.base.string.length as u64)?);
        let is_it =
            |key: u64| long(key) == Some(name.len() as u64) && text(copy, layouts, key).as_deref() == Some(name);
        self.pairs(copy).find_map(|(key, value)| is_it(key).then_some(value))
    }
}
