//! Small objects of one process: what lives in the pools, and who is charged with it.

use std::collections::BTreeMap;
use std::io;

use profiler_common::ledger::{BlockKey, NOT_READ, Pool};

use super::fillers::{Fillers, Process};
use super::process::{EndReading, Traced, is_swapped};
use crate::kernel::Kernel;
use crate::kernel::plan::SmallObjects;
use crate::ledger::fillers::{Live, charge};
use crate::process::memory::{Memory as _, ProcessMemory};
use crate::python::pool::{self, HEADER_BYTES, PoolContent};

/// Whether the pools of a process are watched.
#[derive(Default)]
pub(super) enum Watching {
    /// It was not looked yet whether they can be.
    #[default]
    Unknown,
    /// They are.
    Yes(Box<Fillers>),
    /// They cannot be: no pools, or none that can be read.
    No,
}

impl Watching {
    pub(super) fn fillers(&mut self) -> Option<&mut Fillers> {
        if let Self::Yes(fillers) = self { Some(fillers) } else { None }
    }

    /// For a process just forked from one with these.
    pub(super) fn of_child(&self, memory: Option<&ProcessMemory>) -> Self {
        match (self, memory) {
            (Self::Yes(fillers), Some(memory)) => Self::Yes(Box::new(fillers.of_child(memory))),
            (Self::No, _) => Self::No,
            _ => Self::Unknown,
        }
    }
}

impl Traced {
    /// Finds its pools, if that has not been tried yet: takes some 10 ms. An interpreter that has yet to begin has none, and
    /// is asked again.
    pub fn find_pools(&mut self) {
        let Some(memory) = &self.memory else { return };
        let sees_openings = match self.small_objects {
            SmallObjects::Pools => true,
            SmallObjects::Arenas => false,
            SmallObjects::Each | SmallObjects::Unseen => return,
        };
        if !matches!(self.watching, Watching::Unknown) {
            return;
        }
        self.asked += 1;
        match Fillers::find(self.identity.pid, memory, sees_openings) {
            Some(fillers) => self.watching = Watching::Yes(Box::new(fillers)),
            None if self.asked > ASKED_AT_MOST => self.watching = Watching::No,
            None => {}
        }
    }

    /// Looks who fills its pools; `more`: whether there is time for more hits of watchpoints.
    ///
    /// `openings` are the pools it has opened so far, by size class.
    pub fn watch_pools(&mut self, kernel: &mut Kernel, openings: &[(u32, u64)], more: bool) {
        let Some(memory) = &self.memory else { return };
        if let Some(fillers) = self.watching.fillers() {
            let process = Process { slot: self.slot, pid: self.identity.pid, memory };
            fillers.turn(kernel, &process, openings, more);
        }
    }

    /// Ends all watches.
    pub fn stop_watching(&mut self, kernel: &mut Kernel) {
        if let Some(fillers) = self.watching.fillers() {
            fillers.stop(kernel);
        }
    }

    /// Reads the headers of its pools. If the process has gone, the last reading stays.
    pub fn read_pools(&mut self, own: &[(BlockKey, Pool)], at_ms: u64) {
        let (Some(memory), Some(layout)) = (&self.memory, self.layout) else { return };
        let pool_size = pool::pool_size(layout.minor);
        let mut live = Lives::default();
        for (key, opened) in own {
            let mut header = [0; HEADER_BYTES];
            match memory.read(key.address(), &mut header) {
                Ok(()) => live.add(opened, pool::decode(&header, pool_size)),
                // The whole address space has gone, and with it the pools: not the same as one arena given back.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.gone = true;
                    return;
                }
                Err(_) => {}
            }
        }
        let mut live = live.into_rows();
        if let Some(fillers) = self.watching.fillers() {
            if let Some(growth) = fillers.growth(memory) {
                live = growth;
            }
            fillers.note_live(&live);
        }
        self.swapped = is_swapped(self.identity.pid);
        self.charge(&live, true);
        self.pools_read_ms = Some(at_ms);
    }

    /// Takes what the kernel side has read of its pools when it ended, if it has.
    ///
    /// The kernel side cannot read what is swapped out: where something was, the last reading of ours stays.
    pub fn take_end_reading(&mut self, own: &[(BlockKey, Pool)]) {
        let Some(layout) = self.layout.filter(|_| self.end_reading == EndReading::Ready) else { return };
        self.end_reading = EndReading::Taken;
        if self.swapped {
            return;
        }
        let pool_size = pool::pool_size(layout.minor);
        let mut live = Lives::default();
        for (_, opened) in own.iter().filter(|(_, opened)| opened.end_class != NOT_READ) {
            live.add(opened, pool::content(opened.end_blocks, opened.end_class, pool_size));
        }
        self.charge(&live.into_rows(), false);
        self.pools_read_ms = None;
    }

    /// Charges what is live; the samples count whose slots hold an object still, if that can be read.
    fn charge(&mut self, live: &[Live], readable: bool) {
        let memory = self.memory.as_ref().filter(|_| readable);
        let fillers = self.watching.fillers();
        let samples = fillers.as_ref().map(|fillers| fillers.samples(memory)).unwrap_or_default();
        let charges = charge(live, &samples);
        if !live.is_empty() {
            let mut filling = fillers.map(|fillers| fillers.filling()).unwrap_or_default();
            filling.sampled_space = charges.sampled_space;
            filling.opener_space = charges.opener_space;
            filling.unknown_space = charges.unknown_space;
            filling.standard_error_space = charges.largest_error();
            filling.samples = samples.len() as u64;
            self.info.filling = Some(filling);
        }
        self.pools = charges.by_stack.into_iter().collect();
    }
}

/// How often it is looked for the pools of a process.
const ASKED_AT_MOST: u32 = 50;

/// What lives in pools, by size class and who opened them.
#[derive(Default)]
struct Lives(BTreeMap<(u32, u64), Live>);

impl Lives {
    fn add(&mut self, opened: &Pool, content: Option<PoolContent>) {
        let Some(content) = content.filter(|content| content.blocks > 0) else { return };
        let class = u32::try_from(content.block_size / 16 - 1).unwrap_or(0);
        let row = self.0.entry((class, opened.stack)).or_default();
        (row.class, row.opener) = (class, opened.stack);
        row.pools += 1;
        row.objects += content.blocks;
    }

    fn into_rows(self) -> Vec<Live> {
        self.0.into_values().collect()
    }
}
