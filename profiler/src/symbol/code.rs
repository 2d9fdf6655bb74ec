//! Code objects by their serial: what the kernel side copied of them, the rest read before it is gone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use profiler_common::event::NewCode;

use super::classify::classify;
use crate::process::memory::Memory;
use crate::profile::FrameKind;
use crate::python::layout::Layout;
use crate::python::linetable::{Line, line};
use crate::python::object::{ObjectError, decode_bytes, decode_str, read_bytes, read_str};

/// A name, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// The text, as the target has it.
    Known(Arc<str>),
    /// None.
    Unknown(Missing),
}

/// Why a name or a line is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Missing {
    /// The kernel side could not record the code object.
    #[error("code object not recorded, no room")]
    NotRecorded,
    /// The code object had gone, or its address may have had a new one, when we came to read.
    #[error("code object freed before it could be read")]
    Freed,
    /// The process had gone.
    #[error("process ended before it could be read")]
    ProcessEnded,
    /// The system refused to read the memory.
    #[error("memory cannot be read")]
    Unreadable,
    /// There is no text or table of a kind that CPython makes.
    #[error("not a text that python makes")]
    Malformed,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(text) => f.write_str(text),
            Self::Unknown(reason) => write!(f, "[unknown: {reason}]"),
        }
    }
}

impl Name {
    /// The text, if there is one.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(text) => Some(text),
            Self::Unknown(_) => None,
        }
    }
}

/// A frame with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFrame {
    /// `co_qualname`; `co_name` before 3.11.
    pub function: Name,
    /// `co_filename`.
    pub file: Name,
    /// The line; the function's first for an instruction without one; 0 if not known.
    pub line: u32,
    /// The function's first line; 0 if not known.
    pub first_line: u32,
    /// Whose code it is; [`FrameKind::Marker`] if neither function nor file is known.
    pub kind: FrameKind,
}

/// The process that a record comes from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its interpreter's layout.
    pub layout: &'static Layout,
    /// Its memory; `None` once it ended.
    pub memory: Option<&'a dyn Memory>,
}

/// What is kept of a code object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Info {
    filename: Name,
    qualname: Name,
    firstlineno: i32,
    firsttraceable: i32,
    table: Table,
    minor: u8,
}

/// A line table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Table {
    Whole(Box<[u8]>),
    /// The rest could not be read.
    Cut(Box<[u8]>),
    Unknown,
}

struct Code {
    info: Arc<Info>,
    layout: &'static Layout,
    kind: FrameKind,
    /// Lines by `lasti`: at most one an instruction.
    lines: HashMap<u32, u32>,
}

/// Every code object seen in a trace.
///
/// Grows with distinct code that is alive: what has died is forgotten now and then, see [`Self::forget`].
#[derive(Default)]
pub struct CodeTable {
    serials: HashMap<u64, usize>,
    distinct: HashMap<Arc<Info>, usize>,
    codes: Vec<Code>,
    texts: HashMap<Box<str>, Arc<str>>,
}

impl CodeTable {
    /// Records a code object; reads what the kernel side could not copy.
    ///
    /// `is_alive` is asked after reading: if the code object may have died meanwhile, what was read is thrown away.
    pub fn insert(&mut self, record: &NewCode, source: Source<'_>, is_alive: impl FnOnce() -> bool) {
        let layout = source.layout;
        let mut parts = Parts::copied(record, layout);
        if !parts.complete() {
            let read = parts.read(record, source);
            if read.read_any && !is_alive() {
                parts.give_up(Missing::Freed);
            } else {
                parts.take(read);
            }
        }
        let info = Info {
            filename: self.name(parts.filename),
            qualname: self.name(parts.qualname),
            firstlineno: record.firstlineno,
            firsttraceable: record.firsttraceable,
            table: parts.table,
            minor: layout.minor,
        };
        let index = self.intern(info, layout);
        self.serials.insert(record.serial, index);
    }

