//! A copy of a process's memory, made in pieces as they are needed, each once: so one piece is of one moment, and
//! following a pointer costs no system call.

use std::cell::{Cell, OnceCell};
use std::io;
use std::time::Instant;

use crate::process::bounded::Budget;
use crate::process::maps::{Region, RegionName};
use crate::process::memory::Memory;

/// Bytes of a piece: few enough that pages between objects are not copied for nothing, many enough for a system call.
const PIECE: u64 = 64 << 10;
/// What is still read of a piece that is not mapped as a whole.
const PAGE: u64 = 4 << 10;
/// Larger mappings are reservations, not memory.
const LARGEST_SPAN: u64 = 64 << 30;

/// Neighbouring readable regions of one kind.
#[derive(Debug)]
pub struct Span {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Only such memory holds objects: their counts change.
    pub writable: bool,
    pieces: Box<[OnceCell<Box<[u8]>>]>,
}

/// The copy.
pub struct Copy<'a> {
    memory: &'a dyn Memory,
    spans: Vec<Span>,
    largest: u64,
    last: Cell<usize>,
    budget: Budget,
    began: Instant,
    read: Cell<u64>,
    spent: Cell<bool>,
}

impl<'a> Copy<'a> {
    /// Nothing is copied yet; the clock starts.
    pub fn new(memory: &'a dyn Memory, regions: &[Region], budget: Budget) -> Self {
        let readable = regions.iter().filter(|region| is_memory(region));
        let spans = readable.map(|region| Span {
            start: region.start,
            end: region.end,
            writable: region.permissions.write,
            pieces: (0..(region.end - region.start).div_ceil(PIECE)).map(|_| OnceCell::new()).collect(),
        });
        let mut spans: Vec<Span> = spans.collect();
        spans.sort_by_key(|span| span.start);
        let largest = spans.iter().map(|span| span.end - span.start).max().unwrap_or(0);
        let (last, read, spent) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Self { memory, spans, largest, last, budget, began: Instant::now(), read, spent }
    }

    /// Bytes copied so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// When the copying began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether the time for the look is over.
    pub fn is_late(&self) -> bool {
        let late = self.began.elapsed() > self.budget.time;
        if late {
            self.spent.set(true);
        }
        late
    }

    /// Whether something was not read because a bound was reached.
    pub fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// Whether an address lies in memory that may hold objects.
    pub fn is_writable(&self, address: u64) -> bool {
        self.span(address).is_some_and(|span| span.writable)
    }

