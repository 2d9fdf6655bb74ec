//! The kernel side's object, built by `build.rs`.

/// The ELF object. Aligned, since its headers are read in place.
pub const BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/profiler-ebpf.o"));