    /// How many serials there are.
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    /// All serials.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.serials.keys().copied()
    }

    /// Forgets code objects that have died, and the names that only they had.
    pub fn forget(&mut self, dead: &HashSet<u64>) {
        self.serials.retain(|serial, _| !dead.contains(serial));
        let used: HashSet<usize> = self.serials.values().copied().collect();
        let mut places: HashMap<usize, usize> = HashMap::with_capacity(used.len());
        self.distinct.clear();
        let codes = std::mem::take(&mut self.codes).into_iter().enumerate();
        for (index, code) in codes.filter(|(index, _)| used.contains(index)) {
            places.insert(index, self.codes.len());
            self.distinct.insert(code.info.clone(), self.codes.len());
            self.codes.push(code);
        }
        for index in self.serials.values_mut() {
            *index = places.get(index).copied().unwrap_or(*index);
        }
        self.texts.retain(|_, text| Arc::strong_count(text) > 1);
    }

    /// Whether a code object of this serial has been recorded.
    pub fn contains(&self, serial: u64) -> bool {
        self.serials.contains_key(&serial)
    }

    /// The frame at byte `lasti` of a code object, `None` before its first instruction.
    ///
    /// No frame at all for `_Py_InitCleanup`, which specialised constructor calls push in CPython 3.12+: it is
    /// never shown by Python either. Its mark: no first line, and not yet traceable.
    pub fn frame(&mut self, serial: u64, lasti: Option<u32>) -> Option<ResolvedFrame> {
        let Some(code) = self.serials.get(&serial).and_then(|&index| self.codes.get_mut(index)) else {
            return Some(ResolvedFrame::unrecorded());
        };
        let info = &code.info;
        let traceable = u32::try_from(info.firsttraceable).unwrap_or(0).saturating_mul(2);
        if info.firstlineno == 0 && traceable > lasti.unwrap_or(0) {
            return None;
        }
        Some(ResolvedFrame {
            function: info.qualname.clone(),
            file: info.filename.clone(),
            line: code.line(lasti),
            first_line: code.first_line(),
            kind: code.kind,
        })
    }

    fn name(&mut self, text: Result<String, Missing>) -> Name {
        match text {
            Ok(text) => {
                let shared = self.texts.entry(text.into_boxed_str());
                let text: &str = shared.key();
                let text = Arc::from(text);
                Name::Known(shared.or_insert(text).clone())
            }
            Err(reason) => Name::Unknown(reason),
        }
    }

    fn intern(&mut self, info: Info, layout: &'static Layout) -> usize {
        if let Some(&index) = self.distinct.get(&info) {
            return index;
        }
        let kind = match (&info.filename, &info.qualname) {
            (Name::Known(file), _) => classify(file),
            (_, Name::Known(_)) => FrameKind::Own,
            _ => FrameKind::Marker,
        };
        let info = Arc::new(info);
        self.codes.push(Code { info: info.clone(), layout, kind, lines: HashMap::new() });
        let index = self.codes.len() - 1;
        self.distinct.insert(info, index);
        index
    }
}

impl ResolvedFrame {
    fn unrecorded() -> Self {
        Self {
            function: Name::Unknown(Missing::NotRecorded),
            file: Name::Unknown(Missing::NotRecorded),
            line: 0,
            first_line: 0,
            kind: FrameKind::Marker,
        }
    }
}

impl Code {
    fn first_line(&self) -> u32 {
        u32::try_from(self.info.firstlineno).unwrap_or(0)
    }

    fn line(&mut self, lasti: Option<u32>) -> u32 {
        let first = self.first_line();
        let Some(lasti) = lasti else { return first };
        let info = &self.info;
        let format = self.layout.lines;
        *self.lines.entry(lasti).or_insert_with(|| {
            let (table, whole) = match &info.table {
                Table::Whole(table) => (table, true),
                Table::Cut(table) => (table, false),
                Table::Unknown => return 0,
            };
            match line(format, table, whole, info.firstlineno, lasti) {
                Line::At(line) => u32::try_from(line).unwrap_or(0),
                Line::None => first,
                Line::Beyond => 0,
            }
        })
    }
}

/// The parts of a code object as they come in.
struct Parts {
    filename: Result<String, Missing>,
    qualname: Result<String, Missing>,
    table: Table,
    read_any: bool,
}

impl Parts {
    /// What the kernel side copied.
    fn copied(record: &NewCode, layout: &Layout) -> Self {
        let text = |bytes: &[u8], copied: u32| {
            let copy = bytes.get(..copied as usize).unwrap_or(bytes);
            decode_str(copy, &layout.string).map_err(|_| Missing::Unreadable)
        };
        let copied = record.linetable_copied as usize;
        let object = record.linetable_bytes.get(..copied).unwrap_or(&record.linetable_bytes);
        let table = match decode_bytes(object, &layout.bytes) {
            Ok(table) => Table::Whole(table.into()),
            Err(_) => match object.get(layout.bytes.data..) {
                Some(part) => Table::Cut(part.into()),
                None => Table::Unknown,
            },
        };
        Self {
            filename: text(&record.filename_bytes, record.filename_copied),
            qualname: text(&record.qualname_bytes, record.qualname_copied),
            table,
            read_any: false,
        }
    }

