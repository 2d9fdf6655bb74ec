//! Files that pyalloc leaves behind: whole or not at all, and owned by the person who called it.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

/// Who shall own a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why a file could not be written. The file that was there before, if any, is unchanged.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The path is a folder.
    #[error("cannot write {}: it is a folder; name a file in it", .0.display())]
    IsFolder(PathBuf),
    /// The path names no file.
    #[error("cannot write {}: it names no file; give the name of a file", .0.display())]
    NoName(PathBuf),
    /// The folder is not there.
    #[error(
        "cannot write {}: there is no folder {}; make it, or choose another place \
         with -o",
        .path.display(),
        .folder.display(),
    )]
    NoFolder {
        /// What was to be written.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// The system refused.
    #[error("cannot write {}: {}; {}", .path.display(), reason(.source), way_out(.source))]
    Refused {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The person who ran sudo; `None` when not under sudo, or not root.
pub fn sudo_owner() -> Option<Owner> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |name: &str| std::env::var(name).ok();
    owner_from(id("SUDO_UID")?.as_str(), id("SUDO_GID")?.as_str())
}

fn owner_from(uid: &str, gid: &str) -> Option<Owner> {
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// Whether [`write_atomically`] can be expected to succeed; asked before work that takes an hour. Leaves no trace.
///
/// # Errors
/// What would stop the file from being written: a missing or read-only folder, a path that is a folder.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let refused = |source| WriteError::Refused { path: path.to_owned(), source };
    if is_device(path) {
        return OpenOptions::new().write(true).open(path).map(drop).map_err(refused);
    }
    let folder = folder_of(path)?;
    temporary(path, folder).map(drop).map_err(refused)
}

/// Writes a file so that a reader sees the old one or the new one, never a part: into a temporary file beside
/// it, to the disk, then renamed. A device or pipe is written in place.
///
/// The mode is 0644 without the umask's bits; a symbolic link is replaced, not followed.
///
/// # Errors
/// Whatever the system or `fill` refused. The old file stays and no temporary file is left.
pub fn write_atomically(
    path: &Path,
    owner: Option<Owner>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let refused = |source| WriteError::Refused { path: path.to_owned(), source };
    if is_device(path) {
        let file = OpenOptions::new().write(true).open(path).map_err(refused)?;
        return fill_file(&file, fill).map_err(refused);
    }
    let folder = folder_of(path)?;
    let temporary = temporary(path, folder).map_err(refused)?;
    fill_file(temporary.as_file(), fill).map_err(refused)?;
    hand_over(temporary.as_file(), owner).map_err(refused)?;
    temporary.persist(path).map_err(|error| refused(error.error))?;
    // The file is complete; a folder that cannot be synced (some network filesystems) is no reason to fail.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn fill_file(file: &File, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    fill(&mut out)?;
    out.flush()
}

fn hand_over(file: &File, owner: Option<Owner>) -> io::Result<()> {
    if let Some(Owner { uid, gid }) = owner {
        fchown(file, Some(uid), Some(gid))?;
    }
    file.set_permissions(Permissions::from_mode(0o644 & !umask()))?;
    file.sync_all()
}

/// Read from /proc, because asking the system for it changes it for all threads.
fn umask() -> u32 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.umask).unwrap_or(0o022)
}

fn temporary(path: &Path, folder: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix: String = name.chars().take(32).collect();
    tempfile::Builder::new().prefix(&format!(".{prefix}.")).suffix(".part").tempfile_in(folder)
}

fn folder_of(path: &Path) -> Result<&Path, WriteError> {
    if path.is_dir() {
        return Err(WriteError::IsFolder(path.to_owned()));
    }
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(WriteError::NoName(path.to_owned()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(WriteError::NoFolder { path: path.to_owned(), folder: folder.to_owned() })
    }
}

/// A path whose name must not be replaced by a file: /dev/null, a pipe, /dev/stdout.
fn is_device(path: &Path) -> bool {
    let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
    special || ((path.starts_with("/dev/") || path.starts_with("/proc/")) && path.exists() && !path.is_dir())
}

/// What the system said, lower case and without its number.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the filesystem is read-only".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let mut letters = text.chars();
            letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
        }
    }
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "make room, or choose another place with -o; the file as it was before is untouched"
        }
        _ => "choose another place with -o",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_with_a_plain_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        write_atomically(&path, None, |out| out.write_all(b"old")).unwrap();
        write_atomically(&path, None, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644 & !umask());
        assert_eq!(names(folder.path()), ["out.svg"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        fs::write(&path, "old").unwrap();
        let full = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        };
        let error = write_atomically(&path, None, full).unwrap_err().to_string();
        assert!(error.contains("the disk is full; make room"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out.svg"]);
    }

    #[test]
    fn a_full_device_is_reported() {
        let error = write_atomically(Path::new("/dev/full"), None, |out| out.write_all(b"x")).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /dev/full: the disk is full"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_is_found_before_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(&folder.path().join("new.pyalloc")).unwrap();
        check_writable(Path::new("/dev/null")).unwrap();
        assert!(names(folder.path()).is_empty());
        let error = |path: &Path| check_writable(path).unwrap_err().to_string();
        assert!(error(folder.path()).ends_with("it is a folder; name a file in it"));
        assert!(error(&folder.path().join("a/b")).contains("there is no folder"));
        assert!(error(&folder.path().join("a/")).contains("names no file"));
        assert!(error(Path::new("..")).contains("it is a folder"));
        assert!(error(Path::new("/proc/x.pyalloc")).starts_with("cannot write /proc/x.pyalloc: "));
    }

    #[test]
    fn the_device_null_stays_a_device() {
        write_atomically(Path::new("/dev/null"), None, |out| out.write_all(b"x")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        write_atomically(&link, None, |out| out.write_all(b"x")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&link).unwrap(), b"x");
    }

    #[test]
    fn the_caller_of_sudo_is_two_numbers() {
        assert_eq!(owner_from("1000", "1001"), Some(Owner { uid: 1000, gid: 1001 }));
        assert_eq!(owner_from("-1", "0"), None);
        assert_eq!(owner_from("1000", ""), None);
    }

    #[test]
    fn a_file_made_under_sudo_belongs_to_its_caller() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_atomically(&path, Some(Owner { uid: 1234, gid: 2345 }), |out| out.write_all(b"x")).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345));
    }
}
