//! By how much a call path differs between runs of the same code, though everything was counted.
//!
//! Measured on repeated runs (`docs/ci.md`): what a function allocates in blocks is the same to the byte or nearly; what
//! differs are whole pools of small objects, which move from path to path, and buffers of imports.

/// A pool of small objects, bytes (CPython 3.10 and later; 4 KiB before). The call that finds no room opens one, and which
/// call that is hangs on what others have given back before it.
const POOL: f64 = 16_384.0;
/// The buffer into which the C library reads a folder, bytes: an import reads one anew if the folder has changed meanwhile.
const FOLDER: f64 = 32_768.0;

/// The variance of so many bytes of small objects: of each pool it is open whether it is this path's.
pub fn of_small_objects(bytes: u64) -> f64 {
    bytes as f64 * POOL / 2.0
}

/// The variance of a path on which modules are imported.
pub const fn of_imports() -> f64 {
    FOLDER * FOLDER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pool_more_is_chance_and_a_hundred_are_not() {
        let two_errors = |bytes: u64| 2.0 * of_small_objects(bytes).sqrt();
        let pool = 16 << 10;
        assert!(two_errors(pool) > POOL, "one that was not there");
        assert!(two_errors(20 * pool) > 3.0 * POOL);
        assert!(two_errors(100 * pool) < 20.0 * POOL);
    }
}
