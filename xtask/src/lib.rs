//! What the tasks share with `profiler/build.rs` (how the kernel side is built) and with the live tests (where
//! the interpreters, the binary and root are).

pub mod binary;
pub mod cgroup;
pub mod ebpf;
pub mod gate;
pub mod privilege;
pub mod python;
pub mod readers;
pub mod servers;
