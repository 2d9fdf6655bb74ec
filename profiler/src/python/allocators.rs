//! CPython's allocators: its tables of functions, what stands in them, and where pymalloc opens a pool.
//!
//! Each of the domains raw, mem and obj has a table `PyMemAllocatorEx` {ctx, malloc, calloc, realloc, free}. The static
//! initialisers fill them, so they are good as soon as the loader is done, before `main`.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use crate::process::image::Image;
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// Bytes of an API function (`PyObject_Malloc`) that are searched for its table's address.
const MAX_WRAPPER: usize = 256;

/// Bytes of `_PyObject_Malloc` that are searched for its calls; 500 in the largest build seen.
const MAX_BODY: usize = 1024;

/// Hooks that may stand on top of each other: debug hooks, tracemalloc, memray.
const MAX_HOOKS: usize = 4;

/// From this size on `PyObject_Malloc` contains a copy of pymalloc: plain ones have 27 to 51 bytes, the others 247 to
/// 460 (3.8 to 3.15, 15 builds).
const INLINED_SIZE: u64 = 128;

/// An interpreter in a process.
#[derive(Clone, Copy, Debug)]
pub struct Interpreter<'a> {
    /// The file that defines `_PyRuntime`.
    pub image: &'a Image,
    /// The 11 of 3.11.
    pub minor: u8,
    /// Built without the GIL.
    pub free_threaded: bool,
    /// Address of `_PyRuntime` in the target.
    pub runtime: u64,
}

/// One domain's table, as it stands in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where it lies in the target.
    pub address: u64,
    /// The first argument of its functions; 0 for CPython's own allocators, the hooked table for its hooks.
    pub context: u64,
    /// The addresses of malloc, calloc, realloc and free.
    pub functions: [u64; 4],
}

impl Table {
    /// The domain's `malloc(context, size)`.
    pub const fn malloc(&self) -> u64 {
        self.functions[0]
    }

    /// The domain's `free(context, pointer)`.
    pub const fn free(&self) -> u64 {
        self.functions[3]
    }
}

/// What serves objects of up to 512 bytes, below any hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectAllocator {
    /// CPython's own, from pools.
    Pymalloc,
    /// The raw domain's, which is the C library: PYTHONMALLOC=malloc.
    CLibrary,
    /// Free-threaded builds, and PYTHONMALLOC=mimalloc since 3.13.
    Mimalloc,
    /// Functions that are none of these.
    Foreign,
}

/// The three domains of an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocators {
    /// `PyMem_Raw*`, below any hooks.
    pub raw: Table,
    /// `PyMem_*`, below any hooks.
    pub mem: Table,
    /// `PyObject_*`, below any hooks.
    pub object: Table,
    /// What the object domain is served by.
    pub object_allocator: ObjectAllocator,
    /// Who stands above the object domain, if anybody.
    pub hooks: Hooks,
}

/// Functions put in front of the object domain's allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// None.
    None,
    /// The interpreter's: PYTHONMALLOC=debug, -X dev, tracemalloc. The debug hooks make each block 24 to 32 bytes larger.
    Interpreter,
    /// Another file's: memray, a sanitizer. The address of its malloc.
    Foreign(u64),
}

/// The tables could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTables {
    /// No layout is known.
    #[error("the allocator tables of CPython 3.{0} are not known; known are 3.8 to 3.15")]
    Version(u8),
    /// What should be a table does not point to code.
    #[error("no table of allocator functions where {0} has its own")]
    NotATable(&'static str),
}

/// There is no function that opens pools, or it was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum NoPools {
    #[error(
        "CPython 3.{0} has no function that only opens pools: how many small objects are live is read from pymalloc's \
         arenas, and who made them is known by samples only"
    )]
    Version(u8),
    #[error("small objects come from the C library (PYTHONMALLOC=malloc) and are counted there")]
    CLibrary,
    #[error("small objects come from mimalloc, which has no pools: every call is counted instead")]
    Mimalloc,
    #[error("another allocator has replaced pymalloc: its small objects are not counted")]
    Foreign,
    #[error(
        "pymalloc's allocate_from_new_pool was not found in this build: how many small objects are live is read from its \
         arenas, and who made them is known by samples only"
    )]
    NotFound,
    #[error(transparent)]
    NoTables(#[from] NoTables),
}

