//! Finding the interpreter in a process: which mapped file it is, and why there is none to be traced.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::layout::Layout;
use super::slot::Libc;
use super::threads;
use super::version::{FileName, Version};
use crate::process::Pid;
use crate::process::image::{Image, ImageError, executable_files, is_program};
use crate::process::maps::{self, Region};
use crate::process::memory::ProcessMemory;

/// Why a process cannot be traced as a Python process.
#[derive(Debug, thiserror::Error)]
pub enum NotPython {
    /// No such process, or it ended meanwhile.
    #[error(
        "no process has the pid {pid}: it may have ended or restarted; find the service's pid with `pgrep -af python`"
    )]
    Gone {
        /// The pid asked for.
        pid: Pid,
    },
    /// A kernel thread, or a process that ended and waits for its parent.
    #[error(
        "process {pid} has no program: it ended and waits for its parent, or it is a kernel thread; give another pid"
    )]
    NoProgram {
        /// The pid asked for.
        pid: Pid,
    },
    /// We may not read it.
    #[error("no permission to read the memory of process {pid} ({source}): run pyalloc with sudo")]
    NotPermitted {
        /// The pid asked for.
        pid: Pid,
        /// The system's word.
        source: io::Error,
    },
    /// /proc could not be read for another reason.
    #[error("cannot read /proc/{pid}: {source}; try again, or look into it with `pyalloc doctor`")]
    Proc {
        /// The pid asked for.
        pid: Pid,
        /// The system's word.
        source: io::Error,
    },
    /// The file that should hold the interpreter could not be read.
    #[error(
        "cannot look for the interpreter of process {pid}: {source}; run pyalloc with sudo, which also reads deleted files"
    )]
    Image {
        /// The pid asked for.
        pid: Pid,
        /// Which file, and why.
        source: ImageError,
    },
    /// Another program.
    #[error(
        "process {pid} ({program}) does not run CPython: no file it maps defines _PyRuntime; give the pid of the Python process itself"
    )]
    NoInterpreter {
        /// The pid asked for.
        pid: Pid,
        /// Its program's file name.
        program: String,
    },
    /// A 32-bit program.
    #[error(
        "process {pid} ({program}) is a 32-bit program and pyalloc reads x86-64 ones: run the service with a 64-bit python"
    )]
    Bits32 {
        /// The pid asked for.
        pid: Pid,
        /// Its program's file name.
        program: String,
    },
    /// Built with Py_DEBUG.
    #[error("process {pid} runs a CPython built with Py_DEBUG ({}), which has another memory layout: run the service with a release build", image.display())]
    DebugBuild {
        /// The pid asked for.
        pid: Pid,
        /// The interpreter's file.
        image: PathBuf,
    },
    /// No row in the table of layouts.
    #[error(
        "process {pid} runs CPython {version}, whose memory layout pyalloc does not know: run the service with one of {}",
        Layout::verified_versions()
    )]
    Unsupported {
        /// The pid asked for.
        pid: Pid,
        /// Its version.
        version: String,
    },
    /// A row that has not been tested on the whole line.
    #[error(
        "process {pid} runs CPython {version}, whose memory layout is known but not yet verified, and wrong stacks are worse than none: run the service with one of {}",
        Layout::verified_versions()
    )]
    Unverified {
        /// The pid asked for.
        pid: Pid,
        /// Its version.
        version: Version,
    },
    /// The process contradicts the layout of its version.
    #[error(
        "process {pid} runs CPython {version}, but its memory does not look like it: {reason}; its stacks would be wrong, so run the service with an unmodified release build"
    )]
    Layout {
        /// The pid asked for.
        pid: Pid,
        /// Its version.
        version: Version,
        /// Which field, and how.
        reason: String,
    },
}

/// The interpreter's file in a process, and what it is.
pub(super) struct Located {
    pub image: Image,
    pub version: Version,
    pub layout: &'static Layout,
    pub libc: Libc,
    pub memory: ProcessMemory,
}

/// Finds the file that defines `_PyRuntime`; of several the one whose interpreter runs.
pub(super) fn locate(pid: Pid) -> Result<Located, NotPython> {
    let regions = maps::read(pid).map_err(|source| refusal(pid, source))?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).map_err(|source| no_exe(pid, source))?;
    let program = program_name(&exe);
    if is_32_bit(pid) {
        return Err(NotPython::Bits32 { pid, program });
    }
    let memory = ProcessMemory::open(pid).map_err(|source| refusal(pid, source))?;
    let files = executable_files(&regions);
    let named: Vec<&Region> =
        files.iter().copied().filter(|region| is_python_name(region) || is_program(pid, region)).collect();
    let (images, unread) = open_all(pid, &named, &regions);
    let Some(image) = choose(images, &memory).or_else(|| unnamed(pid, &files, &named, &regions, &memory)) else {
        return Err(match (unread, old_python(&named)) {
            (Some(source), _) => NotPython::Image { pid, source },
            (None, Some(version)) => NotPython::Unsupported { pid, version },
            (None, None) => NotPython::NoInterpreter { pid, program },
        });
    };
    let (version, layout) = identify(pid, &image)?;
    let libc = libc_of(pid, &files, &regions);
    Ok(Located { image, version, layout, libc, memory })
}

