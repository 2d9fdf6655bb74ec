//! The memory control group of a process: the limits that hold for it, and how often each was reached. Version 1 and 2.
//!
//! Files: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Pid;

/// Version 1 writes a number near 2^63 for "no limit".
const NO_LIMIT: u64 = 1 << 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Which control group a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    version: Version,
    /// The group's path, as /proc/PID/cgroup has it.
    pub path: String,
}

impl Membership {
    /// The memory control group of a process.
    ///
    /// # Errors
    /// It has gone, or the kernel has no control groups for memory.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no control group for memory"))
    }

    /// From lines as `4:memory:/a/b` (version 1) or `0::/a/b` (version 2); where both are there, memory is in the first.
    fn parse(text: &str) -> Option<Self> {
        let lines = || {
            text.lines().filter_map(|line| {
                let mut parts = line.splitn(3, ':');
                Some((parts.next()?, parts.next()?, parts.next()?))
            })
        };
        let one = lines().find(|(_, controllers, _)| controllers.split(',').any(|name| name == "memory"));
        let two = || lines().find(|(number, controllers, _)| *number == "0" && controllers.is_empty());
        let found =
            one.map(|(_, _, path)| (Version::One, path)).or_else(|| two().map(|(_, _, path)| (Version::Two, path)));
        found.map(|(version, path)| Self { version, path: path.to_owned() })
    }
}

/// A limit on the memory of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The group's path, as /proc/PID/cgroup has it.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
}

/// A group at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    limit: Option<u64>,
    times_reached: Option<u64>,
}

/// A control group and those above it.
#[derive(Debug)]
pub struct MemoryGroup {
    /// Nearest first.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    path: String,
    folder: PathBuf,
    version: Version,
}

impl MemoryGroup {
    /// Finds the folders of a group and of those above it.
    ///
    /// # Errors
    /// The control groups are not mounted where we see them, or the group is outside what we see.
    pub fn open(member: &Membership) -> io::Result<Self> {
        let mounts = procfs::process::Process::myself().and_then(|me| me.mountinfo()).map_err(io::Error::other)?;
        let fits = |mount: &&procfs::process::MountInfo| match member.version {
            Version::One => mount.fs_type == "cgroup" && mount.super_options.contains_key("memory"),
            Version::Two => mount.fs_type == "cgroup2",
        };
        let unseen = || io::Error::new(io::ErrorKind::NotFound, "the control group is not visible here");
        let below = |mount: &procfs::process::MountInfo| {
            Some((mount.mount_point.clone(), mount.root.clone(), below(&member.path, &mount.root)?))
        };
        let (point, root, rest) = mounts.iter().filter(fits).find_map(below).ok_or_else(unseen)?;
        let group = Self { levels: levels(&point, &root, &rest, member.version) };
        if group.levels.first().is_none_or(|level| level.folder.is_dir()) { Ok(group) } else { Err(unseen()) }
    }

    /// The nearest limit that holds for another group too.
    pub fn limit_shared_with(&self, other: &Membership) -> Option<MemoryLimit> {
        let holds = |level: &&Level| {
            let rest = other.path.strip_prefix(&level.path);
            level.version == other.version && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let limited = |level: &Level| Some(MemoryLimit { path: level.path.clone(), bytes: level.limit()? });
        self.levels.iter().filter(holds).find_map(limited)
    }

    /// The limits as they are now, and how often each was reached; nearest group first.
    pub fn read(&self) -> Vec<Reading> {
        let read = |level: &Level| Reading { limit: level.limit(), times_reached: level.times_reached() };
        self.levels.iter().map(read).collect()
    }

    /// The limit of the group with this path, which is this one or above it, as it was at a reading.
    pub fn limit_of(&self, path: &str, reading: &[Reading]) -> Option<MemoryLimit> {
        let (level, reading) = self.levels.iter().zip(reading).find(|(level, _)| level.path == path)?;
        Some(MemoryLimit { path: level.path.clone(), bytes: reading.limit? })
    }

    /// The limit of the group with this path as it is now, wherever that group is.
    pub fn limit_at(path: &str) -> Option<MemoryLimit> {
        let version = Membership::of(Pid(std::process::id())).ok()?.version;
        let group = Self::open(&Membership { version, path: path.to_owned() }).ok()?;
        group.limit_of(path, &group.read())
    }

    /// The limits that were reached since a reading, nearest first. `None` if that cannot be told.
    pub fn reached_since(&self, before: &[Reading]) -> Option<Vec<MemoryLimit>> {
        let mut reached = Vec::new();
        for (level, before) in self.levels.iter().zip(before) {
            // A group that is gone by now may have been the one.
            let now = level.times_reached()?;
            if let Some(bytes) = before.limit.filter(|_| before.times_reached.is_some_and(|before| now > before)) {
                reached.push(MemoryLimit { path: level.path.clone(), bytes });
            }
        }
        // Newer kernels keep version 1's count at 0: that none was reached is not to be learned from it.
        let counts = self.levels.iter().all(|level| level.version == Version::Two);
        (counts || !reached.is_empty()).then_some(reached)
    }
}

/// The rest of a group's path below what a mount shows.
fn below(path: &str, root: &str) -> Option<String> {
    let rest = if root == "/" { path } else { path.strip_prefix(root)? };
    let inside = (rest.is_empty() || rest.starts_with('/')) && !rest.starts_with("/..");
    inside.then(|| rest.trim_matches('/').to_owned())
}

/// The group and all above it that the mount shows. The machine's own group, which has no limit, is none of them.
fn levels(point: &Path, root: &str, rest: &str, version: Version) -> Vec<Level> {
    let root = root.trim_end_matches('/');
    let mut levels = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() {
        levels.push(Level { path: format!("{root}/{rest}"), folder: point.join(rest), version });
        rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
    }
    if !root.is_empty() {
        levels.push(Level { path: root.to_owned(), folder: point.to_owned(), version });
    }
    levels
}

impl Level {
    /// The limit, bytes; `None` without one. Version 1 may have another for memory and swap together.
    fn limit(&self) -> Option<u64> {
        let names: &[&str] = match self.version {
            Version::One => &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            Version::Two => &["memory.max"],
        };
        names.iter().filter_map(|name| self.number(name)).filter(|bytes| *bytes < NO_LIMIT).min()
    }

