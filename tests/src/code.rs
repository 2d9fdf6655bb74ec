//! The machine code of a running process, held against the files that it came from: a probe is a changed byte.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

/// Bytes of the process's executable file mappings that are not the file's.
pub fn changed_bytes(pid: u32) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("the process has gone")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("the process has gone")?;
    let mut changed = 0;
    for mapping in maps.lines().filter_map(Mapping::parse) {
        let (mut running, mut original) = (vec![0; mapping.length], vec![0; mapping.length]);
        memory.read_exact_at(&mut running, mapping.start).context("cannot read the process's code")?;
        let file = File::open(mapping.path).with_context(|| format!("cannot read {}", mapping.path))?;
        // The last page may reach over the file's end.
        let read = file.read_at(&mut original, mapping.offset)?;
        changed += running[..read].iter().zip(&original[..read]).filter(|(now, then)| now != then).count();
    }
    Ok(changed)
}

struct Mapping<'a> {
    start: u64,
    length: usize,
    offset: u64,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    /// An executable mapping of a file, from a line of /proc/PID/maps.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let mode = words.next()?;
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let path = words.nth(2).filter(|path| path.starts_with('/') && mode.contains('x'))?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        Some(Self { start, length: usize::try_from(end - start).ok()?, offset, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_executable_and_of_a_file() {
        let check = |line: &str, expected: Option<(u64, usize, u64)>| {
            let found = Mapping::parse(line).map(|mapping| (mapping.start, mapping.length, mapping.offset));
            assert_eq!(found, expected, "{line}");
        };
        check("7f00001000-7f00003000 r-xp 00001000 fe:00 12 /usr/lib/libc.so.6", Some((0x7f00001000, 0x2000, 0x1000)));
        check("7f00001000-7f00003000 r--p 00001000 fe:00 12 /usr/lib/libc.so.6", None);
        check("7ffc0000-7ffc1000 r-xp 00000000 00:00 0 [vdso]", None);
    }

    #[test]
    fn a_process_without_probes_runs_what_its_files_say() {
        assert_eq!(changed_bytes(std::process::id()).unwrap(), 0);
    }
}
