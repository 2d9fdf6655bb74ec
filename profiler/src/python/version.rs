//! Which CPython an ELF image holds: from the file alone, so that it works before the interpreter runs.

use std::fmt;
use std::path::Path;

use crate::process::image::Image;

/// `Py_Version` and `PY_VERSION_HEX` end in this for a final release (CPython `patchlevel.h`).
const FINAL: u8 = 0xf;

/// Word of `_Py_DebugOffsets` that is 1 in free-threaded builds (CPython 3.13+).
const DEBUG_FREE_THREADED: usize = 16;

/// The first eight bytes of `_Py_DebugOffsets` (CPython 3.13+).
pub const DEBUG_COOKIE: &[u8; 8] = b"xdebugpy";

/// Exports that a minor version brought; the first found decides (checked on 3.7.16 to 3.10.20).
const MARKS: [(&str, u8); 4] =
    [("Py_NewRef", 10), ("PyThreadState_GetFrame", 9), ("_PyMem_GetCurrentAllocatorName", 8), ("_PyRuntime", 7)];

/// The version and kind of a CPython 3 build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 11 in 3.11.7: the part that decides the layout.
    pub minor: u8,
    /// 7 in 3.11.7, where the file tells.
    pub micro: Option<u8>,
    /// Built without the GIL ("3.13t").
    pub free_threaded: bool,
    /// A final release; layouts of alphas, betas and candidates are not known.
    pub released: bool,
    /// For people: "3.11.7", "3.13.0t", "3.9".
    pub serial: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.serial)
    }
}

impl Version {
    /// A released version.
    pub fn new(minor: u8, micro: Option<u8>, free_threaded: bool) -> Self {
        Self::with_level(minor, micro, free_threaded, true)
    }

    fn with_level(minor: u8, micro: Option<u8>, free_threaded: bool, released: bool) -> Self {
        let mut serial = format!("3.{minor}");
        if let Some(micro) = micro {
            serial += &format!(".{micro}");
        }
        serial += if free_threaded { "t" } else { "" };
        serial += if released { "" } else { " pre-release" };
        Self { minor, micro, free_threaded, released, serial }
    }

    /// The version of the image that defines `_PyRuntime`.
    ///
    /// `None` if it is not a CPython 3 that any rule knows.
    pub fn of(image: &Image) -> Option<Self> {
        let named = FileName::parse(&image.path);
        let debug = debug_offsets(image);
        let free_threaded = match debug {
            Some(words) => word(words, DEBUG_FREE_THREADED)? == 1,
            None => named.as_ref().is_some_and(|name| name.free_threaded),
        };
        let hex = match debug {
            Some(words) => u32::try_from(word(words, 8)?).ok(),
            None => py_version(image),
        };
        if let Some(hex) = hex {
            return Self::from_hex(hex, free_threaded);
        }
        let minor = match named {
            Some(FileName { minor, .. }) => minor,
            None => MARKS.iter().find(|(name, _)| image.export(name).is_some())?.1,
        };
        Some(Self::new(minor, micro_from_text(&image.data, minor), free_threaded))
    }

    /// From `PY_VERSION_HEX`: major, minor, micro in a byte each, release level and serial in four bits each.
    pub fn from_hex(hex: u32, free_threaded: bool) -> Option<Self> {
        let [tail, micro, minor, major] = hex.to_le_bytes();
        (major == 3).then(|| Self::with_level(minor, Some(micro), free_threaded, tail >> 4 == FINAL))
    }
}

/// What a file name like `libpython3.13td.so.1.0` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// 3, or 2.
    pub major: u8,
    /// 13.
    pub minor: u8,
    /// `t`: free-threaded.
    pub free_threaded: bool,
    /// `d`: built with Py_DEBUG.
    pub debug: bool,
}