    fn complete(&self) -> bool {
        self.filename.is_ok() && self.qualname.is_ok() && matches!(self.table, Table::Whole(_))
    }

    /// Reads what is missing from the process, before anyone knows whether it is still the same code object.
    fn read(&self, record: &NewCode, source: Source<'_>) -> Self {
        let Some(memory) = source.memory else {
            return Self {
                filename: Err(Missing::ProcessEnded),
                qualname: Err(Missing::ProcessEnded),
                table: Table::Unknown,
                read_any: false,
            };
        };
        let layout = source.layout;
        let text = |have: &Result<String, Missing>, address| match have {
            Ok(_) => Err(Missing::Unreadable),
            Err(_) => read_str(memory, address, &layout.string).map_err(reason),
        };
        let table = match &self.table {
            Table::Whole(_) => Table::Unknown,
            _ => read_bytes(memory, record.linetable, &layout.bytes)
                .map_or(Table::Unknown, |table| Table::Whole(table.into())),
        };
        Self {
            filename: text(&self.filename, record.filename),
            qualname: text(&self.qualname, record.qualname),
            table,
            read_any: true,
        }
    }

    /// Fills what is missing.
    fn take(&mut self, read: Self) {
        if self.filename.is_err() {
            self.filename = read.filename;
        }
        if self.qualname.is_err() {
            self.qualname = read.qualname;
        }
        if let (Table::Cut(_) | Table::Unknown, Table::Whole(_)) = (&self.table, &read.table) {
            self.table = read.table;
        }
    }

    /// Leaves what is missing missing.
    fn give_up(&mut self, why: Missing) {
        for name in [&mut self.filename, &mut self.qualname] {
            if name.is_err() {
                *name = Err(why);
            }
        }
    }
}

