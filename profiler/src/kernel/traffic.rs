//! What each process received and sent, as the kernel side sums it up.

use aya::maps::Array;
use profiler_common::ledger::Traffic;

use super::{Kernel, KernelError, Raw, map_error};

impl Kernel {
    /// What the process in a slot received and sent through sockets since its trace began, and how many connections it
    /// accepted; the bytes only after [`Kernel::attach_traffic`].
    pub fn traffic(&self, slot: u32) -> Result<Traffic, KernelError> {
        let map = self.ebpf.map("TRAFFIC").ok_or(KernelError::MissingField("TRAFFIC"))?;
        let sums: Array<_, Raw<Traffic>> = Array::try_from(map).map_err(|error| map_error("TRAFFIC", error))?;
        sums.get(&slot, 0).map(|sums| sums.0).map_err(|error| map_error("TRAFFIC", error))
    }
}
