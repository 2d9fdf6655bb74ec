//! What the kernel's log says of its OOM kills: the only place that names the limit that was reached.
//!
//! The line is `oom-kill:constraint=...` of `dump_oom_victim` (mm/oom_kill.c, since Linux 5.0), written before the process
//! is killed. The kernel writes at most ten in five seconds.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

/// A record of /dev/kmsg is at most this long, or reading it fails.
const RECORD_BYTES: usize = 8192;
/// Most records of one reading: a log that fills as fast as it is read must not hold us up.
const MOST_RECORDS: usize = 10_000;
/// Most kills remembered.
const MOST_KILLS: usize = 4096;

/// What was short of memory when the OOM killer chose a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Short {
    /// The control group with this path: its limit was reached.
    Group(String),
    /// The machine.
    Machine,
    /// A part of the machine to which the process is bound (cpuset, memory policy).
    Part,
}

/// The log, from the moment of opening it on.
#[derive(Debug, Default)]
pub struct KernelLog {
    /// `None` where we may not read it.
    file: Option<File>,
    kills: HashMap<u32, Short>,
}

impl KernelLog {
    /// Opens it at its end.
    pub fn open() -> Self {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        let at_end = file.and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self { file: at_end.ok(), kills: HashMap::new() }
    }

    /// What was short when the process with this pid was chosen; `None` if the log does not say.
    pub fn short_at_kill_of(&mut self, pid: u32) -> Option<Short> {
        self.read();
        self.kills.get(&pid).cloned()
    }

    fn read(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut record = vec![0; RECORD_BYTES];
        for _ in 0..MOST_RECORDS {
            match file.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some((pid, short)) = parse(&String::from_utf8_lossy(&record[..length])) {
                        if self.kills.len() >= MOST_KILLS {
                            self.kills.clear();
                        }
                        self.kills.insert(pid, short);
                    }
                }
                // The oldest records were overwritten before they were read: the next ones follow.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// A record: `priority,number,time,flags;text`.
fn parse(record: &str) -> Option<(u32, Short)> {
    let (_, text) = record.split_once(';')?;
    let kill = text.lines().next()?.strip_prefix("oom-kill:constraint=")?;
    // A group's or a task's name may hold commas: what is searched for stands behind them all.
    let (_, pid) = kill.rsplit_once(",pid=")?;
    let pid = pid.split(',').next()?.parse().ok()?;
    let short = match kill.split(',').next()? {
        "CONSTRAINT_MEMCG" => {
            let (_, rest) = kill.split_once(",oom_memcg=")?;
            Short::Group(rest.split_once(",task_memcg=")?.0.to_owned())
        }
        "CONSTRAINT_NONE" => Short::Machine,
        _ => Short::Part,
    };
    Some((pid, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let check = |constraint: &str, what: &str, expected| {
            let line = format!(
                "6,1201,13692298187,-;oom-kill:constraint={constraint},nodemask=(null),cpuset=/,mems_allowed=0,{what},\
                 task_memcg=/a/b,task=py,thon,pid=22335,uid=0\n SUBSYSTEM=x\n"
            );
            assert_eq!(parse(&line), Some((22335, expected)));
        };
        check("CONSTRAINT_MEMCG", "oom_memcg=/a,1", Short::Group("/a,1".to_owned()));
        check("CONSTRAINT_NONE", "global_oom", Short::Machine);
        check("CONSTRAINT_CPUSET", "global_oom", Short::Part);
        assert_eq!(parse("6,1,2,-;usb 1-1: new device\n"), None);
        assert_eq!(parse("oom-kill:constraint="), None);
    }

    #[test]
    fn survives_any_text() {
        proptest::proptest!(|(text: String)| {
            let _ = parse(&format!("1;oom-kill:constraint={text}"));
        });
    }
}
