//! Frames to names, once each; a missing name is a value with a reason.

pub mod classify;
pub mod code;
pub mod native;

pub use code::{CodeTable, Missing, Name, ResolvedFrame, Source};