impl Allocators {
    /// Reads the tables from the target.
    pub fn read(interpreter: &Interpreter<'_>, memory: &impl Memory, regions: &[Region]) -> Result<Self, NoTables> {
        let reader = Reader { memory, regions };
        let find = |domain| reader.find(interpreter, domain);
        let (outer_raw, outer_mem, outer_object) = (find(RAW)?, find(MEM)?, find(OBJECT)?);
        let [raw, mem, object] = [outer_raw, outer_mem, outer_object].map(|table| reader.unhooked(table));
        let hooks = match outer_object {
            outer if outer == object && object.context == 0 => Hooks::None,
            outer if interpreter.image.is_code(outer.malloc()) => Hooks::Interpreter,
            outer => Hooks::Foreign(outer.malloc()),
        };
        Ok(Self { raw, mem, object, object_allocator: object_allocator(interpreter, &raw, &mem, &object), hooks })
    }

    /// Address in the file's own terms of `allocate_from_new_pool`, which pymalloc calls once for each pool it opens
    /// (16 KiB; 4 KiB before 3.10), never inlined since 3.9 (bpo-37543).
    pub fn pool_open(&self, interpreter: &Interpreter<'_>) -> Result<u64, NoPools> {
        match self.object_allocator {
            ObjectAllocator::CLibrary => return Err(NoPools::CLibrary),
            ObjectAllocator::Mimalloc => return Err(NoPools::Mimalloc),
            ObjectAllocator::Foreign => return Err(NoPools::Foreign),
            // 3.8 has the whole of pymalloc out of line instead: one call for each object.
            ObjectAllocator::Pymalloc if interpreter.minor < 9 => return Err(NoPools::Version(interpreter.minor)),
            ObjectAllocator::Pymalloc => {}
        }
        let image = interpreter.image;
        let entry = image.vaddr_of(self.object.malloc()).ok_or(NoPools::NotFound)?;
        let length = self.body_length(image, entry);
        let body = image.bytes_at(entry).and_then(|bytes| bytes.get(..length.min(bytes.len())));
        first_inner_call(image, entry, body.unwrap_or_default()).ok_or(NoPools::NotFound)
    }

    /// The tables whose functions are mimalloc's, with the beginning of their functions' names. Their blocks never
    /// reach the C library.
    pub fn mimalloc_tables(&self, interpreter: &Interpreter<'_>) -> Vec<(&'static str, Table)> {
        if self.object_allocator != ObjectAllocator::Mimalloc {
            return Vec::new();
        }
        let mut tables = vec![("_PyMem_Mi", self.mem), ("_PyObject_Mi", self.object)];
        if interpreter.free_threaded && interpreter.minor >= RAW_MIMALLOC_MINOR {
            tables.push(("_PyMem_MiRaw", self.raw));
        }
        tables
    }

    /// Bytes of a function at most: it ends before the next known one begins.
    fn body_length(&self, image: &Image, entry: u64) -> usize {
        let neighbours = [self.raw, self.mem, self.object]
            .into_iter()
            .flat_map(|table| table.functions)
            .filter_map(|address| image.vaddr_of(address));
        let exported = image.exports().map(|(_, symbol)| symbol.vaddr);
        let next = neighbours.chain(exported).filter(|&vaddr| vaddr > entry).min();
        next.and_then(|next| usize::try_from(next - entry).ok()).map_or(MAX_BODY, |length| length.min(MAX_BODY))
    }
}

/// What mimalloc means for the reader of a report.
pub const MIMALLOC_NOTE: &str = "this python's objects come from mimalloc, which has no pools: every block is counted \
    at its call, small ones too, and tracing costs more for it";

/// Since this minor version the raw domain of free-threaded builds is mimalloc's too (`_PyMem_MiRawMalloc`).
const RAW_MIMALLOC_MINOR: u8 = 15;

/// Whether the build has pymalloc inlined into its callers, so that probes on the allocator's functions see next to
/// none of the small objects (GCC with a profile: Debian's python3, docker's official images).
pub fn inlines_pymalloc(image: &Image) -> bool {
    image.export("PyObject_Malloc").is_some_and(|symbol| symbol.size >= INLINED_SIZE)
}

/// What `inlines_pymalloc` means for the reader of a report.
pub const INLINED_NOTE: &str = "this python is a profile-optimised build that allocates small objects inside their \
    callers: blocks of up to 512 bytes are counted by the pools they open, larger ones each; how many small ones were made and \
    given back is not known (--exact-objects counts each)";

