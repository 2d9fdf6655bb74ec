//! What this kernel and this user allow.

use std::fs;
use std::path::Path;

use super::ProbeSupport;
use super::check::Check;
use crate::kernel::release::Release;
use crate::process::namespace::{self, INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE};

/// The oldest kernel supported: attach cookies and uncharged locked memory came until then.
const OLDEST: Release = Release { major: 5, minor: 15 };

/// Since then the tracepoint of a thread's exit comes before its memory is given up (kernel/exit.c).
const MEMORY_AT_EXIT: Release = Release { major: 6, minor: 16 };

/// Bits of capabilities (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const NEEDED_CAPABILITIES: [(&str, u32); 4] =
    [("cap_dac_read_search", 2), ("cap_sys_ptrace", 19), ("cap_perfmon", 38), ("cap_bpf", 39)];

/// What cap_sys_admin includes, from the time before they were split off it.
const IN_SYS_ADMIN: [&str; 2] = ["cap_perfmon", "cap_bpf"];

/// What was read from this machine; `None` where it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) release: Option<Release>,
    pub(super) architecture: &'static str,
    pub(super) types: bool,
    pub(super) uprobes: bool,
    pub(super) capabilities: Option<u64>,
    pub(super) pid_namespace: Option<u64>,
    pub(super) user_namespace: Option<u64>,
    /// Why the pids in /proc are not ours.
    pub(super) foreign_proc: Option<&'static str>,
    pub(super) perf_event_paranoid: Option<i32>,
    /// The line of /sys/kernel/security/lockdown, as `none [integrity] confidentiality`.
    pub(super) lockdown: Option<String>,
}

impl Machine {
    pub(super) fn read() -> Self {
        Self {
            release: Release::running().ok(),
            architecture: std::env::consts::ARCH,
            types: Path::new("/sys/kernel/btf/vmlinux").exists(),
            uprobes: Path::new("/sys/bus/event_source/devices/uprobe/type").exists(),
            capabilities: effective_capabilities(),
            pid_namespace: namespace::own("pid"),
            user_namespace: namespace::own("user"),
            foreign_proc: namespace::foreign_proc(),
            perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok(),
        }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            self.kernel(),
            self.processor(),
            self.type_information(),
            self.user_probes(),
            self.privilege(),
            self.pid_namespace(),
            self.user_namespace(),
            self.paranoia(),
            self.locked_down(),
            Check::note("locked memory (ulimit -l): of no importance, eBPF is not charged to it since Linux 5.11"),
        ]
    }

    fn kernel(&self) -> Check {
        let way_out = format!("run it on Linux {OLDEST} or later");
        match self.release {
            Some(release) => {
                Check::needed(release >= OLDEST, format!("Linux {release} ({OLDEST} or later is needed)"), way_out)
            }
            None => Check::missing("the kernel's version cannot be read from /proc/sys/kernel/osrelease", way_out),
        }
    }

    fn processor(&self) -> Check {
        Check::needed(
            self.architecture == "x86_64",
            format!("processor: {}", self.architecture),
            "run it on x86-64: other processors are not supported yet",
        )
    }

    fn type_information(&self) -> Check {
        let state = if self.types { "present" } else { "absent" };
        Check::needed(
            self.types,
            format!("kernel type information (/sys/kernel/btf/vmlinux): {state}"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels from 5.15 on are",
        )
    }

    fn user_probes(&self) -> Check {
        let state = if self.uprobes { "present" } else { "absent" };
        Check::needed(
            self.uprobes,
            format!("probes in user programs (uprobes): {state}"),
            "use a kernel built with CONFIG_UPROBE_EVENTS=y; in a container, mount /sys",
        )
    }

    fn privilege(&self) -> Check {
        let effective = self.capabilities.unwrap_or_default();
        let has = |bit: u32| effective >> bit & 1 == 1;
        let lacking: Vec<&str> = NEEDED_CAPABILITIES
            .iter()
            .filter(|(name, bit)| !(has(*bit) || has(CAP_SYS_ADMIN) && IN_SYS_ADMIN.contains(name)))
            .map(|(name, _)| *name)
            .collect();
        match lacking.is_empty() {
            true => Check::fine("privilege: cap_bpf, cap_perfmon, cap_sys_ptrace, cap_dac_read_search"),
            false => Check::missing(
                format!("privilege: this user lacks {}", lacking.join(", ")),
                "run it with sudo, or once: sudo setcap \
                 cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep \"$(command -v pyalloc)\"",
            ),
        }
    }

    fn pid_namespace(&self) -> Check {
        match (self.foreign_proc, self.pid_namespace) {
            (Some(reason), _) => {
                let (found, way_out) = reason.split_once(": ").unwrap_or((reason, "mount /proc"));
                Check::missing(format!("pid namespace: {found}"), way_out)
            }
            (None, Some(INITIAL_PID_NAMESPACE)) => Check::fine("pid namespace: the machine's own"),
            (None, _) => Check::fine("pid namespace: a container's; only its processes can be traced, by its pids"),
        }
    }

    fn user_namespace(&self) -> Check {
        match self.user_namespace {
            Some(INITIAL_USER_NAMESPACE) | None => Check::fine("user namespace: the machine's own"),
            Some(_) => Check::missing(
                "user namespace: a rootless container's, whose root has no privilege over the kernel",
                "run pyalloc on the host with sudo, or in a privileged container of a daemon that runs as root",
            ),
        }
    }

    fn paranoia(&self) -> Check {
        match self.perf_event_paranoid {
            Some(level) => {
                Check::note(format!("kernel.perf_event_paranoid: {level}; of no importance with cap_perfmon or root"))
            }
            None => Check::missing(
                "performance events: absent (no /proc/sys/kernel/perf_event_paranoid)",
                "use a kernel built with CONFIG_PERF_EVENTS=y",
            ),
        }
    }

    pub(super) fn last_reading(&self) -> Check {
        if self.release.is_some_and(|release| release >= MEMORY_AT_EXIT) {
            return Check::fine(format!("a process's memory at its end (Linux {MEMORY_AT_EXIT}): there to be read"));
        }
        Check::note(format!(
            "a process's memory at its end: gone before it can be read (until Linux {MEMORY_AT_EXIT}), so that the small \
             objects of one that is killed are those of some seconds before; its larger blocks are exact"
        ))
    }

    fn locked_down(&self) -> Check {
        let mode = self.lockdown.as_deref().and_then(chosen).unwrap_or("none");
        Check::needed(
            mode != "confidentiality",
            format!("kernel lockdown: {mode}"),
            "boot with lockdown=integrity, which lets privileged eBPF read kernel memory",
        )
    }
}

