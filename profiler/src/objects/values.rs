//! Values of single objects: ints, lengths, attributes by name.

use super::heap::Heap;
use super::kinds::{Shape, text};
use super::references::{MOST_ITEMS, Slot};
use super::table;
use crate::python::object_layout as at;

/// Digits of an int have so many bits.
const DIGIT_BITS: u32 = 30;
/// Where the digits begin.
const DIGITS: u64 = 24;
/// No buffer has more bytes.
const MOST_BYTES: u64 = 1 << 44;

/// The value of a small `int`; `None` for anything else and for larger ones.
pub fn int(heap: &Heap<'_>, address: u64) -> Option<i64> {
    let object = heap.find(address).filter(|&object| heap.kind(object).shape == Shape::Int)?;
    let size = heap.copy.word(heap.address(object) + at::LENGTH)?;
    let (count, negative) = if heap.layouts.objects.int_tagged {
        (size >> 3, size & 3 == 2)
    } else {
        (size.cast_signed().unsigned_abs(), size.cast_signed() < 0)
    };
    let digit = |index: u64| heap.copy.half(address + DIGITS + index * 4).map(i64::from);
    let value = match count {
        0 => 0,
        1 => digit(0)?,
        2 => digit(1)? << DIGIT_BITS | digit(0)?,
        _ => return None,
    };
    // 3.12 counts one digit for zero.
    Some(if negative { -value } else { value })
}

/// Elements of a container, bytes of a buffer; `None` for what is none, and for more than there can be: it was read while
/// something else was written in its place.
pub fn length(heap: &Heap<'_>, object: u32) -> Option<u64> {
    let (address, kind) = (heap.address(object), heap.kind(object));
    let word = |offset: u64| heap.copy.word(address + offset);
    let (length, most) = match kind.shape {
        Shape::Dict => (word(at::DICT_USED), MOST_ITEMS),
        Shape::Set => (word(at::SET_USED), word(at::SET_MASK)?),
        Shape::List => (heap.view().length(address, kind), word(at::LIST_ROOM)?),
        Shape::Tuple | Shape::Deque => (heap.view().length(address, kind), MOST_ITEMS),
        Shape::ByteArray => (heap.view().length(address, kind), word(at::BYTEARRAY_ROOM)?),
        Shape::BytesIo => (word(at::BYTES_IO_LENGTH), MOST_BYTES),
        _ => return None,
    };
    length.filter(|&length| length <= most)
}

/// The value of an attribute of an instance.
pub fn attribute(heap: &Heap<'_>, object: u32, name: &str) -> Option<u64> {
    let mut found = None;
    heap.view().each(heap.address(object), heap.kind(object), &mut |reference| match reference.slot {
        Slot::Attributes if found.is_none() => {
            let table = table::read(heap.copy, heap.layouts.objects, reference.target);
            found = table.and_then(|table| table.value_of(heap.copy, heap.layouts, name));
        }
        Slot::Attribute(key)
            if found.is_none()
                && reference.target != 0
                && text(heap.copy, heap.layouts, key).as_deref() == Some(name) =>
        {
            found = Some(reference.target);
        }
        _ => {}
    });
    found
}
