//! Bounded room: what has ended gives its place to others.

use std::collections::HashSet;

use super::ended::Ended;
use super::process::Traced;
use super::{Recorder, stacks};
use crate::kernel::{Kernel, KernelError};

/// Code objects that have died, and will be forgotten when every stack that has them has come.
#[derive(Default)]
pub(super) struct DeadCodes {
    serials: HashSet<u64>,
    /// Readings since they were found dead.
    waited: u32,
    /// How many were alive then.
    alive: usize,
}

impl Recorder {
    /// Makes room where processes have ended and code has died, a little at each call.
    pub fn make_room(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let discarded = std::mem::take(&mut self.to_clear);
        self.stacks.give_up_on(&discarded, &mut self.names, &mut self.builder);
        discarded.into_iter().for_each(|slot| kernel.clear_slot(slot));
        self.settle_ended(kernel)?;
        self.stacks.forget(&kernel.sweep()?);
        self.forget_codes(kernel)
    }

    /// Makes the rows of processes that have ended. Those with running children wait: a child's frees of what it
    /// inherited are told by its parent's blocks.
    fn settle_ended(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let now = self.elapsed_ms();
        let running = self.processes.iter().filter(|process| process.is_running());
        let parents: HashSet<u32> = running.filter_map(|process| process.info.parent).collect();
        let settled = |(index, process): &(usize, &mut Traced)| {
            process.has_settled(now) && !u32::try_from(*index).is_ok_and(|index| parents.contains(&index))
        };
        let settling = self.processes.iter_mut().enumerate().filter(settled);
        let slots: HashSet<u32> = settling.map(|(_, process)| process.slot).collect();
        if slots.is_empty() {
            return Ok(());
        }
        self.stacks.give_up_on(&slots, &mut self.names, &mut self.builder);
        let sums: Vec<_> = kernel.stacks()?.into_iter().filter(|(_, sums)| slots.contains(&sums.slot)).collect();
        let (blocks, opened) = self.block_rows(&sums);
        let of_ended = |slot: u32| slots.contains(&slot);
        let rows = Ended {
            blocks,
            pools: self.pool_rows(&opened, of_ended),
            mappings: self.mapping_rows(of_ended),
            resident: self.resident_rows(of_ended),
            unshared: self.unshared_rows(of_ended),
            estimates: self.estimate_rows(of_ended),
        };
        self.ended.add(rows, &mut self.builder);
        for slot in slots {
            if let Some(process) = self.process_mut(slot) {
                process.settle();
            }
            kernel.clear_slot(slot);
        }
        Ok(())
    }

    /// Forgets code objects that have died, when there are more of them than are alive.
    fn forget_codes(&mut self, kernel: &Kernel) -> Result<(), KernelError> {
        /// So many may be dead without anyone minding.
        const DEAD: usize = 1 << 14;
        /// Readings after which every stack with a code object that was dead at the first has been named.
        const READINGS: u32 = stacks::PATIENCE + 2;
        let dead = &mut self.dead_codes;
        if dead.serials.is_empty() {
            if self.names.codes.len() > 2 * dead.alive + DEAD {
                let alive = kernel.live_serials()?;
                dead.alive = alive.len();
                dead.waited = 0;
                dead.serials = self.names.codes.serials().filter(|serial| !alive.contains(serial)).collect();
            }
            return Ok(());
        }
        dead.waited += 1;
        if dead.waited >= READINGS {
            let serials = std::mem::take(&mut dead.serials);
            self.stacks.forget_codes(&serials);
            self.names.codes.forget(&serials);
        }
        Ok(())
    }
}
