//! The target's registers at a probe.

use core::ffi::c_void;

use aya_ebpf::bindings::pt_regs;
use profiler_common::probe::Register;

/// The registers of the thread that hit a probe, or made a system call.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs);

impl Registers {
    /// From a uprobe program's context.
    pub fn of_probe(ctx: *mut c_void) -> Self {
        Self(ctx.cast())
    }

    /// From a tracepoint's typed argument.
    pub fn of_tracepoint(regs: *const pt_regs) -> Self {
        Self(regs)
    }

    /// The register with a [`Register`]'s number; 0 for another number.
    pub fn get(self, number: u8) -> u64 {
        let Some(register) = from_number(number) else { return 0 };
        // SAFETY: the verifier knows the pointer as the context (or a kernel type of this layout) and checks
        // every one of these loads.
        unsafe {
            match register {
                Register::Rdi => (*self.0).rdi,
                Register::Rsi => (*self.0).rsi,
                Register::Rdx => (*self.0).rdx,
                Register::Rcx => (*self.0).rcx,
                Register::R8 => (*self.0).r8,
                Register::R9 => (*self.0).r9,
                Register::Rax => (*self.0).rax,
                Register::Rbx => (*self.0).rbx,
                Register::Rbp => (*self.0).rbp,
                Register::R10 => (*self.0).r10,
                Register::R11 => (*self.0).r11,
                Register::R12 => (*self.0).r12,
                Register::R13 => (*self.0).r13,
                Register::R14 => (*self.0).r14,
                Register::R15 => (*self.0).r15,
            }
        }
    }

    /// A system call's number, as long as it has not been restarted.
    pub fn system_call(self) -> u64 {
        // SAFETY: as in `get`.
        unsafe { (*self.0).orig_rax }
    }

    /// The instruction pointer: at a function's return, the address it returns to.
    pub fn pc(self) -> u64 {
        // SAFETY: as in `get`.
        unsafe { (*self.0).rip }
    }

    /// The stack pointer.
    pub fn sp(self) -> u64 {
        // SAFETY: as in `get`.
        unsafe { (*self.0).rsp }
    }
}

fn from_number(number: u8) -> Option<Register> {
    const ALL: [Register; 15] = [
        Register::Rdi,
        Register::Rsi,
        Register::Rdx,
        Register::Rcx,
        Register::R8,
        Register::R9,
        Register::Rax,
        Register::Rbx,
        Register::Rbp,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    let mut index = 0;
    while index < ALL.len() {
        if ALL[index] as u8 == number {
            return Some(ALL[index]);
        }
        index += 1;
    }
    None
}
