//! One diagnosis of one program.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use pyalloc::profile::Profile;
use pyalloc::profile::verdict::{Confidence, Diagnosis, Pattern};

use super::start::Started;
use crate::tracer;

/// What a diagnosis said, and what it cost.
#[derive(Clone, Debug)]
pub struct Told {
    /// The diagnosis.
    pub diagnosis: Diagnosis,
    /// The first three lines of what a terminal shows.
    pub opening: String,
    /// The interpreter of the program, for people.
    pub interpreter: String,
    /// CPU time of the program that its probes took, of all that it used.
    pub target_cost: f64,
    /// CPU time that pyalloc itself used, of the time watched.
    pub own_cost: f64,
    /// The longest look at the objects, ms; 0 if there was none.
    pub look_ms: u64,
    /// From the command to its end, seconds, less the time asked for.
    pub beside_s: f64,
}

impl Told {
    /// The patterns of the verdict's findings.
    pub fn found(&self) -> Vec<Pattern> {
        self.diagnosis.findings.iter().map(|finding| finding.pattern).collect()
    }

    /// How sure it is.
    pub fn confidence(&self) -> Confidence {
        self.diagnosis.findings.first().map_or(Confidence::Low, |finding| finding.confidence)
    }
}

/// Watches a program for some seconds; keeps the profile where it is asked for.
///
/// # Errors
/// pyalloc fails, or what it leaves has no diagnosis.
pub fn diagnose(program: &Started, seconds: f64, keep: Option<&Path>) -> Result<Told> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let path = keep.map_or_else(|| folder.path().join("diagnosis.pyalloc"), Path::to_path_buf);
    let began = Instant::now();
    let mut command = tracer::pyalloc()?;
    command.args(["diagnose", "--pid", &program.pid.to_string(), "--for", &format!("{}ms", (seconds * 1000.0) as u64)]);
    let said = finished(command.arg("-o").arg(&path).stdin(Stdio::null()).output())?;
    let beside_s = began.elapsed().as_secs_f64() - seconds;
    let profile = tracer::read(&path)?;
    let diagnosis = profile.diagnosis.clone().context("the profile has no diagnosis")?;
    let opening: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(3).collect();
    let (target_cost, own_cost) = costs(&profile, seconds);
    let look_us = profile.evidence.looks.iter().map(|look| look.took_us).max().unwrap_or(0);
    Ok(Told {
        diagnosis,
        opening: opening.join("\n"),
        interpreter: program.interpreter.clone(),
        target_cost,
        own_cost,
        look_ms: look_us / 1000,
        beside_s,
    })
}

fn finished(output: std::io::Result<Output>) -> Result<String> {
    let output = output.context("cannot run pyalloc")?;
    if !output.status.success() {
        bail!("pyalloc: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("what pyalloc prints is no text")
}

fn costs(profile: &Profile, seconds: f64) -> (f64, f64) {
    let quality = &profile.quality;
    let target = (quality.target_cost_ms + quality.faults_cost_ms) as f64 / quality.target_cpu_ms.max(1) as f64;
    (target, quality.own_cpu_ms as f64 / 1000.0 / seconds)
}
