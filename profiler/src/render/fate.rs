//! How a process ended, in words, and who ended it.

use super::{sanitize, units};
use crate::profile::{End, KilledBy, MemoryLimit, Process};

/// "exit code 0", "killed by SIGKILL, sent by process 17 (kill)", "killed by the kernel's OOM killer: ...". `None` for
/// one that still ran at the end.
///
/// `tells_oom_kills`: whether the trace would know of a kill by the OOM killer.
pub(super) fn in_words(process: &Process, tells_oom_kills: bool) -> Option<String> {
    Some(match &process.end {
        End::Detached => return None,
        End::Exited(code) => format!("exit code {code}"),
        End::Executed => "executed another program".to_owned(),
        End::Vanished => "ended, how is not known".to_owned(),
        End::Killed(signal) => match &process.killed_by {
            Some(KilledBy::OomKiller { limits_known, limits }) => {
                format!("killed by the kernel's OOM killer: {}", limit_in_words(*limits_known, limits))
            }
            by => format!("killed by {}{}", signal_in_words(*signal), sender(process, *signal, by, tells_oom_kills)),
        },
    })
}

fn limit_in_words(known: bool, limits: &[MemoryLimit]) -> String {
    let bytes = |bytes| if bytes == 0 { String::new() } else { format!(", {}", units::bytes(bytes)) };
    let one = |limit: &MemoryLimit| format!("cgroup {}{}", sanitize::name(&limit.cgroup, 160), bytes(limit.bytes));
    match limits {
        _ if !known => "which memory limit was reached is not known".to_owned(),
        [] => "the machine was out of memory, no limit of a cgroup was reached".to_owned(),
        [limit] => format!("limit of {}", one(limit)),
        several => format!("limit of {}", several.iter().map(one).collect::<Vec<_>>().join(", or of ")),
    }
}

fn sender(process: &Process, signal: i32, by: &Option<KilledBy>, tells_oom_kills: bool) -> String {
    const SIGKILL: i32 = 9;
    match by {
        Some(KilledBy::Process { pid, .. }) if *pid == process.pid => ", sent by itself".to_owned(),
        Some(KilledBy::Process { pid, name }) => {
            let not = if signal == SIGKILL { ", not by the kernel's OOM killer" } else { "" };
            format!(", sent by process {pid} ({}){not}", sanitize::name(name, 32))
        }
        Some(KilledBy::Kernel) if signal == SIGKILL && tells_oom_kills => {
            ", sent by the kernel, but not by its OOM killer".to_owned()
        }
        Some(KilledBy::Kernel) => ", sent by the kernel".to_owned(),
        _ if signal == SIGKILL && !tells_oom_kills => " (the kernel's OOM killer sends it too)".to_owned(),
        _ => String::new(),
    }
}

fn signal_in_words(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(signal: i32, killed_by: Option<KilledBy>, expected: &str) {
        let process = Process { pid: 7, end: End::Killed(signal), killed_by, ..Process::default() };
        assert_eq!(in_words(&process, true).as_deref(), Some(expected));
    }

    #[test]
    fn a_kill_names_its_origin() {
        let limit = |cgroup: &str| MemoryLimit { cgroup: cgroup.to_owned(), bytes: 96 << 20 };
        let oom = |limits: &[MemoryLimit]| Some(KilledBy::OomKiller { limits_known: true, limits: limits.to_vec() });
        let sent = |pid, name: &str| Some(KilledBy::Process { pid, name: name.to_owned() });
        check(9, oom(&[limit("/a")]), "killed by the kernel's OOM killer: limit of cgroup /a, 96.0 MiB");
        check(
            9,
            oom(&[limit("/a/b"), limit("/a")]),
            "killed by the kernel's OOM killer: limit of cgroup /a/b, 96.0 MiB, or of cgroup /a, 96.0 MiB",
        );
        check(
            9,
            oom(&[]),
            "killed by the kernel's OOM killer: the machine was out of memory, no limit of a cgroup was reached",
        );
        check(9, sent(12, "bash"), "killed by SIGKILL, sent by process 12 (bash), not by the kernel's OOM killer");
        check(6, sent(12, "gunicorn"), "killed by SIGABRT, sent by process 12 (gunicorn)");
        check(6, sent(7, "python"), "killed by SIGABRT, sent by itself");
        check(9, Some(KilledBy::Kernel), "killed by SIGKILL, sent by the kernel, but not by its OOM killer");
        check(11, None, "killed by SIGSEGV");
        let unknown = Process { end: End::Killed(9), ..Process::default() };
        let words = in_words(&unknown, false).unwrap();
        assert_eq!(words, "killed by SIGKILL (the kernel's OOM killer sends it too)");
    }
}
