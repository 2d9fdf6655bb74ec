//! `cargo xtask corpus`: programs whose memory trouble is known are diagnosed, and the page that shows what was said.

use std::process::Command;

use anyhow::Result;
use xtask::binary;
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;

use crate::{command, setup, test};

/// Passes the options on to the program of the live tests that does it.
pub fn run(options: &[&str]) -> Result<()> {
    setup::run()?;
    let privilege = Privilege::require("loading BPF programs")?;
    binary::build()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace_root()).args(["run", "--package", "live-tests", "--bin", "corpus", "--"]).args(options);
    if let Privilege::Sudo = privilege {
        let (variable, runner) = test::sudo_runner()?;
        cargo.env(variable, runner);
    }
    command::run(&mut cargo)
}
