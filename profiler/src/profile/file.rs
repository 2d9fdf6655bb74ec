//! The profile file: writing and reading.
