//! What /proc tells of a process in texts that need not be UTF-8: a program's file may have any name.

use std::{fs, io};

use super::Pid;

/// /proc/PID/status. The `Name` in it is the program's, of any bytes.
pub fn read(pid: Pid) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/status"))?).into_owned())
}

/// A field of it.
pub fn field(status: &str, name: &str) -> Option<String> {
    let rest = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    status.lines().find_map(rest)
}

/// The ids of a process's threads at this moment.
pub fn threads(pid: Pid) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The command line, as typed: the arguments joined by blanks; empty for a kernel thread or a zombie.
pub fn command_line(pid: Pid) -> io::Result<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_field_by_its_whole_name() {
        let status = "Name:\tpy\nNSpid:\t4\t1\nNSpgid:\t4\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "NSpid").as_deref(), Some("4\t1"));
        assert_eq!(field(status, "Seccomp").as_deref(), Some("2"));
        assert_eq!(field(status, "Sec"), None);
    }

    #[test]
    fn tells_how_this_process_was_called() {
        let own = Pid(std::process::id());
        let first = std::env::args().next().unwrap();
        assert!(command_line(own).unwrap().starts_with(&first));
        assert_eq!(field(&read(own).unwrap(), "Tgid"), Some(own.to_string()));
    }
}
