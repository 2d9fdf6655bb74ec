//! What the kernel side says of how it samples a process's page faults.

use profiler_common::config::FaultSampling;

use super::Kernel;
use crate::process::Pid;

impl Kernel {
    /// How the page faults of a process are sampled, or were when the programs were made to ignore it; `None` if it is not
    /// known by that slot any more.
    pub fn fault_sampling(&self, pid: Pid, slot: u32) -> Option<FaultSampling> {
        self.known_faults(pid, slot).or_else(|| self.forgotten_faults.get(&slot).copied())
    }

    pub(super) fn known_faults(&self, pid: Pid, slot: u32) -> Option<FaultSampling> {
        self.processes.get(&pid.0, 0).ok().filter(|known| known.0.slot == slot).map(|known| known.0.faults)
    }
}
