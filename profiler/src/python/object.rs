//! `str` and `bytes` objects, from a raw copy or from the target's memory.
//!
//! File names and qualified names are always compact strings (PEP 393); anything else is refused. Nothing in
//! the header is believed: every length is bounded and every slice checked.

use std::fmt::Write as _;
use std::io;

use crate::process::memory::Memory;

/// Most bytes of text, or of a line table, that are read: 1 MiB.
pub const LIMIT: usize = 1 << 20;

/// Where a `str` object keeps its parts, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringLayout {
    /// `length` in characters, i64.
    pub length: usize,
    /// `state`, u32 of bit fields.
    pub state: usize,
    /// First bit of `kind` (3 bits) in `state`; `compact` and `ascii` follow it.
    pub kind_shift: u32,
    /// The text of a compact ASCII string: the size of `PyASCIIObject`.
    pub ascii_data: usize,
    /// The text of another compact string: the size of `PyCompactUnicodeObject`.
    pub compact_data: usize,
}

/// Where a `bytes` object keeps its parts, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesLayout {
    /// `ob_size`, i64.
    pub length: usize,
    /// `ob_sval`.
    pub data: usize,
}

/// An object is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The copy ends before the object does.
    #[error("the copy ends before the object's {needed} bytes")]
    Cut {
        /// Bytes of the whole object.
        needed: usize,
    },
    /// The header makes no sense, or the string is not compact.
    #[error("it is not a compact str or a bytes object")]
    Malformed,
    /// Longer than [`LIMIT`].
    #[error("its length {length} is over {LIMIT} bytes")]
    TooLong {
        /// What the header says, bytes.
        length: u64,
    },
    /// The target's memory could not be read.
    #[error("its memory cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// How the characters are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Latin1,
    Utf16,
    Utf32,
}

/// Where the data of an object lies in it.
struct Extent {
    start: usize,
    end: usize,
}

impl Extent {
    fn new(start: usize, length: i64, width: u64) -> Result<Self, ObjectError> {
        let length = u64::try_from(length).map_err(|_| ObjectError::Malformed)?;
        let length = length.saturating_mul(width);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= LIMIT => Ok(Self { start, end: start + bytes }),
            _ => Err(ObjectError::TooLong { length }),
        }
    }

    fn of<'a>(&self, object: &'a [u8]) -> Result<&'a [u8], ObjectError> {
        object.get(self.start..self.end).ok_or(ObjectError::Cut { needed: self.end })
    }
}

impl StringLayout {
    fn extent(&self, object: &[u8]) -> Result<(Extent, Width), ObjectError> {
        let needed = self.ascii_data;
        let length = i64::from_le_bytes(field(object, self.length, needed)?);
        let state = u32::from_le_bytes(field(object, self.state, needed)?) >> self.kind_shift;
        let (compact, ascii) = (state & 8 != 0, state & 16 != 0);
        let (width, size) = match state & 7 {
            1 => (Width::Latin1, 1),
            2 => (Width::Utf16, 2),
            4 => (Width::Utf32, 4),
            _ => return Err(ObjectError::Malformed),
        };
        if !compact || ascii && width != Width::Latin1 {
            return Err(ObjectError::Malformed);
        }
        let start = if ascii { self.ascii_data } else { self.compact_data };
        Ok((Extent::new(start, length, size)?, width))
    }
}

/// The text of a `str` object, of which `object` is a copy from its start.
///
/// Lone surrogates, which a Rust string cannot hold, become `\udcXX` as Python itself would print them.
pub fn decode_str(object: &[u8], layout: &StringLayout) -> Result<String, ObjectError> {
    let (extent, width) = layout.extent(object)?;
    let data = extent.of(object)?;
    let mut text = String::with_capacity(data.len());
    match width {
        Width::Latin1 => text.extend(data.iter().map(|&byte| char::from(byte))),
        Width::Utf16 => data.as_chunks().0.iter().for_each(|unit| push(&mut text, u16::from_le_bytes(*unit).into())),
        Width::Utf32 => data.as_chunks().0.iter().for_each(|unit| push(&mut text, u32::from_le_bytes(*unit))),
    }
    Ok(text)
}

/// The data of a `bytes` object, of which `object` is a copy from its start.
pub fn decode_bytes<'a>(object: &'a [u8], layout: &BytesLayout) -> Result<&'a [u8], ObjectError> {
    let length = i64::from_le_bytes(field(object, layout.length, layout.data)?);
    Extent::new(layout.data, length, 1)?.of(object)
}

