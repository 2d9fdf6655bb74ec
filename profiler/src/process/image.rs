//! An ELF file mapped into a process: where it lies, what it exports, and how addresses become file offsets.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use object::elf::{PT_LOAD, STT_FUNC, STT_GNU_IFUNC, STT_OBJECT};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, SymbolFlags};

use super::Pid;
use super::maps::{self, Region, RegionName};

/// The mapped ELF file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No path under /proc led to the file.
    #[error("cannot open the mapped file {}: {source}", path.display())]
    Open {
        /// The path in the target.
        path: PathBuf,
        /// The last error.
        source: io::Error,
    },
    /// It is not an ELF file for x86-64 that we can read.
    #[error("cannot read {} as an x86-64 ELF file: {reason}", path.display())]
    Elf {
        /// The path in the target.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address in the file's own terms.
    pub vaddr: u64,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Whether it is mapped executable.
    pub execute: bool,
}

/// A symbol that the file exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Address in the file's own terms (vaddr).
    pub vaddr: u64,
    /// Bytes; 0 if the file does not say.
    pub size: u64,
    /// An indirect function (`STT_GNU_IFUNC`): at `vaddr` is the code that chooses the function, not the function.
    pub indirect: bool,
}

/// An ELF file mapped into a process.
#[derive(Clone, Debug)]
pub struct Image {
    /// The path as the target sees it: for people.
    pub path: PathBuf,
    /// The file was unlinked or replaced since it was mapped.
    pub deleted: bool,
    /// A path through which this process can open the very file that is mapped, also when it was replaced; while the
    /// target maps it.
    pub openable: PathBuf,
    /// Device and inode as `stat` has them, which is not how maps has them on every filesystem: the file's identity.
    pub file: (u64, u64),
    /// What to add to a vaddr to get an address in the target.
    pub bias: u64,
    /// What the file holds, wherever it is mapped.
    pub contents: Arc<Contents>,
}

/// What an ELF file holds. Read once for all processes that map it.
#[derive(Debug)]
pub struct Contents {
    /// The loadable segments.
    pub segments: Vec<Segment>,
    /// Virtual address of the program's entry point; 0 for a library without one.
    pub entry: u64,
    /// The whole file.
    pub data: Vec<u8>,
    exports: HashMap<String, Symbol>,
}

impl Deref for Image {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

impl Contents {
    fn parse(data: Vec<u8>) -> Result<Self, String> {
        let parsed = ElfFile64::<Endianness>::parse(&*data).map_err(|error| error.to_string())?;
        let (segments, exports) = (segments(&parsed), exports(&parsed));
        let entry = parsed.elf_header().e_entry(parsed.endian());
        Ok(Self { segments, entry, data, exports })
    }
}

impl Image {
    /// The images of a process, in address order: every file that is mapped executable.
    ///
    /// Files that cannot be read as ELF are left out.
    pub fn all(pid: Pid, regions: &[Region]) -> Vec<Self> {
        executable_files(regions).into_iter().filter_map(|region| Self::open(pid, region, regions).ok()).collect()
    }

    /// Which of a process's images is the program itself: by the file, as the path may be seen from another root.
    pub fn executable(pid: Pid, images: &[Self]) -> Option<usize> {
        let program = identity(&fs::metadata(format!("/proc/{pid}/exe")).ok()?);
        images.iter().position(|image| image.file == program)
    }

    /// Opens the file that `region` maps.
    pub fn open(pid: Pid, region: &Region, regions: &[Region]) -> Result<Self, ImageError> {
        let RegionName::File { path, deleted } = &region.name else {
            let source = io::Error::new(io::ErrorKind::NotFound, "the mapping has no file");
            return Err(ImageError::Open { path: PathBuf::new(), source });
        };
        let elf = |reason: String| ImageError::Elf { path: path.clone(), reason };
        let Mapped { openable, file, contents } = open_mapped_file(pid, path, region)?;
        let contents = contents.map_err(elf)?;
        let bias = bias(&contents.segments, region, regions);
        let bias = bias.ok_or_else(|| elf("no segment fits the mapping".to_owned()))?;
        Ok(Self { path: path.clone(), deleted: *deleted, openable, file, bias, contents })
    }

    /// A function or variable the file exports (`.dynsym`).
    pub fn export(&self, name: &str) -> Option<Symbol> {
        self.exports.get(name).copied()
    }

    /// Everything the file exports, in no order.
    pub fn exports(&self) -> impl Iterator<Item = (&str, Symbol)> {
        self.exports.iter().map(|(name, symbol)| (name.as_str(), *symbol))
    }

