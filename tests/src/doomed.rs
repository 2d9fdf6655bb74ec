//! The workload that is killed, and its own count of what it kept.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use pyalloc::profile::tree::Tree;
use pyalloc::profile::{Profile, StackId};
use tempfile::NamedTempFile;

use crate::workload::Workload;

/// Bytes of one block of hoard() and of cache() (`workloads/doomed.py`), and of the block that pymalloc has for one
/// object of small().
pub const SIZES: [u64; 3] = [100_000, 20_000, 448];
/// The functions, the one that keeps most first.
pub const FUNCTIONS: [&str; 3] = ["hoard", "cache", "small"];
/// Objects of the size class of small() in one pool: those in a pool that another function opened are counted there.
const A_POOL: u64 = 36;

/// A running `doomed.py`.
#[derive(Debug)]
pub struct Doomed {
    /// The process.
    pub workload: Workload,
    truth: Truth,
}

/// The count that the process keeps in a file.
#[derive(Debug)]
pub struct Truth(NamedTempFile);

impl Truth {
    /// A count of nothing.
    pub fn new() -> Result<Self> {
        let file = NamedTempFile::new().context("cannot make a file")?;
        file.as_file().set_len(8 * FUNCTIONS.len() as u64).context("cannot make room for the truth")?;
        Ok(Self(file))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Objects kept by each of [`FUNCTIONS`]; the last one counted may not have been made.
    pub fn read(&self) -> Result<[u64; 3]> {
        let mut bytes = [0; 24];
        let file = File::open(self.0.path()).context("the truth is gone")?;
        file.read_exact_at(&mut bytes, 0).context("the truth cannot be read")?;
        let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        Ok([word(0), word(8), word(16)])
    }
}

impl Doomed {
    /// Starts it and waits until it is ready.
    pub fn start(python: &Path) -> Result<Self> {
        let truth = Truth::new()?;
        Ok(Self { workload: Workload::start(python, "doomed.py", [truth.path()])?, truth })
    }

    /// Objects kept by each of [`FUNCTIONS`].
    pub fn truth(&self) -> Result<[u64; 3]> {
        self.truth.read()
    }
}

/// What a profile says of the process with this pid: objects live in each of [`FUNCTIONS`].
pub fn live(profile: &Profile, pid: u32) -> [u64; 3] {
    let of_process = |index: u32| profile.processes[index as usize].pid == pid;
    let function = |stack: StackId| profile.leaf(stack).map_or("", |frame| profile.text(frame.function));
    let blocks = |name: &str, size: u64| {
        let rows = profile.blocks.iter().filter(|row| of_process(row.process) && function(row.stack) == name);
        rows.map(|row| row.inuse_space / size).sum::<u64>()
    };
    let small = profile.pools.iter().filter(|row| of_process(row.process) && function(row.stack) == FUNCTIONS[2]);
    [blocks(FUNCTIONS[0], SIZES[0]), blocks(FUNCTIONS[1], SIZES[1]), small.map(|row| row.inuse_objects).sum()]
}

/// Whether what is live is the truth: to the block, and to a pool of small objects.
pub fn is_true(live: [u64; 3], truth: [u64; 3]) -> bool {
    // The list that holds the blocks is far smaller than one of hoard(), and than five of cache().
    let to_one =
        |index: usize, more: u64| (truth[index].saturating_sub(1)..=truth[index] + more).contains(&live[index]);
    to_one(0, 0) && to_one(1, 1) && live[2].abs_diff(truth[2]) <= 2 * A_POOL
}

/// The share of the truly live bytes that is ranked under the function that holds them, 0 to 1.
pub fn share_ranked(live: [u64; 3], truth: [u64; 3]) -> f64 {
    let bytes = |objects: [u64; 3]| objects.iter().zip(SIZES).map(|(objects, size)| objects * size).sum::<u64>();
    let ranked = std::array::from_fn(|index| live[index].min(truth[index]));
    bytes(ranked) as f64 / bytes(truth).max(1) as f64
}

/// The function with the most live bytes in a process, small objects included.
pub fn culprit(profile: &Profile, pid: u32) -> String {
    let mut sums: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    let blocks = profile.blocks.iter().map(|row| (row.process, row.stack, row.inuse_space));
    let pools = profile.pools.iter().map(|row| (row.process, row.stack, row.inuse_space));
    for (process, stack, space) in blocks.chain(pools) {
        if profile.processes[process as usize].pid == pid
            && let Some(frame) = profile.leaf(stack)
        {
            *sums.entry(profile.text(frame.function)).or_default() += space;
        }
    }
    sums.into_iter().max_by_key(|(_, space)| *space).map_or(String::new(), |(name, _)| name.to_owned())
}

/// Bytes that survive by the report's own rule.
pub fn surviving(profile: &Profile) -> u64 {
    Tree::new(profile).surviving()
}
