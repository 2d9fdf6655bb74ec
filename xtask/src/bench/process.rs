//! What /proc says of a process under measurement.

use std::fs;

use anyhow::{Result, bail};
use xtask::privilege::Privilege;

/// Under sudo the process we started is sudo, and pyalloc is the last of its descendants.
pub fn innermost(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
        Some(child) => innermost(child),
        None => pid,
    }
}

/// Resident set size, KiB; `None` when it has ended.
pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rss.split_whitespace().next()?.parse().ok()
}

/// CPU time so far, ms; `None` when it has ended.
pub fn cpu_ms(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |index: usize| fields.split_whitespace().nth(index)?.parse::<u64>().ok();
    // User and system time, in ticks of 10 ms on every kernel for x86-64.
    Some((ticks(11)? + ticks(12)?) * 10)
}

/// Kernel memory of the BPF maps that it holds, bytes. Needs its user's rights.
pub fn map_bytes(pid: u32) -> u64 {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    let mut by_id = std::collections::BTreeMap::new();
    for entry in entries.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        // A map may have more than one descriptor.
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            by_id.insert(id, bytes);
        }
    }
    by_id.values().sum()
}

/// Ends a trace as Ctrl-C does.
pub fn interrupt(privilege: Privilege, pid: u32) -> Result<()> {
    let status = privilege.command("kill").args(["-INT", &pid.to_string()]).status()?;
    if !status.success() {
        bail!("cannot interrupt pyalloc");
    }
    Ok(())
}