fn reason(error: ObjectError) -> Missing {
    match error {
        ObjectError::Read(_) => Missing::Unreadable,
        ObjectError::Cut { .. } | ObjectError::Malformed | ObjectError::TooLong { .. } => Missing::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use bytemuck::Zeroable as _;

    use super::*;
    use crate::python::layout::LAYOUTS;

    /// 3.12: text of ASCII strings at 40, data of bytes at 32.
    fn layout() -> &'static Layout {
        LAYOUTS.iter().find(|row| row.minor == 12).unwrap()
    }

    fn text(text: &str) -> Vec<u8> {
        let mut object = vec![0; 40];
        object[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
        object[32] = 1 << 2 | 1 << 5 | 1 << 6;
        object.extend(text.as_bytes());
        object
    }

    fn table(bytes: &[u8]) -> Vec<u8> {
        let mut object = vec![0; 32];
        object[16..24].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        object.extend(bytes);
        object
    }

    /// Two code units on the first line, two on the line after it.
    const TABLE: [u8; 6] = [0x80 | 10 << 3 | 1, 0, 0, 0x80 | 11 << 3 | 1, 0, 0];

    const FILENAME: u64 = 0x1000;
    const QUALNAME: u64 = 0x2000;
    const LINETABLE: u64 = 0x3000;

    /// The objects of one code object at their addresses.
    struct Objects;

    impl Memory for Objects {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let object = match address & !0xfff {
                FILENAME => text("/srv/app/main.py"),
                QUALNAME => text("Cache.put"),
                LINETABLE => table(&TABLE),
                _ => return Err(io::ErrorKind::NotFound.into()),
            };
            let start = usize::try_from(address & 0xfff).unwrap();
            let bytes = object.get(start..start + buffer.len());
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn record(serial: u64) -> NewCode {
        NewCode {
            serial,
            code: 0x9000,
            filename: FILENAME,
            qualname: QUALNAME,
            linetable: LINETABLE,
            firstlineno: 70,
            firsttraceable: 1,
            ..NewCode::zeroed()
        }
    }

    fn with_copies(mut record: NewCode) -> NewCode {
        let fill = |into: &mut [u8], object: Vec<u8>| into[..object.len()].copy_from_slice(&object);
        fill(&mut record.filename_bytes, text("/usr/lib/python3.12/json/decoder.py"));
        fill(&mut record.qualname_bytes, text("decode"));
        fill(&mut record.linetable_bytes, table(&TABLE));
        let copied = u32::try_from(profiler_common::STRING_COPY).unwrap();
        (record.filename_copied, record.qualname_copied) = (copied, copied);
        record.linetable_copied = 38;
        record
    }

    const ALIVE: Source<'static> = Source { layout: &LAYOUTS[4], memory: Some(&Objects) };

    #[test]
    fn complete_copies_need_no_reading() {
        assert_eq!(layout().minor, ALIVE.layout.minor);
        let mut table = CodeTable::default();
        let asked = Cell::new(false);
        table.insert(&with_copies(record(5)), ALIVE, || {
            asked.set(true);
            false
        });
        assert!(!asked.get() && table.contains(5));
        let frame = table.frame(5, Some(4)).unwrap();
        assert_eq!(frame.function.known(), Some("decode"));
        assert_eq!((frame.line, frame.first_line, frame.kind), (71, 70, FrameKind::Stdlib));
        assert_eq!(table.frame(5, None).unwrap().line, 70);
        assert_eq!(table.frame(5, Some(400)).unwrap().line, 0);
    }

    #[test]
    fn dead_code_is_forgotten_with_the_names_that_only_it_had() {
        let mut table = CodeTable::default();
        table.insert(&record(1), ALIVE, || true);
        table.insert(&with_copies(record(2)), ALIVE, || true);
        table.insert(&with_copies(record(3)), ALIVE, || true);
        assert_eq!((table.codes.len(), table.texts.len()), (2, 4));
        table.forget(&HashSet::from([1, 2]));
        assert_eq!((table.len(), table.codes.len(), table.distinct.len(), table.texts.len()), (1, 1, 1, 2));
        assert_eq!(table.frame(3, Some(4)).unwrap().function.known(), Some("decode"));
        assert_eq!(table.frame(1, Some(4)).unwrap().kind, FrameKind::Marker);
        table.insert(&with_copies(record(4)), ALIVE, || true);
        assert_eq!(table.codes.len(), 1);
    }

    #[test]
    fn what_was_not_copied_is_read_while_the_code_lives() {
        let mut table = CodeTable::default();
        table.insert(&record(6), ALIVE, || true);
        let frame = table.frame(6, Some(6)).unwrap();
        assert_eq!((frame.file.to_string().as_str(), frame.line), ("/srv/app/main.py", 71));
        assert_eq!((frame.function.known(), frame.kind), (Some("Cache.put"), FrameKind::Own));
    }

    #[test]
    fn what_was_read_from_a_dead_code_object_is_thrown_away() {
        let mut table = CodeTable::default();
        table.insert(&record(7), ALIVE, || false);
        let frame = table.frame(7, Some(6)).unwrap();
        assert_eq!(frame.function, Name::Unknown(Missing::Freed));
        assert_eq!((frame.line, frame.first_line, frame.kind), (0, 70, FrameKind::Marker));
        assert_eq!(frame.function.to_string(), "[unknown: code object freed before it could be read]");
        // What the kernel side copied was right when it was copied, and stays.
        let mut cut = with_copies(record(8));
        cut.linetable_copied = 35;
        table.insert(&cut, ALIVE, || false);
        let frame = table.frame(8, Some(2)).unwrap();
        assert_eq!((frame.function.known(), frame.line), (Some("decode"), 70));
        assert_eq!(table.frame(8, Some(4)).unwrap().line, 0);
    }

    #[test]
    fn says_why_a_name_is_missing() {
        let mut table = CodeTable::default();
        let ended = Source { memory: None, ..ALIVE };
        table.insert(&record(1), ended, || true);
        let unknown = |frame: Option<ResolvedFrame>| frame.unwrap().function;
        assert_eq!(unknown(table.frame(1, None)), Name::Unknown(Missing::ProcessEnded));
        let mut lost = record(2);
        lost.qualname = 0x7000;
        table.insert(&lost, ALIVE, || true);
        let frame = table.frame(2, None).unwrap();
        assert_eq!((frame.function, frame.kind), (Name::Unknown(Missing::Unreadable), FrameKind::Own));
        assert_eq!(unknown(table.frame(99, None)), Name::Unknown(Missing::NotRecorded));
    }

    #[test]
    fn the_interpreters_own_constructor_frame_is_dropped() {
        let mut table = CodeTable::default();
        let mut shim = record(3);
        (shim.firstlineno, shim.firsttraceable) = (0, 4);
        table.insert(&shim, ALIVE, || true);
        assert_eq!(table.frame(3, Some(0)), None);
        assert_eq!(table.frame(3, None), None);
        assert!(table.frame(3, Some(8)).is_some());
    }

    #[test]
    fn the_same_code_compiled_again_is_kept_once() {
        let mut table = CodeTable::default();
        (10..1000).for_each(|serial| table.insert(&record(serial), ALIVE, || true));
        assert_eq!((table.codes.len(), table.serials.len(), table.texts.len()), (1, 990, 2));
    }
}
