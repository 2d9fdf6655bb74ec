//! What a diagnosis looks at beside the ledgers: what the processes received and did over time, and what their memory
//! held. Plain data; the rules that judge it are in `diagnose`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::bounds::{self, FEW, ROWS};
use super::objects::ObjectLook;

/// Everything that a diagnosis has beside the ledgers. Empty in a profile that no diagnosis made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What each process had and had done at each reading, in the order of time.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub readings: Vec<Reading>,
    /// Looks at the objects of processes, in the order of time: at least two where growth is to be told.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub looks: Vec<ObjectLook>,
    /// True if what goes through sockets was counted; else the bytes and calls of every reading mean nothing.
    #[serde(default)]
    pub sockets_counted: bool,
    /// Extension modules of installed packages that are mapped into the processes at the end.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub extensions: Vec<Extension>,
    /// What could not be had, and why.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub notes: Vec<String>,
}

/// A shared object of an installed package, mapped into a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extension {
    /// Index into [`super::Profile::processes`].
    pub process: u32,
    /// Its path below the folder of packages: `regex/_regex.cpython-38-x86_64-linux-gnu.so`.
    pub path: String,
}

/// One reading of one process. Counts are sums since the trace of the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Index into [`super::Profile::processes`].
    pub process: u32,
    /// Milliseconds from the start of the trace.
    pub at_ms: u64,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Proportional set size, bytes; 0 if not read.
    pub pss: u64,
    /// Unique set size, bytes: pages of this process alone; 0 if not read.
    pub uss: u64,
    /// Bytes of blocks of the C allocator, allocated since the start, that live; an estimate where blocks are sampled.
    pub live: u64,
    /// Bytes of such blocks allocated.
    pub allocated: u64,
    /// Threads.
    pub threads: u32,
    /// CPU time, ms.
    pub cpu_ms: u64,
    /// Bytes received from sockets.
    pub received: u64,
    /// Receives that brought data.
    pub receives: u64,
    /// Bytes sent to sockets.
    pub sent: u64,
    /// Sends.
    pub sends: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes read from files and pipes (`rchar` of /proc/PID/io); what came from sockets by read(2) is in it too.
    pub files_read: u64,
    /// Processes forked.
    pub forks: u64,
}

/// Most readings that are kept, or [`FEWEST`] for each process where there are many processes.
const MOST: usize = 2400;
/// As many readings of a process as tell a slope.
const FEWEST: usize = 32;

impl Evidence {
    /// The looks at the objects of one process that could be made, in the order of time.
    pub fn looks_at(&self, process: u32) -> impl DoubleEndedIterator<Item = &ObjectLook> {
        self.looks.iter().filter(move |look| look.process == process && look.not_available.is_none())
    }

    /// Adds a reading; readings come in the order of their time. When there are too many, every second one of each process
    /// goes, but for its first and its last.
    pub fn push(&mut self, reading: Reading) {
        self.readings.push(reading);
        if self.readings.len() > MOST && self.readings.len() > FEWEST * self.processes() {
            self.thin();
        }
    }

    fn processes(&self) -> usize {
        self.readings.iter().map(|reading| reading.process).max().unwrap_or(0) as usize + 1
    }

    fn thin(&mut self) {
        let mut last: HashMap<u32, usize> = HashMap::new();
        for (index, reading) in self.readings.iter().enumerate() {
            last.insert(reading.process, index);
        }
        let mut seen: HashMap<u32, usize> = HashMap::new();
        let mut index = 0;
        self.readings.retain(|reading| {
            let number = seen.entry(reading.process).or_default();
            let keeps = number.is_multiple_of(2) || last.get(&reading.process) == Some(&index);
            *number += 1;
            index += 1;
            keeps
        });
    }

    /// The readings of one process.
    pub fn of_process(&self, process: u32) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |reading| reading.process == process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_watch_keeps_its_ends() {
        let mut evidence = Evidence::default();
        for second in 0..20_000_u64 {
            evidence.push(Reading { at_ms: second * 1000, ..Reading::default() });
        }
        let readings = &evidence.readings;
        assert!((MOST / 2..=MOST).contains(&readings.len()), "{}", readings.len());
        assert_eq!((readings[0].at_ms, readings[readings.len() - 1].at_ms), (0, 19_999_000));
        assert!(readings.is_sorted_by_key(|reading| reading.at_ms));
    }

    #[test]
    fn every_process_keeps_enough_readings() {
        let mut evidence = Evidence::default();
        for at_ms in 0..100 {
            (0..200).for_each(|process| evidence.push(Reading { process, at_ms, ..Reading::default() }));
        }
        assert!(evidence.readings.len() <= FEWEST * 200);
        assert!((0..200).all(|process| evidence.of_process(process).count() >= FEWEST / 2));
    }
}