    /// The address in the target of an exported symbol.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.export(name).map(|symbol| self.bias.wrapping_add(symbol.vaddr))
    }

    /// File offset of a vaddr that has bytes in the file.
    pub fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.file_size)?;
        (vaddr - segment.vaddr).checked_add(segment.offset)
    }

    /// The file's bytes from a vaddr to the end of its segment.
    pub fn bytes_at(&self, vaddr: u64) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.file_size)?;
        let start = usize::try_from((vaddr - segment.vaddr).checked_add(segment.offset)?).ok()?;
        let end = usize::try_from(segment.offset.checked_add(segment.file_size)?).ok()?;
        let end = end.min(self.data.len());
        self.data.get(start..end)
    }

    /// The vaddr of an address in the target, if it lies in this image.
    pub fn vaddr_of(&self, address: u64) -> Option<u64> {
        let vaddr = address.wrapping_sub(self.bias);
        self.segments.iter().any(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.memory_size).then_some(vaddr)
    }

    /// Whether an address in the target lies in this image's executable segments.
    pub fn is_code(&self, address: u64) -> bool {
        let vaddr = address.wrapping_sub(self.bias);
        self.segments.iter().any(|s| s.execute && vaddr >= s.vaddr && vaddr - s.vaddr < s.file_size)
    }

    /// The file's name without its folder.
    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// One executable region per mapped file, in address order.
pub fn executable_files(regions: &[Region]) -> Vec<&Region> {
    let mut seen = std::collections::HashSet::new();
    regions
        .iter()
        .filter(|region| region.permissions.execute && region.path().is_some())
        .filter(|region| seen.insert(region.file_key()))
        .collect()
}

/// Whether a region maps the program of a process.
pub fn is_program(pid: Pid, region: &Region) -> bool {
    let Ok(program) = fs::metadata(format!("/proc/{pid}/exe")) else { return false };
    let Some(path) = region.path() else { return false };
    open_mapped(pid, path, region)
        .is_ok_and(|(_, file)| file.metadata().is_ok_and(|own| identity(&own) == identity(&program)))
}

/// A file that a process maps.
struct Mapped {
    openable: PathBuf,
    file: (u64, u64),
    contents: Result<Arc<Contents>, String>,
}

fn open_mapped_file(pid: Pid, path: &Path, region: &Region) -> Result<Mapped, ImageError> {
    let failed = |source| ImageError::Open { path: path.to_owned(), source };
    let (openable, file) = open_mapped(pid, path, region).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let contents = read_once(file, &metadata).map_err(failed)?;
    Ok(Mapped { openable, file: identity(&metadata), contents })
}

/// Opens the very file that is mapped: through map_files, which survives a deleted or replaced file (CPython
/// gh-151029: package upgrades do that) and needs cap_sys_admin or cap_checkpoint_restore; without these by its path in
/// the target's root, if that still leads to the file.
fn open_mapped(pid: Pid, path: &Path, region: &Region) -> io::Result<(PathBuf, File)> {
    let by_mapping = PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end));
    match File::open(&by_mapping) {
        Ok(file) => Ok((by_mapping, file)),
        Err(error) => {
            let in_root = maps::in_root(pid, path);
            let file = File::open(&in_root).map_err(|_| error)?;
            match is_mapped(&file, region) {
                Ok(true) => Ok((in_root, file)),
                _ => Err(io::Error::new(io::ErrorKind::NotFound, "another file is at its path by now")),
            }
        }
    }
}

/// Whether maps names this file. Overlayfs and btrfs have one device there and another in `stat`.
fn is_mapped(file: &File, region: &Region) -> io::Result<bool> {
    const OVERLAYFS: i64 = 0x794c_7630;
    const BTRFS: i64 = 0x9123_683e;
    let metadata = file.metadata()?;
    let device = format!("{:02x}:{:02x}", libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let other_device = || rustix::fs::fstatfs(file).is_ok_and(|system| [OVERLAYFS, BTRFS].contains(&system.f_type));
    Ok(metadata.is_file() && metadata.ino() == region.inode && (device == region.device || other_device()))
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A file held open without being read: what it stood for can be opened as long as this lives, whatever becomes of the
/// process that mapped it, of its namespaces and of the path.
#[derive(Clone, Debug)]
pub struct Held {
    path: PathBuf,
    _file: Arc<File>,
}

impl Held {
    /// Holds the file that a path leads to now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { path, _file: Arc::new(file) })
    }

    /// The path by which it can be opened here.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Held {}

/// Which state of which file: a file that was written to since is another one.
type FileState = (u64, u64, u64, i64, i64);

/// The files read so far, in bytes no more than [`CACHE_BYTES`]: a worker that is started maps what the last one did,
/// and every millisecond until its probes are on is one in which it allocates unseen.
static CACHE: Mutex<BTreeMap<FileState, Arc<Contents>>> = Mutex::new(BTreeMap::new());

const CACHE_BYTES: usize = 256 << 20;

fn read_once(mut file: File, metadata: &fs::Metadata) -> io::Result<Result<Arc<Contents>, String>> {
    let state = (metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec());
    // A panic while it is held leaves whole entries only.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(&state) {
        return Ok(Ok(known.clone()));
    }
    let mut data = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut data)?;
    let contents = match Contents::parse(data) {
        Ok(contents) => Arc::new(contents),
        Err(reason) => return Ok(Err(reason)),
    };
    let cached: usize = cache.values().map(|contents| contents.data.len()).sum();
    if cached + contents.data.len() > CACHE_BYTES {
        cache.clear();
    }
    cache.insert(state, contents.clone());
    Ok(Ok(contents))
}