/// Reads a `str` object.
pub fn read_str(memory: &dyn Memory, address: u64, layout: &StringLayout) -> Result<String, ObjectError> {
    let header = memory.bytes(address, layout.ascii_data, LIMIT)?;
    let (extent, _) = layout.extent(&header)?;
    let object = memory.bytes(address, extent.end, LIMIT + layout.compact_data)?;
    decode_str(&object, layout)
}

/// Reads the data of a `bytes` object.
pub fn read_bytes(memory: &dyn Memory, address: u64, layout: &BytesLayout) -> Result<Vec<u8>, ObjectError> {
    let header = memory.bytes(address, layout.data, LIMIT)?;
    let length = i64::from_le_bytes(field(&header, layout.length, layout.data)?);
    let extent = Extent::new(layout.data, length, 1)?;
    Ok(memory.bytes(address.wrapping_add(extent.start as u64), extent.end - extent.start, LIMIT)?)
}

/// The bytes of a header field; `needed` is the header's size.
fn field<const N: usize>(object: &[u8], at: usize, needed: usize) -> Result<[u8; N], ObjectError> {
    object.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(ObjectError::Cut { needed })
}

fn push(text: &mut String, point: u32) {
    match char::from_u32(point) {
        Some(character) => text.push(character),
        // Writing to a String cannot fail.
        None if point <= 0xffff => drop(write!(text, "\\u{point:04x}")),
        None => drop(write!(text, "\\U{point:08x}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::layout::LAYOUTS;
    use super::*;

    /// A compact string as CPython would store it.
    fn object(text: &str, layout: &StringLayout) -> Vec<u8> {
        let widest = text.chars().map(u32::from).max().unwrap_or(0);
        let (kind, size) = match widest {
            0..0x100 => (1, 1),
            0x100..0x1_0000 => (2, 2),
            _ => (4, 4),
        };
        let ascii = u32::from(widest < 0x80);
        let start = if ascii == 1 { layout.ascii_data } else { layout.compact_data };
        let mut bytes = vec![0; start];
        let length = text.chars().count() as u64;
        bytes[layout.length..layout.length + 8].copy_from_slice(&length.to_le_bytes());
        let state = (kind | 8 | ascii << 4) << layout.kind_shift | 1;
        bytes[layout.state..layout.state + 4].copy_from_slice(&state.to_le_bytes());
        for character in text.chars() {
            bytes.extend(&u32::from(character).to_le_bytes()[..size]);
        }
        bytes
    }

    #[test]
    fn decodes_every_kind_in_every_layout() {
        for row in &LAYOUTS {
            for text in ["", "handler", "naïve.py", "файл.py", "данные/漢字.py", "🐍.<locals>.f"] {
                let bytes = object(text, &row.string);
                assert_eq!(decode_str(&bytes, &row.string).unwrap(), text);
            }
        }
    }

    #[test]
    fn tells_how_much_of_a_cut_copy_is_missing() {
        let layout = &LAYOUTS[4].string;
        let bytes = object("a long enough name", layout);
        let cut = decode_str(&bytes[..50], layout);
        assert!(matches!(cut, Err(ObjectError::Cut { needed }) if needed == bytes.len()));
        assert!(matches!(decode_str(&[], layout), Err(ObjectError::Cut { needed: 40 })));
    }

    #[test]
    fn escapes_lone_surrogates() {
        let layout = &LAYOUTS[3].string;
        let mut bytes = object("файл", layout);
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&0xdcff_u16.to_le_bytes());
        assert_eq!(decode_str(&bytes, layout).unwrap(), "фай\\udcff");
    }

    #[test]
    fn refuses_what_is_not_compact_or_too_long() {
        let layout = &LAYOUTS[3].string;
        let mut bytes = object("name", layout);
        bytes[layout.state] &= !(8 << layout.kind_shift);
        assert!(matches!(decode_str(&bytes, layout), Err(ObjectError::Malformed)));
        let mut bytes = object("name", layout);
        bytes[layout.length..layout.length + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(decode_str(&bytes, layout), Err(ObjectError::Malformed)));
        bytes[layout.length..layout.length + 8].copy_from_slice(&(i64::MAX as u64).to_le_bytes());
        assert!(matches!(decode_str(&bytes, layout), Err(ObjectError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for row in &LAYOUTS {
                let _ = decode_str(&bytes, &row.string);
                let _ = decode_bytes(&bytes, &row.bytes);
            }
        }

        #[test]
        fn every_text_survives(text in ".{0,80}") {
            for row in &LAYOUTS {
                prop_assert_eq!(&decode_str(&object(&text, &row.string), &row.string).unwrap(), &text);
            }
        }
    }
}
