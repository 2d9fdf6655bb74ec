//! Builds the kernel side and leaves its object where `kernel/object.rs` embeds it.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    for watched in ["profiler-ebpf", "profiler-common", "Cargo.lock"] {
        println!("cargo:rerun-if-changed=../{watched}");
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let object = xtask::ebpf::build(&Path::new(&out).join("ebpf"))?;
    std::fs::copy(object, Path::new(&out).join("profiler-ebpf.o"))?;
    Ok(())
}
