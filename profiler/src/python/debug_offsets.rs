//! `_Py_DebugOffsets` (CPython 3.13+): the interpreter's own word on its layout, held against our rows.

use super::layout::Layout;
use super::version::{DEBUG_COOKIE, word};

/// Where the interpreter and our row disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The structure is not where 3.13 and later have it, or it is cut.
    #[error("_Py_DebugOffsets is missing or shorter than its {size} bytes")]
    Absent {
        /// Bytes it must have.
        size: usize,
    },
    /// A field lies elsewhere.
    #[error("{field} is at {told} by _Py_DebugOffsets and at {known} in the known layout")]
    Field {
        /// CPython's name of the field.
        field: &'static str,
        /// Offset that the interpreter tells, bytes.
        told: u64,
        /// Offset in our table, bytes.
        known: u64,
    },
}

/// The structure's minor versions and sizes in bytes; it has no stable layout across minor versions.
const SIZES: [(u8, usize); 3] = [(13, 584), (14, 760), (15, 888)];

/// Position of a field that a version's structure does not have: the cookie is there.
const NONE: usize = 0;

/// CPython's name, the byte position of the field in 3.13, 3.14 and 3.15, and the offset in our row.
type Field = (&'static str, [usize; SIZES.len()], fn(&Layout) -> Option<u64>);

#[rustfmt::skip]
const FIELDS: [Field; 24] = [
    ("runtime.interpreters.head", [40, 40, 40], |row| Some(row.runtime.interpreters_head)),
    ("interpreter.next", [64, 64, 64], |row| Some(row.interpreter.next)),
    ("interpreter.threads.head", [72, 72, 72], |row| Some(row.interpreter.threads_head)),
    ("interpreter.code_object_generation", [NONE, 160, 160], |row| row.interpreter.code_object_generation),
    ("thread.next", [168, 192, 192], |row| Some(row.thread.next)),
    ("thread.current_frame", [184, 208, 208], |row| Some(row.thread.frame.into())),
    ("thread.thread_id", [192, 216, 240], |row| Some(row.thread.thread_id.into())),
    ("thread.native_thread_id", [200, 224, 248], |row| row.thread.native_thread_id),
    ("frame.previous", [232, 256, 320], |row| Some(row.frame.previous.into())),
    ("frame.executable", [240, 264, 328], |row| Some(row.frame.code.into())),
    ("frame.instr_ptr", [248, 272, 336], |row| Some(row.frame.lasti.into())),
    ("frame.owner", [264, 288, 352], |row| row.frame.owner.map(u64::from)),
    ("frame.tlbc_index", [NONE, 304, 368], |row| row.frame.tlbc_index.map(u64::from)),
    ("code.filename", [280, 320, 384], |row| Some(row.code.filename.into())),
    ("code.qualname", [296, 336, 400], |row| Some(row.code.qualname.into())),
    ("code.linetable", [304, 344, 408], |row| Some(row.code.linetable.into())),
    ("code.firstlineno", [312, 352, 416], |row| Some(row.code.firstlineno.into())),
    ("code.co_code_adaptive", [344, 384, 448], |row| row.code.adaptive.map(u64::from)),
    ("code.co_tlbc", [NONE, 392, 456], |row| row.code.tlbc.map(u64::from)),
    ("bytes.ob_size", [520, 600, 696], |row| Some(row.bytes.length as u64)),
    ("bytes.ob_sval", [528, 608, 704], |row| Some(row.bytes.data as u64)),
    ("unicode.state", [544, 624, 720], |row| Some(row.string.state as u64)),
    ("unicode.length", [552, 632, 728], |row| Some(row.string.length as u64)),
    ("unicode.asciiobject_size", [560, 640, 736], |row| Some(row.string.ascii_data as u64)),
];

/// Holds a row against the bytes at `_PyRuntime`; the first disagreement is the answer.
///
/// Versions before 3.13 have no such structure and pass.
pub fn check(row: &Layout, bytes: &[u8]) -> Result<(), Mismatch> {
    let Some(column) = SIZES.iter().position(|(minor, _)| *minor == row.minor) else {
        return Ok(());
    };
    let size = SIZES[column].1;
    if !bytes.starts_with(DEBUG_COOKIE) || bytes.len() < size {
        return Err(Mismatch::Absent { size });
    }
    for (field, positions, known) in FIELDS {
        let position = positions[column];
        let Some(known) = known(row).filter(|_| position != NONE) else {
            continue;
        };
        let told = word(bytes, position).ok_or(Mismatch::Absent { size })?;
        if told != known {
            return Err(Mismatch::Field { field, told, known });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::layout::LAYOUTS;
    use super::*;

    #[test]
    fn names_the_field_that_disagrees() {
        for row in LAYOUTS.iter().filter(|row| row.minor >= 13) {
            let column = SIZES.iter().position(|(minor, _)| *minor == row.minor).unwrap();
            let present: Vec<_> = FIELDS
                .iter()
                .map(|(name, positions, known)| (*name, positions[column], known(row)))
                .filter_map(|(name, position, known)| Some((name, position, known?)))
                .filter(|(_, position, _)| *position != NONE)
                .collect();
            let size = SIZES[column].1;
            let mut bytes = vec![0; size];
            bytes[..8].copy_from_slice(DEBUG_COOKIE);
            for (_, position, known) in &present {
                bytes[*position..position + 8].copy_from_slice(&known.to_le_bytes());
            }
            assert_eq!(row.check(&bytes), Ok(()));
            assert_eq!(row.check(&bytes[..size - 1]), Err(Mismatch::Absent { size }));
            for (field, position, known) in present {
                let mut other = bytes.clone();
                other[position] ^= 1;
                let told = known ^ 1;
                assert_eq!(row.check(&other), Err(Mismatch::Field { field, told, known }));
            }
        }
    }
}
