//! Reading within bounds: so many bytes, so long, and what was read is counted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::memory::Memory;

/// What one look into a process may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes read from the target.
    pub bytes: u64,
    /// Wall time.
    pub time: Duration,
}

impl Default for Budget {
    /// Enough for some gigabytes of heap, and a second at most.
    fn default() -> Self {
        Self { bytes: 4 << 30, time: Duration::from_secs(1) }
    }
}

/// Memory that refuses to be read beyond a budget.
#[derive(Debug)]
pub struct Bounded<'a, M> {
    memory: &'a M,
    budget: Budget,
    begin: Instant,
    read: Cell<u64>,
    spent: Cell<bool>,
}

impl<'a, M: Memory> Bounded<'a, M> {
    /// Starts the clock.
    pub fn new(memory: &'a M, budget: Budget) -> Self {
        Self { memory, budget, begin: Instant::now(), read: Cell::new(0), spent: Cell::new(false) }
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Whether a read was refused because the budget was spent.
    pub fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// The budget that is left.
    pub fn left(&self) -> Budget {
        Budget {
            bytes: self.budget.bytes.saturating_sub(self.read.get()),
            time: self.budget.time.saturating_sub(self.begin.elapsed()),
        }
    }
}

impl<M: Memory> Memory for Bounded<'_, M> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.read.get().saturating_add(buffer.len() as u64);
        if read > self.budget.bytes || self.begin.elapsed() > self.budget.time {
            self.spent.set(true);
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the budget of this look is spent"));
        }
        self.read.set(read);
        self.memory.read(address, buffer)
    }
}

const PAGE: u64 = 4096;

/// Bytes read at first and at most when a window moves on: pages far apart are not read in between.
const SMALLEST: u64 = PAGE;
const LARGEST: u64 = 64 * PAGE;

/// Memory read from low to high addresses, copied in growing pieces where it is read without gaps.
#[derive(Debug)]
pub struct Window<'a, M> {
    memory: &'a M,
    end: u64,
    start: u64,
    copy: Vec<u8>,
    step: u64,
}

impl<'a, M: Memory> Window<'a, M> {
    /// A window that never reads at or after `end`.
    pub fn new(memory: &'a M, end: u64) -> Self {
        Self { memory, end, start: 0, copy: Vec::new(), step: SMALLEST }
    }

    /// The u64 at an address that is a multiple of 8.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        if !address.is_multiple_of(8) || address.checked_add(8)? > self.end {
            return None;
        }
        if address < self.start || address - self.start >= self.copy.len() as u64 {
            self.move_to(address)?;
        }
        let at = usize::try_from(address - self.start).ok()?;
        let bytes = self.copy.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn move_to(&mut self, address: u64) -> Option<()> {
        let behind = self.start + self.copy.len() as u64;
        let near = address >= behind && address - behind < self.step;
        self.step = if near { (self.step * 2).min(LARGEST) } else { SMALLEST };
        let start = address / PAGE * PAGE;
        // A part that is not mapped must not hide the first page.
        let read = [self.step, SMALLEST].into_iter().find_map(|step| {
            let length = usize::try_from(step.min(self.end - start)).ok()?;
            self.memory.bytes(start, length, length).ok()
        });
        self.copy = read.unwrap_or_default();
        self.start = start;
        (!self.copy.is_empty()).then_some(())
    }
}

/// Copied pages, for following pointers: each page is read once, as long as they are few.
#[derive(Debug)]
pub struct Pages<'a, M> {
    memory: &'a M,
    copies: RefCell<HashMap<u64, Option<Box<[u8]>>>>,
}

/// 16 MiB of copies.
const MAX_PAGES: usize = 4096;

impl<'a, M: Memory> Pages<'a, M> {
    /// No page read yet.
    pub fn new(memory: &'a M) -> Self {
        Self { memory, copies: RefCell::default() }
    }

    /// The u64 at an address that is a multiple of 8.
    pub fn word(&self, address: u64) -> Option<u64> {
        if !address.is_multiple_of(8) {
            return None;
        }
        let mut copies = self.copies.borrow_mut();
        if copies.len() >= MAX_PAGES {
            copies.clear();
        }
        let page = copies.entry(address / PAGE).or_insert_with(|| {
            let bytes = self.memory.bytes(address / PAGE * PAGE, PAGE as usize, PAGE as usize);
            bytes.ok().map(Vec::into_boxed_slice)
        });
        let at = (address % PAGE) as usize;
        let bytes = page.as_ref()?.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes from 0x10000 on.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(address.wrapping_sub(0x10000)).unwrap_or(usize::MAX);
            let bytes = self.0.get(at..at.saturating_add(buffer.len()));
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::AddrNotAvailable)?);
            Ok(())
        }
    }

    fn words(count: u64) -> Bytes {
        Bytes((0..count).flat_map(u64::to_le_bytes).collect())
    }

    #[test]
    fn reads_no_further_than_the_budget() {
        let memory = words(1 << 14);
        let bounded = Bounded::new(&memory, Budget { bytes: 8192, time: Duration::from_secs(60) });
        assert!(bounded.bytes(0x10000, 8192, 8192).is_ok() && !bounded.is_spent());
        assert!(bounded.u64(0x10000).is_err() && bounded.is_spent());
        assert_eq!((bounded.bytes_read(), bounded.left().bytes), (8192, 0));
    }

    #[test]
    fn a_window_gives_every_word_and_skips_what_is_not_asked_for() {
        let memory = words(1 << 15);
        let bounded = Bounded::new(&memory, Budget::default());
        let end = 0x10000 + (1 << 18);
        let mut window = Window::new(&bounded, end);
        assert_eq!(window.word(0x10008), Some(1));
        assert_eq!(window.word(end - 8), Some((1 << 15) - 1));
        assert_eq!(bounded.bytes_read(), 8192);
        assert_eq!((window.word(end), window.word(0x10004), window.word(8)), (None, None, None));
        let mut window = Window::new(&memory, end);
        assert!((0..1 << 15).all(|index| window.word(0x10000 + index * 8) == Some(index)));
    }

    #[test]
    fn pages_are_read_once() {
        let memory = words(1 << 10);
        let bounded = Bounded::new(&memory, Budget::default());
        let pages = Pages::new(&bounded);
        assert_eq!((pages.word(0x10010), pages.word(0x10ff8), pages.word(0x9000)), (Some(2), Some(511), None));
        assert_eq!(pages.word(0x10010), Some(2));
        assert_eq!(bounded.bytes_read(), 8192);
    }
}
