//! What a diagnosis looks at beside the ledgers: readings of each process over time, and the extensions that it uses.

use std::collections::{BTreeSet, HashMap};

use super::Recorder;
use super::process::Traced;
use crate::kernel::{Kernel, KernelError};
use crate::process::maps::{self, RegionName};
use crate::profile::evidence::{Extension, Reading};

/// Most extensions that are told.
const MOST_EXTENSIONS: usize = 512;

impl Recorder {
    /// Takes one reading of every running process, whose /proc was read just now; `heap`: live and allocated bytes by slot.
    pub(super) fn read_evidence(
        &mut self,
        kernel: &Kernel,
        at_ms: u64,
        heap: &HashMap<u32, (u64, u64)>,
    ) -> Result<(), KernelError> {
        let mut children: HashMap<u32, u64> = HashMap::new();
        for parent in self.processes.iter().filter(|process| process.info.seen_at_ms > 0) {
            if let Some(parent) = parent.info.parent {
                *children.entry(parent).or_default() += 1;
            }
        }
        for (index, process) in self.processes.iter_mut().enumerate().filter(|(_, process)| process.is_running()) {
            let Ok(index) = u32::try_from(index) else { continue };
            let (live, allocated) = heap.get(&process.slot).copied().unwrap_or_default();
            let traffic = kernel.traffic(process.slot)?;
            let (pss, uss) = process.take_shares();
            self.evidence.push(Reading {
                process: index,
                at_ms,
                rss: process.vitals().rss,
                pss,
                uss,
                live,
                allocated,
                threads: process.vitals().threads,
                cpu_ms: process.vitals().cpu_ms(),
                received: traffic.received,
                receives: traffic.receives,
                sent: traffic.sent,
                sends: traffic.sends,
                accepted: traffic.accepted,
                files_read: process.read_from_files(),
                forks: children.get(&index).copied().unwrap_or(0),
            });
        }
        Ok(())
    }

    /// Notes which extension modules of packages the running processes have mapped.
    pub fn read_extensions(&mut self) {
        let mut found = BTreeSet::new();
        let running = self.processes.iter().enumerate().filter(|(_, process)| process.is_running());
        for (index, process) in running {
            let Ok(process_index) = u32::try_from(index) else { continue };
            let paths = extensions(process);
            found.extend(paths.into_iter().map(|path| Extension { process: process_index, path }));
        }
        self.evidence.extensions = found.into_iter().take(MOST_EXTENSIONS).collect();
    }
}

/// The paths of a process's extension modules below its folders of packages.
fn extensions(process: &Traced) -> BTreeSet<String> {
    let regions = maps::read(process.identity().pid).unwrap_or_default();
    let files = regions.iter().filter_map(|region| match &region.name {
        RegionName::File { path, .. } if region.permissions.execute => Some(path),
        _ => None,
    });
    files
        .filter_map(|path| {
            let path = path.to_string_lossy();
            let below = |folder: &str| path.split_once(folder).map(|(_, below)| below.to_owned());
            below("/site-packages/").or_else(|| below("/dist-packages/"))
        })
        .collect()
}
