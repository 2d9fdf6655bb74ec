//! The `pyalloc` command.

fn main() {}
