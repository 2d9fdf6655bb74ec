//! Frames become names; a missing name is a value with a reason.

pub mod native;
