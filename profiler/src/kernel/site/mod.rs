//! At which instruction of a function a probe stands.
//!
//! A probe costs ten times less on an instruction that the kernel emulates than on one that it single-steps (measured in a
//! VM: 0.4 against 4 us). Functions seldom begin with such an instruction, but nearly all have one before their first
//! branch, where the arguments are still in registers.

mod code;
mod emulated;
mod scan;
mod state;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction, IntelFormatter, Mnemonic};
use profiler_common::probe::{Cookie, Function, Register};

use self::code::Code;
use self::emulated::{Handling, handling};
use self::scan::BranchTargets;
use self::state::State;
use crate::process::image::{Contents, Image};

/// Bytes decoded from a function's entry: the straight line is rarely longer than 60.
const MAX_LINE: usize = 256;

/// Bytes of the longest x86-64 instruction.
const MAX_INSTRUCTION: usize = 15;

/// What the running kernel can do with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRules {
    /// Nops of 2 to 8 bytes are emulated and the 5-byte one is made a call: since Linux 6.18.
    pub short_nops: bool,
}

impl SiteRules {
    /// The rules of Linux `major.minor`.
    pub const fn for_kernel(major: u32, minor: u32) -> Self {
        Self { short_nops: major > 6 || major == 6 && minor >= 18 }
    }
}

/// How dear a hit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteClass {
    /// A call instead of a trap.
    Optimised,
    /// One trap.
    Emulated,
    /// Two traps.
    SingleStepped,
}

impl SiteClass {
    /// The cost of a hit in words.
    pub const fn expected_cost(self) -> &'static str {
        match self {
            Self::Optimised => "optimised",
            Self::Emulated => "emulated",
            Self::SingleStepped => "single-stepped (about 10x dearer in a VM)",
        }
    }
}

/// Where a probe stands: the start of an instruction on a function's straight line, reached by every call once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    entry: u64,
    vaddr: u64,
    file_offset: u64,
    class: SiteClass,
    arguments: [Register; 3],
    pushed: u16,
}

impl Site {
    /// Address of the instruction in the file's own terms.
    pub const fn vaddr(&self) -> u64 {
        self.vaddr
    }

    /// Offset of the instruction in the file: what the kernel is given.
    pub const fn file_offset(&self) -> u64 {
        self.file_offset
    }

    /// Bytes from the function's entry.
    pub const fn distance(&self) -> u64 {
        self.vaddr.wrapping_sub(self.entry)
    }

    /// How dear a hit is.
    pub const fn class(&self) -> SiteClass {
        self.class
    }

    /// The registers that hold the function's arguments; of no meaning past those the function's probe reads.
    pub const fn arguments(&self) -> [Register; 3] {
        self.arguments
    }

    /// Bytes between rsp here and rsp at entry.
    pub const fn pushed(&self) -> u16 {
        self.pushed
    }

    /// The function's first byte, where a probe is put without looking: only to measure what that costs.
    pub const fn at_entry(self) -> Self {
        Self {
            vaddr: self.entry,
            file_offset: self.file_offset.wrapping_sub(self.distance()),
            arguments: [Register::Rdi, Register::Rsi, Register::Rdx],
            pushed: 0,
            ..self
        }
    }
}

/// A site where a return probe may stand: rsp is as at entry, so that it points to the return address.
///
/// The kernel replaces what rsp points to. Anywhere else that is a saved register, and the target dies of SIGILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnSite(Site);

impl ReturnSite {
    /// The site as one for a return probe; `None` where rsp is not what it was at entry.
    pub fn new(site: Site) -> Option<Self> {
        (site.pushed == 0).then_some(Self(site))
    }

    /// The site.
    pub const fn site(&self) -> &Site {
        &self.0
    }
}

/// A site and whether the function's return is probed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One probe, when the function is called.
    Call(Site),
    /// A session, or a call probe here and a return probe of the same offset.
    CallAndReturn(ReturnSite),
}

impl Placement {
    /// The site.
    pub const fn site(&self) -> &Site {
        match self {
            Self::Call(site) => site,
            Self::CallAndReturn(site) => site.site(),
        }
    }

    /// The same probes on the function's first byte.
    pub const fn at_entry(self) -> Self {
        match self {
            Self::Call(site) => Self::Call(site.at_entry()),
            Self::CallAndReturn(ReturnSite(site)) => Self::CallAndReturn(ReturnSite(site.at_entry())),
        }
    }

    /// Whether the return is probed.
    pub const fn wants_return(&self) -> bool {
        matches!(self, Self::CallAndReturn(_))
    }

    /// What the kernel side is told about the site.
    pub const fn cookie(&self, function: Function) -> Cookie {
        let site = self.site();
        Cookie::new(function, site.arguments, site.pushed)
    }
}

/// No probe can stand in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSite {
    /// The address is not in the file's code.
    #[error("no code at {0:#x}")]
    NotCode(u64),
    /// No instruction before the first branch can bear a probe with the arguments at hand.
    #[error("no instruction after {0:#x} where the kernel accepts a probe and the arguments are in registers")]
    NoInstruction(u64),
    /// The file is no longer mapped, or cannot be opened.
    #[error("its file cannot be opened: {0}")]
    Unreadable(std::io::ErrorKind),
}

/// Chooses sites in one file; the sweep of its code for branches is done once, when first needed.
pub struct Sites<'image> {
    code: Code<'image>,
    rules: SiteRules,
    targets: OnceCell<Arc<BranchTargets>>,
    /// The file's contents, to find the sweep made for another process.
    contents: Option<&'image Arc<Contents>>,
}

