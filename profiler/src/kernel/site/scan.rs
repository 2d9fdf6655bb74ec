//! Where the direct branches of a file's code lead.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};

use super::code::Code;
use crate::process::image::Contents;

/// Code beyond this many bytes is not swept (about 5 ms a MiB); sites inside functions are then not trusted.
const MAX_SWEPT: usize = 128 << 20;

/// The targets of all direct branches and calls in a file's executable segments.
pub(super) struct BranchTargets {
    sorted: Vec<u64>,
    /// Whether all of the code was swept.
    complete: bool,
}

impl BranchTargets {
    /// Decodes the code from its first byte to its last, stepping over what is no instruction.
    ///
    /// Data between functions may hide an instruction behind it, but decoding falls into step again within a few.
    pub(super) fn sweep(code: &Code<'_>) -> Self {
        let complete = code.size() <= MAX_SWEPT;
        let mut sorted = Vec::new();
        if complete {
            for (vaddr, bytes) in code.blocks() {
                sweep_block(vaddr, bytes, &mut sorted);
            }
        }
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted, complete }
    }

    /// The sweep of a file that may be mapped in many processes: made once, as long as the file is in use.
    pub(super) fn of_file(contents: &Arc<Contents>, code: &Code<'_>) -> Arc<Self> {
        static SWEPT: Mutex<Vec<(Weak<Contents>, Arc<BranchTargets>)>> = Mutex::new(Vec::new());
        // A panic while it is held leaves whole entries only.
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        swept.retain(|(file, _)| file.strong_count() > 0);
        if let Some((_, known)) = swept.iter().find(|(file, _)| std::ptr::eq(file.as_ptr(), Arc::as_ptr(contents))) {
            return known.clone();
        }
        let targets = Arc::new(Self::sweep(code));
        swept.push((Arc::downgrade(contents), targets.clone()));
        targets
    }

    /// Whether a branch may lead to an address after `entry` up to and including `site`.
    pub(super) fn any_in(&self, entry: u64, site: u64) -> bool {
        let first = self.sorted.partition_point(|&target| target <= entry);
        let inside = self.sorted.get(first).is_some_and(|&target| target <= site);
        inside || site != entry && !self.complete
    }
}

fn sweep_block(vaddr: u64, bytes: &[u8], targets: &mut Vec<u64>) {
    let mut decoder = Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        let position = decoder.position();
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            let next = position + 1;
            if decoder.set_position(next).is_err() {
                return;
            }
            decoder.set_ip(vaddr.wrapping_add(next as u64));
        } else if instruction.op0_kind() == OpKind::NearBranch64 {
            targets.push(instruction.near_branch_target());
        }
    }
}
