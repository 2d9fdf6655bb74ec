//! Asking a profile what it says of one place in the code.

use pyalloc::profile::{Frame, MappingOrigin, Profile, StackId};

/// Sums of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Blocks or mappings made.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Of these, still there.
    pub inuse_objects: u64,
    /// Bytes of these.
    pub inuse_space: u64,
}

/// A function of a file, and a line in it: what the innermost frame must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// How the file's path ends.
    pub file: &'a str,
    /// Its qualified name.
    pub function: &'a str,
    /// The line; any, if it is 0.
    pub line: u32,
}

impl Place<'_> {
    fn is_leaf_of(self, profile: &Profile, stack: StackId) -> bool {
        profile.leaf(stack).is_some_and(|frame| self.is(profile, frame))
    }

    /// Whether a frame is at this place.
    pub fn is(self, profile: &Profile, frame: &Frame) -> bool {
        profile.text(frame.function) == self.function
            && profile.text(frame.file).ends_with(self.file)
            && (self.line == 0 || frame.line == self.line)
    }
}

/// What the heap ledger has of the C allocator's blocks.
pub fn blocks(profile: &Profile, place: Place<'_>) -> Sums {
    let mut sums = Sums::default();
    for row in profile.blocks.iter().filter(|row| place.is_leaf_of(profile, row.stack)) {
        sums.alloc_objects += row.alloc_objects;
        sums.alloc_space += row.alloc_space;
        sums.inuse_objects += row.inuse_objects;
        sums.inuse_space += row.inuse_space;
    }
    sums
}

/// What the mapping ledger has of one origin.
pub fn mappings(profile: &Profile, place: Place<'_>, origin: MappingOrigin) -> Sums {
    let mut sums = Sums::default();
    let rows = profile.mappings.iter().filter(|row| row.origin == origin);
    for row in rows.filter(|row| place.is_leaf_of(profile, row.stack)) {
        sums.alloc_objects += row.alloc_objects;
        sums.alloc_space += row.alloc_space;
        sums.inuse_objects += row.inuse_objects;
        sums.inuse_space += row.inuse_space;
    }
    sums
}

/// Live small objects in the pools that a function opened: objects and bytes.
pub fn small_objects(profile: &Profile, place: Place<'_>) -> (u64, u64) {
    let rows = profile.pools.iter().filter(|row| place.is_leaf_of(profile, row.stack));
    rows.fold((0, 0), |(objects, space), row| (objects + row.inuse_objects, space + row.inuse_space))
}

/// A counter; 0 if the profile does not have it.
pub fn count(profile: &Profile, name: &str) -> u64 {
    let mut counts = profile.quality.counts.iter();
    counts.find(|count| count.name == name).map_or(0, |count| count.value)
}

/// A stack as `file function line`, innermost first.
pub fn frames(profile: &Profile, stack: StackId) -> Vec<(String, String, u32)> {
    let shown =
        |frame: &Frame| (profile.text(frame.file).to_owned(), profile.text(frame.function).to_owned(), frame.line);
    profile.frames_of(stack).map(shown).collect()
}
