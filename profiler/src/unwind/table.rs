//! An image's unwinding table, compiled from its `.eh_frame`.
//!
//! Only what compilers emit is expressed (see [`Rule::of`]); a row of another form ends the walk there, and is
//! counted. Format: LSB Core 5.0, 10.6 "Exception Frames"; DWARF 5, 6.4.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry, LittleEndian, Operation,
    Pointer, RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _, UnwindTableRow, X86_64,
};
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _};
use profiler_common::unwind::{ROW_STEPS, Row, cfa, rbp};

use crate::process::image::Image;

/// Most rows of one image: what the kernel side's binary search can tell apart.
pub const MAX_ROWS: usize = (1 << ROW_STEPS) - 1;

/// A hole between two functions shorter than this is padding, not code without information: functions are aligned
/// to 16 bytes.
const PADDING: u64 = 16;

/// The function that runs Python code. Exported by every build from CPython 3.6 on.
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";

/// Why an image has no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// It has no unwinding information.
    #[error("it has no .eh_frame")]
    NoEhFrame,
    /// It cannot be parsed.
    #[error("its .eh_frame cannot be read: {0}")]
    Malformed(String),
    /// It is too large.
    #[error("its table would have {0} rows; the limit is {MAX_ROWS}")]
    TooManyRows(usize),
    /// Its code spans more than 4 GiB.
    #[error("its code spans more than 4 GiB")]
    TooFar,
    /// The tables of other images have taken the room.
    #[error("the tables of other images have taken the room there is")]
    NoRoom,
    /// The file cannot be opened.
    #[error("{0}")]
    Unreadable(String),
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The vaddr that the rows' `pc` counts from.
    pub base: u64,
    /// Sorted by `pc`; the first has 0.
    pub rows: Vec<Row>,
    /// Rows of a form that cannot be expressed.
    pub unsupported: usize,
}

impl Table {
    /// Compiles the table of an image.
    pub fn build(image: &Image) -> Result<Self, NoTable> {
        let (address, bytes) = eh_frame(image)?;
        let mut functions = functions(address, bytes)?;
        mark_evaluator(image, &mut functions);
        let code = image.segments.iter().filter(|segment| segment.execute);
        let first_code = code.map(|segment| segment.vaddr).min().unwrap_or(0);
        let mut spans: Vec<Span> = functions.into_iter().flat_map(|function| function.spans).collect();
        spans.sort_unstable_by_key(|span| span.start);
        Self::flatten(first_code, &spans)
    }

    /// The row that holds for a vaddr.
    pub fn row(&self, vaddr: u64) -> Option<Row> {
        let pc = u32::try_from(vaddr.checked_sub(self.base)?).ok()?;
        let after = self.rows.partition_point(|row| row.pc <= pc);
        Some(self.rows[after.checked_sub(1)?])
    }

    /// Rows from sorted spans: holes become rows without information, equal neighbours one row.
    fn flatten(first_code: u64, spans: &[Span]) -> Result<Self, NoTable> {
        let base = spans.first().map_or(first_code, |span| span.start.min(first_code));
        let last = spans.iter().map(|span| span.end).max().unwrap_or(base);
        if u32::try_from(last - base).is_err() {
            return Err(NoTable::TooFar);
        }
        let mut rows: Vec<Row> = Vec::with_capacity(spans.len());
        let mut push = |vaddr: u64, rule: Rule| {
            let pc = (vaddr - base) as u32;
            if rows.last().is_none_or(|row| Rule::from(*row) != rule) {
                rows.push(rule.at(pc));
            }
        };
        let mut end = base;
        for span in spans {
            let start = span.start.max(end);
            if start >= span.end {
                continue;
            }
            if start - end >= PADDING || (end == base && start > end) {
                push(end, Rule::NONE);
            }
            push(start, span.rule);
            end = span.end;
        }
        push(end, Rule::NONE);
        if rows.len() > MAX_ROWS {
            return Err(NoTable::TooManyRows(rows.len()));
        }
        let unsupported = rows.iter().filter(|row| row.cfa == cfa::UNSUPPORTED).count();
        Ok(Self { base, rows, unsupported })
    }
}

/// What a row says, without where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    cfa: u8,
    cfa_offset: i16,
    rbp: i8,
}

impl From<Row> for Rule {
    fn from(row: Row) -> Self {
        Self { cfa: row.cfa, cfa_offset: row.cfa_offset, rbp: row.rbp }
    }
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Section<'a> = EhFrame<Slice<'a>>;

impl Rule {
    const NONE: Self = Self::only(cfa::NONE);
    const UNSUPPORTED: Self = Self::only(cfa::UNSUPPORTED);
    /// At a function's first instruction only the return address is on the stack.
    const ENTRY: Self = Self { cfa: cfa::RSP, cfa_offset: 1, rbp: rbp::SAME };

    const fn only(kind: u8) -> Self {
        Self { cfa: kind, cfa_offset: 0, rbp: rbp::SAME }
    }

