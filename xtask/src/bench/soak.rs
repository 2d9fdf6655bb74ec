//! Three minutes of a service at 50 000 malloc and free a second: what pyalloc itself takes, and what an hour would.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Interpreter;

use super::process;
use crate::command::{self, Group};
use crate::interrupt;

/// How often pyalloc is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// pyalloc at one moment.
#[derive(Clone, Copy)]
struct Look {
    seconds: f64,
    rss_kib: u64,
    cpu_seconds: f64,
    file_bytes: u64,
}

/// Runs the service, traces it for `seconds`, and prints a line every quarter minute.
pub fn run(privilege: Privilege, pyalloc: &Path, python: &Interpreter, seconds: u64) -> Result<()> {
    let results = workspace_root().join("target/bench");
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    let profile = results.join("soak.pyalloc");
    // One from an earlier run would be taken for this one's.
    let _ = fs::remove_file(&profile);
    let mut service = Command::new(&python.path);
    service.arg(workspace_root().join("bench/soak.py")).stdout(Stdio::piped());
    let mut service = Group::start("the service", &mut service)?;
    service.wait_for_line("ready")?;
    let mut trace = privilege.command(pyalloc);
    trace.args(["trace", "--pid", &service.pid().to_string(), "--duration", &format!("{seconds}s"), "-o"]);
    println!("\n$ {} {}", command::line(&trace), profile.display());
    let began = Instant::now();
    let child = trace.arg(&profile).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let child = child.context("cannot start pyalloc")?;
    let looks = watch(child.id(), &profile, began, seconds)?;
    let output = child.wait_with_output().context("pyalloc has gone")?;
    if !output.status.success() {
        bail!("pyalloc failed: {}", output.status);
    }
    summarize(&looks, fs::metadata(&profile).map_or(0, |metadata| metadata.len()));
    quality(&String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn watch(pid: u32, profile: &Path, began: Instant, seconds: u64) -> Result<Vec<Look>> {
    println!("   time    pyalloc's RSS    its CPU    profile");
    let mut looks = Vec::new();
    let mut next = LOOK_EVERY.min(Duration::from_secs(seconds / 4));
    let step = next;
    while next < Duration::from_secs(seconds) {
        while began.elapsed() < next {
            std::thread::sleep(Duration::from_millis(100));
            if interrupt::happened() {
                bail!("interrupted");
            }
        }
        next += step;
        let Some(look) = look(pid, profile, began) else { continue };
        println!(
            "{:6.0} s    {:7.1} MiB    {:6.2} s    {:5.1} KiB",
            look.seconds,
            look.rss_kib as f64 / 1024.0,
            look.cpu_seconds,
            look.file_bytes as f64 / 1024.0
        );
        looks.push(look);
    }
    Ok(looks)
}

/// Reads /proc; `None` when pyalloc has ended.
fn look(pid: u32, profile: &Path, began: Instant) -> Option<Look> {
    let pid = process::innermost(pid);
    Some(Look {
        seconds: began.elapsed().as_secs_f64(),
        rss_kib: process::rss_kib(pid)?,
        cpu_seconds: process::cpu_ms(pid)? as f64 / 1000.0,
        file_bytes: fs::metadata(profile).map_or(0, |metadata| metadata.len()),
    })
}

/// From the second third on: what comes before is the start and the first sight of every path.
fn summarize(looks: &[Look], file_bytes: u64) {
    let (Some(early), Some(last)) = (looks.get(looks.len() / 3), looks.last()) else { return };
    let time = last.seconds - early.seconds;
    let an_hour = 3600.0 - last.seconds;
    let rss = |look: &Look| look.rss_kib as f64 / 1024.0;
    let growth = (rss(last) - rss(early)) / time;
    let file_growth = (last.file_bytes as f64 - early.file_bytes as f64) / time;
    println!("pyalloc's CPU time from {:.0} s on: {:.2} % of one CPU", early.seconds, share(early, last));
    println!(
        "pyalloc's RSS: {:.1} MiB, {:+.3} MiB a minute; after 1 h {:.1} MiB",
        rss(last),
        growth * 60.0,
        rss(last) + growth * an_hour
    );
    let hour = file_bytes as f64 + file_growth * an_hour;
    println!("profile: {:.1} KiB; after 1 h {:.1} KiB", file_bytes as f64 / 1024.0, hour / 1024.0);
}

fn share(early: &Look, last: &Look) -> f64 {
    100.0 * (last.cpu_seconds - early.cpu_seconds) / (last.seconds - early.seconds)
}

/// What the report says of losses and cost.
fn quality(report: &str) {
    let lines = report.lines().skip_while(|line| !line.starts_with("Quality"));
    let lines = lines.take_while(|line| !line.starts_with("Profile:"));
    println!("\n{}", lines.collect::<Vec<_>>().join("\n").trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_one_cpu() {
        let look = |seconds, cpu_seconds| Look { seconds, rss_kib: 0, cpu_seconds, file_bytes: 0 };
        assert_eq!(share(&look(10.0, 1.0), &look(110.0, 2.5)), 1.5);
    }
}
