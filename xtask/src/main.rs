//! `cargo xtask TASK`: see `cargo xtask help`.

fn main() -> anyhow::Result<()> {
    let path = xtask::ebpf::build(&xtask::ebpf::workspace_root().join("target/ebpf"))?;
    println!("{}", path.display());
    Ok(())
}