    fn at(self, pc: u32) -> Row {
        Row { pc, cfa_offset: self.cfa_offset, cfa: self.cfa, rbp: self.rbp }
    }

    /// Supported: CFA = rsp + n, rbp + n, or *(rbp + n), with the return address below it.
    ///
    /// Of the rules left out, that of a PLT entry is common, but no PLT entry is ever found on a stack: it jumps.
    fn of(row: &UnwindTableRow<usize>, function: &Function<'_>) -> Self {
        match row.register(X86_64::RA) {
            Some(RegisterRule::Offset(-8)) => {}
            Some(RegisterRule::Undefined) => return Self::only(cfa::END),
            _ => return Self::UNSUPPORTED,
        }
        let (kind, offset) = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RSP => (cfa::RSP, *offset),
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RBP => (cfa::RBP, *offset),
            CfaRule::RegisterAndOffset { .. } => return Self::UNSUPPORTED,
            CfaRule::Expression(expression) => match function.rbp_offset(expression) {
                Some((offset, true)) => (cfa::AT_RBP, offset),
                _ => return Self::UNSUPPORTED,
            },
        };
        let Some(cfa_offset) = eighths(offset).and_then(|offset| i16::try_from(offset).ok()) else {
            return Self::UNSUPPORTED;
        };
        let rbp = match row.register(X86_64::RBP) {
            None | Some(RegisterRule::SameValue) => rbp::SAME,
            Some(RegisterRule::Offset(offset)) if offset < 0 => {
                eighths(offset).and_then(|offset| i8::try_from(offset).ok()).unwrap_or(rbp::UNDEFINED)
            }
            Some(RegisterRule::Expression(expression)) if function.rbp_offset(&expression) == Some((0, false)) => {
                rbp::AT_RBP
            }
            // Lost, but callers that address their frame by rsp do not need it.
            _ => rbp::UNDEFINED,
        };
        Self { cfa: kind, cfa_offset, rbp }
    }
}

/// A byte offset in units of 8 bytes.
fn eighths(offset: i64) -> Option<i64> {
    (offset % 8 == 0).then_some(offset / 8)
}

/// A rule and the vaddrs it holds for.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
    rule: Rule,
}

/// One entry of `.eh_frame`.
struct Function<'a> {
    section: Section<'a>,
    entry: FrameDescriptionEntry<Slice<'a>>,
    spans: Vec<Span>,
}

impl Function<'_> {
    /// Evaluates the rows; an entry that cannot be read is unsupported as a whole.
    fn evaluate(&mut self, bases: &BaseAddresses, context: &mut UnwindContext<usize>) {
        let mut spans = Vec::new();
        let mut add_all = || -> gimli::Result<()> {
            let mut table = self.entry.rows(&self.section, bases, context)?;
            while let Some(row) = table.next_row()? {
                spans.push(Span { start: row.start_address(), end: row.end_address(), rule: Rule::of(row, self) });
            }
            Ok(())
        };
        if add_all().is_err() {
            spans = vec![self.whole(Rule::UNSUPPORTED)];
        }
        self.spans = spans;
    }

    fn whole(&self, rule: Rule) -> Span {
        Span { start: self.entry.initial_address(), end: self.entry.end_address(), rule }
    }

    /// The offset of an expression `rbp + offset`, and whether it is then dereferenced; `None` for any other.
    fn rbp_offset(&self, expression: &UnwindExpression<usize>) -> Option<(i64, bool)> {
        let expression = expression.get(&self.section).ok()?;
        let mut operations = expression.operations(self.entry.cie().encoding());
        let Some(Operation::RegisterOffset { register, offset, .. }) = operations.next().ok()? else {
            return None;
        };
        let dereferenced = match operations.next().ok()? {
            None => false,
            Some(Operation::Deref { size: 8, .. }) if operations.next().ok()?.is_none() => true,
            _ => return None,
        };
        (register == X86_64::RBP).then_some((offset, dereferenced))
    }
}

/// All functions of a section.
fn functions(address: u64, bytes: &[u8]) -> Result<Vec<Function<'_>>, NoTable> {
    let malformed = |error: gimli::Error| NoTable::Malformed(error.to_string());
    let section = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut context = UnwindContext::new();
    let mut functions = Vec::new();
    let mut entries = section.entries(&bases);
    while let Some(entry) = entries.next().map_err(malformed)? {
        let CieOrFde::Fde(partial) = entry else { continue };
        let entry = partial.parse(EhFrame::cie_from_offset).map_err(malformed)?;
        // The linker leaves entries of functions that it dropped, with length or address 0.
        if entry.len() == 0 || entry.initial_address() == 0 {
            continue;
        }
        let mut function = Function { section, entry, spans: Vec::new() };
        function.evaluate(&bases, &mut context);
        functions.push(function);
    }
    Ok(functions)
}

