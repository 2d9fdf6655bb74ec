//! From a byte offset into the bytecode (`lasti`) to a line: CPython's three formats of line tables.
//!
//! Pure functions over bytes that nobody vouches for: they end and never panic on any input.

/// How a version writes the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `co_lnotab`, 3.9 and earlier: pairs of (u8 bytes of bytecode, i8 lines).
    Lnotab,
    /// `co_linetable` of 3.10: pairs of (u8 bytes of bytecode, i8 lines; -128: no line).
    Ranges,
    /// `co_linetable` of 3.11 and later: entries of a head byte and varints, PEP 657.
    Locations,
}

/// What a table says about an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its line.
    At(i32),
    /// The compiler gave it none.
    None,
    /// The table, or the part of it we have, ends before the instruction.
    Beyond,
}

/// The line of the instruction at byte `lasti`.
///
/// `whole` is false for a table cut at its end: then the last line of a `Lnotab` does not reach on.
pub fn line(format: Format, table: &[u8], whole: bool, firstlineno: i32, lasti: u32) -> Line {
    match format {
        Format::Lnotab => lnotab(table, whole, firstlineno, lasti),
        Format::Ranges => ranges(table, firstlineno, lasti),
        Format::Locations => locations(table, firstlineno, lasti),
    }
}

fn lnotab(table: &[u8], whole: bool, firstlineno: i32, lasti: u32) -> Line {
    let (mut address, mut line) = (0_u32, firstlineno);
    for [bytes, lines] in table.as_chunks().0 {
        address = address.saturating_add((*bytes).into());
        if address > lasti {
            return Line::At(line);
        }
        line = line.wrapping_add(lines.cast_signed().into());
    }
    if whole { Line::At(line) } else { Line::Beyond }
}

/// The delta in [`Format::Ranges`] that means "no line".
const NO_LINE: i8 = -128;

fn ranges(table: &[u8], firstlineno: i32, lasti: u32) -> Line {
    let (mut end, mut line) = (0_u32, firstlineno);
    for [bytes, lines] in table.as_chunks().0 {
        let lines = lines.cast_signed();
        if lines != NO_LINE {
            line = line.wrapping_add(lines.into());
        }
        end = end.saturating_add((*bytes).into());
        if lasti < end {
            return if lines == NO_LINE { Line::None } else { Line::At(line) };
        }
    }
    Line::Beyond
}

/// What an entry of [`Format::Locations`] does to the line: CPython's `PyCodeLocationInfoKind`.
mod kind {
    /// 0 to 9: same line, columns in one byte.
    pub const SHORT_LAST: u8 = 9;
    /// 10 to 12: 0 to 2 lines on, columns in two bytes.
    pub const ONE_LINE_FIRST: u8 = 10;
    pub const ONE_LINE_LAST: u8 = 12;
    /// 13: a signed varint of lines.
    pub const NO_COLUMNS: u8 = 13;
    /// 14: a signed varint of lines and three varints.
    pub const LONG: u8 = 14;
}

fn locations(table: &[u8], firstlineno: i32, lasti: u32) -> Line {
    let mut bytes = table.iter().copied();
    let (mut end, mut line) = (0_u32, firstlineno);
    while let Some(head) = bytes.next() {
        let kind = head >> 3 & 15;
        let (lines, skipped) = match kind {
            0..=kind::SHORT_LAST => (Some(0), 1),
            kind::ONE_LINE_FIRST..=kind::ONE_LINE_LAST => (Some((kind - kind::ONE_LINE_FIRST).into()), 2),
            kind::NO_COLUMNS | kind::LONG => match signed_varint(&mut bytes) {
                None => return Line::Beyond,
                lines => (lines, 0),
            },
            // The line so far stays: later deltas count from it.
            _ => (None, 0),
        };
        line = line.wrapping_add(lines.unwrap_or(0));
        if kind == kind::LONG {
            (0..3).for_each(|_| _ = varint(&mut bytes));
        }
        (0..skipped).for_each(|_| _ = bytes.next());
        end = end.saturating_add((u32::from(head & 7) + 1) * 2);
        if lasti < end {
            return lines.map_or(Line::None, |_| Line::At(line));
        }
    }
    Line::Beyond
}

/// Six bits a byte, least significant first; bit 6 says that another byte follows. `None` if the table ends.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(6) {
        let byte = bytes.next()?;
        value |= u32::from(byte & 0x3f) << shift;
        if byte & 0x40 == 0 {
            break;
        }
    }
    Some(value)
}

/// Bit 0 is the sign.
fn signed_varint(bytes: &mut impl Iterator<Item = u8>) -> Option<i32> {
    let value = varint(bytes)?;
    let size = (value >> 1).cast_signed();
    Some(if value & 1 == 0 { size } else { -size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lnotab_counts_backwards_too() {
        let table = [0, 1, 4, 200_u8, 255, 0, 5, 2];
        let at = |lasti| line(Format::Lnotab, &table, true, 100, lasti);
        assert_eq!(at(0), Line::At(101));
        assert_eq!(at(4), Line::At(101 - 56));
        assert_eq!(at(263), Line::At(101 - 56));
        assert_eq!(at(264), Line::At(103 - 56));
        assert_eq!(line(Format::Lnotab, &table, false, 100, 264), Line::Beyond);
    }

    #[test]
    fn ranges_know_no_line_and_empty_ranges() {
        let table = [2, 1, 2, 128, 0, 5, 2, 251];
        let at = |lasti| line(Format::Ranges, &table, true, 10, lasti);
        assert_eq!([at(0), at(2), at(4)], [Line::At(11), Line::None, Line::At(11)]);
        assert_eq!(at(6), Line::Beyond);
    }

    #[test]
    fn locations_keep_the_line_over_instructions_without_one() {
        let table =
            [0x80 | 13 << 3, 0b10, 0x80 | 15 << 3 | 1, 0x80 | 11 << 3, 7, 7, 0x80 | 14 << 3, 0b11, 1, 1, 1, 0x80, 9];
        let at = |lasti| line(Format::Locations, &table, true, 50, lasti);
        assert_eq!([at(0), at(2), at(5), at(6)], [Line::At(51), Line::None, Line::None, Line::At(52)]);
        assert_eq!([at(8), at(10), at(12)], [Line::At(51), Line::At(51), Line::Beyond]);
    }

    proptest! {
        #[test]
        fn any_table_gives_an_answer(
            table in proptest::collection::vec(any::<u8>(), 0..400), whole: bool, first: i32, lasti: u32,
        ) {
            for format in [Format::Lnotab, Format::Ranges, Format::Locations] {
                let _ = line(format, &table, whole, first, lasti % 2048);
                let _ = line(format, &table, whole, first, lasti);
            }
        }

        #[test]
        fn a_cut_table_never_contradicts_the_whole_one(
            table in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200, lasti in 0_u32..400,
        ) {
            let part = &table[..cut.min(table.len())];
            for format in [Format::Lnotab, Format::Ranges, Format::Locations] {
                let answer = line(format, part, false, 1, lasti);
                if answer != Line::Beyond {
                    prop_assert_eq!(answer, line(format, &table, true, 1, lasti));
                }
            }
        }
    }
}
