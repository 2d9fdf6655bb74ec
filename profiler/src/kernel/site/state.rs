//! What is known of the registers along a function's first instructions.

use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Cpu};
use profiler_common::probe::Register;

/// The stack pointer is no longer the entry's plus a known distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StackLost;

/// Every general purpose register but rsp, in the order in which copies of an argument are preferred.
const REGISTERS: [(Cpu, Register); 15] = [
    (Cpu::RDI, Register::Rdi),
    (Cpu::RSI, Register::Rsi),
    (Cpu::RDX, Register::Rdx),
    (Cpu::RCX, Register::Rcx),
    (Cpu::R8, Register::R8),
    (Cpu::R9, Register::R9),
    (Cpu::RBX, Register::Rbx),
    (Cpu::RBP, Register::Rbp),
    (Cpu::R12, Register::R12),
    (Cpu::R13, Register::R13),
    (Cpu::R14, Register::R14),
    (Cpu::R15, Register::R15),
    (Cpu::R10, Register::R10),
    (Cpu::R11, Register::R11),
    (Cpu::RAX, Register::Rax),
];

/// The registers an argument arrives in (System V ABI).
const ARRIVALS: [Cpu; 3] = [Cpu::RDI, Cpu::RSI, Cpu::RDX];

/// Where the arguments and the return address are, before the next instruction executes.
pub(super) struct State {
    /// For each argument, the registers that hold it: bit i is `REGISTERS[i]`.
    holders: [u16; 3],
    /// Bytes between rsp and rsp at entry.
    pushed: u16,
    /// Whether rsp has ever differed from its value at entry.
    moved: bool,
    info: InstructionInfoFactory,
}

impl State {
    /// The state at a function's entry.
    pub(super) fn at_entry() -> Self {
        Self { holders: ARRIVALS.map(bit), pushed: 0, moved: false, info: InstructionInfoFactory::new() }
    }

    /// Bytes between rsp and rsp at entry.
    pub(super) fn pushed(&self) -> u16 {
        self.pushed
    }

    /// Whether rsp has ever differed from its value at entry.
    pub(super) fn moved(&self) -> bool {
        self.moved
    }

    /// The registers of the first `wanted` arguments; `None` if one of those arguments is in no register any more.
    ///
    /// An argument that is not wanted is given the register it arrived in.
    pub(super) fn arguments(&self, wanted: u8) -> Option<[Register; 3]> {
        let mut arguments = [Register::Rdi, Register::Rsi, Register::Rdx];
        for (argument, holders) in arguments.iter_mut().zip(self.holders).take(usize::from(wanted)) {
            *argument = holder(*argument, holders)?;
        }
        Some(arguments)
    }

    /// Executes an instruction that falls through to the next.
    pub(super) fn step(&mut self, instruction: &Instruction) -> Result<(), StackLost> {
        let copied = copied_registers(instruction).map(|(to, from)| (bit(to), bit(from)));
        let written = self.written(instruction);
        for holders in &mut self.holders {
            let copy = copied.filter(|(_, from)| *holders & from != 0).map_or(0, |(to, _)| to);
            *holders = *holders & !written | copy;
        }
        self.move_stack(instruction)
    }

    /// The registers an instruction writes, wholly or in part, always or on a condition.
    ///
    /// A write of the lower 32 bits clears the upper ones: a size over 4 GiB would be read wrong, so it counts.
    fn written(&mut self, instruction: &Instruction) -> u16 {
        self.info
            .info(instruction)
            .used_registers()
            .iter()
            .filter(|used| is_write(used.access()))
            .fold(0, |written, used| written | bit(used.register().full_register()))
    }

    fn move_stack(&mut self, instruction: &Instruction) -> Result<(), StackLost> {
        let writes_rsp = self
            .info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| used.register().full_register() == Cpu::RSP && is_write(used.access()));
        if !writes_rsp {
            return Ok(());
        }
        let grown = stack_growth(instruction).ok_or(StackLost)?;
        let pushed = i64::from(self.pushed).checked_add(grown).ok_or(StackLost)?;
        self.pushed = u16::try_from(pushed).map_err(|_| StackLost)?;
        self.moved |= grown != 0;
        Ok(())
    }
}

/// Bytes by which an instruction lowers rsp; `None` if that is not a constant.
fn stack_growth(instruction: &Instruction) -> Option<i64> {
    let to_rsp = instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Cpu::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push => Some(-i64::from(instruction.stack_pointer_increment())),
        Mnemonic::Pop if !to_rsp => Some(-i64::from(instruction.stack_pointer_increment())),
        Mnemonic::Sub if to_rsp => immediate(instruction),
        Mnemonic::Add if to_rsp => immediate(instruction).map(i64::wrapping_neg),
        Mnemonic::Lea if to_rsp && instruction.memory_base() == Cpu::RSP => {
            let plain = instruction.memory_index() == Cpu::None;
            plain.then(|| instruction.memory_displacement64().cast_signed().wrapping_neg())
        }
        _ => None,
    }
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    matches!(instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64)
        .then(|| instruction.immediate(1).cast_signed())
}

/// Destination and source of a `mov r64, r64`.
fn copied_registers(instruction: &Instruction) -> Option<(Cpu, Cpu)> {
    let is_move = matches!(instruction.code(), Code::Mov_r64_rm64 | Code::Mov_rm64_r64);
    let registers = instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register;
    (is_move && registers).then(|| (instruction.op0_register(), instruction.op1_register()))
}

fn is_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// The bit of a general purpose register; 0 for rsp and every other register.
fn bit(register: Cpu) -> u16 {
    REGISTERS.iter().position(|(cpu, _)| *cpu == register).map_or(0, |index| 1 << index)
}

/// A register that holds an argument: the one it arrived in while that is good.
fn holder(arrival: Register, holders: u16) -> Option<Register> {
    let holding = || REGISTERS.iter().enumerate().filter(|(index, _)| holders & 1 << index != 0);
    holding()
        .find(|(_, (_, register))| *register == arrival)
        .or_else(|| holding().next())
        .map(|(_, (_, register))| *register)
}
