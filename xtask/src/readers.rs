//! Readers of formats that are not ours: speedscope's own page and a decoder of pprof's messages, from npm, in a folder of
//! their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::ebpf::workspace_root;

/// With their versions: a later one may read what an earlier does not.
const PACKAGES: [&str; 2] = ["speedscope@1.25.0", "pprof-format@2.3.2"];

/// The folder that has them.
#[derive(Clone, Debug)]
pub struct Readers(PathBuf);

impl Readers {
    /// Those that were installed before.
    pub fn installed() -> Option<Self> {
        let readers = Self(workspace_root().join("target/readers"));
        fs::read_to_string(readers.marker()).is_ok_and(|text| text == PACKAGES.join(" ")).then_some(readers)
    }

    /// Installs them where they are not yet.
    ///
    /// # Errors
    /// There is no node or no npm, or npm cannot install.
    pub fn ensure() -> Result<Self> {
        if let Some(readers) = Self::installed() {
            return Ok(readers);
        }
        let readers = Self(workspace_root().join("target/readers"));
        println!("installing into {}, by npm: {}", readers.0.display(), PACKAGES.join(" "));
        fs::create_dir_all(&readers.0).with_context(|| format!("cannot make {}", readers.0.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix"]);
        let output = npm.arg(&readers.0).args(PACKAGES).stdin(Stdio::null()).output().context("cannot run npm")?;
        if !output.status.success() {
            bail!("npm failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        fs::write(readers.marker(), PACKAGES.join(" ")).context("cannot note that the readers are installed")?;
        Ok(readers)
    }

    /// The folder from which node finds them.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// speedscope's page.
    pub fn speedscope(&self) -> PathBuf {
        self.0.join("node_modules/speedscope/dist/release/index.html")
    }

    /// Written last.
    fn marker(&self) -> PathBuf {
        self.0.join("complete")
    }
}
