//! The bpf() calls that aya 0.14 does not offer: programs with an attach type of our own, uprobe_multi links, and
//! reading a hash map in batches.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

use crate::process::Pid;

/// `BPF_TRACE_UPROBE_MULTI` (Linux 6.6).
pub const UPROBE_MULTI: u32 = 48;
/// `BPF_TRACE_UPROBE_SESSION` (Linux 6.13).
pub const UPROBE_SESSION: u32 = 57;

const UPROBE_MULTI_RETURN: u32 = 1;

/// What a program's functions are, from its object's type information: needed for global functions.
pub struct FunctionTypes<'a> {
    /// The loaded type information.
    pub types: BorrowedFd<'a>,
    /// `struct bpf_func_info`s.
    pub records: &'a [u8],
    /// Bytes of one.
    pub record_size: usize,
}

/// Loads type information.
pub fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: this is the union's arm for BPF_BTF_LOAD; the rest is zero.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = u32::try_from(types.len()).unwrap_or(u32::MAX);
    bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// Loads a program of type kprobe (which uprobes are) with an expected attach type.
///
/// On failure the second value holds the verifier's last words.
pub fn load_probe(
    name: &CStr,
    instructions: &[bpf_insn],
    attach_type: u32,
    types: Option<&FunctionTypes<'_>>,
) -> Result<OwnedFd, (io::Error, String)> {
    let plain = load_probe_logged(name, instructions, attach_type, types, &mut []);
    // A log makes a good program fail with ENOSPC when the buffer is too small, so it is asked for only now.
    plain.or_else(|_| {
        let mut log = vec![0; 16 << 20];
        load_probe_logged(name, instructions, attach_type, types, &mut log).map_err(|error| (error, last_lines(&log)))
    })
}

fn load_probe_logged(
    name: &CStr,
    instructions: &[bpf_insn],
    attach_type: u32,
    types: Option<&FunctionTypes<'_>>,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Dual MIT/GPL";
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: this is the union's arm for BPF_PROG_LOAD; the rest is zero.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    for (to, from) in load.prog_name.iter_mut().zip(name.to_bytes().iter().take(15)) {
        *to = from.cast_signed();
    }
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = attach_type;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    load.license = LICENSE.as_ptr() as u64;
    if let Some(types) = types {
        load.prog_btf_fd = types.types.as_raw_fd().cast_unsigned();
        load.func_info = types.records.as_ptr() as u64;
        load.func_info_rec_size = u32::try_from(types.record_size).unwrap_or(u32::MAX);
        load.func_info_cnt = u32::try_from(types.records.len() / types.record_size.max(1)).unwrap_or(u32::MAX);
    }
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
    }
    bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

fn last_lines(log: &[u8]) -> String {
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Where one uprobe_multi link attaches.
pub struct MultiPoints<'a> {
    /// The file.
    pub path: &'a OsStr,
    /// File offsets.
    pub offsets: &'a [u64],
    /// One for each offset.
    pub cookies: &'a [u64],
}

/// Makes a uprobe_multi link (Linux 6.6) that fires only in the process `pid`.
///
/// `returns` makes the program run at the functions' returns instead.
pub fn link_multi(
    program: BorrowedFd<'_>,
    attach_type: u32,
    points: &MultiPoints<'_>,
    pid: Pid,
    returns: bool,
) -> io::Result<OwnedFd> {
    let path = CString::new(points.path.as_bytes())?;
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: these are the union's arms for BPF_LINK_CREATE with an attach type of uprobe_multi; the pointers live
    // until after the call.
    unsafe {
        attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
        attr.link_create.attach_type = attach_type;
        let multi = &mut attr.link_create.__bindgen_anon_3.uprobe_multi;
        multi.path = path.as_ptr() as u64;
        multi.offsets = points.offsets.as_ptr() as u64;
        multi.cookies = points.cookies.as_ptr() as u64;
        multi.cnt = u32::try_from(points.offsets.len()).unwrap_or(u32::MAX);
        multi.flags = if returns { UPROBE_MULTI_RETURN } else { 0 };
        multi.pid = pid.0;
    }
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// One step of reading a hash map in batches (Linux 5.6).
pub struct Batch {
    /// Elements read.
    pub count: usize,
    /// Where the next step starts; `None` after the last.
    pub next: Option<u64>,
}

/// Reads elements into `keys` and `values`, which have room for `capacity` elements each; `remove` takes them out of
/// the map, each in one step with its reading.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    remove: bool,
    from: Option<u64>,
    keys: &mut [u8],
    values: &mut [u8],
    capacity: usize,
) -> io::Result<Batch> {
    let (start, mut next) = (from.unwrap_or(0), 0u64);
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // The tokens are u32s for hash maps; there is room for a u64.
    attr.batch.in_batch = if from.is_some() { &raw const start as u64 } else { 0 };
    attr.batch.out_batch = &raw mut next as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(capacity).unwrap_or(u32::MAX);
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    let command = if remove { bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH } else { bpf_cmd::BPF_MAP_LOOKUP_BATCH };
    let result = bpf(command, &mut attr);
    // SAFETY: the kernel wrote the number of elements into the same arm.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => Ok(Batch { count, next: Some(next) }),
        // The map's end: what was read so far counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, next: None }),
        Err(error) => Err(error),
    }
}

/// Writes elements of an array map: `values` holds one for each index in `keys` (Linux 5.6).
pub fn update_batch(map: BorrowedFd<'_>, keys: &[u32], values: &[u8]) -> io::Result<()> {
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Deletes elements of a hash map (Linux 5.6): how many were deleted, and what stopped it before the end.
pub fn delete_batch(map: BorrowedFd<'_>, keys: &[u8], count: usize) -> (usize, io::Result<()>) {
    // SAFETY: bpf_attr is plain old data for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.count = u32::try_from(count).unwrap_or(u32::MAX);
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    let result = bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr).map(drop);
    // SAFETY: the kernel wrote the number of elements into the same arm.
    (unsafe { attr.batch.count } as usize, result)
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::other("bpf() gave no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: attr is a whole bpf_attr, and the callers fill in pointers that are valid during the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The monotonic clock, ns: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
