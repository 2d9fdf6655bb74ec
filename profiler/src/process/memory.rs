//! Reading another process's memory, through /proc/PID/mem: bounded, never stopping it, never writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::Pid;

/// Memory that can be read at an address: a process, or bytes in a test.
///
/// Nothing read is to be believed: the target may change or unmap it at any moment.
pub trait Memory {
    /// Fills `buffer` from `address`, wholly or not at all.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads a little-endian u64.
    fn u64(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a little-endian u32.
    fn u32(&self, address: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a little-endian i32.
    fn i32(&self, address: u64) -> io::Result<i32> {
        self.u32(address).map(u32::cast_signed)
    }

    /// Reads `length` bytes; refuses more than `limit` without reading.
    fn bytes(&self, address: u64, length: usize, limit: usize) -> io::Result<Vec<u8>> {
        if length > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("length {length} is over {limit}")));
        }
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }
}

/// The memory of a running process.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
}

impl ProcessMemory {
    /// Opens the memory of a process; fails without the right to ptrace it.
    ///
    /// The handle stays bound to the address space of this moment: after an exec reads fail or return zero bytes.
    pub fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/mem"))? })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, address)
    }
}
