//! The probes' programs, loaded beside aya: it cannot ask for uprobe_multi or for sessions.
//!
//! The same object is parsed a second time and its probe programs are relocated against the maps that aya made.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use aya_obj::Object;
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::bpf_insn;

use super::btf::Vmlinux;
use super::links::LinkKind;
use super::{KernelError, sys};

/// The address that `profiler-ebpf/src/probe.rs` calls for `bpf_session_is_return`.
const SESSION_IS_RETURN: i32 = 0x7000_0001;
const CALL: u8 = 0x85;
const PSEUDO_KFUNC_CALL: u8 = 2;

/// The loaded probe programs.
pub enum Programs {
    /// One program for entry and return, one for functions whose return does not matter.
    Session {
        /// Entry and return.
        session: OwnedFd,
        /// Entry only.
        entry: OwnedFd,
    },
    /// Two programs, linked by uprobe_multi.
    Multi {
        /// Entry.
        entry: OwnedFd,
        /// Return.
        returns: OwnedFd,
    },
    /// aya's own programs, linked by perf events: their names.
    Perf {
        /// Entry.
        entry: &'static str,
        /// Return.
        returns: &'static str,
    },
}

/// The programs for one kind of link.
pub struct Loaded {
    /// The probes'.
    pub probes: Programs,
    /// Programs that do nothing, to learn what a hit costs.
    pub idle: Programs,
}

const PERF: Programs = Programs::Perf { entry: "probe_entry", returns: "probe_return" };

impl Programs {
    /// Loads the programs for a kind of link, or for the best the kernel has.
    pub fn load(
        object: &[u8],
        maps: &HashMap<String, RawFd>,
        btf: &Vmlinux,
        wanted: Option<LinkKind>,
    ) -> Result<Loaded, KernelError> {
        let relocated = Relocated::new(object, maps, btf)?;
        let probes = match wanted {
            Some(LinkKind::Session) => relocated.sessions()?,
            Some(LinkKind::Multi) => relocated.multi()?,
            Some(LinkKind::Perf) => PERF,
            None => relocated.sessions().or_else(|_| relocated.multi()).unwrap_or(PERF),
        };
        let idle = relocated.idle(probes.kind())?;
        Ok(Loaded { probes, idle })
    }

    /// The kind of link they are for.
    pub fn kind(&self) -> LinkKind {
        match self {
            Self::Session { .. } => LinkKind::Session,
            Self::Multi { .. } => LinkKind::Multi,
            Self::Perf { .. } => LinkKind::Perf,
        }
    }
}

struct Relocated<'a> {
    object: Object,
    kernel: &'a Vmlinux,
    /// The object's own type information, loaded. Without it the verifier takes every function for a static one and
    /// checks it anew at each call.
    types: Option<OwnedFd>,
}

impl<'a> Relocated<'a> {
    fn new(bytes: &[u8], maps: &HashMap<String, RawFd>, kernel: &'a Vmlinux) -> Result<Self, KernelError> {
        let failed = |reason: String| KernelError::Refused { what: "the probe programs".to_owned(), reason };
        let mut object = Object::parse(bytes).map_err(|error| failed(error.to_string()))?;
        let definitions = object.maps.clone();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let known = definitions.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
        object.relocate_maps(known, &text).map_err(|error| failed(error.to_string()))?;
        object.relocate_calls(&text).map_err(|error| failed(error.to_string()))?;
        // All kernels with uprobe_multi know all of it.
        let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let types = object.fixup_and_sanitize_btf(&features).map_err(|error| failed(error.to_string()))?;
        let types = types.and_then(|types| sys::load_types(&types.to_bytes()).ok());
        Ok(Self { object, kernel, types })
    }

    fn sessions(&self) -> Result<Programs, KernelError> {
        let session = self.load("probe_session", sys::UPROBE_SESSION)?;
        // The program type alone proves little: kernels know the kfunc from kprobe sessions (6.10).
        probe_self(session.as_fd(), sys::UPROBE_SESSION)?;
        Ok(Programs::Session { session, entry: self.load("probe_entry", sys::UPROBE_MULTI)? })
    }

    fn multi(&self) -> Result<Programs, KernelError> {
        let entry = self.load("probe_entry", sys::UPROBE_MULTI)?;
        probe_self(entry.as_fd(), sys::UPROBE_MULTI)?;
        Ok(Programs::Multi { entry, returns: self.load("probe_return", sys::UPROBE_MULTI)? })
    }

