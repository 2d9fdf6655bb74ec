//! The slots of one pymalloc pool in another process: which are free, and which would be handed out next.
//!
//! Facts are `Objects/obmalloc.c` of CPython 3.8 to 3.15: a pool's header names the first slot that was given back, whose
//! first word names the next; the slots from `nextoffset` to `maxnextoffset` were never handed out, and are used one by
//! one when the list is empty.

use super::pool::{self, HEADER_BYTES};
use crate::process::memory::Memory;

const FREE: usize = 8;
const CLASS: usize = 36;
const NEXT: usize = 40;
const LAST: usize = 44;

/// The word of a slot that is written when an object is made in it, bytes from its start: the second, since the first one
/// is pymalloc's as long as the slot is free. A slot of 16 bytes may hold a list's only item, in its first.
pub const fn watched_word(size: u64) -> u64 {
    if size == 16 { 0 } else { 8 }
}

/// A pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Its size class: 0 for 16 bytes.
    pub class: u32,
    /// Bytes of a slot.
    pub size: u64,
    /// Slots that hold a block.
    pub used: u64,
    /// Addresses of the slots that do not, in the order in which they would be handed out.
    pub free: Vec<u64>,
}

impl Slots {
    /// Reads a pool; `None` if it is none, or changed meanwhile.
    pub fn read(memory: &dyn Memory, address: u64, pool_size: u64) -> Option<Self> {
        let mut bytes = vec![0; usize::try_from(pool_size).ok()?];
        memory.read(address, &mut bytes).ok()?;
        Self::decode(&bytes, address)
    }

    fn decode(bytes: &[u8], address: u64) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let pool_size = bytes.len() as u64;
        let content = pool::decode(header, pool_size)?;
        let int = |at: usize| Some(u64::from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let size = content.block_size;
        let is_slot =
            |offset: u64| offset >= HEADER_BYTES as u64 && (offset - HEADER_BYTES as u64).is_multiple_of(size);
        let mut free = Vec::new();
        let mut slot = long(FREE)?;
        let capacity = (pool_size - HEADER_BYTES as u64) / size;
        while slot != 0 {
            let offset = slot.checked_sub(address).filter(|&offset| offset + size <= pool_size && is_slot(offset))?;
            free.push(slot);
            if free.len() as u64 > capacity {
                return None;
            }
            slot = long(usize::try_from(offset).ok()?)?;
        }
        let (next, last) = (int(NEXT)?, int(LAST)?);
        if last + size > pool_size || next <= last && !is_slot(next) {
            return None;
        }
        free.extend((next..=last).step_by(usize::try_from(size).ok()?).map(|offset| address + offset));
        let class = u32::try_from(int(CLASS)?).ok()?;
        (content.blocks + free.len() as u64 == capacity).then_some(Self { class, size, used: content.blocks, free })
    }

    /// Whether a slot of this pool holds a block.
    pub fn holds(&self, slot: u64) -> bool {
        !self.free.contains(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: u64 = 0x7f00_0000_4000;

    /// A pool of slots of 512 bytes, two of three handed-out ones given back.
    fn pool() -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &1u32.to_le_bytes());
        put(FREE, &(ADDRESS + 48 + 1024).to_le_bytes());
        put(48 + 1024, &(ADDRESS + 48).to_le_bytes());
        put(CLASS, &31u32.to_le_bytes());
        put(NEXT, &(48u32 + 3 * 512).to_le_bytes());
        put(LAST, &(4096u32 - 512).to_le_bytes());
        bytes
    }

    #[test]
    fn free_slots_in_the_order_they_are_handed_out() {
        let slots = Slots::decode(&pool(), ADDRESS).unwrap();
        let offsets: Vec<u64> = slots.free.iter().map(|slot| (slot - ADDRESS - 48) / 512).collect();
        assert_eq!((slots.class, slots.size, slots.used), (31, 512, 1));
        assert_eq!(offsets, [2, 0, 3, 4, 5, 6]);
        assert!(slots.holds(ADDRESS + 48 + 512) && !slots.holds(ADDRESS + 48));
    }

    #[test]
    fn a_pool_that_changed_meanwhile_is_none() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = pool();
            change(&mut bytes);
            assert_eq!(Slots::decode(&bytes, ADDRESS), None);
        };
        refused(&|bytes| bytes[0] = 2);
        refused(&|bytes| bytes[48 + 1024] = 1);
        refused(&|bytes| bytes[48..56].copy_from_slice(&(ADDRESS + 48).to_le_bytes()));
        refused(&|bytes| bytes[LAST..LAST + 4].copy_from_slice(&u32::MAX.to_le_bytes()));
        refused(&|bytes| bytes[FREE..FREE + 8].copy_from_slice(&u64::MAX.to_le_bytes()));
        refused(&|bytes| bytes.truncate(47));
    }
}
