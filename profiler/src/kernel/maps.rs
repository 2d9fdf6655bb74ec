//! Reading the maps that the kernel side fills.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};

use super::{KernelError, map_error, sys};

/// A shared record as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Raw<T>(pub T);

// SAFETY: bytemuck's derive has checked that T is plain old data without padding; `Raw` is transparent.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}

/// Takes a hash map out of the loaded object.
pub(super) fn hash_map<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, K, V>, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::MissingField(name))?;
    HashMap::try_from(map).map_err(|error| map_error(name, error))
}

/// Takes an array out of the loaded object.
pub(super) fn array<V: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::MissingField(name))?;
    Array::try_from(map).map_err(|error| map_error(name, error))
}

/// Takes the counters out of the loaded object.
pub(super) fn counters(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, KernelError> {
    let map = ebpf.take_map("COUNTERS").ok_or(KernelError::MissingField("COUNTERS"))?;
    PerCpuArray::try_from(map).map_err(|error| map_error("COUNTERS", error))
}

/// The map's data, for the kinds of maps that we have.
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::Queue(data) => {
            Some(data)
        }
        _ => None,
    }
}

/// Elements asked for at first in one step.
const STEP: usize = 4096;

/// Reads a whole hash map. Elements inserted or removed meanwhile may or may not be among them.
pub(super) fn read_all<K: bytemuck::Pod, V: bytemuck::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<Vec<(K, V)>, KernelError> {
    all(ebpf, name, false)
}

/// Reads a whole hash map and takes out of it what was read. Elements inserted meanwhile may or may not be among them.
pub(super) fn take_all<K: bytemuck::Pod, V: bytemuck::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<Vec<(K, V)>, KernelError> {
    all(ebpf, name, true)
}

fn all<K: bytemuck::Pod, V: bytemuck::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
    remove: bool,
) -> Result<Vec<(K, V)>, KernelError> {
    let map = ebpf.map(name).and_then(data).ok_or(KernelError::MissingField(name))?;
    all_of(map.fd().as_fd(), name, remove)
}

/// The same, of a map that aya does not have any more.
pub(super) fn read_all_of<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: BorrowedFd<'_>,
    name: &'static str,
) -> Result<Vec<(K, V)>, KernelError> {
    all_of(map, name, false)
}

fn all_of<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: BorrowedFd<'_>,
    name: &'static str,
    remove: bool,
) -> Result<Vec<(K, V)>, KernelError> {
    let mut all = Vec::new();
    let (mut from, mut step) = (None, STEP);
    loop {
        let mut keys = vec![K::zeroed(); step];
        let mut values = vec![V::zeroed(); step];
        let (key_bytes, value_bytes) = (bytemuck::cast_slice_mut(&mut keys), bytemuck::cast_slice_mut(&mut values));
        match sys::lookup_batch(map, remove, from, key_bytes, value_bytes, step) {
            Ok(batch) => {
                all.extend(keys.into_iter().zip(values).take(batch.count));
                match batch.next {
                    Some(next) => from = Some(next),
                    None => return Ok(all),
                }
            }
            // One bucket holds more than a step: ask for more.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && step < 1 << 22 => step *= 2,
            Err(source) => return Err(KernelError::Map { name, source }),
        }
    }
}
