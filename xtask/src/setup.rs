//! Installing what building and testing need: only what is missing, and after saying so.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use xtask::ebpf::{Route, bpf_linker, tools_folder, workspace_root};
use xtask::privilege::Privilege;
use xtask::python;

use crate::command;

/// The last version that links the LLVM of rustup's own toolchain; later ones want LLVM 22 installed.
const BPF_LINKER: &str = "0.10.3";
const BPF_COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Installs what is missing; quick when nothing is.
pub fn run() -> Result<()> {
    let plan = plan(&Machine::look())?;
    if plan.is_empty() {
        println!("setup: nothing is missing (kernel side by {})", Route::detect()?.describe());
        return Ok(());
    }
    println!("setup: this will be installed:");
    for step in &plan {
        println!("  {}", step.describe());
    }
    for step in &plan {
        step.install()?;
    }
    println!("setup: done (kernel side by {})", Route::detect()?.describe());
    Ok(())
}

/// What the plan depends on.
#[derive(Clone, Copy, Debug)]
struct Machine {
    bpf_compiler: bool,
    bpf_linker: bool,
    c_compiler: bool,
    python: bool,
    /// Debian itself: the packages of the BPF compiler are Debian's own.
    debian: bool,
    apt: bool,
    root: bool,
    rustup: bool,
}

impl Machine {
    fn look() -> Self {
        Self {
            bpf_compiler: Route::detect().is_ok(),
            bpf_linker: bpf_linker().is_ok(),
            c_compiler: answers("cc"),
            python: python::newest().is_ok(),
            debian: fs::read_to_string("/etc/os-release")
                .is_ok_and(|text| text.lines().any(|line| line == "ID=debian")),
            apt: Path::new("/usr/bin/apt-get").is_file(),
            root: Privilege::detect().is_some(),
            rustup: answers("rustup"),
        }
    }
}

fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Debian packages.
    Apt(Vec<&'static str>),
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// bpf-linker, by cargo, into the project's own folder.
    BpfLinker,
}

/// What to install on this machine, or why it cannot be done and what to do by hand.
fn plan(machine: &Machine) -> Result<Vec<Step>> {
    let mut packages = Vec::new();
    let mut steps = Vec::new();
    if !machine.bpf_compiler {
        if machine.debian && machine.apt && machine.root {
            packages.extend(BPF_COMPILER_PACKAGES);
        } else if machine.rustup {
            steps.push(Step::Nightly);
        } else {
            bail!(
                "no Rust compiler for the BPF target: on Debian run `apt-get install {}` as root, elsewhere install \
                 rustup and run `rustup toolchain install nightly --component rust-src`",
                BPF_COMPILER_PACKAGES.join(" ")
            );
        }
    }
    if !machine.c_compiler {
        packages.extend(["gcc", "libc6-dev"]);
    }
    if !machine.python {
        packages.extend(["python3", "python3-venv"]);
    }
    let installable = machine.apt && machine.root;
    if !packages.is_empty() && !installable {
        bail!(
            "missing and not installable here: {} (Debian's names; installing them needs root and apt-get; of Python, \
             any CPython 3.11 to 3.13 with the venv module will do, pyenv's too)",
            packages.join(" ")
        );
    }
    if !packages.is_empty() {
        steps.insert(0, Step::Apt(packages));
    }
    if !machine.bpf_linker {
        steps.push(Step::BpfLinker);
    }
    Ok(steps)
}

impl Step {
    fn describe(&self) -> String {
        match self {
            Self::Apt(packages) => format!("Debian packages, system-wide, by apt-get: {}", packages.join(" ")),
            Self::Nightly => "rustup's nightly toolchain with rust-src, in rustup's own folder".to_owned(),
            Self::BpfLinker => {
                format!("bpf-linker {BPF_LINKER} in {}, by cargo (about a minute)", tools_folder().display())
            }
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Self::Apt(packages) => {
                apt_get(&["update"])?;
                apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())
            }
            Self::Nightly => command::run(Command::new("rustup").args([
                "toolchain",
                "install",
                "nightly",
                "--component",
                "rust-src",
                "--profile",
                "minimal",
            ])),
            Self::BpfLinker => command::run(
                Command::new("cargo")
                    .current_dir(workspace_root())
                    .args(["install", "--quiet", "--locked", "bpf-linker", "--version", BPF_LINKER, "--root"])
                    .arg(tools_folder()),
            ),
        }
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let privilege = Privilege::require("installing Debian packages")?;
    command::run(
        privilege
            .command("env")
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--option", "Acquire::Retries=5"])
            .args(arguments)
            .stdin(Stdio::null()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Machine = Machine {
        bpf_compiler: true,
        bpf_linker: true,
        c_compiler: true,
        python: true,
        debian: true,
        apt: true,
        root: true,
        rustup: true,
    };

    #[test]
    fn a_ready_machine_gets_nothing() {
        assert_eq!(plan(&READY).unwrap(), []);
        let bare = Machine { debian: false, apt: false, root: false, rustup: false, ..READY };
        assert_eq!(plan(&bare).unwrap(), []);
    }

    #[test]
    fn debian_gets_its_own_compiler_and_one_call_of_apt() {
        let machine = Machine { bpf_compiler: false, bpf_linker: false, python: false, ..READY };
        let packages = vec!["rustc-web", "libstd-rust-web-dev-bpf", "python3", "python3-venv"];
        assert_eq!(plan(&machine).unwrap(), [Step::Apt(packages), Step::BpfLinker]);
    }

    #[test]
    fn without_root_or_debian_the_compiler_comes_by_rustup() {
        for machine in [Machine { root: false, ..READY }, Machine { debian: false, ..READY }] {
            assert_eq!(plan(&Machine { bpf_compiler: false, ..machine }).unwrap(), [Step::Nightly]);
        }
    }

    #[test]
    fn what_cannot_be_installed_is_named_with_the_way_out() {
        let no_compiler = Machine { bpf_compiler: false, root: false, rustup: false, ..READY };
        assert!(plan(&no_compiler).unwrap_err().to_string().contains("rustup toolchain install nightly"));
        let no_python = Machine { python: false, root: false, ..READY };
        assert!(plan(&no_python).unwrap_err().to_string().contains("python3-venv"));
    }
}