/// The interpreter in a file of another name: an upgrade may have moved it aside, or a program brings its own.
fn unnamed(
    pid: Pid,
    files: &[&Region],
    named: &[&Region],
    regions: &[Region],
    memory: &ProcessMemory,
) -> Option<Image> {
    /// Of code. An interpreter has some megabytes; to read whole browsers would take seconds.
    const LARGEST: u64 = 64 << 20;
    let others = files.iter().copied().filter(|region| !named.contains(region) && region.end - region.start <= LARGEST);
    choose(open_all(pid, &others.collect::<Vec<_>>(), regions).0, memory)
}

/// The image that holds the interpreter: of several the one that runs, else the library, because a program that
/// links to it may define a copy of the symbol.
fn choose(mut images: Vec<Image>, memory: &ProcessMemory) -> Option<Image> {
    images.retain(|image| image.export("_PyRuntime").is_some());
    images.sort_by_key(|image| !image.file_name().starts_with("libpython"));
    let chosen = match images.len() {
        0 | 1 => 0,
        _ => images.iter().position(|image| runs(image, memory)).unwrap_or(0),
    };
    (chosen < images.len()).then(|| images.swap_remove(chosen))
}

/// The version and layout of the interpreter's file.
fn identify(pid: Pid, image: &Image) -> Result<(Version, &'static Layout), NotPython> {
    if is_debug_build(image) {
        let image = image.path.clone();
        return Err(NotPython::DebugBuild { pid, image });
    }
    let Some(version) = Version::of(image) else {
        let version = "of an unknown version".to_owned();
        return Err(NotPython::Unsupported { pid, version });
    };
    match Layout::of(&version) {
        Some(layout) => Ok((version, layout)),
        None => Err(NotPython::Unsupported { pid, version: version.serial }),
    }
}

/// The files that can be read, and why the first of the others cannot.
fn open_all(pid: Pid, files: &[&Region], regions: &[Region]) -> (Vec<Image>, Option<ImageError>) {
    let mut unread = None;
    let mut images = Vec::new();
    for region in files {
        match Image::open(pid, region, regions) {
            Ok(image) => images.push(image),
            Err(error) => unread = unread.or(Some(error)),
        }
    }
    (images, unread)
}

fn libc_of(pid: Pid, files: &[&Region], regions: &[Region]) -> Libc {
    let parts: Vec<&Region> = files.iter().copied().filter(|region| Libc::is_part(&file_name(region))).collect();
    Libc::of(open_all(pid, &parts, regions).0.iter())
}

/// Whether an initialized interpreter lies in the image.
fn runs(image: &Image, memory: &ProcessMemory) -> bool {
    let layout = Version::of(image).and_then(|version| Layout::of(&version));
    let (Some(layout), Some(runtime)) = (layout, image.address_of("_PyRuntime")) else {
        return false;
    };
    threads::head(memory, layout, runtime).is_ok_and(|head| head != 0)
}

/// Py_DEBUG puts a `d` into the file's name and brings functions that count references.
fn is_debug_build(image: &Image) -> bool {
    FileName::parse(&image.path).is_some_and(|name| name.debug)
        || ["_Py_NegativeRefcount", "_Py_RefTotal"].iter().any(|name| image.export(name).is_some())
}

/// The version that a file name tells, for interpreters before `_PyRuntime` (2.7 to 3.6).
fn old_python(files: &[&Region]) -> Option<String> {
    let named = files.iter().find_map(|region| FileName::parse(region.path()?))?;
    Some(format!("{}.{}", named.major, named.minor))
}

/// Any bytes may be in a name; those that are no text are none of ours.
fn file_name(region: &Region) -> Cow<'_, str> {
    region.path().and_then(Path::file_name).map(OsStr::to_string_lossy).unwrap_or_default()
}

fn is_python_name(region: &Region) -> bool {
    let name = file_name(region);
    name.starts_with("libpython") || name.starts_with("python")
}

fn program_name(exe: &Path) -> String {
    let name = exe.file_name().unwrap_or(exe.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The class byte of the program's ELF header.
fn is_32_bit(pid: Pid) -> bool {
    use io::Read as _;
    let mut start = [0; 5];
    let file = fs::File::open(format!("/proc/{pid}/exe"));
    let read = file.and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"\x7fELF\x01"
}

fn refusal(pid: Pid, source: io::Error) -> NotPython {
    match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => NotPython::Gone { pid },
        (io::ErrorKind::PermissionDenied, _) => NotPython::NotPermitted { pid, source },
        _ => NotPython::Proc { pid, source },
    }
}

/// A process that is there but has no `exe` has no program.
fn no_exe(pid: Pid, source: io::Error) -> NotPython {
    match source.kind() {
        io::ErrorKind::NotFound if Path::new(&format!("/proc/{pid}")).exists() => NotPython::NoProgram { pid },
        _ => refusal(pid, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_missing_right_from_a_missing_process() {
        let said = |number| refusal(Pid(7), io::Error::from_raw_os_error(number)).to_string();
        assert!(said(libc::EACCES).ends_with("run pyalloc with sudo"));
        assert!(said(libc::EPERM).starts_with("no permission to read the memory of process 7"));
        assert!(said(libc::ENOENT).starts_with("no process has the pid 7"));
        assert!(said(libc::ESRCH).starts_with("no process has the pid 7"));
        assert!(said(libc::EIO).starts_with("cannot read /proc/7"));
    }
}
