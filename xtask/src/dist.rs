//! `cargo xtask dist`: what is given to others: one static binary, its manual pages and completions, in a tar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::binary;
use xtask::ebpf::workspace_root;

use crate::{command, setup};

/// With musl, so that it runs whatever C library the machine has, in any image.
const TARGET: &str = "x86_64-unknown-linux-musl";
const SHELLS: [(&str, &str); 3] = [("bash", "pyalloc"), ("zsh", "_pyalloc"), ("fish", "pyalloc.fish")];
const FILES: [&str; 5] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "ci/gate.sh"];

/// Builds it, and says where it is.
pub fn run() -> Result<()> {
    setup::run()?;
    add_target()?;
    let binary = build()?;
    let name = format!("pyalloc-{}-x86_64-linux", version(&binary)?);
    let dist = workspace_root().join("target/dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fill(&folder, &binary)?;
    let tar = pack(&dist, &name)?;
    let size = fs::metadata(&tar).with_context(|| format!("cannot look at {}", tar.display()))?.len();
    println!("{} ({} KiB)", tar.display(), size / 1024);
    Ok(())
}

/// Of rustup's toolchain; another one may have it, or the build says that it has not.
fn add_target() -> Result<()> {
    let has_rustup = Command::new("rustup").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if has_rustup.is_ok_and(|status| status.success()) {
        return command::run(Command::new("rustup").args(["target", "add", TARGET]));
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace_root()).args(["build", "--release", "--locked", "--package", "pyalloc"]);
    cargo
        .args(["--target", TARGET])
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    command::run(&mut cargo)?;
    Ok(binary::target_folder().join(TARGET).join("release/pyalloc"))
}

fn version(binary: &Path) -> Result<String> {
    let said = said(Command::new(binary).arg("--version"))?;
    let said = String::from_utf8(said).context("a version is text")?;
    said.trim().strip_prefix("pyalloc ").map(str::to_owned).with_context(|| format!("no version: {said}"))
}

fn fill(folder: &Path, binary: &Path) -> Result<()> {
    let make = |path: &Path| fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()));
    let (manual, completions) = (folder.join("man/man1"), folder.join("completions"));
    make(&manual)?;
    make(&completions)?;
    make(&folder.join("ci"))?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    };
    copy(binary, "pyalloc")?;
    FILES.iter().try_for_each(|name| copy(&workspace_root().join(name), name))?;
    command::run(Command::new(binary).arg("man").arg(&manual))?;
    for (shell, file) in SHELLS {
        let script = said(Command::new(binary).args(["completions", shell]))?;
        fs::write(completions.join(file), script).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// The same tar for the same content: no names of this machine's users, no times of today.
fn pack(dist: &Path, name: &str) -> Result<PathBuf> {
    let tar = dist.join(format!("{name}.tar.gz"));
    let mut pack = Command::new("tar");
    pack.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--file",
    ]);
    command::run(pack.arg(&tar).arg("--directory").arg(dist).arg(name).env("GZIP", "-n"))?;
    Ok(tar)
}

fn said(command: &mut Command) -> Result<Vec<u8>> {
    let line = command::line(command);
    let output = command.output().with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        bail!("{line} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
