//! `mp_`, the parameters that all arenas share.
//!
//! Found by its fields' values: the number of mappings allowed is 65536 unless a program changed it, and the start of the
//! heap is the address that brk had at the first allocation. Layouts: glibc 2.26 to 2.34; with huge pages, 2.35 to 2.42;
//! with a mode of transparent huge pages, 2.43.

use super::Version;
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// Settings and sums of glibc's malloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The top of an arena is given back to the kernel when it is larger: `M_TRIM_THRESHOLD`, bytes.
    pub trim_threshold: u64,
    /// Bytes asked for in advance, and left when the top is trimmed: `M_TOP_PAD`.
    pub top_pad: u64,
    /// Larger blocks get a mapping of their own: `M_MMAP_THRESHOLD`, bytes. Grows by itself up to 32 MiB.
    pub mmap_threshold: u64,
    /// Whether the two thresholds grow by themselves; they do until one is set.
    pub dynamic: bool,
    /// `M_ARENA_MAX`; `None` for the default, eight for each processor.
    pub arena_max: Option<u64>,
    /// Blocks that have a mapping of their own.
    pub mmapped_chunks: u64,
    /// Bytes of these.
    pub mmapped_bytes: u64,
    /// Where the heap began.
    pub heap_start: u64,
    /// Free chunks of a size that a thread keeps for itself.
    pub thread_cache_count: u64,
}

/// Where `mp_` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Address of `sbrk_base`, from which the fields are counted.
    anchor: u64,
    fields: Fields,
}

/// Bytes before `sbrk_base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    /// `trim_threshold`; `top_pad`, `mmap_threshold`, `arena_test` and `arena_max` follow, 8 bytes each.
    thresholds: u64,
    /// `n_mmaps`, u32; `n_mmaps_max`, `max_n_mmaps` and `no_dyn_threshold` follow.
    mmaps: u64,
}

const MAPPED_BYTES: u64 = 16;
/// After `sbrk_base`: `tcache_bins`, `tcache_max_bytes`, `tcache_count`.
const CACHE_COUNT: u64 = 24;

const MAX_MMAPS: u32 = 65536;

fn fields(version: Version) -> Fields {
    match version {
        (2, ..=34) => Fields { thresholds: 72, mmaps: 32 },
        (2, ..=42) => Fields { thresholds: 96, mmaps: 36 },
        _ => Fields { thresholds: 104, mmaps: 36 },
    }
}

impl Place {
    /// Looks for `mp_` among words that lie at `address` in the target.
    pub(super) fn search(
        memory: &impl Memory,
        version: Version,
        address: u64,
        words: &[u64],
        regions: &[Region],
    ) -> Option<Self> {
        let fields = fields(version);
        let is_heap = |start: u64| {
            let after = regions.partition_point(|region| region.end <= start);
            start != 0 && regions.get(after).is_some_and(|region| region.start <= start && region.permissions.write)
        };
        let mut found = words.iter().enumerate().filter(|(_, word)| is_heap(**word)).filter_map(|(index, _)| {
            let place = Self { anchor: address + index as u64 * 8, fields };
            place.is_one(memory).then_some(place)
        });
        match (found.next(), found.next()) {
            (Some(place), None) => Some(place),
            _ => None,
        }
    }

    fn is_one(&self, memory: &impl Memory) -> bool {
        let mmaps = |index: u64| memory.u32(self.anchor.wrapping_sub(self.fields.mmaps - index * 4));
        let mapped = |index: u64| memory.u64(self.anchor.wrapping_sub(MAPPED_BYTES - index * 8));
        let (Ok(count), Ok(most), Ok(peak), Ok(bytes), Ok(peak_bytes)) =
            (mmaps(0), mmaps(1), mmaps(2), mapped(0), mapped(1))
        else {
            return false;
        };
        most == MAX_MMAPS && count <= peak && bytes <= peak_bytes && (count == 0) == (bytes == 0)
    }

    /// Reads the settings of this moment.
    pub(super) fn read(&self, memory: &impl Memory) -> Option<Settings> {
        let threshold = |index: u64| memory.u64(self.anchor.wrapping_sub(self.fields.thresholds - index * 8)).ok();
        let mmaps = |index: u64| memory.u32(self.anchor.wrapping_sub(self.fields.mmaps - index * 4)).ok();
        Some(Settings {
            trim_threshold: threshold(0)?,
            top_pad: threshold(1)?,
            mmap_threshold: threshold(2)?,
            dynamic: mmaps(3)? == 0,
            arena_max: Some(threshold(4)?).filter(|&most| most != 0),
            mmapped_chunks: mmaps(0)?.into(),
            mmapped_bytes: memory.u64(self.anchor.wrapping_sub(MAPPED_BYTES)).ok()?,
            heap_start: memory.u64(self.anchor).ok()?,
            thread_cache_count: memory.u64(self.anchor.wrapping_add(CACHE_COUNT)).ok()?,
        })
    }
}
