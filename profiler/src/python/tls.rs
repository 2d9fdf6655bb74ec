//! The thread-local variable that holds a thread's state since CPython 3.15 (`_Py_tss_gilstate`), found in the code of
//! the exported function that returns it: good before the interpreter runs, and for a libpython loaded by dlopen.
//!
//! Its place differs between builds, not only between versions.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use profiler_common::config::{ThreadSlot, thread_slot};

use super::slot::Libc;
use crate::process::image::Image;
use crate::process::memory::Memory;

/// `PyThreadState *PyGILState_GetThisThreadState(void)`: nothing but the read of the variable.
const GETTER: &str = "PyGILState_GetThisThreadState";

/// Bytes of it that are looked at; 29 in the longest seen.
const MAX_GETTER: usize = 64;

/// Bytes of a `dtv_t` in glibc.
const DTV_ENTRY: u64 = 16;

/// Where the variable lies from a thread's fs base; `None` if the code has another shape, or if the loader has not
/// filled in the numbers of a library yet.
pub fn slot(memory: &dyn Memory, image: &Image, libc: Libc) -> Option<ThreadSlot> {
    let vaddr = image.export(GETTER)?.vaddr;
    let bytes = image.bytes_at(vaddr)?;
    let bytes = bytes.get(..MAX_GETTER).unwrap_or(bytes);
    match access(bytes, image.bias.wrapping_add(vaddr))? {
        Access::Fixed(offset) => Some(fixed(offset)),
        // The loader's entry in the global offset table: the variable's distance from fs base.
        Access::Loaded(entry) => Some(fixed(memory.u64(entry).ok()?.cast_signed())).filter(|slot| slot.offset != 0),
        // Two entries: the module's number, and the variable's or the block's place in it.
        Access::Called { entry, displacement } => {
            let module = memory.u64(entry).ok().filter(|&module| module != 0)?;
            let start = memory.u64(entry.wrapping_add(8)).ok()?;
            matches!(libc, Libc::Glibc { .. }).then_some(ThreadSlot {
                mode: thread_slot::DYNAMIC_TLS,
                reserved: 0,
                offset: i64::try_from(module.checked_mul(DTV_ENTRY)?).ok()?,
                inner: start.wrapping_add(displacement),
            })
        }
    }
}

fn fixed(offset: i64) -> ThreadSlot {
    ThreadSlot { mode: thread_slot::FS_RELATIVE, reserved: 0, offset, inner: 0 }
}

/// The ways to read a thread-local variable (the ELF TLS models).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// `mov rax, fs:[offset]`: programs.
    Fixed(i64),
    /// `mov rax, [rip + entry]`, `mov rax, fs:[rax]`: libraries that are linked, not loaded later.
    Loaded(u64),
    /// `lea rdi, [rip + entry]`, `call __tls_get_addr`, `mov rax, [rax + displacement]`: any library.
    Called { entry: u64, displacement: u64 },
}

fn access(code: &[u8], address: u64) -> Option<Access> {
    let mut entry = None;
    let mut called = false;
    for instruction in &mut Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call => called = true,
            _ => return None,
        }
        if let Some(pointed) = entry_of(&instruction) {
            entry = Some(pointed);
        } else if reads_into_rax(&instruction) {
            let displacement = instruction.memory_displacement64();
            return match (instruction.segment_prefix(), instruction.memory_base(), entry) {
                (Register::FS, Register::None, _) => Some(Access::Fixed(displacement.cast_signed())),
                (Register::FS, Register::RAX, Some(entry)) if displacement == 0 => Some(Access::Loaded(entry)),
                (Register::None, Register::RAX, Some(entry)) if called => Some(Access::Called { entry, displacement }),
                _ => None,
            };
        }
    }
    None
}

/// The entry of the global offset table that an instruction points `rdi` to or loads into `rax`.
fn entry_of(instruction: &Instruction) -> Option<u64> {
    let into = |register| instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register;
    let points = match instruction.mnemonic() {
        Mnemonic::Lea => into(Register::RDI),
        Mnemonic::Mov => into(Register::RAX) && instruction.segment_prefix() == Register::None,
        _ => false,
    };
    (points && instruction.is_ip_rel_memory_operand()).then(|| instruction.ip_rel_memory_address())
}

fn reads_into_rax(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::RAX
        && instruction.op1_kind() == OpKind::Memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_shapes_that_compilers_write() {
        let check = |code: &[u8], expected| assert_eq!(access(code, 0x1000), expected, "{code:x?}");
        // Debian's python3.15: endbr64; mov rax, fs:[-0x28]; ret.
        check(b"\xf3\x0f\x1e\xfa\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3", Some(Access::Fixed(-0x28)));
        // Its libpython3.15: push rbp; mov rbp, rsp; lea rdi, [rip+0x100]; call; pop rbp; mov rax, [rax+0x28]; ret.
        check(
            b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x48\x8d\x3d\x00\x01\x00\x00\xe8\x5c\x9d\xcf\xff\x5d\x48\x8b\x80\x28\x00\x00\x00\xc3",
            Some(Access::Called { entry: 0x110f, displacement: 0x28 }),
        );
        // General dynamic: data16 lea rdi, [rip+0x100]; data16 call; mov rax, [rax]; ret.
        check(
            b"\x50\x66\x48\x8d\x3d\x00\x01\x00\x00\x66\x66\x48\xe8\x00\x00\x00\x00\x48\x8b\x00\x59\xc3",
            Some(Access::Called { entry: 0x1109, displacement: 0 }),
        );
        // Initial exec: mov rax, [rip+0x100]; mov rax, fs:[rax]; ret.
        check(b"\x48\x8b\x05\x00\x01\x00\x00\x64\x48\x8b\x00\xc3", Some(Access::Loaded(0x1107)));
        // 3.14: mov edi, [rip+x]; jmp pthread_getspecific.
        check(b"\x8b\x3d\x00\x01\x00\x00\xe9\x00\x00\x00\x00", None);
        check(b"\xc3", None);
        check(b"", None);
    }
}
