//! Which pages of a process are in memory, from /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::Pid;

/// Bytes of a page on x86-64.
pub const PAGE: u64 = 4096;

/// Bytes of an entry.
const ENTRY: usize = 8;
/// Pages read in one step.
const STEP: usize = 64 << 10;
/// Bit 15 and 16 of /proc/kpageflags: a part of a folio of more than one page.
const COMPOUND: u64 = 1 << 15 | 1 << 16;

/// One page's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// In memory.
    pub fn is_present(self) -> bool {
        self.0 >> 63 & 1 == 1
    }

    /// In swap.
    pub fn is_swapped(self) -> bool {
        self.0 >> 62 & 1 == 1
    }

    /// A page of a file, or of shared memory.
    pub fn is_file(self) -> bool {
        self.0 >> 61 & 1 == 1
    }

    /// Mapped into this process alone, once.
    pub fn is_exclusive(self) -> bool {
        self.0 >> 56 & 1 == 1
    }

    /// The number of the physical page; 0 without the right to know it (`CAP_SYS_ADMIN`).
    pub fn frame(self) -> u64 {
        if self.is_present() { self.0 & ((1 << 55) - 1) } else { 0 }
    }
}

/// The page tables of a process, as far as the kernel tells.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    /// Says which physical pages are parts of larger ones; `None` without the right to read it.
    flags: Option<File>,
}

impl PageMap {
    /// Opens them; they stay those of the program that runs now.
    pub fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/pagemap"))?, flags: File::open("/proc/kpageflags").ok() })
    }

    /// Reads the entries of a range of addresses, some at a time, and gives each step's first address with them.
    pub fn read(&self, range: Range<u64>, mut take: impl FnMut(u64, &[Entry])) -> io::Result<()> {
        let mut at = range.start / PAGE * PAGE;
        let step = |at: u64| usize::try_from((range.end - at).div_ceil(PAGE)).unwrap_or(STEP).min(STEP);
        // Most ranges are small, and to clear room for a whole step would be dearer than to read them.
        let mut bytes = vec![0; if at < range.end { step(at) * ENTRY } else { 0 }];
        let mut entries = Vec::with_capacity(bytes.len() / ENTRY);
        while at < range.end {
            let pages = step(at);
            let room = &mut bytes[..pages * ENTRY];
            let read = self.file.read_at(room, at / PAGE * ENTRY as u64)?;
            // The address space has gone, or ends here.
            if read < ENTRY {
                return Ok(());
            }
            entries.clear();
            entries.extend(
                room[..read]
                    .chunks_exact(ENTRY)
                    .map(|entry| Entry(u64::from_le_bytes(entry.try_into().unwrap_or_default()))),
            );
            take(at, &entries);
            at += entries.len() as u64 * PAGE;
        }
        Ok(())
    }

    /// Whether a page is a part of a larger one (a huge page, or one of the sizes between), which came by one fault.
    pub fn is_part_of_larger(&self, address: u64) -> bool {
        let mut frame = 0;
        let found =
            self.read(address..address + PAGE, |_, entries| frame = entries.first().map_or(0, |entry| entry.frame()));
        if found.is_err() || frame == 0 {
            return false;
        }
        let mut flags = [0; ENTRY];
        let read = self.flags.as_ref().map(|file| file.read_exact_at(&mut flags, frame * ENTRY as u64));
        matches!(read, Some(Ok(()))) && u64::from_le_bytes(flags) & COMPOUND != 0
    }
}

/// The physical page that stands for all pages of zeroes that were only read; `None` without the right to know it.
///
/// Such pages are present and do not count as resident.
pub fn zero_frame() -> Option<u64> {
    // More than any allocator keeps, so that it is fresh from the kernel; and only read.
    const BYTES: usize = 64 << 20;
    // Behind a black box: else the compiler knows what is read.
    let fresh = std::hint::black_box(vec![0u8; BYTES]);
    let address = fresh.as_ptr() as u64 + (BYTES / 2) as u64;
    std::hint::black_box(fresh[BYTES / 2]);
    let mut frame = 0;
    let own = PageMap::open(Pid(std::process::id())).ok()?;
    own.read(address..address + 1, |_, entries| frame = entries.first().map_or(0, |entry| entry.frame())).ok()?;
    (frame != 0).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(bytes: &[u8]) -> usize {
        let start = bytes.as_ptr() as u64;
        let map = PageMap::open(Pid(std::process::id())).unwrap();
        let mut present = 0;
        let zero = zero_frame();
        map.read(start..start + bytes.len() as u64, |_, entries| {
            let counts = |entry: &&Entry| entry.is_present() && (entry.frame() == 0 || Some(entry.frame()) != zero);
            present += entries.iter().filter(counts).count();
        })
        .unwrap();
        present
    }

    #[test]
    fn sees_what_was_written_and_not_what_was_not() {
        // More than any allocator keeps, so that it is fresh from the kernel.
        const PAGES: usize = 10_000;
        let mut bytes = vec![0u8; PAGES * PAGE as usize];
        assert!(present(&bytes) <= 1, "the allocator's own header at most");
        for page in 100..400 {
            bytes[page * PAGE as usize] = 1;
        }
        let seen = present(std::hint::black_box(&bytes));
        // With huge pages always on, more come than were touched.
        assert!((300..=PAGES + 1).contains(&seen), "{seen}");
    }
}