    fn idle(&self, kind: LinkKind) -> Result<Programs, KernelError> {
        const ENTRY: &str = "idle_entry";
        const RETURN: &str = "idle_return";
        Ok(match kind {
            LinkKind::Session => Programs::Session {
                session: self.load(ENTRY, sys::UPROBE_SESSION)?,
                entry: self.load(ENTRY, sys::UPROBE_MULTI)?,
            },
            LinkKind::Multi => Programs::Multi {
                entry: self.load(ENTRY, sys::UPROBE_MULTI)?,
                returns: self.load(RETURN, sys::UPROBE_MULTI)?,
            },
            LinkKind::Perf => Programs::Perf { entry: ENTRY, returns: RETURN },
        })
    }

    fn load(&self, name: &str, attach_type: u32) -> Result<OwnedFd, KernelError> {
        let refused = |reason: String| KernelError::Refused { what: format!("the program {name}"), reason };
        let program = self.object.programs.get(name).ok_or_else(|| refused("it is not in the object".to_owned()))?;
        let function = &self.object.functions[&program.function_key()];
        let mut instructions = function.instructions.clone();
        resolve_kernel_functions(&mut instructions, self.kernel)?;
        let c_name = CString::new(name).unwrap_or_default();
        let records = function.func_info.func_info_bytes();
        let types = self.types.as_ref().map(|types| sys::FunctionTypes {
            types: types.as_fd(),
            records: &records,
            record_size: function.func_info_rec_size,
        });
        sys::load_probe(&c_name, &instructions, attach_type, types.as_ref())
            .map_err(|(error, log)| refused(if log.is_empty() { error.to_string() } else { format!("{error}: {log}") }))
    }
}

/// Turns calls of the marker address into calls of the kernel function.
fn resolve_kernel_functions(instructions: &mut [bpf_insn], kernel: &Vmlinux) -> Result<(), KernelError> {
    for instruction in instructions {
        if instruction.code != CALL || instruction.imm != SESSION_IS_RETURN {
            continue;
        }
        let id = kernel
            .function_id("bpf_session_is_return")
            .ok_or(KernelError::MissingField("the function bpf_session_is_return"))?;
        instruction.set_src_reg(PSEUDO_KFUNC_CALL);
        instruction.imm = id.cast_signed();
        instruction.off = 0;
    }
    Ok(())
}

/// Links a program to a function of this very process, which is never called while the link exists.
fn probe_self(program: BorrowedFd<'_>, attach_type: u32) -> Result<(), KernelError> {
    let refused = |reason: String| KernelError::Refused { what: "a test link".to_owned(), reason };
    let (path, offset) = own_code().ok_or_else(|| refused("cannot find our own code".to_owned()))?;
    let points = sys::MultiPoints { path: path.as_os_str(), offsets: &[offset], cookies: &[0] };
    let pid = crate::process::Pid(std::process::id());
    sys::link_multi(program, attach_type, &points, pid, false).map(drop).map_err(|error| refused(error.to_string()))
}

/// The program's entry point, as path and file offset, without reading the whole file.
pub(super) fn own_code() -> Option<(PathBuf, u64)> {
    /// Where ELF keeps the entry point's address, the offset of the program headers, and how many there are.
    const ENTRY: usize = 24;
    const HEADERS: usize = 32;
    const COUNT: usize = 56;
    /// Bytes of a program header.
    const HEADER: usize = 56;
    let exe = PathBuf::from("/proc/self/exe");
    let mut head = vec![0; 4096];
    File::open(&exe).ok()?.read_exact(&mut head).ok()?;
    let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let entry = u64_at(ENTRY)?;
    let headers = usize::try_from(u64_at(HEADERS)?).ok()?;
    let offset = (0..usize::from(head[COUNT])).find_map(|index| {
        let header = headers + HEADER * index;
        let kind = u64_at(header)? & 0xffff_ffff;
        let (offset, vaddr, size) = (u64_at(header + 8)?, u64_at(header + 16)?, u64_at(header + 32)?);
        let holds_it = kind == u64::from(object::elf::PT_LOAD.0) && entry >= vaddr && entry - vaddr < size;
        holds_it.then(|| entry - vaddr + offset)
    })?;
    Some((exe, offset))
}
