//! Hardware watchpoints in the threads of a process: who writes to a word. They cost nothing as long as nobody does.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::PerfEvent;
use aya_obj::generated::{
    HW_BREAKPOINT_LEN_4, HW_BREAKPOINT_W, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_REFRESH, PERF_EVENT_IOC_SET_BPF,
    perf_event_attr, perf_type_id,
};
use profiler_common::ledger::{BlockKey, Watch};

use super::{Kernel, KernelError, Raw, map_error, maps, refused};

const MAP: &str = "WATCHED";
const MADE: &str = "THREADS_MADE";
const PROGRAM: &str = "slot_written";
const IDLE: &str = "idle_written";

/// Writes that are timed to learn what a hit costs.
const TIMED_WRITES: u32 = 256;

/// Watchpoints that a thread may have of us at once: the processor has four, and one is left for a debugger.
pub const PER_THREAD: usize = 3;

/// One watched word, in all threads that were given. Dropping it ends the watch; the kernel side's record of it is taken
/// out by [`Kernel::unwatch`].
#[derive(Debug)]
pub struct Watchpoint {
    key: BlockKey,
    hits: u32,
    /// Threads that joined since it is on.
    joined: u64,
    /// By thread.
    events: Vec<(u32, OwnedFd)>,
}

impl Watchpoint {
    /// The hits after which it ends by itself, in each thread.
    pub const fn hits(&self) -> u32 {
        self.hits
    }

    /// How many threads have joined since it is on.
    pub const fn joined(&self) -> u64 {
        self.joined
    }

    /// The watched address.
    pub const fn address(&self) -> u64 {
        self.key.address()
    }
}

/// What watching needs of the kernel side.
pub(super) struct Watches {
    map: HashMap<MapData, u64, Raw<Watch>>,
    made: Array<MapData, u64>,
    /// A watchpoint that is off: the first one of a machine waits some 15 ms for all processors, and this is it.
    first: Option<OwnedFd>,
}

impl Watches {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let made = ebpf.take_map(MADE).ok_or(KernelError::MissingField(MADE))?;
        let made = Array::try_from(made).map_err(|error| map_error(MADE, error))?;
        Ok(Self { map: maps::hash_map(ebpf, MAP)?, made, first: None })
    }
}

impl Kernel {
    /// Loads the program that runs when a watched word is written; what a hit costs on this machine, ns, beside that
    /// program: measured on this very thread.
    ///
    /// # Errors
    /// The kernel refuses the program (before 6.1 those of this kind may not use maps that grow), or no watchpoint can be
    /// set: the machine has none, as some virtual ones, or pyalloc may not set any, as in some containers.
    pub fn start_watching(&mut self) -> Result<u64, KernelError> {
        load(&mut self.ebpf, PROGRAM)?;
        load(&mut self.ebpf, IDLE)?;
        let failed =
            |error: io::Error| KernelError::Refused { what: "a watchpoint".to_owned(), reason: error.to_string() };
        let program = program(&mut self.ebpf, IDLE).and_then(|program| program.fd().ok());
        let program = program.ok_or(KernelError::MissingField(IDLE))?.as_fd();
        let word = std::cell::Cell::new(0u32);
        let plain = timed_writes(&word);
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let event = event(thread, word.as_ptr() as u64, 2 * TIMED_WRITES, program).map_err(failed)?;
        let watched = timed_writes(&word);
        control(&event, PERF_EVENT_IOC_DISABLE, 0).map_err(failed)?;
        self.watches.first = Some(event);
        Ok(watched.saturating_sub(plain) / u64::from(TIMED_WRITES))
    }

