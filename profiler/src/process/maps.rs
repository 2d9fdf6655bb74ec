//! The mappings of a process, from /proc/PID/maps.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Pid;

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Readable, writable, executable, shared (not private).
    pub permissions: Permissions,
    /// Offset into the file, bytes.
    pub offset: u64,
    /// The file's device, `major:minor` in hexadecimal as the kernel prints it.
    pub device: String,
    /// The file's inode; 0 for none.
    pub inode: u64,
    /// What the kernel prints: a path, `[heap]`, `[stack]`, or nothing.
    pub name: RegionName,
}

/// The permission bits of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the bits' own names")]
pub struct Permissions {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub shared: bool,
}

/// What a region maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionName {
    /// Anonymous memory without a name.
    Anonymous,
    /// A name in brackets: `[heap]`, `[stack]`, `[vdso]`, `[anon:...]`.
    Special(String),
    /// A file; `deleted` when the kernel says that it has been unlinked.
    File {
        /// The path as the target sees it, from its own root.
        path: PathBuf,
        /// Unlinked or replaced since it was mapped.
        deleted: bool,
    },
}

impl Region {
    /// The path of the mapped file.
    pub fn path(&self) -> Option<&Path> {
        match &self.name {
            RegionName::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What tells the mapped file from others of the process. The path too: the layers of an overlayfs may have files
    /// of one inode number, and /proc/PID/maps shows them under one device.
    pub fn file_key(&self) -> (&str, u64, Option<&Path>) {
        (&self.device, self.inode, self.path())
    }
}

/// Reads the mappings of a process, in address order.
pub fn read(pid: Pid) -> io::Result<Vec<Region>> {
    let text = fs::read(format!("/proc/{pid}/maps"))?;
    let mut regions: Vec<Region> = text.split(|&byte| byte == b'\n').filter_map(parse_line).collect();
    // Of a zombie or a process of another user it cannot be read: then paths stay as they are.
    let root = fs::read_link(format!("/proc/{pid}/root")).unwrap_or_else(|_| PathBuf::from("/"));
    let mut known = HashMap::new();
    for region in &mut regions {
        if let RegionName::File { path, deleted } = &mut region.name {
            // Two files may have one text: a deleted one, and one that is called so.
            let key = (path.clone(), *deleted, region.device.clone(), region.inode);
            let at = region.start..region.end;
            let seen = known
                .entry(key)
                .or_insert_with_key(|(path, deleted, ..)| seen_by_target(pid, &root, at, region.inode, path, *deleted));
            (*path, *deleted) = seen.clone();
        }
    }
    Ok(regions)
}

/// The path of a mapped file, given as the kernel writes it, as the target sees it; and whether it was unlinked.
///
/// The kernel's text has two meanings where a name holds `\012` or ends in ` (deleted)`, and begins at the reader's
/// root or, where that does not lead there, at the root of the target's mount namespace: with chroot not its own.
fn seen_by_target(pid: Pid, root: &Path, at: Range<u64>, inode: u64, path: &Path, deleted: bool) -> (PathBuf, bool) {
    let from_root = |path: &Path| match path.strip_prefix(root) {
        Ok(rest) => Path::new("/").join(rest),
        Err(_) => path.to_owned(),
    };
    if !deleted && !path.as_os_str().as_bytes().contains(&b'\n') {
        return (from_root(path), false);
    }
    // The link has the path without escapes.
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", at.start, at.end);
    let Ok(full) = fs::read_link(&link) else { return (from_root(path), deleted) };
    let (plain, deleted) = split_deleted(full.as_os_str().as_bytes());
    let plain = from_root(Path::new(OsStr::from_bytes(plain)));
    if !deleted {
        return (plain, false);
    }
    let whole = from_root(&full);
    let inode = fs::metadata(&link).map_or(inode, |file| file.ino());
    match fs::metadata(in_root(pid, &whole)) {
        Ok(file) if file.ino() == inode => (whole, false),
        _ => (plain, true),
    }
}

/// Where we find what a process calls `path`.
pub fn in_root(pid: Pid, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path))
}

/// Parses one line; `None` for what is not one. The kernel writes newlines in paths as `\012`.
fn parse_line(line: &[u8]) -> Option<Region> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let (start, end) = text()?.split_once('-')?;
    let permissions = text()?.as_bytes();
    let offset = text()?;
    let device = text()?.to_owned();
    let inode = text()?.parse().ok()?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    Some(Region {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        permissions: Permissions {
            read: permissions.first() == Some(&b'r'),
            write: permissions.get(1) == Some(&b'w'),
            execute: permissions.get(2) == Some(&b'x'),
            shared: permissions.get(3) == Some(&b's'),
        },
        offset: u64::from_str_radix(offset, 16).ok()?,
        device,
        inode,
        name: parse_name(name),
    })
}

fn parse_name(name: &[u8]) -> RegionName {
    if name.is_empty() {
        return RegionName::Anonymous;
    }
    if !name.starts_with(b"/") {
        return RegionName::Special(String::from_utf8_lossy(name).into_owned());
    }
    let (path, deleted) = split_deleted(name);
    RegionName::File { path: PathBuf::from(OsString::from_vec(unescape_newlines(path))), deleted }
}

fn split_deleted(name: &[u8]) -> (&[u8], bool) {
    match name.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (name, false),
    }
}

fn unescape_newlines(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_files_with_blanks_newlines_and_deletions() {
        let line = b"7f0000001000-7f0000003000 r-xp 00001000 fe:00 1234    /opt/a b/lib\\012x.so (deleted)";
        let region = parse_line(line).unwrap();
        assert_eq!((region.start, region.end, region.offset), (0x7f00_0000_1000, 0x7f00_0000_3000, 0x1000));
        assert!(region.permissions.execute && !region.permissions.write && !region.permissions.shared);
        assert_eq!(region.name, RegionName::File { path: PathBuf::from("/opt/a b/lib\nx.so"), deleted: true });
    }

    #[test]
    fn parses_what_is_no_file() {
        let region = parse_line(b"01c0f000-01c30000 rw-p 00000000 00:00 0          [heap]").unwrap();
        assert_eq!(region.name, RegionName::Special("[heap]".to_owned()));
        let region = parse_line(b"7f0000000000-7f0000021000 rw-p 00000000 00:00 0").unwrap();
        assert_eq!(region.name, RegionName::Anonymous);
        assert!(parse_line(b"nonsense").is_none());
    }

    #[test]
    fn reads_its_own_maps() {
        let regions = read(Pid(std::process::id())).unwrap();
        let own = std::env::current_exe().unwrap();
        assert!(regions.iter().any(|region| region.permissions.execute && region.path() == Some(&own)));
    }
}