/// Vaddr and bytes of `.eh_frame`: by the section table, else by the program header of its index.
fn eh_frame(image: &Image) -> Result<(u64, &[u8]), NoTable> {
    let malformed = |reason: String| NoTable::Malformed(reason);
    let elf = ElfFile64::<Endianness>::parse(&*image.data).map_err(|error| malformed(error.to_string()))?;
    if let Some(section) = elf.section_by_name(".eh_frame") {
        let bytes = section.data().map_err(|error| malformed(error.to_string()))?;
        if !bytes.is_empty() {
            return Ok((section.address(), bytes));
        }
    }
    let endian = elf.endian();
    let index = elf
        .elf_program_headers()
        .iter()
        .find(|header| header.p_type(endian) == PT_GNU_EH_FRAME)
        .ok_or(NoTable::NoEhFrame)?
        .p_vaddr(endian);
    let bytes = image.bytes_at(index).ok_or(NoTable::NoEhFrame)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(index);
    let header = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, 8).map_err(|error| malformed(error.to_string()))?;
    let Pointer::Direct(address) = header.eh_frame_ptr() else {
        return Err(NoTable::NoEhFrame);
    };
    // To the segment's end: the section ends with an entry of length 0.
    Ok((address, image.bytes_at(address).ok_or(NoTable::NoEhFrame)?))
}

/// Marks Python's evaluation loop, with the cold part that the compiler may have moved elsewhere.
fn mark_evaluator(image: &Image, functions: &mut [Function<'_>]) {
    let Some(symbol) = image.export(EVALUATOR) else { return };
    let Some(hot) = functions.iter().position(|function| function.entry.contains(symbol.vaddr)) else {
        return;
    };
    let hot_span = functions[hot].whole(Rule::only(cfa::EVALUATOR));
    functions[hot].spans = vec![hot_span];
    let mut targets = outside_targets(image, &hot_span);
    targets.sort_unstable();
    for function in functions {
        let span = function.whole(Rule::only(cfa::EVALUATOR));
        // A jump to another function is a tail call, and that one starts with nothing but a return address.
        let is_part = function.spans.first().is_some_and(|first| first.rule != Rule::ENTRY);
        let first_target = targets.partition_point(|&target| target < span.start);
        if is_part && targets.get(first_target).is_some_and(|&target| target < span.end) {
            function.spans = vec![span];
        }
    }
}

/// Where direct jumps in a function go that leave it.
fn outside_targets(image: &Image, function: &Span) -> Vec<u64> {
    let Some(bytes) = image.bytes_at(function.start) else {
        return Vec::new();
    };
    let length = usize::try_from(function.end - function.start).unwrap_or(usize::MAX);
    let bytes = &bytes[..length.min(bytes.len())];
    Decoder::with_ip(64, bytes, function.start, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| {
            matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
        })
        .map(|instruction| instruction.near_branch_target())
        .filter(|target| !(function.start..function.end).contains(target))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Pid, maps};

    fn own_image(prefix: &str) -> Image {
        let pid = Pid(std::process::id());
        let regions = maps::read(pid).unwrap();
        let images = Image::all(pid, &regions);
        images.into_iter().find(|image| image.file_name().starts_with(prefix)).unwrap()
    }

    #[test]
    fn every_exported_function_of_libc_starts_with_only_its_return_address_on_the_stack() {
        let libc = own_image("libc.so");
        let table = Table::build(&libc).unwrap();
        let (mut right, mut other) = (0, Vec::new());
        for (name, symbol) in libc.exports() {
            if symbol.size == 0 || !libc.is_code(symbol.vaddr.wrapping_add(libc.bias)) {
                continue;
            }
            match table.row(symbol.vaddr).map(Rule::from) {
                Some(Rule::ENTRY) => right += 1,
                rule => other.push((name, rule)),
            }
        }
        println!("{right} right, others: {other:?}");
        assert!(right > 1500);
        assert!(
            other.iter().all(|(_, rule)| *rule == Some(Rule::NONE)),
            "only hand-written code may lack information: {other:?}"
        );
        assert!(other.len() < right / 100);
    }

    #[test]
    fn rows_are_sorted_cover_everything_and_differ_from_their_neighbours() {
        let table = Table::build(&own_image("libc.so")).unwrap();
        assert_eq!(table.rows[0].pc, 0);
        for pair in table.rows.windows(2) {
            assert!(pair[0].pc < pair[1].pc);
            assert_ne!(Rule::from(pair[0]), Rule::from(pair[1]));
        }
    }

    #[test]
    fn holes_have_no_information_but_padding_has_its_neighbours() {
        let span = |start, end| Span { start, end, rule: Rule::ENTRY };
        let table = Table::flatten(100, &[span(110, 120), span(125, 130), span(200, 210)]).unwrap();
        let kinds: Vec<(u32, u8)> = table.rows.iter().map(|row| (row.pc, row.cfa)).collect();
        let expected = [(0, cfa::NONE), (10, cfa::RSP), (30, cfa::NONE), (100, cfa::RSP), (110, cfa::NONE)];
        assert_eq!(kinds, expected);
        assert_eq!(table.row(99), None);
        assert_eq!(table.row(u64::MAX), None);
    }

    #[test]
    fn survives_any_bytes() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let _ = functions(0x1000, &bytes);
        });
    }
}