    /// Watches the four bytes at an address of a process, until `hits` writes of a thread have been seen in it.
    ///
    /// # Errors
    /// No thread can be watched: all their watchpoints are taken (a debugger), or the processor has none.
    pub fn watch(&mut self, slot: u32, address: u64, threads: &[u32], hits: u32) -> io::Result<Watchpoint> {
        let key = BlockKey::new(slot, address);
        self.watches.map.insert(key.0, Raw(Watch::default()), 0).map_err(io::Error::other)?;
        let mut watchpoint = Watchpoint { key, hits, joined: 0, events: Vec::new() };
        let failed = self.watch_threads(&mut watchpoint, threads);
        if watchpoint.events.is_empty() {
            self.unwatch(watchpoint);
            return Err(failed.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
        }
        watchpoint.joined = 0;
        Ok(watchpoint)
    }

    /// Extends a watch to these threads, and takes it from those that are not among them; what stopped it where it
    /// could not be extended.
    pub fn watch_threads(&mut self, watchpoint: &mut Watchpoint, threads: &[u32]) -> Option<io::Error> {
        watchpoint.events.retain(|(thread, _)| threads.contains(thread));
        let new: Vec<u32> = threads.iter().copied().filter(|thread| !watchpoint.has(*thread)).collect();
        let program = program(&mut self.ebpf, PROGRAM)?.fd().ok()?.as_fd();
        let mut failed = None;
        for thread in new {
            match event(thread, watchpoint.address(), watchpoint.hits, program) {
                Ok(event) => {
                    watchpoint.events.push((thread, event));
                    watchpoint.joined += 1;
                }
                // It has ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed
    }

    /// How many threads a process has made since it is known: those that are not watched may write unseen.
    pub fn threads_made(&self, slot: u32) -> u64 {
        self.watches.made.get(&slot, 0).unwrap_or(0)
    }

    /// What has been written to a watched word since it is watched.
    pub fn written(&self, watchpoint: &Watchpoint) -> Watch {
        self.watches.map.get(&watchpoint.key.0, 0).map(|found| found.0).unwrap_or_default()
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, watchpoint: Watchpoint) {
        let key = watchpoint.key;
        drop(watchpoint);
        // One that is not there is what is wanted.
        let _ = self.watches.map.remove(&key.0);
    }
}

impl Watchpoint {
    fn has(&self, thread: u32) -> bool {
        self.events.iter().any(|(known, _)| *known == thread)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut PerfEvent> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok())
}

fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    let program = program(ebpf, name).ok_or(KernelError::MissingField(name))?;
    if program.fd().is_err() {
        program.load().map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// The CPU time of writing to a word, ns.
fn timed_writes(word: &std::cell::Cell<u32>) -> u64 {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
    };
    let began = now();
    for number in 0..TIMED_WRITES {
        // SAFETY: the cell is ours alone. Volatile, so that each write is one.
        unsafe { word.as_ptr().write_volatile(number) };
    }
    now() - began
}

/// A watchpoint in one thread, on, with its limit.
fn event(thread: u32, address: u64, hits: u32, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the record is plain old data for which zeroes are valid.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.type_ = perf_type_id::PERF_TYPE_BREAKPOINT as u32;
    attr.size = u32::try_from(size_of::<perf_event_attr>()).unwrap_or(0);
    attr.__bindgen_anon_1.sample_period = 1;
    attr.set_disabled(1);
    attr.set_exclude_kernel(1);
    attr.set_exclude_hv(1);
    attr.bp_type = HW_BREAKPOINT_W;
    attr.__bindgen_anon_3.bp_addr = address;
    attr.__bindgen_anon_4.bp_len = u64::from(HW_BREAKPOINT_LEN_4);
    let event = open(&mut attr, thread)?;
    control(&event, PERF_EVENT_IOC_SET_BPF, u64::from(program.as_raw_fd().cast_unsigned()))?;
    // Switches it on for so many hits.
    control(&event, PERF_EVENT_IOC_REFRESH, u64::from(hits))?;
    Ok(event)
}

fn open(attr: &mut perf_event_attr, thread: u32) -> io::Result<OwnedFd> {
    const ANY_CPU: i32 = -1;
    const NO_GROUP: i32 = -1;
    const CLOSE_ON_EXEC: u64 = 8;
    let address = std::ptr::from_mut(attr);
    // SAFETY: attr is a whole record whose size it names, and lives until after the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, address, thread.cast_signed(), ANY_CPU, NO_GROUP, CLOSE_ON_EXEC)
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn control(event: &OwnedFd, request: u32, argument: u64) -> io::Result<()> {
    // SAFETY: both requests take a number and no pointer.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request.into(), argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