fn segments(elf: &ElfFile64<'_, Endianness>) -> Vec<Segment> {
    let endian = elf.endian();
    elf.elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == PT_LOAD)
        .map(|header| Segment {
            vaddr: header.p_vaddr(endian),
            offset: header.p_offset(endian),
            file_size: header.p_filesz(endian),
            memory_size: header.p_memsz(endian),
            execute: header.p_flags(endian).0 & object::elf::PF_X.0 != 0,
        })
        .collect()
}

fn exports(elf: &ElfFile64<'_, Endianness>) -> HashMap<String, Symbol> {
    let mut exports = HashMap::new();
    for symbol in elf.dynamic_symbols().filter(|symbol| symbol.is_definition()) {
        let SymbolFlags::Elf { st_info, .. } = symbol.flags() else {
            continue;
        };
        if ![STT_FUNC, STT_OBJECT, STT_GNU_IFUNC].iter().any(|kind| kind.0 == st_info.0 & 0xf) {
            continue;
        }
        if let Ok(name) = symbol.name() {
            exports.insert(
                name.to_owned(),
                Symbol { vaddr: symbol.address(), size: symbol.size(), indirect: st_info.0 & 0xf == STT_GNU_IFUNC.0 },
            );
        }
    }
    exports
}

/// Load address minus vaddr, from the first mapping of the same file that begins a segment.
fn bias(segments: &[Segment], region: &Region, regions: &[Region]) -> Option<u64> {
    const PAGE: u64 = 4096;
    let same_file = |other: &&Region| other.file_key() == region.file_key();
    regions.iter().filter(same_file).find_map(|mapped| {
        let segment = segments.iter().find(|segment| {
            segment.offset / PAGE * PAGE == mapped.offset && segment.execute == mapped.permissions.execute
        })?;
        Some(mapped.start.wrapping_sub(segment.vaddr / PAGE * PAGE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::maps;

    #[test]
    fn does_not_believe_a_segment_beyond_the_file() {
        let segment =
            |offset, file_size| Segment { vaddr: 0, offset, file_size, memory_size: file_size, execute: true };
        let image = |segment| Image {
            path: PathBuf::new(),
            deleted: false,
            openable: PathBuf::new(),
            file: (0, 0),
            bias: 0,
            contents: Arc::new(Contents {
                segments: vec![segment],
                entry: 0,
                data: vec![0; 64],
                exports: HashMap::new(),
            }),
        };
        assert_eq!(image(segment(u64::MAX - 8, 64)).file_offset(16), None);
        assert_eq!(image(segment(u64::MAX - 8, 64)).bytes_at(4), None);
        assert_eq!(image(segment(32, u64::MAX)).bytes_at(4), None);
        assert_eq!(image(segment(32, 64)).bytes_at(4).map(<[u8]>::len), Some(28));
    }

    #[test]
    fn finds_the_c_library_of_this_process_where_the_loader_put_it() {
        let pid = Pid(std::process::id());
        let regions = maps::read(pid).unwrap();
        let images = Image::all(pid, &regions);
        let libc = images.iter().find(|image| image.file_name().starts_with("libc.so")).unwrap();
        assert_eq!(libc.address_of("malloc"), Some(libc::malloc as *const () as u64));
        let malloc = libc.export("malloc").unwrap();
        let offset = usize::try_from(libc.file_offset(malloc.vaddr).unwrap()).unwrap();
        assert_eq!(libc.bytes_at(malloc.vaddr).unwrap()[..16], libc.data[offset..offset + 16]);
        assert!(libc.is_code(libc::malloc as *const () as u64));
    }
}
