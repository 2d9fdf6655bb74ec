//! What the tasks and `profiler/build.rs` share: how the kernel side is built on this machine.

pub mod ebpf;
