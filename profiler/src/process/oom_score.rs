//! Whom the kernel kills when memory is short: not the one that watches.

use std::fs;

const FILE: &str = "/proc/self/oom_score_adj";

/// Of a limit's or the machine's memory, 90 % is not held against us: the kernel chooses the process that grows, and us
/// only if we were the ones to grow.
const SPARED: i32 = -900;

/// Makes this process an unlikely victim of the kernel's OOM killer. Programs started from here on inherit it. Without
/// the right to it nothing changes.
pub fn spare_this_process() {
    let now = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now > SPARED) {
        // Only a safety net.
        let _ = fs::write(FILE, SPARED.to_string());
    }
}
