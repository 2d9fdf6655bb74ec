//! What the figures were measured on: without it they mean nothing.

use std::fs;

use xtask::python::Interpreter;

/// Two lines: processor and kernel, interpreter.
pub fn describe(python: &Interpreter) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let guest = if is_guest(&cpuinfo) { ", in a virtual machine" } else { "" };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor, micro) = python.version;
    format!(
        "machine: {cpus} CPUs, {}{guest}, kernel {}, load {}\ninterpreter: CPython {major}.{minor}.{micro}",
        model(&cpuinfo).unwrap_or("unknown processor"),
        kernel.trim(),
        load_average(),
    )
}

fn model(cpuinfo: &str) -> Option<&str> {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
}

/// Traps cost several times more in a guest: figures from one do not carry over to bare metal.
fn is_guest(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_and_guest_are_read_from_cpuinfo() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz\nflags\t\t: fpu hypervisor sse2\n";
        assert_eq!(model(cpuinfo), Some("Some CPU @ 2.5GHz"));
        assert!(is_guest(cpuinfo));
        assert!(!is_guest("flags\t\t: fpu sse2\n"));
    }
}
