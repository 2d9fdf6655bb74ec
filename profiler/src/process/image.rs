//! An ELF file mapped into a process: where it lies, what it exports, and how addresses become file offsets.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use object::elf::{PT_LOAD, STT_FUNC, STT_GNU_IFUNC, STT_OBJECT};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, SymbolFlags};

use super::Pid;
use super::maps::{Region, RegionName};

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
    /// A path through which this process can open the very file that is mapped, also when it was replaced.
    pub openable: PathBuf,
    /// Device and inode as in maps: the file's identity.
    pub file: (String, u64),
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

    /// Which of a process's images is the program itself: by inode, as the path may be seen from another root.
    pub fn executable(pid: Pid, images: &[Self]) -> Option<usize> {
        let inode = fs::metadata(format!("/proc/{pid}/exe")).ok()?.ino();
        images.iter().position(|image| image.file.1 == inode)
    }

    /// Opens the file that `region` maps.
    pub fn open(pid: Pid, region: &Region, regions: &[Region]) -> Result<Self, ImageError> {
        let RegionName::File { path, .. } = &region.name else {
            let source = io::Error::new(io::ErrorKind::NotFound, "the mapping has no file");
            return Err(ImageError::Open { path: PathBuf::new(), source });
        };
        let elf = |reason: String| ImageError::Elf { path: path.clone(), reason };
        let (openable, contents) = open_mapped_file(pid, path, region)?;
        let contents = contents.map_err(elf)?;
        let bias = bias(&contents.segments, region, regions);
        let bias = bias.ok_or_else(|| elf("no segment fits the mapping".to_owned()))?;
        let file = (region.device.clone(), region.inode);
        Ok(Self { path: path.clone(), openable, file, bias, contents })
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
        .filter(|region| seen.insert((region.device.clone(), region.inode)))
        .collect()
}

/// Opens the very file that is mapped: by its path in the target's root when device and inode still agree, else
/// through map_files, which survives a deleted or replaced file (CPython gh-151029: package upgrades do that).
fn open_mapped_file(
    pid: Pid,
    path: &Path,
    region: &Region,
) -> Result<(PathBuf, Result<Arc<Contents>, String>), ImageError> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let in_root = Path::new(&format!("/proc/{pid}/root")).join(relative);
    let by_mapping = PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end));
    let same = |metadata: &fs::Metadata| metadata.ino() == region.inode && metadata.is_file();
    let openable = match fs::metadata(&in_root) {
        Ok(metadata) if same(&metadata) => in_root,
        _ => by_mapping,
    };
    let contents = read_once(&openable).map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
    Ok((openable, contents))
}

/// Which state of which file: a file that was written to since is another one.
type FileState = (u64, u64, u64, i64, i64);

/// The files read so far, in bytes no more than [`CACHE_BYTES`]: a worker that is started maps what the last one did,
/// and every millisecond until its probes are on is one in which it allocates unseen.
static CACHE: Mutex<BTreeMap<FileState, Arc<Contents>>> = Mutex::new(BTreeMap::new());

const CACHE_BYTES: usize = 256 << 20;

fn read_once(path: &Path) -> io::Result<Result<Arc<Contents>, String>> {
    let metadata = fs::metadata(path)?;
    let state = (metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec());
    // A panic while it is held leaves whole entries only.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(&state) {
        return Ok(Ok(known.clone()));
    }
    let contents = match Contents::parse(fs::read(path)?) {
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
    let same_file = |other: &&Region| (&other.device, other.inode) == (&region.device, region.inode);
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
            openable: PathBuf::new(),
            file: (String::new(), 0),
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