    /// Bytes of the largest mapping.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Whether so many bytes from an address on lie in one mapping.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        self.span(address).is_some_and(|span| bytes <= span.end - address)
    }

    /// The words at an address as they are now, not as they were copied; counted like a copy.
    pub fn words_now(&self, address: u64, count: u64) -> Option<Vec<u64>> {
        let length = count.checked_mul(8)?;
        let read = self.read.get().checked_add(length)?;
        if read > self.budget.bytes {
            self.spent.set(true);
            return None;
        }
        self.read.set(read);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.memory.read(address, &mut bytes).ok()?;
        Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// The little-endian u64 at an address that is a multiple of 8.
    pub fn word(&self, address: u64) -> Option<u64> {
        if !address.is_multiple_of(8) {
            return None;
        }
        let bytes = self.slice(address, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The u64 at an address that is a multiple of 8, as a signed number.
    pub fn signed(&self, address: u64) -> Option<i64> {
        self.word(address).map(u64::cast_signed)
    }

    /// The little-endian u32 at an address that is a multiple of 4.
    pub fn half(&self, address: u64) -> Option<u32> {
        if !address.is_multiple_of(4) {
            return None;
        }
        let bytes = self.slice(address, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The byte at an address.
    pub fn byte(&self, address: u64) -> Option<u8> {
        self.slice(address, 1)?.first().copied()
    }

    /// The text at an address up to its zero byte, of at most `most` bytes.
    pub fn text(&self, address: u64, most: u64) -> Option<String> {
        let bytes: Vec<u8> = (0..most).map_while(|at| self.byte(address.checked_add(at)?)).collect();
        let end = bytes.iter().position(|&byte| byte == 0)?;
        bytes.get(..end).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    fn span(&self, address: u64) -> Option<&Span> {
        let last = self.spans.get(self.last.get());
        if let Some(span) = last.filter(|span| span.start <= address && address < span.end) {
            return Some(span);
        }
        let index = self.spans.partition_point(|span| span.end <= address);
        let span = self.spans.get(index).filter(|span| span.start <= address)?;
        self.last.set(index);
        Some(span)
    }

    /// Bytes that lie in one piece.
    fn slice(&self, address: u64, length: u64) -> Option<&[u8]> {
        let span = self.span(address)?;
        let offset = address - span.start;
        let piece = span.pieces.get((offset / PIECE) as usize)?;
        let bytes = match piece.get() {
            Some(bytes) => bytes,
            None => {
                let copied = self.copied(span, offset / PIECE * PIECE)?;
                piece.get_or_init(|| copied)
            }
        };
        let at = (offset % PIECE) as usize;
        bytes.get(at..at + length as usize)
    }

    /// Copies a piece; what of it cannot be read is zeros.
    fn copied(&self, span: &Span, offset: u64) -> Option<Box<[u8]>> {
        let start = span.start + offset;
        let length = PIECE.min(span.end - start);
        let read = self.read.get() + length;
        if read > self.budget.bytes || self.is_late() {
            self.spent.set(true);
            return None;
        }
        self.read.set(read);
        let mut bytes = vec![0; length as usize];
        if self.memory.read(start, &mut bytes).is_err() {
            bytes.fill(0);
            for (page, buffer) in (start..).step_by(PAGE as usize).zip(bytes.chunks_mut(PAGE as usize)) {
                if self.memory.read(page, buffer).is_err() {
                    buffer.fill(0);
                }
            }
        }
        Some(bytes.into_boxed_slice())
    }
}

/// Whether a region is memory, and not a device or the kernel's own page.
pub fn is_memory(region: &Region) -> bool {
    let strange = match &region.name {
        RegionName::Special(name) => name.starts_with("[v"),
        RegionName::File { path, .. } => path.starts_with("/dev") && !path.starts_with("/dev/shm"),
        RegionName::Anonymous => false,
    };
    region.permissions.read && !strange && region.start < region.end && region.end - region.start <= LARGEST_SPAN
}

impl Memory for Copy<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = address;
        let mut rest = buffer;
        while !rest.is_empty() {
            let span = self.span(at).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let in_piece = PIECE - (at - span.start) % PIECE;
            let count = in_piece.min(span.end - at).min(rest.len() as u64);
            let (head, tail) = rest.split_at_mut(count as usize);
            head.copy_from_slice(self.slice(at, count).ok_or(io::ErrorKind::TimedOut)?);
            at += count;
            rest = tail;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::maps::Permissions;

    /// Words that are their own addresses, from 0x10000 to 0x50000 but for a page.
    struct Addresses;

    const HOLE: u64 = 0x2_3000;

    impl Memory for Addresses {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let end = address + buffer.len() as u64;
            if address < 0x1_0000 || end > 0x5_0000 || address < HOLE + PAGE && HOLE < end {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            for (byte, at) in buffer.iter_mut().zip(address..) {
                *byte = (at & !7).to_le_bytes()[(at % 8) as usize];
            }
            Ok(())
        }
    }

    fn region(start: u64, end: u64, write: bool) -> Region {
        let permissions = Permissions { read: true, write, execute: false, shared: false };
        let name = RegionName::Anonymous;
        Region { start, end, permissions, offset: 0, device: String::new(), inode: 0, name }
    }

    fn budget(bytes: u64) -> Budget {
        Budget { bytes, time: Duration::from_secs(60) }
    }

    #[test]
    fn a_piece_is_copied_once_and_a_hole_in_it_is_zeros() {
        let regions = [region(0x1_0000, 0x3_0000, true), region(0x3_0000, 0x5_0000, false)];
        let copy = Copy::new(&Addresses, &regions, budget(1 << 20));
        assert_eq!((copy.word(0x1_0008), copy.word(0x1_fff8)), (Some(0x1_0008), Some(0x1_fff8)));
        assert_eq!(copy.bytes_read(), PIECE);
        assert_eq!((copy.word(HOLE), copy.word(HOLE + PAGE)), (Some(0), Some(HOLE + PAGE)));
        assert_eq!((copy.word(0x1_0004), copy.word(0x5_0000), copy.word(0)), (None, None, None));
        assert!(copy.is_writable(0x2_fff8) && !copy.is_writable(0x3_0000));
        let mut across = [0; 16];
        copy.read(0x2_fff8, &mut across).unwrap();
        assert_eq!(across[..8], 0x2_fff8_u64.to_le_bytes());
        assert_eq!(across[8..], 0x3_0000_u64.to_le_bytes());
    }

    #[test]
    fn words_of_now_are_counted_and_bounded() {
        let copy = Copy::new(&Addresses, &[region(0x1_0000, 0x5_0000, true)], budget(64));
        assert_eq!(copy.words_now(0x4_0000, 3), Some(vec![0x4_0000, 0x4_0008, 0x4_0010]));
        assert_eq!((copy.words_now(0x5_0000, 1), copy.bytes_read()), (None, 32));
        assert!(copy.words_now(0x4_0000, 5).is_none() && copy.is_spent());
        assert!(copy.holds(0x4_0000, 0x1_0000) && !copy.holds(0x4_0000, 0x1_0001) && !copy.holds(0, 1));
    }

    #[test]
    fn what_is_over_the_budget_is_not_read_and_said() {
        let copy = Copy::new(&Addresses, &[region(0x1_0000, 0x5_0000, true)], budget(PIECE));
        assert!(copy.word(0x1_0000).is_some() && !copy.is_spent());
        assert_eq!(copy.word(0x2_0000), None);
        assert!(copy.is_spent() && copy.word(0x1_0000).is_some());
    }
}