fn object_allocator(interpreter: &Interpreter<'_>, raw: &Table, mem: &Table, object: &Table) -> ObjectAllocator {
    let own = object.context == 0 && object.functions.iter().all(|&address| interpreter.image.is_code(address));
    match () {
        () if object.malloc() == raw.malloc() => ObjectAllocator::CLibrary,
        () if !own => ObjectAllocator::Foreign,
        () if interpreter.free_threaded => ObjectAllocator::Mimalloc,
        // pymalloc's functions serve both domains; mimalloc has a set for each.
        () if mem.malloc() == object.malloc() => ObjectAllocator::Pymalloc,
        () if interpreter.minor >= 13 => ObjectAllocator::Mimalloc,
        () => ObjectAllocator::Foreign,
    }
}

/// A domain: its place among the tables of `_PyRuntime`, and the API function that uses it.
#[derive(Clone, Copy)]
struct Domain {
    index: u64,
    wrapper: &'static str,
}

const RAW: Domain = Domain { index: 0, wrapper: "PyMem_RawMalloc" };
const MEM: Domain = Domain { index: 1, wrapper: "PyMem_Malloc" };
const OBJECT: Domain = Domain { index: 2, wrapper: "PyObject_Malloc" };

/// Bytes of a `PyMemAllocatorEx`.
const TABLE_SIZE: u64 = 40;

/// Offset in `_PyRuntime` of `allocators.standard.raw`; mem and obj follow. Before 3.12 the tables are static variables.
fn tables_in_runtime(minor: u8) -> Option<u64> {
    match minor {
        12 => Some(96),
        13 => Some(704),
        14 => Some(880),
        15 => Some(1008),
        _ => None,
    }
}

struct Reader<'a, M> {
    memory: &'a M,
    regions: &'a [Region],
}

impl<M: Memory> Reader<'_, M> {
    fn find(&self, interpreter: &Interpreter<'_>, domain: Domain) -> Result<Table, NoTables> {
        let table = match (interpreter.minor, tables_in_runtime(interpreter.minor)) {
            (_, Some(offset)) => self.table(interpreter.runtime.wrapping_add(offset + domain.index * TABLE_SIZE)),
            (8..=11, None) => self.table_used_by(interpreter.image, domain.wrapper),
            (minor, None) => return Err(NoTables::Version(minor)),
        };
        table.ok_or(NoTables::NotATable(domain.wrapper))
    }

    /// The table that an API function loads its malloc from: the first variable it reads that points to code.
    fn table_used_by(&self, image: &Image, wrapper: &str) -> Option<Table> {
        let vaddr = image.export(wrapper)?.vaddr;
        let bytes = image.bytes_at(vaddr)?;
        let bytes = bytes.get(..MAX_WRAPPER).unwrap_or(bytes);
        Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE)
            .iter()
            .take_while(|instruction| !instruction.is_invalid())
            .filter(reads_static_pointer)
            .map(|instruction| image.bias.wrapping_add(instruction.ip_rel_memory_address()))
            .find(|&slot| self.memory.u64(slot).is_ok_and(|pointer| self.is_code(pointer)))
            .and_then(|slot| self.table(slot.checked_sub(8)?))
    }

    /// A table, if its four functions lie in executable mappings.
    fn table(&self, address: u64) -> Option<Table> {
        let word = |index: u64| self.memory.u64(address.checked_add(index * 8)?).ok();
        let table = Table { address, context: word(0)?, functions: [word(1)?, word(2)?, word(3)?, word(4)?] };
        table.functions.iter().all(|&pointer| self.is_code(pointer)).then_some(table)
    }

    /// The table below hooks. Hooks keep what they replaced where their context points to: tracemalloc and memray the
    /// table itself, the debug hooks a letter and then the table (`debug_alloc_api_t`).
    fn unhooked(&self, outer: Table) -> Table {
        let mut table = outer;
        for _ in 0..MAX_HOOKS {
            let context = table.context;
            let inner = match context {
                0 => None,
                _ => self.table(context).or_else(|| self.table(context.checked_add(8)?)),
            };
            match inner {
                Some(inner) => table = inner,
                None => break,
            }
        }
        table
    }

    fn is_code(&self, address: u64) -> bool {
        let after = self.regions.partition_point(|region| region.end <= address);
        self.regions.get(after).is_some_and(|region| region.start <= address && region.permissions.execute)
    }
}

/// `mov r64, [rip + x]`, `jmp [rip + x]`, `call [rip + x]`, `cmp [rip + x], ..`: a use of a static pointer variable.
fn reads_static_pointer(instruction: &Instruction) -> bool {
    let code = instruction.code();
    instruction.is_ip_rel_memory_operand() && matches!(code, Code::Mov_r64_rm64 | Code::Jmp_rm64 | Code::Call_rm64)
}

