//! Saying that a test cannot run here: `cargo xtask test` counts these lines as skipped, never as passed.

use xtask::privilege::Privilege;

/// Prints the line that `cargo xtask test` reads. The test returns right after.
pub fn because(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
}

/// True, after saying so, where the test cannot load BPF programs.
pub fn without_root(test: &str) -> bool {
    let missing = Privilege::detect() != Some(Privilege::Root);
    if missing {
        because(test, "loading BPF programs needs root");
    }
    missing
}