impl fmt::Debug for Sites<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sites").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl<'image> Sites<'image> {
    /// For the functions of a mapped file.
    pub fn new(image: &'image Image, rules: SiteRules) -> Self {
        Self { contents: Some(&image.contents), ..Self::in_code(Code::of(image), rules) }
    }

    fn in_code(code: Code<'image>, rules: SiteRules) -> Self {
        Self { code, rules, targets: OnceCell::new(), contents: None }
    }

    /// The cheapest site of the function whose entry is `vaddr`, with a return probe if the function's role needs one.
    pub fn place(&self, function: Function, vaddr: u64) -> Result<Placement, NoSite> {
        self.place_after(function, vaddr, 0)
    }

    /// As [`Self::place`], for a function with `leading` arguments before those of its role: CPython's allocators
    /// have a context before the size.
    pub fn place_after(&self, function: Function, vaddr: u64, leading: u8) -> Result<Placement, NoSite> {
        let site = self.choose_after(function, vaddr, leading)?;
        if !function.needs_return() {
            return Ok(Placement::Call(site));
        }
        ReturnSite::new(site).map(Placement::CallAndReturn).ok_or(NoSite::NoInstruction(vaddr))
    }

    /// The cheapest site of the function whose entry is `vaddr`; the first of several that cost the same.
    ///
    /// For a role that needs the return, only sites before rsp first moves.
    pub fn choose(&self, function: Function, vaddr: u64) -> Result<Site, NoSite> {
        self.choose_after(function, vaddr, 0)
    }

    fn choose_after(&self, function: Function, vaddr: u64, leading: u8) -> Result<Site, NoSite> {
        let mut candidates = self.candidates(function, vaddr, leading)?;
        candidates.sort_by_key(|candidate| candidate.rank);
        candidates
            .into_iter()
            .map(|candidate| candidate.site)
            .find(|site| !self.is_joined(site))
            .ok_or(NoSite::NoInstruction(vaddr))
    }

    /// The instructions from the entry to the first control transfer where a probe may stand, in this order.
    ///
    /// The registers are followed along this line only: what a branch into the line brings is for `is_joined`.
    fn candidates(&self, function: Function, entry: u64, leading: u8) -> Result<Vec<Candidate>, NoSite> {
        let (offset, bytes) = self.code.at(entry, MAX_LINE).ok_or(NoSite::NotCode(entry))?;
        let mut decoder = Decoder::with_ip(64, bytes, entry, DecoderOptions::NONE);
        let mut state = State::at_entry();
        let mut candidates = Vec::new();
        while decoder.can_decode() {
            let start = decoder.position();
            let instruction = decoder.decode();
            if instruction.is_invalid() || function.needs_return() && state.moved() {
                break;
            }
            let text = bytes.get(start..decoder.position()).unwrap_or_default();
            let rank = self.rank(&instruction, text);
            let arguments = state.arguments(function.arguments() + leading);
            if let (Some(rank), Some(mut arguments)) = (rank, arguments) {
                arguments.rotate_left(leading.into());
                let file_offset = offset.wrapping_add(start as u64);
                candidates.push(Candidate::new(rank, &state, entry, &instruction, file_offset, arguments));
            }
            if instruction.flow_control() != FlowControl::Next || state.step(&instruction).is_err() {
                break;
            }
        }
        Ok(candidates)
    }

    /// Whether a branch leads between a function's entry and a site on its straight line: a probe there
    /// would be hit twice in one call, or without a call.
    fn is_joined(&self, site: &Site) -> bool {
        let sweep = || match self.contents {
            Some(contents) => BranchTargets::of_file(contents, &self.code),
            None => Arc::new(BranchTargets::sweep(&self.code)),
        };
        let targets = || self.targets.get_or_init(sweep);
        site.vaddr != site.entry && targets().any_in(site.entry, site.vaddr)
    }

    fn rank(&self, instruction: &Instruction, text: &[u8]) -> Option<Rank> {
        match handling(text, instruction.ip(), self.rules) {
            Handling::Optimised => Some(Rank::Optimised),
            Handling::Emulated => Some(Rank::Emulated),
            Handling::EmulatedNop => Some(Rank::EmulatedNop),
            Handling::SingleStepped if instruction.mnemonic() == Mnemonic::Endbr64 => Some(Rank::Endbr),
            Handling::SingleStepped => Some(Rank::SingleStepped),
            Handling::Refused => None,
        }
    }

    /// The instruction at an address, in Intel's syntax.
    pub fn instruction_text(&self, vaddr: u64) -> Option<String> {
        let (_, bytes) = self.code.at(vaddr, MAX_INSTRUCTION)?;
        let instruction = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE).decode();
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        options.set_show_branch_size(false);
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        Some(text)
    }
}

/// The order of preference among sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Optimised,
    Emulated,
    /// After the ones above, which every kernel emulates.
    EmulatedNop,
    SingleStepped,
    /// The dearest of all, and the landing pad of indirect calls.
    Endbr,
}

struct Candidate {
    rank: Rank,
    site: Site,
}

impl Candidate {
    fn new(
        rank: Rank,
        state: &State,
        entry: u64,
        instruction: &Instruction,
        file_offset: u64,
        arguments: [Register; 3],
    ) -> Self {
        let class = match rank {
            Rank::Optimised => SiteClass::Optimised,
            Rank::Emulated | Rank::EmulatedNop => SiteClass::Emulated,
            Rank::SingleStepped | Rank::Endbr => SiteClass::SingleStepped,
        };
        let site = Site { entry, vaddr: instruction.ip(), file_offset, class, arguments, pushed: state.pushed() };
        Self { rank, site }
    }
}