/// The target of the first call of a function that neither leaves the file nor is exported: in `_PyObject_Malloc` that
/// is `allocate_from_new_pool` (15 of 15 builds of 3.9 to 3.15); its other callees are the C library's or API functions.
fn first_inner_call(image: &Image, entry: u64, body: &[u8]) -> Option<u64> {
    Decoder::with_ip(64, body, entry, DecoderOptions::NONE)
        .iter()
        .take_while(|instruction| !instruction.is_invalid())
        .filter(|instruction| instruction.flow_control() == FlowControl::Call)
        .filter(|instruction| instruction.op0_kind() == OpKind::NearBranch64)
        .map(|instruction| instruction.near_branch_target())
        .find(|&target| !image.exports().any(|(_, symbol)| symbol.vaddr == target) && !leaves_file(image, target))
        .filter(|&target| target != entry && image.is_code(image.bias.wrapping_add(target)))
}

/// Whether the code at `vaddr` is an entry of the procedure linkage table: a jump through a pointer, perhaps after a
/// landing pad. Told by the code and not by the section's name, as a file may have lost its sections.
fn leaves_file(image: &Image, vaddr: u64) -> bool {
    let bytes = image.bytes_at(vaddr).unwrap_or_default();
    Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE)
        .iter()
        .find(|instruction| instruction.mnemonic() != Mnemonic::Endbr64)
        .is_some_and(|instruction| instruction.code() == Code::Jmp_rm64 && instruction.is_ip_rel_memory_operand())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::running::{Running, interpreters};

    fn is_pool_open(running: &Running, vaddr: u64) -> Option<bool> {
        let name = running.symbol_at(vaddr)?;
        Some(name == "allocate_from_new_pool" || name.starts_with("allocate_from_new_pool."))
    }

    #[test]
    fn finds_where_every_interpreter_at_hand_opens_pools() {
        for program in interpreters() {
            let running = Running::start(&program, &[]);
            let interpreter = running.interpreter();
            let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
            assert_eq!(allocators.object_allocator, ObjectAllocator::Pymalloc, "{program:?}");
            assert_eq!(allocators.hooks, Hooks::None, "{program:?}");
            let open = allocators.pool_open(&interpreter);
            if interpreter.minor == 8 {
                assert_eq!(open, Err(NoPools::Version(8)));
                continue;
            }
            let vaddr = open.unwrap();
            let named = is_pool_open(&running, vaddr);
            println!("{}: allocate_from_new_pool {vaddr:#x}, by name: {named:?}", program.display());
            assert_ne!(named, Some(false), "{program:?} {vaddr:#x}");
            assert!(named.is_some() || program.starts_with("/usr/bin"), "{program:?} has no symbols");
        }
    }

    #[test]
    fn looks_below_hooks() {
        for program in interpreters() {
            let plain = Running::start(&program, &[]);
            let vaddr = |running: &Running| {
                let interpreter = running.interpreter();
                let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
                (allocators.hooks, allocators.pool_open(&interpreter))
            };
            let expected = vaddr(&plain).1;
            let debug = Running::start(&program, &[("PYTHONMALLOC", "debug")]);
            assert_eq!(vaddr(&debug), (Hooks::Interpreter, expected), "{program:?} debug");
            let traced = Running::start(&program, &[("PYTHONMALLOC", "debug"), ("PYTHONTRACEMALLOC", "1")]);
            assert_eq!(vaddr(&traced), (Hooks::Interpreter, expected), "{program:?} tracemalloc");
            let malloc = Running::start(&program, &[("PYTHONMALLOC", "malloc")]);
            assert_eq!(vaddr(&malloc), (Hooks::None, Err(NoPools::CLibrary)), "{program:?} malloc");
            if plain.interpreter().minor >= 13 {
                let mimalloc = Running::start(&program, &[("PYTHONMALLOC", "mimalloc")]);
                let found = vaddr(&mimalloc);
                assert_eq!(found, (Hooks::None, Err(NoPools::Mimalloc)), "{program:?} mimalloc");
            }
        }
    }

    #[test]
    fn knows_the_builds_that_inline_pymalloc() {
        for program in interpreters() {
            let running = Running::start(&program, &[]);
            let expected = program.starts_with("/usr/bin");
            assert_eq!(inlines_pymalloc(running.interpreter().image), expected, "{program:?}");
        }
    }
}
