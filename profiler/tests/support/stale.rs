//! Code that is compiled, run once and dropped, so that code objects reuse addresses.

use std::collections::BTreeMap;

use pyalloc::profile::Profile;
use serde::Deserialize;

use super::tracer::frames_of;

/// What a target says of the functions that it made: number N is `stale_N` of `stale_N.py`, and has made blocks of
/// `base + N * step` bytes on its line N + 2.
#[derive(Debug, Deserialize)]
pub struct Stale {
    /// Bytes of the first one's blocks.
    pub base: u64,
    /// Bytes between one's and the next one's.
    pub step: u64,
    /// Functions of different names.
    pub count: u64,
    /// Blocks in all.
    pub rounds: u64,
}

/// What the profile says of these blocks.
#[derive(Debug, Default)]
pub struct Found {
    /// Blocks of the right function.
    pub right: u64,
    /// Blocks of a function that is said to be unknown.
    pub unknown: u64,
    /// The others.
    pub wrong: Vec<String>,
}

impl Stale {
    /// Every block of one of the sizes must have been made by the function that makes it.
    pub fn found(&self, profile: &Profile) -> Found {
        let size = |number| self.base + number * self.step;
        let sizes: BTreeMap<u64, u64> = (0..self.count).map(|number| (size(number), number)).collect();
        let mut found = Found::default();
        for block in &profile.blocks {
            let Some(number) = sizes.get(&block.largest) else { continue };
            let frames = frames_of(profile, block);
            let named: Vec<_> = frames.iter().filter(|(_, name, _)| name.contains("stale_")).collect();
            let expected =
                (format!("stale_{number}.py"), format!("stale_{number}"), u32::try_from(number + 2).unwrap_or(0));
            // The line may make small blocks too, where they are counted each.
            let made = block.alloc_space / block.largest;
            match named[..] {
                [frame] if *frame == expected => found.right += made,
                [] if frames.iter().any(|(_, name, _)| is_unknown(name)) => found.unknown += made,
                _ => found
                    .wrong
                    .push(format!("stale code: blocks of {} bytes are said to be of {:?}", block.largest, frames)),
            }
        }
        if found.right != self.rounds {
            let told = format!("{} right and {} unknown of {}", found.right, found.unknown, self.rounds);
            found.wrong.push(format!("stale code: {told}"));
        }
        found
    }
}

/// Whether a frame says that there is no name, or that there was no room for the stack.
fn is_unknown(name: &str) -> bool {
    name.starts_with("[unknown") || name == "[call path not recorded]"
}
