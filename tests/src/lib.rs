//! What the live tests share: starting workloads, running pyalloc, reading what they print.

pub mod demo_service;
pub mod skip;
pub mod source;
