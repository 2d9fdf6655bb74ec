//! Whether a code object is still the one that was recorded, where its death would not have been seen.

use profiler_common::event::NewCode;

use super::layout::Layout;
use crate::process::memory::Memory;

/// Bytes of an object's count of references, which changes; see `profiler-ebpf/src/code.rs`.
const REFERENCES: usize = 16;

/// Whether the record's code object is still at its address. Asked after its names have been read.
///
/// Up to CPython 3.11 a code object has no version. There another one that has the same first line, the same texts at
/// the same places and the same first KiB of a line table of the same length is taken for it: of the one function,
/// compiled again in these few milliseconds.
pub fn is_same_code(record: &NewCode, layout: &Layout, memory: &dyn Memory) -> bool {
    let code = &layout.code;
    let at = |offset: u64| record.code.wrapping_add(offset);
    let pointers =
        [(code.filename, record.filename), (code.qualname, record.qualname), (code.linetable, record.linetable)];
    let number = |offset: u64| read::<4>(memory, at(offset)).map(u32::from_le_bytes);
    if number(code.firstlineno.into()) != Some(record.firstlineno.cast_unsigned())
        || pointers
            .iter()
            .any(|&(offset, known)| read(memory, at(offset.into())).map(u64::from_le_bytes) != Some(known))
    {
        return false;
    }
    match code.version {
        Some(offset) if record.version != 0 => number(offset) == Some(record.version),
        _ => has_the_same_texts(record, memory),
    }
}

fn has_the_same_texts(record: &NewCode, memory: &dyn Memory) -> bool {
    let texts: [(u64, &[u8], u32); 3] = [
        (record.filename, &record.filename_bytes, record.filename_copied),
        (record.qualname, &record.qualname_bytes, record.qualname_copied),
        (record.linetable, &record.linetable_bytes, record.linetable_copied),
    ];
    texts.into_iter().all(|(address, bytes, copied)| {
        let Some(known) = bytes.get(REFERENCES..copied as usize) else { return true };
        let mut now = vec![0; known.len()];
        memory.read(address.wrapping_add(REFERENCES as u64), &mut now).is_ok() && now == known
    })
}

fn read<const N: usize>(memory: &dyn Memory, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use bytemuck::Zeroable as _;

    use super::*;
    use crate::python::layout::LAYOUTS;

    const CODE: u64 = 0x1000;
    const TABLE: u64 = 0x5000;

    /// Pages that start with some bytes.
    struct Pages(BTreeMap<u64, Vec<u8>>);

    impl Memory for Pages {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let page = self.0.get(&(address & !0xfff)).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(address & 0xfff).unwrap();
            buffer.copy_from_slice(page.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn layout(minor: u8) -> &'static Layout {
        LAYOUTS.iter().find(|row| row.minor == minor && !row.free_threaded).unwrap()
    }

    /// A code object at [`CODE`], whose table is the only text that can be read.
    fn memory(layout: &Layout, version: u32, table: &[u8]) -> Pages {
        let mut code = vec![0; 256];
        let mut put = |offset: u64, bytes: &[u8]| {
            let start = usize::try_from(offset).unwrap();
            code[start..start + bytes.len()].copy_from_slice(bytes);
        };
        put(layout.code.firstlineno.into(), &70u32.to_le_bytes());
        put(layout.code.linetable.into(), &TABLE.to_le_bytes());
        if let Some(offset) = layout.code.version {
            put(offset, &version.to_le_bytes());
        }
        Pages(BTreeMap::from([(CODE, code), (TABLE, table.to_vec())]))
    }

    fn record(version: u32, table: &[u8]) -> NewCode {
        let mut record = NewCode { code: CODE, linetable: TABLE, firstlineno: 70, version, ..NewCode::zeroed() };
        record.linetable_bytes[..table.len()].copy_from_slice(table);
        record.linetable_copied = u32::try_from(table.len()).unwrap();
        record
    }

    fn check(minor: u8, before: (u32, &[u8]), now: (u32, &[u8]), same: bool) {
        let layout = layout(minor);
        let memory = memory(layout, now.0, now.1);
        assert_eq!(is_same_code(&record(before.0, before.1), layout, &memory), same, "3.{minor} {before:?} {now:?}");
    }

    #[test]
    fn a_version_tells_code_objects_apart_and_else_their_texts() {
        let (one, other) = ([1; 64], [2; 64]);
        check(12, (5, &one), (5, &one), true);
        check(12, (5, &one), (6, &one), false);
        check(11, (0, &one), (0, &one), true);
        check(11, (0, &one), (0, &other), false);
        // Versions have run out: as before there were any.
        check(12, (0, &one), (0, &other), false);
    }

    #[test]
    fn a_count_of_references_may_change() {
        let mut now = [1; 64];
        now[..8].fill(9);
        check(11, (0, &[1; 64]), (0, &now), true);
    }

    #[test]
    fn one_with_another_first_line_or_none_at_all_is_another() {
        let layout = layout(12);
        let mut record = record(5, &[1; 64]);
        let memory = memory(layout, 5, &[1; 64]);
        record.firstlineno = 71;
        assert!(!is_same_code(&record, layout, &memory));
        (record.firstlineno, record.code) = (70, 0x9000);
        assert!(!is_same_code(&record, layout, &memory));
    }
}