impl FileName {
    /// Parses the last part of a path; `None` for a name without a version (`python3`, `uwsgi`).
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let name = name.strip_prefix("lib").unwrap_or(&name);
        let (major, rest) = split_number(name.strip_prefix("python")?)?;
        let (minor, rest) = split_number(rest.strip_prefix('.')?)?;
        let flags = rest.split(|c: char| !c.is_ascii_lowercase()).next()?;
        Some(Self { major, minor, free_threaded: flags.contains('t'), debug: flags.contains('d') })
    }
}

/// The bytes of `_Py_DebugOffsets` in the file, to the end of their segment (CPython 3.13+).
pub fn debug_offsets(image: &Image) -> Option<&[u8]> {
    let runtime = image.export("_PyRuntime")?;
    image.bytes_at(runtime.vaddr).filter(|bytes| bytes.starts_with(DEBUG_COOKIE))
}

/// The little-endian u64 at a byte position.
pub fn word(bytes: &[u8], position: usize) -> Option<u64> {
    let bytes = bytes.get(position..position.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// `Py_Version` (CPython 3.11+).
fn py_version(image: &Image) -> Option<u32> {
    let bytes = image.bytes_at(image.export("Py_Version")?.vaddr)?;
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The micro version from the text `PY_VERSION` in the file's constants; `None` where texts disagree.
///
/// CPython before 3.11 exports no number that holds it. The linker may have merged the text with the end of
/// another, a path mostly. For display only.
fn micro_from_text(data: &[u8], minor: u8) -> Option<u8> {
    let pattern = format!(r"(?-u)[^0-9.]3\.{minor}\.(\d{{1,2}})\+?\x00");
    let pattern = regex::bytes::Regex::new(&pattern).ok()?;
    let mut found = None;
    for captures in pattern.captures_iter(data) {
        let micro = std::str::from_utf8(&captures[1]).ok()?.parse().ok()?;
        if found.replace(micro).is_some_and(|other| other != micro) {
            return None;
        }
    }
    found
}

fn split_number(text: &str) -> Option<(u8, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<(u8, u8, bool, bool)> {
        FileName::parse(Path::new(text)).map(|n| (n.major, n.minor, n.free_threaded, n.debug))
    }

    #[test]
    fn reads_versions_from_file_names() {
        assert_eq!(name("/usr/bin/python3.11"), Some((3, 11, false, false)));
        assert_eq!(name("/a b/libpython3.13t.so.1.0"), Some((3, 13, true, false)));
        assert_eq!(name("/usr/bin/python3.12d"), Some((3, 12, false, true)));
        assert_eq!(name("/usr/lib/libpython3.14td.so"), Some((3, 14, true, true)));
        assert_eq!(name("/x/libpython3.7m.so.1.0"), Some((3, 7, false, false)));
        assert_eq!(name("/x/python2.7"), Some((2, 7, false, false)));
        assert_eq!(name("/x/python3.11-dbg"), Some((3, 11, false, false)));
        for other in ["/usr/bin/python3", "/usr/sbin/uwsgi", "/x/libpython3.so", "/x/python", "/"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn reads_version_numbers() {
        let version = Version::from_hex(0x030b_07f0, false).unwrap();
        assert_eq!((version.minor, version.micro, version.serial.as_str()), (11, Some(7), "3.11.7"));
        assert_eq!(Version::from_hex(0x030d_00f0, true).unwrap().to_string(), "3.13.0t");
        assert!(!Version::from_hex(0x030f_00a3, false).unwrap().released);
        assert_eq!(Version::from_hex(0x0207_12f0, false), None);
    }

    #[test]
    fn finds_the_one_micro_version_in_constants() {
        assert_eq!(micro_from_text(b"x\x003.9.18\x00y", 9), Some(18));
        assert_eq!(micro_from_text(b"x\x003.9.18+\x00y", 9), Some(18));
        assert_eq!(micro_from_text(b"x\x003.9.18\x00\x003.9.2\x00y", 9), None);
        assert_eq!(micro_from_text(b"/opt/3.9.18\x00y", 9), Some(18));
        assert_eq!(micro_from_text(b"x3.9.18-y\x0013.9.2\x00", 9), None);
    }
}
