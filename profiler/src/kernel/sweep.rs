//! Taking out what processes that have ended left in the maps, a little at a time: the room is for those that run.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{MapData, Queue};

use super::sums::Sums;
use super::{KernelError, map_error, maps, sys};
use profiler_common::ledger::{BlockKey, LiveCode};

const FREE: &str = "FREE_STACKS";
const CODES: &str = "CODES";
const NUMBERS: &str = "STACK_NUMBERS";

/// Elements read in one system call.
const STEP: usize = 4096;

/// Elements looked at in one turn: some milliseconds.
const TURN: usize = 1 << 16;

/// A hash map whose keys are u64s, to be walked in batches.
struct Table {
    name: &'static str,
    fd: OwnedFd,
    value_size: usize,
}

/// One walk over all tables.
struct Pass {
    slots: HashSet<u32>,
    table: usize,
    from: Option<u64>,
    step: usize,
}

/// What is to be taken out, and how far that has come.
pub(super) struct Sweeper {
    /// In this order: a stack's number is free only when no block and no pool has it any more.
    tables: Vec<Table>,
    free: Queue<MapData, u32>,
    pass: Option<Pass>,
    /// For the next walk.
    waiting: HashSet<u32>,
}

impl Sweeper {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let tables = ["BLOCKS", "POOLS", "OPENINGS", CODES, NUMBERS].into_iter().map(|name| table(ebpf, name));
        let tables = tables.collect::<Result<_, _>>()?;
        let free = ebpf.take_map(FREE).ok_or(KernelError::MissingField(FREE))?;
        let free = Queue::try_from(free).map_err(|error| map_error(FREE, error))?;
        Ok(Self { tables, free, pass: None, waiting: HashSet::new() })
    }

    /// The values of the map of code objects.
    pub(super) fn live_serials(&self) -> Result<HashSet<u64>, KernelError> {
        let table = self.tables.iter().find(|table| table.name == CODES).ok_or(KernelError::MissingField(CODES))?;
        let all: Vec<(u64, LiveCode)> = maps::read_all_of(table.fd.as_fd(), CODES)?;
        Ok(all.into_iter().map(|(_, code)| code.serial).collect())
    }

    /// Has what a slot left taken out. Its process has ended, and what is to be known of it is known.
    pub(super) fn add(&mut self, slot: u32) {
        self.waiting.insert(slot);
    }

    /// Goes on; gives the numbers of stacks that may be given anew from now on.
    pub(super) fn turn(&mut self, sums: &Sums) -> Result<Vec<u64>, KernelError> {
        let mut freed = Vec::new();
        if self.pass.is_none() && !self.waiting.is_empty() {
            self.pass = Some(Pass { slots: std::mem::take(&mut self.waiting), table: 0, from: None, step: STEP });
        }
        let mut looked_at = 0;
        while looked_at < TURN
            && let Some(pass) = &mut self.pass
        {
            let Some(table) = self.tables.get(pass.table) else {
                self.pass = None;
                break;
            };
            looked_at += pass.step;
            let Some(elements) = pass.read(table)? else { continue };
            if table.name == NUMBERS {
                freed.extend(free_numbers(table, &mut self.free, sums, &pass.slots, &elements)?);
            } else {
                let ended = elements.keys.iter().filter(|key| pass.slots.contains(&BlockKey(**key).slot()));
                delete(table, &ended.copied().collect::<Vec<u64>>())?;
            }
            pass.go_on(elements.next);
        }
        Ok(freed)
    }
}

/// Elements of a table.
struct Elements {
    keys: Vec<u64>,
    values: Vec<u8>,
    next: Option<u64>,
}

impl Pass {
    /// The next elements; `None` when it must be asked for more at once.
    fn read(&mut self, table: &Table) -> Result<Option<Elements>, KernelError> {
        let (mut keys, mut values) = (vec![0u64; self.step], vec![0u8; self.step * table.value_size]);
        let key_bytes = bytemuck::cast_slice_mut(&mut keys);
        match sys::lookup_batch(table.fd.as_fd(), false, self.from, key_bytes, &mut values, self.step) {
            Ok(batch) => {
                keys.truncate(batch.count);
                Ok(Some(Elements { keys, values, next: batch.next }))
            }
            // One bucket holds more than a step.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && self.step < 1 << 22 => {
                self.step *= 2;
                Ok(None)
            }
            Err(source) => Err(KernelError::Map { name: table.name, source }),
        }
    }

    fn go_on(&mut self, next: Option<u64>) {
        self.from = next;
        if next.is_none() {
            (self.table, self.step) = (self.table + 1, STEP);
        }
    }
}

/// Makes the numbers of stacks free whose slots have ended.
fn free_numbers(
    table: &Table,
    free: &mut Queue<MapData, u32>,
    sums: &Sums,
    slots: &HashSet<u32>,
    elements: &Elements,
) -> Result<Vec<u64>, KernelError> {
    let all = elements.keys.iter().zip(elements.values.chunks_exact(table.value_size));
    let ended = all.filter_map(|(&key, value)| Some((key, number_of(value, sums, slots)?)));
    let (keys, numbers): (Vec<u64>, Vec<u32>) = ended.unzip();
    delete(table, &keys)?;
    for &number in &numbers {
        sums.clear(number);
        free.push(number, 0).map_err(|error| map_error(FREE, error))?;
    }
    Ok(numbers.into_iter().map(u64::from).collect())
}

/// The number of a stack that belongs to one of the slots.
fn number_of(value: &[u8], sums: &Sums, slots: &HashSet<u32>) -> Option<u32> {
    let number = u32::from_le_bytes(value.get(..4)?.try_into().ok()?);
    slots.contains(&sums.slot(number)?).then_some(number)
}

fn table(ebpf: &Ebpf, name: &'static str) -> Result<Table, KernelError> {
    let map = ebpf.map(name).and_then(maps::data).ok_or(KernelError::MissingField(name))?;
    let info = map.info().map_err(|error| map_error(name, error))?;
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(|source| KernelError::Map { name, source })?;
    Ok(Table { name, fd, value_size: info.value_size() as usize })
}

fn delete(table: &Table, keys: &[u64]) -> Result<(), KernelError> {
    let mut left = keys;
    while !left.is_empty() {
        let (deleted, end) = sys::delete_batch(table.fd.as_fd(), bytemuck::cast_slice(left), left.len());
        left = left.get(deleted..).unwrap_or_default();
        match end {
            // The one after those deleted had gone by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => left = left.get(1..).unwrap_or_default(),
            Err(source) => return Err(KernelError::Map { name: table.name, source }),
            Ok(()) => {}
        }
    }
    Ok(())
}
