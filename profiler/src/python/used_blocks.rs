//! Which blocks of a pool are in use, from a copy of its header and the chain of its free blocks.

use super::pool::{self, HEADER_BYTES};

/// In a pool's header: the first free block, and the offset of the first block that was never handed out.
const FREE: usize = 8;
const NEXT_OFFSET: usize = 40;

/// The blocks of the pool at `start` that are in use; `None` if it is no pool, or changed while it was read.
///
/// `word` reads the copy.
pub fn used_blocks(word: impl Fn(u64) -> Option<u64>, start: u64, pool_size: u64) -> Option<(u64, Vec<u64>)> {
    let mut header = [0; HEADER_BYTES];
    for (index, chunk) in header.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&word(start + index as u64 * 8)?.to_le_bytes());
    }
    let content = pool::decode(&header, pool_size)?;
    let (first, size) = (start + HEADER_BYTES as u64, content.block_size);
    if content.blocks == 0 {
        return Some((size, Vec::new()));
    }
    let never = u64::from(u32::from_le_bytes(header[NEXT_OFFSET..NEXT_OFFSET + 4].try_into().ok()?));
    let capacity = (pool_size - HEADER_BYTES as u64) / size;
    let handed = (never.checked_sub(HEADER_BYTES as u64)? / size).min(capacity);
    let mut used = vec![true; handed as usize];
    let mut free = u64::from_le_bytes(header[FREE..FREE + 8].try_into().ok()?);
    while free != 0 {
        let index = free.checked_sub(first).filter(|offset| offset.is_multiple_of(size))? / size;
        // A block that is free twice would be a circle.
        let block = used.get_mut(index as usize).filter(|used| **used)?;
        *block = false;
        free = word(free)?;
    }
    let blocks: Vec<_> = (0..handed).filter(|&index| used[index as usize]).map(|index| first + index * size).collect();
    (blocks.len() as u64 == content.blocks).then_some((size, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x40_0000;

    /// A pool of blocks of 64 bytes of which five were handed out, with this many in use and this chain of free ones.
    fn pool(used: u32, chain: &[u64]) -> Vec<u64> {
        let block = |index: u64| START + 48 + index * 64;
        let mut words = vec![0; 512];
        words[0] = used.into();
        words[4] = 3 << 32;
        words[5] = 48 + 5 * 64;
        let mut at = 1;
        for &index in chain {
            words[at] = block(index);
            at = ((block(index) - START) / 8) as usize;
        }
        words
    }

    fn used(words: &[u64]) -> Option<Vec<u64>> {
        let word = |address: u64| words.get(((address - START) / 8) as usize).copied();
        let (size, blocks) = used_blocks(word, START, 4096)?;
        assert_eq!(size, 64);
        Some(blocks.iter().map(|block| (block - START - 48) / 64).collect())
    }

    #[test]
    fn free_blocks_and_those_never_handed_out_are_not_used() {
        assert_eq!(used(&pool(3, &[1, 3])), Some(vec![0, 2, 4]));
        assert_eq!(used(&pool(5, &[])), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(used(&pool(0, &[4])), Some(vec![]));
    }

    #[test]
    fn a_pool_that_changed_meanwhile_is_refused() {
        assert_eq!(used(&pool(4, &[1, 3])), None);
        let mut circle = pool(3, &[1, 3]);
        circle[(48 + 3 * 64) / 8] = START + 48 + 64;
        assert_eq!(used(&circle), None);
        let mut astray = pool(3, &[1, 3]);
        astray[(48 + 3 * 64) / 8] = 8;
        assert_eq!(used(&astray), None);
    }
}
