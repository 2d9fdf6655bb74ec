//! The probes' programs, loaded beside aya: it cannot ask for uprobe_multi or for sessions.
//!
//! The same object is parsed a second time and its probe programs are relocated against the maps that aya made.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::links::LinkKind;
use super::{KernelError, btf, sys};

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
    /// aya's own programs, linked by perf events.
    Perf,
}

impl Programs {
    /// Loads the programs for a kind of link, or for the best the kernel has.
    pub fn load(object: &[u8], maps: &HashMap<String, RawFd>, wanted: Option<LinkKind>) -> Result<Self, KernelError> {
        let relocated = Relocated::new(object, maps)?;
        match wanted {
            Some(LinkKind::Session) => relocated.sessions(),
            Some(LinkKind::Multi) => relocated.multi(),
            Some(LinkKind::Perf) => Ok(Self::Perf),
            None => Ok(relocated.sessions().or_else(|_| relocated.multi()).unwrap_or(Self::Perf)),
        }
    }

    /// The kind of link they are for.
    pub fn kind(&self) -> LinkKind {
        match self {
            Self::Session { .. } => LinkKind::Session,
            Self::Multi { .. } => LinkKind::Multi,
            Self::Perf => LinkKind::Perf,
        }
    }
}

struct Relocated {
    object: Object,
}

impl Relocated {
    fn new(bytes: &[u8], maps: &HashMap<String, RawFd>) -> Result<Self, KernelError> {
        let failed = |reason: String| KernelError::Refused { what: "the probe programs".to_owned(), reason };
        let mut object = Object::parse(bytes).map_err(|error| failed(error.to_string()))?;
        let definitions = object.maps.clone();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let known = definitions.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
        object.relocate_maps(known, &text).map_err(|error| failed(error.to_string()))?;
        object.relocate_calls(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Self { object })
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

    fn load(&self, name: &str, attach_type: u32) -> Result<OwnedFd, KernelError> {
        let refused = |reason: String| KernelError::Refused { what: format!("the program {name}"), reason };
        let program = self.object.programs.get(name).ok_or_else(|| refused("it is not in the object".to_owned()))?;
        let function = &self.object.functions[&program.function_key()];
        let mut instructions = function.instructions.clone();
        resolve_kernel_functions(&mut instructions)?;
        let c_name = CString::new(name).unwrap_or_default();
        sys::load_probe(&c_name, &instructions, attach_type)
            .map_err(|(error, log)| refused(if log.is_empty() { error.to_string() } else { format!("{error}: {log}") }))
    }
}

/// Turns calls of the marker address into calls of the kernel function.
fn resolve_kernel_functions(instructions: &mut [bpf_insn]) -> Result<(), KernelError> {
    for instruction in instructions {
        if instruction.code != CALL || instruction.imm != SESSION_IS_RETURN {
            continue;
        }
        let id = btf::function_id("bpf_session_is_return")
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

/// The first byte of this process's ELF header's entry point, as path and file offset.
fn own_code() -> Option<(std::path::PathBuf, u64)> {
    let pid = crate::process::Pid(std::process::id());
    let regions = crate::process::maps::read(pid).ok()?;
    let exe = std::fs::read_link("/proc/self/exe").ok()?;
    let region = regions.iter().find(|region| region.path() == Some(&exe))?;
    let image = crate::process::image::Image::open(pid, region, &regions).ok()?;
    Some((image.openable.clone(), image.file_offset(image.entry)?))
}
