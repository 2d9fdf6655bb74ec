//! The live view: a profile as it is now, on one screen. What is shown is worked out from the profile alone; this room
//! knows the terminal's letters and keys, and nothing of how the profile came to be.

#![forbid(unsafe_code)]

mod draw;
mod input;
mod shown;
mod state;
mod workers;

#[cfg(test)]
mod golden;

pub use input::{Key, Keys};
pub use state::{Ask, View};