/// How probes are linked.
pub(super) fn probe_support(support: &ProbeSupport) -> Vec<Check> {
    let multi = match &support.uprobe_multi {
        Ok(()) => Check::fine("one link for many probes (uprobe_multi, Linux 6.6): present"),
        Err(reason) => Check::note(format!(
            "one link for many probes (uprobe_multi, Linux 6.6): absent, so that detaching takes seconds: {reason}"
        )),
    };
    let session = match &support.session {
        Ok(()) => Check::fine("probes that skip the return of calls not sampled (session, Linux 6.13): present"),
        Err(reason) => Check::note(format!(
            "probes that skip the return of calls not sampled (session, Linux 6.13): absent, so that every call \
             costs its return too: {reason}"
        )),
    };
    let kills = match &support.kills {
        Ok(()) => Check::fine("who killed a process (tracepoints mark_victim and signal_generate): told"),
        Err(reason) => Check::note(format!(
            "who killed a process (tracepoints mark_victim and signal_generate): not told, so that a kill by the \
             kernel's OOM killer looks like any SIGKILL: {reason}"
        )),
    };
    vec![multi, session, kills]
}

/// The word in brackets.
fn chosen(line: &str) -> Option<&str> {
    Some(line.split_once('[')?.1.split_once(']')?.0)
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn number(path: &str) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            release: Release::parse("6.18"),
            architecture: "x86_64",
            types: true,
            uprobes: true,
            capabilities: Some(u64::MAX),
            pid_namespace: Some(INITIAL_PID_NAMESPACE),
            user_namespace: Some(INITIAL_USER_NAMESPACE),
            foreign_proc: None,
            perf_event_paranoid: Some(2),
            lockdown: None,
        }
    }

    /// The one thing missing on a machine, which says `what` and how to get it by `way_out`.
    #[track_caller]
    fn check(machine: &Machine, what: &str, way_out: &str) {
        let missing: Vec<Check> = machine.checks().into_iter().filter(Check::is_missing).collect();
        let [check] = missing.as_slice() else { panic!("{missing:?}") };
        assert!(check.found.contains(what), "{}", check.found);
        assert!(check.way_out.as_ref().unwrap().contains(way_out), "{:?}", check.way_out);
    }

    #[test]
    fn finds_nothing_missing_on_a_good_machine() {
        assert!(!good().checks().iter().any(Check::is_missing));
    }

    #[test]
    fn names_what_is_missing_and_the_way_out() {
        let release = Release::parse("5.10.0-30-amd64");
        check(&Machine { release, ..good() }, "Linux 5.10", "5.15");
        let architecture = "aarch64";
        check(&Machine { architecture, ..good() }, "aarch64", "x86-64");
        check(&Machine { types: false, ..good() }, "btf", "CONFIG_DEBUG_INFO_BTF");
        check(&Machine { uprobes: false, ..good() }, "uprobes", "CONFIG_UPROBE_EVENTS");
        let foreign_proc = Some("/proc shows others: mount its own");
        check(&Machine { foreign_proc, ..good() }, "/proc shows others", "mount its own");
        let user_namespace = Some(0xf000_0123);
        check(&Machine { user_namespace, ..good() }, "rootless", "sudo");
        let lockdown = Some("none integrity [confidentiality]\n".to_owned());
        check(&Machine { lockdown, ..good() }, "confidentiality", "lockdown=integrity");
    }

    #[test]
    fn names_the_capabilities_that_are_lacking() {
        let capabilities =
            |bits: &[u32]| Machine { capabilities: Some(bits.iter().fold(0, |set, bit| set | 1 << bit)), ..good() };
        check(&capabilities(&[]), "cap_dac_read_search, cap_sys_ptrace, cap_perfmon, cap_bpf", "sudo");
        check(&capabilities(&[2, 38, 39]), "lacks cap_sys_ptrace", "setcap");
        assert!(!capabilities(&[2, 19, 38, 39]).privilege().is_missing());
        assert!(!capabilities(&[2, 19, CAP_SYS_ADMIN]).privilege().is_missing());
    }

    #[test]
    fn accepts_a_containers_pid_namespace() {
        let pid_namespace = Some(0xf000_0123);
        let check = Machine { pid_namespace, ..good() }.pid_namespace();
        assert!(!check.is_missing() && check.found.contains("a container's"), "{}", check.found);
    }

    #[test]
    fn accepts_a_lockdown_that_allows_reading() {
        let lockdown = Some("none [integrity] confidentiality\n".to_owned());
        assert!(!Machine { lockdown, ..good() }.locked_down().is_missing());
    }
}
