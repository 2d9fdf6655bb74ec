//! Offsets of the few kernel fields the programs read, from the running kernel's type information.
//!
//! Format: Documentation/bpf/btf.rst. aya's parser keeps struct members to itself, hence this small one.

use std::fs;

use aya::{Btf, Endianness};

use super::KernelError;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Byte offsets in kernel structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.thread.fsbase`.
    pub fsbase: u64,
    /// `task_struct.exit_code`.
    pub exit_code: u64,
    /// `task_struct.tgid`.
    pub tgid: u64,
    /// `task_struct.mm`.
    pub mm: u64,
    /// `task_struct.pagefault_disabled`.
    pub pagefault_disabled: u64,
    /// `task_struct.se.sum_exec_runtime`.
    pub runtime: u64,
    /// `task_struct.signal`.
    pub signal: u64,
    /// `signal_struct.live`.
    pub live: u64,
    /// The count of `mm_struct.rss_stat[0]`, and bytes from one to the next: 0 before Linux 6.2, which kept them
    /// otherwise.
    pub rss: u64,
    /// See `rss`.
    pub rss_stride: u64,
}

/// Byte offsets on the way from a task to its id in a pid namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidOffsets {
    /// `task_struct.group_leader`.
    pub group_leader: u64,
    /// `task_struct.thread_pid`.
    pub thread_pid: u64,
    /// `pid.level`.
    pub level: u64,
    /// `pid.numbers`.
    pub numbers: u64,
    /// `pid_namespace.ns.inum`.
    pub inum: u64,
}

/// The running kernel's type information. Read once: its megabytes come in pieces of a page.
pub struct Vmlinux {
    bytes: Vec<u8>,
}

impl Vmlinux {
    /// Reads it.
    pub fn read() -> Result<Self, KernelError> {
        let bytes = fs::read(VMLINUX).map_err(|error| KernelError::NoBtf(error.to_string()))?;
        Ok(Self { bytes })
    }

    /// For aya, which looks up tracepoints in it.
    pub fn parse(&self) -> Result<Btf, KernelError> {
        Btf::parse(&self.bytes, Endianness::default()).map_err(|error| KernelError::NoBtf(error.to_string()))
    }

    /// The kernel's offsets.
    pub fn offsets(&self) -> Result<Offsets, KernelError> {
        let types = self.types()?;
        let field = |structure, member, name| types.member(structure, member).ok_or(KernelError::MissingField(name));
        let thread = field("task_struct", "thread", "task_struct.thread")?;
        let fsbase = field("thread_struct", "fsbase", "thread_struct.fsbase")?;
        let exit_code = field("task_struct", "exit_code", "task_struct.exit_code")?;
        let tgid = field("task_struct", "tgid", "task_struct.tgid")?;
        let mm = field("task_struct", "mm", "task_struct.mm")?;
        let pagefault_disabled = field("task_struct", "pagefault_disabled", "task_struct.pagefault_disabled")?;
        let entity = field("task_struct", "se", "task_struct.se")?;
        let runtime = entity + field("sched_entity", "sum_exec_runtime", "sched_entity.sum_exec_runtime")?;
        let signal = field("task_struct", "signal", "task_struct.signal")?;
        let live = field("signal_struct", "live", "signal_struct.live")?;
        let counter = types.member("percpu_counter", "count").zip(types.size("percpu_counter"));
        let counters = types.member("mm_struct", "rss_stat").filter(|_| types.size("mm_rss_stat").is_none());
        let (rss, rss_stride) = match (counters, counter) {
            (Some(first), Some((count, stride))) => (first + count, stride),
            _ => (0, 0),
        };
        let fsbase = thread + fsbase;
        Ok(Offsets { fsbase, exit_code, tgid, mm, pagefault_disabled, runtime, signal, live, rss, rss_stride })
    }

    /// What is needed where pyalloc runs in a container's pid namespace.
    pub fn pid_offsets(&self) -> Result<PidOffsets, KernelError> {
        let types = self.types()?;
        let field = |structure, member, name| types.member(structure, member).ok_or(KernelError::MissingField(name));
        let namespace = field("pid_namespace", "ns", "pid_namespace.ns")?;
        Ok(PidOffsets {
            group_leader: field("task_struct", "group_leader", "task_struct.group_leader")?,
            thread_pid: field("task_struct", "thread_pid", "task_struct.thread_pid")?,
            level: field("pid", "level", "pid.level")?,
            numbers: field("pid", "numbers", "pid.numbers")?,
            inum: namespace + field("ns_common", "inum", "ns_common.inum")?,
        })
    }

    fn types(&self) -> Result<Types<'_>, KernelError> {
        Types::parse(&self.bytes).ok_or_else(|| KernelError::NoBtf("not in a format we read".to_owned()))
    }

    /// The id of a kernel function, for calls of kfuncs.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        let types = Types::parse(&self.bytes)?;
        let mut id = 0;
        types.find(|kind| {
            id += 1;
            (kind.kind == KIND_FUNC && types.name(kind.name) == name.as_bytes()).then_some(id)
        })
    }
}

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Nameless structs inside nameless structs that are looked into.
const MOST_NESTED: u32 = 3;

struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

struct Type<'a> {
    kind: u32,
    name: u32,
    /// Bit fields in use: member offsets then hold a size in their upper 8 bits.
    kind_flag: bool,
    /// Bytes of a structure; of other kinds a type.
    size: u32,
    /// What follows the 12 bytes common to all types.
    body: &'a [u8],
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != [0x9f, 0xeb] {
            return None;
        }
        let base = word(bytes, 4)? as usize;
        let part = |offset: usize| {
            let start = base + word(bytes, offset)? as usize;
            bytes.get(start..start + word(bytes, offset + 4)? as usize)
        };
        Some(Self { types: part(8)?, strings: part(16)? })
    }

    /// The first answer of `pick` over all types in order of their ids, the first of which is 1.
    fn find<T>(&self, mut pick: impl FnMut(&Type<'a>) -> Option<T>) -> Option<T> {
        let mut rest = self.types;
        while !rest.is_empty() {
            let info = word(rest, 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let length = match kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                _ => 0,
            };
            let body = rest.get(12..12 + length)?;
            let found =
                pick(&Type { kind, name: word(rest, 0)?, kind_flag: info >> 31 == 1, size: word(rest, 8)?, body });
            if found.is_some() {
                return found;
            }
            rest = &rest[12 + length..];
        }
        None
    }

    /// Byte offset of a struct's member, also of one that stands in nameless structs within it.
    fn member(&self, structure: &str, member: &str) -> Option<u64> {
        let named = |kind: &Type<'a>| kind.kind == KIND_STRUCT && self.name(kind.name) == structure.as_bytes();
        self.find(|kind| named(kind).then(|| self.member_of(kind.body, kind.kind_flag, member, MOST_NESTED))?)
    }

    fn member_of(&self, body: &[u8], kind_flag: bool, member: &str, nested: u32) -> Option<u64> {
        let offset = |entry: &[u8]| {
            let bits = word(entry, 8)?;
            Some(u64::from(if kind_flag { bits & 0xff_ffff } else { bits }) / 8)
        };
        let entries = || body.chunks_exact(12);
        let direct = entries().find(|entry| word(entry, 0).is_some_and(|name| self.name(name) == member.as_bytes()));
        if let Some(entry) = direct {
            return offset(entry);
        }
        let nameless = entries().filter(|entry| nested > 0 && word(entry, 0) == Some(0));
        nameless
            .filter_map(|entry| {
                let inner = self.by_id(word(entry, 4)?)?;
                let composite = matches!(inner.kind, KIND_STRUCT | KIND_UNION);
                let within = composite.then(|| self.member_of(inner.body, inner.kind_flag, member, nested - 1))??;
                Some(offset(entry)? + within)
            })
            .next()
    }

    /// Bytes of a struct.
    fn size(&self, structure: &str) -> Option<u64> {
        let named = |kind: &Type<'a>| kind.kind == KIND_STRUCT && self.name(kind.name) == structure.as_bytes();
        self.find(|kind| named(kind).then_some(u64::from(kind.size)))
    }

    fn by_id(&self, id: u32) -> Option<Type<'a>> {
        let mut left = id;
        self.find(|kind| {
            left = left.checked_sub(1)?;
            (left == 0).then_some(Type { ..*kind })
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_fields_on_this_kernel() {
        let kernel = Vmlinux::read().unwrap();
        let offsets = kernel.offsets().unwrap();
        assert!(offsets.fsbase > 0 && offsets.fsbase.is_multiple_of(8));
        assert!(offsets.exit_code > 0 && offsets.exit_code.is_multiple_of(4));
        let pid = kernel.pid_offsets().unwrap();
        assert!(pid.group_leader > 0 && pid.thread_pid > 0 && pid.level > 0 && pid.numbers > pid.level && pid.inum > 0);
        assert!(offsets.live < 4096 && offsets.live.is_multiple_of(4));
        assert!(offsets.rss_stride == 0 || offsets.rss > 0);
        assert!(kernel.function_id("schedule").is_some());
        assert!(kernel.function_id("there_is_no_such_function").is_none());
    }

    #[test]
    fn survives_any_bytes() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let mut bytes = bytes;
            bytes.splice(0..0, [0x9f, 0xeb, 1, 0, 24, 0, 0, 0]);
            if let Some(types) = Types::parse(&bytes) {
                let _ = types.member("task_struct", "thread");
            }
        });
    }
}
