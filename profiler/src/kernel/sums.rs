//! The sums of all stacks, mapped into our memory: reading them costs no system call and only what exists.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use profiler_common::ledger::StackSums;

use super::{KernelError, map_error, maps};

const NAME: &str = "STACKS";

/// The kernel side's array of sums, by the stack's number.
pub(super) struct Sums {
    start: NonNull<StackSums>,
    capacity: usize,
    last: Array<MapData, u64>,
}

impl Sums {
    /// Maps it.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Map { name: NAME, source };
        let last = ebpf.take_map("LAST_STACK").ok_or(KernelError::MissingField("LAST_STACK"))?;
        let last = Array::try_from(last).map_err(|error| map_error("LAST_STACK", error))?;
        let map = ebpf.map(NAME).and_then(maps::data).ok_or(KernelError::MissingField(NAME))?;
        let info = map.info().map_err(|error| map_error(NAME, error))?;
        if info.value_size() as usize != size_of::<StackSums>() {
            return Err(failed(io::Error::other("its values have another size")));
        }
        let capacity = info.max_entries() as usize;
        // SAFETY: a new mapping of our choice of nothing; the kernel refuses a length that is not the array's.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length(capacity),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| failed(io::Error::other("mapped at address 0")))?;
        Ok(Self { start, capacity, last })
    }

    /// Every stack that has a number, with its sums; fields that change meanwhile are from slightly different moments.
    pub fn read(&self) -> Result<Vec<(u64, StackSums)>, KernelError> {
        let last = self.last.get(&0, 0).map_err(|error| map_error("LAST_STACK", error))?;
        let end = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).min(self.capacity);
        let at = |number: usize| {
            // SAFETY: the number is below the array's length, and any bytes are valid sums. Volatile, because the
            // kernel side writes them meanwhile.
            let sums = unsafe { self.start.add(number).read_volatile() };
            (number as u64, sums)
        };
        Ok((1..end).map(at).collect())
    }

    /// The slot of a stack; `None` for a number that there is not.
    pub fn slot(&self, number: u32) -> Option<u32> {
        self.place(number).map(|place| {
            // SAFETY: the place is in the array; volatile, because the kernel side writes it.
            unsafe { (&raw const (*place).slot).read_volatile() }
        })
    }

    /// Makes a stack's sums those of one that has not been given yet. Nothing may refer to its number any more.
    pub fn clear(&self, number: u32) {
        if let Some(place) = self.place(number) {
            // SAFETY: the place is in the array, which is mapped for writing, and nobody else writes these sums.
            unsafe { place.write_volatile(bytemuck::Zeroable::zeroed()) };
        }
    }

    fn place(&self, number: u32) -> Option<*mut StackSums> {
        let number = usize::try_from(number).ok().filter(|number| *number < self.capacity)?;
        // SAFETY: the number is below the array's length.
        Some(unsafe { self.start.add(number) }.as_ptr())
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no reference into it exists.
        unsafe { libc::munmap(self.start.as_ptr().cast(), length(self.capacity)) };
    }
}

/// Bytes of the mapping: what the kernel makes of the array's size.
fn length(capacity: usize) -> usize {
    (capacity * size_of::<StackSums>()).next_multiple_of(rustix::param::page_size())
}
