//! The memory limits that hold for the traced processes, watched so that an OOM kill can be told from what was reached.

use std::collections::HashMap;

use crate::process::Pid;
use crate::process::cgroup::{self, Membership, MemoryGroup, Reading};
use crate::process::kernel_log::{KernelLog, Short};
use crate::profile::{KilledBy, MemoryLimit};

/// A group that no process was in for this many readings is not watched any more.
const IDLE_READINGS: u32 = 4;

/// The control groups of the traced processes, by path, and the kernel's log.
pub struct Limits {
    groups: HashMap<String, Watched>,
    log: KernelLog,
}

struct Watched {
    group: MemoryGroup,
    /// The last reading but one, and the last: an OOM kill whose record comes a little late is held against the older
    /// one.
    earlier: Vec<Reading>,
    last: Vec<Reading>,
    idle: u32,
}

impl Limits {
    /// Watches no group yet, and the log from now on.
    pub fn new() -> Self {
        Self { groups: HashMap::new(), log: KernelLog::open() }
    }

    /// Watches the group of a process, and gives its path; `None` if it cannot be seen.
    pub fn watch(&mut self, pid: Pid) -> Option<String> {
        let member = Membership::of(pid).ok()?;
        if let Some(watched) = self.groups.get_mut(&member.path) {
            watched.idle = 0;
            return Some(member.path);
        }
        let group = MemoryGroup::open(&member).ok()?;
        let last = group.read();
        self.groups.insert(member.path.clone(), Watched { group, earlier: last.clone(), last, idle: 0 });
        Some(member.path)
    }

    /// Reads the limits and how often each was reached.
    pub fn read(&mut self) {
        self.groups.retain(|_, watched| watched.idle < IDLE_READINGS);
        for watched in self.groups.values_mut() {
            watched.idle += 1;
            watched.earlier = std::mem::replace(&mut watched.last, watched.group.read());
        }
    }

    /// Which limits made the OOM killer choose a process of the group with this path: as the kernel's log says, else by
    /// those that were reached lately.
    pub fn blame(&mut self, pid: u32, path: Option<&str>) -> KilledBy {
        let watched = path.and_then(|path| self.groups.get(path));
        let reached = |watched: &Watched| watched.group.reached_since(&watched.earlier);
        let limits = match self.log.short_at_kill_of(pid) {
            Some(Short::Group(path)) => {
                let known = watched.and_then(|watched| watched.group.limit_of(&path, &watched.last));
                // A process may have come into the group after the last reading.
                let limit = known.or_else(|| MemoryGroup::limit_at(&path));
                Some(vec![limit.unwrap_or(cgroup::MemoryLimit { path, bytes: 0 })])
            }
            Some(Short::Machine) => Some(Vec::new()),
            Some(Short::Part) => None,
            None => watched.and_then(reached),
        };
        let row = |limit: cgroup::MemoryLimit| MemoryLimit { cgroup: limit.path, bytes: limit.bytes };
        KilledBy::OomKiller { limits_known: limits.is_some(), limits: limits.into_iter().flatten().map(row).collect() }
    }
}
