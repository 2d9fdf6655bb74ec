//! The maps that the native walk reads: tables of images, mappings of processes (see `profiler_common::unwind`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use profiler_common::unwind::{MAPPING_STEPS, NativeMapping, NativeProcess, Row};

use super::{KernelError, Raw, map_error, maps, sys};

const ROWS: &str = "NATIVE_ROWS";
const MAPPINGS: &str = "NATIVE_MAPPINGS";
const PROCESSES: &str = "NATIVE_PROCESSES";

/// Elements written in one system call, so that none takes long.
const STEP: usize = 1 << 16;

/// How much room the native walk has. It is taken when the kernel side is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeLimits {
    /// Rows of all images together; 8 bytes each.
    pub rows: u32,
    /// Executable mappings of all processes together; 32 bytes each. One more process's are needed than are traced,
    /// since new mappings are written before the old ones are given up.
    pub mappings: u32,
    /// Processes.
    pub processes: u32,
}

impl NativeLimits {
    /// Without native frames: some bytes.
    pub const OFF: Self = Self { rows: 1, mappings: 1, processes: 1 };
}

impl Default for NativeLimits {
    /// 34 MB: room for some 400 libraries of a data science service, in some 200 processes.
    fn default() -> Self {
        Self { rows: 4 << 20, mappings: 1 << 16, processes: 4096 }
    }
}

/// Where an image's rows are in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// Index of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The maps' sizes, by name, for the loader.
pub(super) fn sizes(limits: NativeLimits) -> [(&'static str, u32); 3] {
    [(ROWS, limits.rows), (MAPPINGS, limits.mappings), (PROCESSES, limits.processes)]
}

/// What is in the maps.
pub(super) struct NativeMaps {
    limits: NativeLimits,
    /// Rows written so far: tables stay until the end, since the next worker maps the same files.
    rows: u32,
    /// The stretches of the mappings' array in use: length by start.
    used: BTreeMap<u32, u32>,
    processes: HashMap<MapData, u32, Raw<NativeProcess>>,
}

impl NativeMaps {
    pub(super) fn new(ebpf: &mut Ebpf, limits: NativeLimits) -> Result<Self, KernelError> {
        Ok(Self { limits, rows: 0, used: BTreeMap::new(), processes: maps::hash_map(ebpf, PROCESSES)? })
    }

    /// Appends an image's table; `None` when there is no room for it.
    pub(super) fn add_table(&mut self, ebpf: &Ebpf, rows: &[Row]) -> Result<Option<RowRange>, KernelError> {
        let Some(count) = u32::try_from(rows.len()).ok().filter(|count| *count <= self.limits.rows - self.rows) else {
            return Ok(None);
        };
        let first = self.rows;
        write(ebpf, ROWS, first, rows)?;
        self.rows += count;
        Ok(Some(RowRange { first, count }))
    }

    /// Replaces a process's mappings, which must be sorted; false when there is no room for them.
    pub(super) fn set_mappings(
        &mut self,
        ebpf: &Ebpf,
        slot: u32,
        mappings: &[NativeMapping],
    ) -> Result<bool, KernelError> {
        let old = self.processes.get(&slot, 0).ok().map(|raw| raw.0);
        let Some(mut process) = self.find_room(mappings.len()) else {
            return Ok(false);
        };
        // The kernel side compares 16 bits of it.
        process.generation = old.map_or(0, |old| old.generation) % 0xffff + 1;
        // Written elsewhere first and then switched to: a walk sees the old ones or the new ones, never both.
        write(ebpf, MAPPINGS, process.first, mappings)?;
        self.processes.insert(slot, Raw(process), 0).map_err(|error| map_error(PROCESSES, error))?;
        if process.count != 0 {
            self.used.insert(process.first, process.count);
        }
        self.release(old);
        Ok(true)
    }

    /// Forgets a process's mappings.
    pub(super) fn forget(&mut self, slot: u32) {
        let old = self.processes.get(&slot, 0).ok().map(|raw| raw.0);
        // Without an entry there is nothing to remove.
        let _ = self.processes.remove(&slot);
        self.release(old);
    }

    /// Gives up a stretch. A walk under way may still search it and find nonsense there: its next read or look-up
    /// fails, or it records one wrong stack.
    fn release(&mut self, old: Option<NativeProcess>) {
        if let Some(old) = old.filter(|old| old.count != 0) {
            self.used.remove(&old.first);
        }
    }

    /// The first hole that is large enough.
    fn find_room(&self, count: usize) -> Option<NativeProcess> {
        let count = u32::try_from(count).ok().filter(|count| *count < 1 << MAPPING_STEPS)?;
        let mut first = 0;
        for (start, length) in &self.used {
            if start - first >= count {
                break;
            }
            first = start + length;
        }
        (self.limits.mappings - first >= count).then_some(NativeProcess { first, count, generation: 0, reserved: 0 })
    }
}

fn write<T: bytemuck::Pod>(ebpf: &Ebpf, name: &'static str, first: u32, values: &[T]) -> Result<(), KernelError> {
    let map = ebpf.map(name).and_then(maps::data).ok_or(KernelError::MissingField(name))?;
    let mut first = first;
    for part in values.chunks(STEP) {
        let count = u32::try_from(part.len()).map_err(|_| failed(name, "too many elements"))?;
        let keys: Vec<u32> = (first..first + count).collect();
        sys::update_batch(map.fd().as_fd(), &keys, bytemuck::cast_slice(part))
            .map_err(|source| KernelError::Map { name, source })?;
        first += count;
    }
    Ok(())
}

fn failed(name: &'static str, reason: &str) -> KernelError {
    KernelError::Map { name, source: io::Error::other(reason.to_owned()) }
}
