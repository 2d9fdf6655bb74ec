//! Unwinding native frames: which image lies where in a process, and the tables the kernel side walks by.

pub mod table;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_common::unwind::NativeMapping;

use crate::kernel::unwind::RowRange;
use crate::kernel::{Kernel, KernelError};
use crate::process::Pid;
use crate::process::image::{Image, Segment};
use crate::process::maps::Region;

pub use table::{NoTable, Table};

/// A mapped file with code.
#[derive(Debug)]
pub struct NativeFile {
    /// Its number in this trace.
    pub id: u32,
    /// The path as the target sees it.
    pub path: PathBuf,
    /// Held open, so that it can be read after the process or the file has gone.
    opened: Option<File>,
    /// Its executable segments.
    code: Vec<Segment>,
    /// Vaddr that the rows count from, and where the rows are.
    table: Result<(u64, RowRange), NoTable>,
}

impl NativeFile {
    /// The file's name without its folder.
    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("?")
    }

    /// A path through which this process can open the file for as long as the trace lasts.
    pub fn openable(&self) -> Option<PathBuf> {
        let file = self.opened.as_ref()?;
        Some(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
    }

    /// Address minus vaddr where a region maps this file; `None` if no executable segment fits.
    fn bias(&self, region: &Region) -> Option<u64> {
        let fits = |segment: &&Segment| {
            region.offset < segment.offset + segment.file_size
                && segment.offset < region.offset + region.end - region.start
        };
        let segment = self.code.iter().find(fits)?;
        let start_vaddr = region.offset.wrapping_sub(segment.offset).wrapping_add(segment.vaddr);
        Some(region.start.wrapping_sub(start_vaddr))
    }
}

/// A file mapped executable in a process.
#[derive(Clone, Debug)]
struct Placed {
    start: u64,
    end: u64,
    bias: u64,
    file: Arc<NativeFile>,
}

/// A file is told by device and inode, and by its path since inodes are used again.
type FileKey = (String, u64, PathBuf);

/// What [`Unwinder::refresh`] did.
#[derive(Debug, Default)]
pub struct Refresh {
    /// Files seen for the first time.
    pub new_files: u32,
    /// Rows compiled for them.
    pub rows: u64,
    /// Time spent on reading and compiling.
    pub spent: Duration,
    /// New files without a table, and why: walks end in their code.
    pub without_table: Vec<(PathBuf, NoTable)>,
    /// Whether the kernel side had no room for the process's mappings: its native frames are unknown.
    pub no_room: bool,
}

/// The images of all traced processes.
#[derive(Debug, Default)]
pub struct Unwinder {
    files: HashMap<FileKey, Arc<NativeFile>>,
    processes: HashMap<u32, Vec<Placed>>,
}

impl Unwinder {
    /// Makes the kernel side know the executable mappings of a process as they are now.
    ///
    /// To be called before the process's `process_flags::NATIVE` is set, and again whenever it has mapped a file
    /// executable. Costs reading and compiling for files never seen before (tens of ms for a large one), else
    /// microseconds.
    pub fn refresh(
        &mut self,
        kernel: &mut Kernel,
        slot: u32,
        pid: Pid,
        regions: &[Region],
    ) -> Result<Refresh, KernelError> {
        let mut done = Refresh::default();
        let mut placed = Vec::new();
        for region in regions.iter().filter(|region| region.permissions.execute) {
            let Some(path) = region.path() else { continue };
            let file = self.file(kernel, pid, region, regions, path, &mut done)?;
            if let Some(bias) = file.bias(region) {
                placed.push(Placed { start: region.start, end: region.end, bias, file });
            }
        }
        placed.sort_unstable_by_key(|placed| placed.start);
        let mappings: Vec<NativeMapping> = placed.iter().map(Placed::for_kernel).collect();
        done.no_room = !kernel.set_native_mappings(slot, &mappings)?;
        self.processes.insert(slot, placed);
        Ok(done)
    }

    /// Forgets a process that has gone, once its stacks are symbolized.
    pub fn forget(&mut self, kernel: &mut Kernel, slot: u32) {
        kernel.forget_native(slot);
        self.processes.remove(&slot);
    }

    /// The file that an address of a process lies in, and its vaddr there.
    pub fn locate(&self, slot: u32, address: u64) -> Option<(&NativeFile, u64)> {
        let placed = self.processes.get(&slot)?;
        let after = placed.partition_point(|placed| placed.start <= address);
        let found = &placed[after.checked_sub(1)?];
        (address < found.end).then(|| (&*found.file, address.wrapping_sub(found.bias)))
    }

    fn file(
        &mut self,
        kernel: &mut Kernel,
        pid: Pid,
        region: &Region,
        regions: &[Region],
        path: &Path,
        done: &mut Refresh,
    ) -> Result<Arc<NativeFile>, KernelError> {
        let key = (region.device.clone(), region.inode, path.to_owned());
        if let Some(known) = self.files.get(&key) {
            return Ok(known.clone());
        }
        let started = Instant::now();
        let id = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let file = Arc::new(open(kernel, id, pid, region, regions, path)?);
        done.new_files += 1;
        match &file.table {
            Ok((_, range)) => done.rows += u64::from(range.count),
            Err(reason) => done.without_table.push((file.path.clone(), reason.clone())),
        }
        done.spent += started.elapsed();
        self.files.insert(key, file.clone());
        Ok(file)
    }
}

impl Placed {
    fn for_kernel(&self) -> NativeMapping {
        let (base, range) = match &self.file.table {
            Ok((base, range)) => (*base, *range),
            Err(_) => (0, RowRange { first: 0, count: 0 }),
        };
        NativeMapping {
            start: self.start,
            end: self.end,
            base: self.bias.wrapping_add(base),
            first_row: range.first,
            rows: range.count,
        }
    }
}

/// Opens a file and puts its table into the kernel. A file that cannot be used has a reason in place of its table.
fn open(
    kernel: &mut Kernel,
    id: u32,
    pid: Pid,
    region: &Region,
    regions: &[Region],
    path: &Path,
) -> Result<NativeFile, KernelError> {
    let mut file =
        NativeFile { id, path: path.to_owned(), opened: None, code: Vec::new(), table: Err(NoTable::NoRoom) };
    let image = match Image::open(pid, region, regions) {
        Ok(image) => image,
        Err(error) => {
            file.table = Err(NoTable::Unreadable(error.to_string()));
            return Ok(file);
        }
    };
    file.opened = still_open(&image).ok();
    file.code = image.segments.iter().filter(|segment| segment.execute).copied().collect();
    match Table::build(&image) {
        Err(reason) => file.table = Err(reason),
        Ok(table) => {
            if let Some(range) = kernel.add_native_table(&table.rows)? {
                file.table = Ok((table.base, range));
            }
        }
    }
    Ok(file)
}

fn still_open(image: &Image) -> io::Result<File> {
    File::open(&image.openable)
}
