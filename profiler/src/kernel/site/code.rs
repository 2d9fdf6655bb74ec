//! The executable bytes of a file.

use crate::process::image::Image;

/// The executable segments of a file.
pub(super) struct Code<'bytes> {
    blocks: Vec<Block<'bytes>>,
}

struct Block<'bytes> {
    vaddr: u64,
    offset: u64,
    bytes: &'bytes [u8],
}

impl<'bytes> Code<'bytes> {
    /// The code of a mapped file.
    pub(super) fn of(image: &'bytes Image) -> Self {
        let blocks = image.segments.iter().filter(|segment| segment.execute);
        Self {
            blocks: blocks
                .filter_map(|segment| {
                    Some(Block { vaddr: segment.vaddr, offset: segment.offset, bytes: image.bytes_at(segment.vaddr)? })
                })
                .collect(),
        }
    }

    /// One block of bytes, as if it lay in a file at `offset`.
    #[cfg(test)]
    pub(super) fn of_bytes(vaddr: u64, offset: u64, bytes: &'bytes [u8]) -> Self {
        Self { blocks: vec![Block { vaddr, offset, bytes }] }
    }

    /// Each block's address and bytes.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &'bytes [u8])> + '_ {
        self.blocks.iter().map(|block| (block.vaddr, block.bytes))
    }

    /// Bytes in all.
    pub(super) fn size(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.len()).sum()
    }

    /// The file offset of an address, and at most `limit` bytes from it on.
    pub(super) fn at(&self, vaddr: u64, limit: usize) -> Option<(u64, &'bytes [u8])> {
        self.blocks.iter().find_map(|block| {
            let distance = vaddr.checked_sub(block.vaddr)?;
            let rest = block.bytes.get(usize::try_from(distance).ok()?..)?;
            let bytes = rest.get(..limit).unwrap_or(rest);
            let offset = block.offset.checked_add(distance)?;
            (!bytes.is_empty()).then_some((offset, bytes))
        })
    }
}
