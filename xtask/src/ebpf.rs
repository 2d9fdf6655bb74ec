//! Building `profiler-ebpf` for the BPF target: which toolchain this machine has, and the command for it.
//!
//! Two routes lead to the same object (see `Route`): Debian's `rustc-web` with its compiled `core` for
//! `bpfel-unknown-none`, or a rustup nightly with `rust-src`. Both need `bpf-linker`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// How the kernel side is compiled on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Debian's `rustc-web` and `libstd-rust-web-dev-bpf`: `core` is there, compiled.
    DebianRustc,
    /// rustup's nightly with `rust-src`: `core` is built by `-Z build-std`.
    RustupNightly,
}

impl Route {
    /// The route this machine has, or why it has none and how to get one.
    pub fn detect() -> Result<Self> {
        if debian_has_core() {
            return Ok(Self::DebianRustc);
        }
        if nightly_has_source() {
            return Ok(Self::RustupNightly);
        }
        bail!(
            "no Rust compiler for the BPF target on this machine: run `cargo xtask setup`, or install Debian's \
             rustc-web and libstd-rust-web-dev-bpf, or `rustup toolchain install nightly --component rust-src`"
        )
    }

    /// One line for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::DebianRustc => "Debian's rustc-web with libstd-rust-web-dev-bpf",
            Self::RustupNightly => "rustup's nightly with rust-src",
        }
    }
}

fn debian_has_core() -> bool {
    let Some(sysroot) = output_line(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"])) else {
        return false;
    };
    Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir()
}

fn nightly_has_source() -> bool {
    let Some(sysroot) = output_line(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
    else {
        return false;
    };
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
}

fn output_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The project's folder.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where `cargo xtask setup` puts the tools it installs.
pub fn tools_folder() -> PathBuf {
    workspace_root().join("target/tools")
}

/// `bpf-linker`: the project's own, else one on the PATH.
pub fn bpf_linker() -> Result<PathBuf> {
    let own = tools_folder().join("bin/bpf-linker");
    if own.is_file() {
        return Ok(own);
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("bpf-linker"))
        .find(|path| path.is_file())
        .context("bpf-linker is not installed: run `cargo xtask setup`")
}

/// Compiles the kernel side into `target_folder` and returns the path of the object.
pub fn build(target_folder: &Path) -> Result<PathBuf> {
    compile(target_folder, &RUSTFLAGS)
}

/// As [`build`], and fails at a warning. Wants a target folder of its own: other flags make another build.
pub fn build_without_warnings(target_folder: &Path) -> Result<PathBuf> {
    compile(target_folder, &[RUSTFLAGS.as_slice(), &["-D", "warnings"]].concat())
}

fn compile(target_folder: &Path, rustflags: &[&str]) -> Result<PathBuf> {
    let route = Route::detect()?;
    let linker = bpf_linker()?;
    let root = workspace_root();
    let mut command = match route {
        Route::DebianRustc => Command::new("cargo"),
        Route::RustupNightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
    };
    command
        .current_dir(&root)
        .args(["build", "--quiet", "--package", "profiler-ebpf", "--bin", "profiler-ebpf", "--release"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_folder);
    forget_outer_build(&mut command);
    match route {
        Route::DebianRustc => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
        Route::RustupNightly => command.args(["-Z", "build-std=core"]),
    };
    command
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", rustflags.join(" "))
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    let status =
        command.status().with_context(|| format!("cannot run cargo for the kernel side ({})", route.describe()))?;
    if !status.success() {
        bail!("building the kernel side failed ({}, linker {})", route.describe(), linker.display());
    }
    Ok(target_folder.join(TARGET).join("release/profiler-ebpf"))
}

/// cpu=v3 for 32-bit operations and atomics that return a value (kernel 5.12).
const RUSTFLAGS: [&str; 6] = ["-C", "debuginfo=2", "-C", "link-arg=--btf", "-C", "target-cpu=v3"];

/// A build inside a build must not inherit its flags: even an empty RUSTFLAGS overrides the target's own, and
/// the object would lack BTF.
fn forget_outer_build(command: &mut Command) {
    let inherited: Vec<OsString> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            let name = name.to_string_lossy();
            name == "RUSTFLAGS"
                || name == "CARGO_ENCODED_RUSTFLAGS"
                || name == "RUSTC"
                || name == "RUSTC_WRAPPER"
                || name == "RUSTC_WORKSPACE_WRAPPER"
                || name == "RUSTUP_TOOLCHAIN"
                || name == "CARGO"
                || name == "TARGET"
                || name == "HOST"
                || name == "OUT_DIR"
                || name.starts_with("CARGO_CFG_")
                || name.starts_with("CARGO_FEATURE_")
                || name.starts_with("CARGO_PROFILE_")
        })
        .collect();
    for name in inherited {
        command.env_remove(name);
    }
}
