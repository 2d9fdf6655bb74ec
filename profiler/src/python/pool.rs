//! pymalloc's pool headers: how many blocks of a pool are live, and how large they are.
//!
//! Layout from `Objects/obmalloc.c`, the same from CPython 3.8 to 3.15: used-block count u32 at 0, size class index
//! u32 at 36, 48 bytes in all; blocks of (index + 1) * 16 bytes follow.

/// Bytes of a pool's header.
pub const HEADER_BYTES: usize = 48;

const CLASSES: u32 = 32;
const ALIGNMENT: u64 = 16;

/// What a pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolContent {
    /// Live blocks.
    pub blocks: u64,
    /// Size of each, bytes.
    pub block_size: u64,
}

/// Bytes of a pool: 4 KiB up to CPython 3.9, 16 KiB since.
pub fn pool_size(minor: u8) -> u64 {
    if minor <= 9 { 4 << 10 } else { 16 << 10 }
}

/// Decodes a header; `None` for one that cannot be a pool's (the memory has been given back and used anew).
pub fn decode(header: &[u8; HEADER_BYTES], pool_size: u64) -> Option<PoolContent> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    content(word(0), word(36), pool_size)
}

/// What a header says whose used-block count and size class index are known; `None` as in [`decode`].
pub fn content(blocks: u32, class: u32, pool_size: u64) -> Option<PoolContent> {
    let blocks = u64::from(blocks);
    let block_size = u64::from(class.min(CLASSES) + 1) * ALIGNMENT;
    let capacity = (pool_size - HEADER_BYTES as u64) / block_size;
    (class < CLASSES && blocks <= capacity).then_some(PoolContent { blocks, block_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(blocks: u32, class: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&blocks.to_le_bytes());
        bytes[36..40].copy_from_slice(&class.to_le_bytes());
        bytes
    }

    #[test]
    fn counts_blocks_and_refuses_what_is_no_pool() {
        let size = pool_size(12);
        assert_eq!(decode(&header(340, 2), size), Some(PoolContent { blocks: 340, block_size: 48 }));
        assert_eq!(decode(&header(341, 2), size), None);
        assert_eq!(decode(&header(0, 31), size), Some(PoolContent { blocks: 0, block_size: 512 }));
        assert_eq!(decode(&header(0, 32), size), None);
        assert_eq!(decode(&[0xff; HEADER_BYTES], size), None);
    }
}