    /// Version 1 counts each time the limit stood in the way, so reclaiming the page cache too; version 2 (Linux 5.2)
    /// those in which reclaiming did not help.
    fn times_reached(&self) -> Option<u64> {
        match self.version {
            Version::One => {
                Some(self.number("memory.failcnt")?.saturating_add(self.number("memory.memsw.failcnt").unwrap_or(0)))
            }
            Version::Two => {
                let events = fs::read_to_string(self.folder.join("memory.events.local")).ok();
                match events {
                    Some(events) => events.lines().find_map(|line| line.strip_prefix("oom "))?.trim().parse().ok(),
                    // A group without the memory controller has no limit to reach.
                    None => (self.folder.is_dir() && !self.folder.join("memory.max").exists()).then_some(0),
                }
            }
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_either_version_is_found() {
        let check = |text, version, path: &str| {
            assert_eq!(Membership::parse(text), Some(Membership { version, path: path.to_owned() }))
        };
        check("9:name=systemd:/\n4:memory:/a/b:c\n0::/\n", Version::One, "/a/b:c");
        check("3:cpu,memory:/x\n", Version::One, "/x");
        check("0::/user.slice/session-1.scope\n", Version::Two, "/user.slice/session-1.scope");
        assert_eq!(Membership::parse("3:cpu:/x\n"), None);
    }

    #[test]
    fn levels_go_up_to_the_mount() {
        let shown = |point: &str, root: &str, path: &str| -> Option<Vec<(String, String)>> {
            let rest = below(path, root)?;
            let all = levels(Path::new(point), root, &rest, Version::Two);
            Some(all.into_iter().map(|level| (level.path, level.folder.display().to_string())).collect())
        };
        let pair = |path: &str, folder: &str| (path.to_owned(), folder.to_owned());
        assert_eq!(shown("/c", "/", "/a/b"), Some(vec![pair("/a/b", "/c/a/b"), pair("/a", "/c/a")]));
        assert_eq!(shown("/c", "/", "/"), Some(vec![]));
        assert_eq!(shown("/c", "/d", "/d/a"), Some(vec![pair("/d/a", "/c/a"), pair("/d", "/c")]));
        assert_eq!(shown("/c", "/d", "/da"), None);
        assert_eq!(shown("/c", "/", "/../other"), None, "outside our own namespace");
    }

    /// Folders as the kernel shows them: what is read is files, and version 2 is not on every machine.
    #[test]
    fn the_limit_that_was_reached_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let ooms = |times: u32| format!("low 0\nhigh 0\nmax 9\noom {times}\noom_kill {times}\n");
        write("a/memory.max", "1048576\n");
        write("a/memory.events.local", &ooms(3));
        write("a/b/memory.max", "max\n");
        write("a/b/memory.events.local", &ooms(0));
        let group = MemoryGroup { levels: levels(folder.path(), "/", "a/b", Version::Two) };
        let before = group.read();
        let reading = |limit, times| Reading { limit, times_reached: Some(times) };
        assert_eq!(before, [reading(None, 0), reading(Some(1 << 20), 3)]);
        assert_eq!(group.reached_since(&before), Some(vec![]));
        write("a/memory.events.local", &ooms(4));
        let limit = MemoryLimit { path: "/a".to_owned(), bytes: 1 << 20 };
        let other = |path: &str| Membership { version: Version::Two, path: path.to_owned() };
        assert_eq!(group.limit_shared_with(&other("/a/c")), Some(limit.clone()));
        assert_eq!(group.limit_shared_with(&other("/ac")), None);
        assert_eq!(group.limit_of("/a", &before).as_ref(), Some(&limit));
        assert_eq!(group.reached_since(&before), Some(vec![limit]));
        fs::remove_dir_all(folder.path().join("a/b")).unwrap();
        assert_eq!(group.reached_since(&before), None, "a group that is gone may have been the one");
    }
}
