//! Pid and user namespaces: which one pyalloc runs in, and what a process is called in its own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Pid, status};

/// Inodes of the machine's own pid and user namespace (include/linux/proc_ns.h).
pub const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;
/// See [`INITIAL_PID_NAMESPACE`].
pub const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// The inode of one of our own namespaces ("pid", "user"); `None` where it cannot be read.
pub fn own(name: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/self/ns/{name}")).ok()?.ino())
}

/// The inode of our pid namespace if it is a container's: there the kernel's pids are not those seen here.
pub fn own_pid_namespace() -> Option<u64> {
    own("pid").filter(|&inode| inode != INITIAL_PID_NAMESPACE)
}

/// Whether our root is one of a user namespace, without privilege over the kernel.
pub fn in_user_namespace() -> bool {
    own("user").is_some_and(|inode| inode != INITIAL_USER_NAMESPACE)
}

/// Why the pids in /proc are of no use to us; `None` if they are those of our own pid namespace.
///
/// `unshare --pid` without `--mount-proc` and `nsenter --pid` without `--mount` leave another one's /proc.
pub fn foreign_proc() -> Option<&'static str> {
    let own = std::process::id().to_string();
    match fs::read_link("/proc/self") {
        Ok(link) if link == Path::new(&own) => None,
        Ok(_) => Some(
            "/proc shows the processes of another pid namespace than the one pyalloc runs in: mount its own (mount -t \
             proc proc /proc), or enter a container with both (nsenter --target PID --pid --mount)",
        ),
        Err(_) => Some("/proc is not there: mount it (mount -t proc proc /proc)"),
    }
}

/// The pid that a process has in its own pid namespace, if that is not the one seen here: in a container, that of the
/// container.
pub fn pid_inside(pid: Pid) -> Option<u32> {
    innermost(&status::field(&status::read(pid).ok()?, "NSpid")?)
}

/// Of the ids from our namespace down to the process's own, the last, if there is more than one.
fn innermost(ids: &str) -> Option<u32> {
    let mut ids = ids.split_ascii_whitespace();
    ids.next()?;
    ids.next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_our_namespace_has_one_pid() {
        assert_eq!(innermost("4242"), None);
        assert_eq!(innermost("4242\t7"), Some(7));
        assert_eq!(innermost("4242\t7\t1"), Some(1));
        assert_eq!(innermost(""), None);
        assert_eq!(pid_inside(Pid(std::process::id())), None);
    }

    #[test]
    fn sees_its_own_processes() {
        assert_eq!(foreign_proc(), None);
    }
}
