//! The kernel side, seen from userspace: loading, attaching, reading maps and ring. The only room that knows aya,
//! and the only one with `unsafe`.

mod btf;
pub mod calibrate;
mod faults;
mod follow;
pub mod links;
mod log;
mod maps;
pub mod nudge;
mod object;
pub mod plan;
mod programs;
pub mod release;
pub mod ring;
pub mod site;
mod sums;
mod sweep;
mod sys;
mod traffic;
pub mod unwind;
pub mod watch;

use std::collections::{HashMap as StdHashMap, HashSet as StdHashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use profiler_common::config::{FaultSampling, NO_SLOT, ProcessConfig, ThreadSlot};
use profiler_common::counter::Counter;
use profiler_common::ledger::{Block, BlockKey, LiveCode, Pool, StackSums, Touch};
use profiler_common::sampling::EVERY_BLOCK;
use profiler_common::unwind::{NativeMapping, Row};

pub use follow::Followed;
pub use links::LinkKind;
pub use maps::Raw;
pub use plan::{ProbePlan, ProbePoint};
pub use ring::Ring;
pub use sys::monotonic_ns;
pub use unwind::NativeLimits;

use crate::process::memory::ProcessMemory;
use crate::process::{Pid, namespace};

/// The kernel side could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel describes no types.
    #[error(
        "this kernel has no type information (/sys/kernel/btf/vmlinux: {0}); pyalloc needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF, as distributions' kernels from 5.15 on are"
    )]
    NoBtf(String),
    /// A type or field is not in the kernel's type information.
    #[error("this kernel's type information lacks {0}; please report your kernel's version")]
    MissingField(&'static str),
    /// Not allowed.
    #[error("loading eBPF programs needs root (or cap_bpf, cap_perfmon and cap_sys_ptrace): run it with sudo")]
    NotPermitted,
    /// Root, but of a user namespace.
    #[error(
        "pyalloc runs in a user namespace (a rootless container's), whose root has no privilege over the kernel: run it \
         on the host with sudo"
    )]
    UserNamespace,
    /// The kernel refused a program or map.
    #[error("the kernel refused {what}: {reason}")]
    Refused {
        /// Program, map or link.
        what: String,
        /// What it said.
        reason: String,
    },
    /// No probe may be set in a process.
    #[error("no probe can be set in process {pid}: {reason}")]
    NoProbes {
        /// The process.
        pid: Pid,
        /// Why, in the middle of a sentence.
        reason: String,
    },
    /// The probe is in the file, and the process runs other code.
    #[error(
        "a probe of {name} in {} does not reach process {pid}: the file was changed after the process loaded it (on an \
         overlayfs, docker's, chmod and touch are enough), or its code was moved to other memory or made writable; \
         restart the process",
        path.display()
    )]
    NotReached {
        /// The process.
        pid: Pid,
        /// The function.
        name: String,
        /// The file as the target sees it.
        path: std::path::PathBuf,
    },
    /// A map could not be read or written.
    #[error("cannot access the eBPF map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Whether it is about probes in a process alone: what needs none can go on.
    pub const fn is_of_probes(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoProbes { .. } | Self::NotReached { .. })
    }
}

/// What can be chosen when the kernel side is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most live blocks that are followed at once; one costs about 100 bytes of kernel memory.
    pub max_live_blocks: u32,
    /// How to link probes; `None` takes the best the kernel has.
    pub links: Option<LinkKind>,
    /// Room for walking native frames; `None` if no process will have `process_flags::NATIVE`.
    pub native: Option<NativeLimits>,
    /// Let the kernel side say what it sees of processes; [`Kernel::print_said`] prints it.
    pub verbose: bool,
}

/// What the kernel tells of kills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillWatch {
    /// Which processes its OOM killer chooses.
    pub oom_killer: bool,
    /// Who sends deadly signals.
    pub senders: bool,
}

/// What the kernel side knows of a code object that it has numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeState {
    /// It has not died.
    Alive,
    /// It has died, or another has its address.
    Dead,
    /// It may have died unseen: there is no probe of `code_dealloc` in the process, or was none.
    Unwatched,
}

/// The loaded kernel side. Dropping it detaches everything.
pub struct Kernel {
    /// First, so that it links nothing any more when the links are dropped.
    follower: Option<follow::Follower>,
    /// Before the rest, so that probes are detached before the maps they use are closed.
    links: Arc<Mutex<links::Links>>,
    ebpf: Ebpf,
    btf: btf::Vmlinux,
    programs: Arc<programs::Programs>,
    /// For [`Self::calibrate`].
    idle: programs::Programs,
    processes: aya::maps::HashMap<aya::maps::MapData, u32, Raw<ProcessConfig>>,
    /// By slot, of processes that the programs were made to ignore.
    forgotten_faults: StdHashMap<u32, FaultSampling>,
    codes: aya::maps::HashMap<aya::maps::MapData, u64, Raw<LiveCode>>,
    deaths: Arc<links::Deaths>,
    counters: aya::maps::PerCpuArray<aya::maps::MapData, u64>,
    sums: sums::Sums,
    sampling: aya::maps::Array<aya::maps::MapData, u64>,
    sweeper: sweep::Sweeper,
    ring: Option<Ring>,
    native: unwind::NativeMaps,
    watches: watch::Watches,
    said: Option<log::Said>,
    kill_watch: KillWatch,
}

impl Kernel {
    /// Loads programs and maps; nothing is attached yet.
    pub fn load(settings: Settings) -> Result<Self, KernelError> {
        let btf = btf::Vmlinux::read()?;
        let offsets = btf.offsets()?;
        let namespace = namespace::own_pid_namespace();
        let pid = namespace.map_or(Ok(btf::PidOffsets::default()), |_| btf.pid_offsets())?;
        let namespace = namespace.unwrap_or(0);
        let start = sys::monotonic_ns();
        let native = settings.native.unwrap_or(NativeLimits::OFF);
        let level = if settings.verbose { log::VERBOSE } else { log::SILENT };
        let mut loader = EbpfLoader::new();
        for (name, size) in unwind::sizes(native) {
            loader.map_max_entries(name, size);
        }
        let mut ebpf = loader
            .override_global("TRACE_START_NS", &start, true)
            .override_global("FSBASE_OFFSET", &offsets.fsbase, true)
            .override_global("EXIT_CODE_OFFSET", &offsets.exit_code, true)
            .override_global("TGID_OFFSET", &offsets.tgid, true)
            .override_global("MM_OFFSET", &offsets.mm, true)
            .override_global("PAGEFAULT_DISABLED_OFFSET", &offsets.pagefault_disabled, true)
            .override_global("RUNTIME_OFFSET", &offsets.runtime, true)
            .override_global("PID_NAMESPACE", &namespace, true)
            .override_global("GROUP_LEADER_OFFSET", &pid.group_leader, true)
            .override_global("THREAD_PID_OFFSET", &pid.thread_pid, true)
            .override_global("PID_LEVEL_OFFSET", &pid.level, true)
            .override_global("PID_NUMBERS_OFFSET", &pid.numbers, true)
            .override_global("NAMESPACE_INUM_OFFSET", &pid.inum, true)
            .override_global("SIGNAL_OFFSET", &offsets.signal, true)
            .override_global("LIVE_OFFSET", &offsets.live, true)
            .override_global("RSS_OFFSET", &offsets.rss, true)
            .override_global("RSS_STRIDE", &offsets.rss_stride, true)
            .override_global(log::LEVEL, &level, true)
            .map_max_entries("BLOCKS", settings.max_live_blocks)
            .load(object::BYTES)
            .map_err(|error| refused("the programs", &error))?;
        let programs::Loaded { probes: programs, idle } =
            programs::Programs::load(object::BYTES, &map_fds(&ebpf), &btf, settings.links)?;
        let said = if settings.verbose { log::Said::listen(&mut ebpf) } else { None };
        // Before CODES is taken out of the loaded object.
        let sweeper = sweep::Sweeper::new(&mut ebpf)?;
        let processes = maps::hash_map(&mut ebpf, "PROCESSES")?;
        let codes = maps::hash_map(&mut ebpf, "CODES")?;
        let counters = maps::counters(&mut ebpf)?;
        let sums = sums::Sums::new(&mut ebpf)?;
        let mut sampling = maps::array(&mut ebpf, SAMPLING)?;
        sampling.set(0, EVERY_BLOCK, 0).map_err(|error| map_error(SAMPLING, error))?;
        let ring = Some(Ring::new(&mut ebpf)?);
        let native = unwind::NativeMaps::new(&mut ebpf, native)?;
        let watches = watch::Watches::new(&mut ebpf)?;
        let (links, programs) = (Arc::new(Mutex::new(links::Links::default())), Arc::new(programs));
        let deaths = Arc::new(links::Deaths::new(&mut ebpf)?);
        let follower = follow::Follower::start(&mut ebpf, &programs, &links, &deaths)?;
        Ok(Self {
            follower,
            links,
            ebpf,
            btf,
            programs,
            idle,
            processes,
            forgotten_faults: StdHashMap::new(),
            codes,
            deaths,
            counters,
            sums,
            sampling,
            sweeper,
            ring,
            native,
            watches,
            said,
            kill_watch: KillWatch::default(),
        })
    }

    /// Prints to standard error what the kernel side has said since the last time, if it is to say anything.
    pub fn print_said(&mut self) {
        if let Some(said) = &mut self.said {
            said.print();
        }
    }

    /// How probes are linked.
    pub fn link_kind(&self) -> LinkKind {
        self.programs.kind()
    }

    /// Measures what a hit costs on this machine, on a child of our own; some 20 ms.
    pub fn calibrate(&mut self) -> Result<calibrate::Costs, KernelError> {
        calibrate::measure(&mut self.ebpf, &self.idle, &mut locked(&self.links))
    }

    /// Attaches the tracepoints: mapping changes and lifecycle, and with `faults` page faults. Only processes made known by
    /// [`Self::trace_process`] are looked at.
    pub fn attach_tracepoints(&mut self, faults: bool) -> Result<(), KernelError> {
        let btf = self.btf.parse()?;
        for name in TRACEPOINTS.iter().chain(FAULT_TRACEPOINTS.iter().filter(|_| faults)) {
            self.attach_tracepoint(name, &btf)?;
        }
        // A trace without them is still a trace: it does not tell who killed a process.
        self.kill_watch = KillWatch {
            oom_killer: self.attach_tracepoint("mark_victim", &btf).is_ok(),
            senders: self.attach_tracepoint("signal_generate", &btf).is_ok(),
        };
        Ok(())
    }

    /// Attaches the tracepoints that tell what goes through sockets; kernels before 6.3 have none. Every process pays
    /// for them at each call.
    pub fn attach_traffic(&mut self) -> Result<(), KernelError> {
        let btf = self.btf.parse()?;
        TRAFFIC_TRACEPOINTS.into_iter().try_for_each(|name| self.attach_tracepoint(name, &btf))
    }

    fn attach_tracepoint(&mut self, name: &'static str, btf: &Btf) -> Result<(), KernelError> {
        let program = self.load_tracepoint(name, btf)?;
        program.attach().map(drop).map_err(|error| refused(name, &error))
    }

    fn load_tracepoint(&mut self, name: &'static str, btf: &Btf) -> Result<&mut BtfTracePoint, KernelError> {
        let program: &mut BtfTracePoint = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(KernelError::MissingField("a tracepoint program"))?;
        program.load(name, btf).map_err(|error| refused(name, &error))?;
        Ok(program)
    }

    /// Whether the kernel tells who killed a process: tried by loading the programs, which are not attached.
    pub fn try_kill_watch(&mut self) -> Result<(), KernelError> {
        let btf = self.btf.parse()?;
        ["mark_victim", "signal_generate"].into_iter().try_for_each(|name| self.load_tracepoint(name, &btf).map(drop))
    }

    /// What the kernel tells of kills, once the tracepoints are attached.
    pub fn kill_watch(&self) -> KillWatch {
        self.kill_watch
    }

    /// Of the allocations one in so many bytes is looked at from now on; at first all.
    pub fn set_sampling(&mut self, interval: u64) -> Result<(), KernelError> {
        self.sampling.set(0, interval, 0).map_err(|error| map_error(SAMPLING, error))
    }

    /// Makes a process known to the programs, or changes what they know; how its page faults are sampled stays.
    pub fn trace_process(&mut self, pid: Pid, config: &ProcessConfig) -> Result<(), KernelError> {
        let faults = self.known_faults(pid, config.slot).unwrap_or(config.faults);
        let config = ProcessConfig { faults, ..*config };
        self.processes.insert(pid.0, Raw(config), 0).map_err(|error| map_error("PROCESSES", error))
    }

    /// Where the threads of a known process keep their state is known for good now.
    pub fn settle_process(&mut self, pid: Pid, slot: ThreadSlot, forked: ThreadSlot) -> Result<(), KernelError> {
        let known = self.processes.get(&pid.0, 0).map_err(|error| map_error("PROCESSES", error))?;
        self.trace_process(pid, &ProcessConfig { thread_slot: slot, forked_thread_slot: forked, ..known.0 })
    }

    /// The slot under which the programs know a process now: another one as soon as it has executed a program.
    pub fn slot_of(&self, pid: Pid) -> Option<u32> {
        self.processes.get(&pid.0, 0).ok().map(|known| known.0.slot)
    }

    /// Makes the programs ignore a process; its probes stay until they are detached.
    ///
    /// One that ends is forgotten by the kernel side, and its pid may be a newly forked one's by now: that has another
    /// slot.
    pub fn forget_process(&mut self, pid: Pid, slot: u32) {
        if let Some(faults) = self.known_faults(pid, slot) {
            self.forgotten_faults.insert(slot, faults);
            // It may have gone by itself: then there is nothing to remove.
            let _ = self.processes.remove(&pid.0);
        }
    }

    /// Attaches probes to a process that has yet to map the files they are in.
    pub fn attach_ahead(&mut self, slot: u32, pid: Pid, points: &[ProbePoint]) -> Result<(), KernelError> {
        let made = links::attach(&self.programs, &mut self.ebpf, pid, points)?;
        self.deaths.seen(slot, points);
        locked(&self.links).add(slot, made);
        Ok(())
    }

    /// Attaches probes to one process, and sees to it that they are in its memory.
    pub fn attach(&mut self, slot: u32, pid: Pid, points: &[ProbePoint]) -> Result<(), KernelError> {
        let made = links::attach(&self.programs, &mut self.ebpf, pid, points)?;
        if let Ok(memory) = ProcessMemory::open(pid)
            && let Some(point) = points.iter().find(|point| !point.is_in_place(&memory))
        {
            let (name, path) = (point.name.clone(), point.image_path.clone());
            return Err(KernelError::NotReached { pid, name, path });
        }
        self.deaths.seen(slot, points);
        locked(&self.links).add(slot, made);
        Ok(())
    }

    /// Takes the breakpoints out of a process that got them with its parent's memory and is not traced.
    ///
    /// The kernel leaves them there as long as the parent's links are, and the process would trap at each for nothing.
    /// When a link goes, it looks at every process that has the file mapped, and takes out what no link is for.
    pub fn free_from_probes(&mut self, pid: Pid, points: &[ProbePoint]) -> Result<(), KernelError> {
        self.attach(NO_SLOT, pid, points)?;
        self.detach_for_others(NO_SLOT);
        Ok(())
    }

    /// From now on a process that this one forks gets these probes at once, by a thread of its own, if there is one;
    /// whether it did is told by [`Self::followed`].
    pub fn follow(&mut self, slot: u32, points: &Arc<[ProbePoint]>) {
        if let Some(follower) = &self.follower {
            follower.knows(slot, points);
        }
    }

    /// Whether there is a thread that attaches to processes just forked; else the caller does.
    pub fn follows(&self) -> bool {
        self.follower.is_some()
    }

    /// What became of the probes of a forked process; told once. `None`: not done yet.
    pub fn followed(&mut self, slot: u32) -> Option<Followed> {
        self.follower.as_ref().and_then(|follower| follower.outcome(slot))
    }

    /// Detaches the probes of one process, in the background: the kernel takes some 10 ms for each file. If probes are
    /// being attached to it as one just forked, these too; its slot is not used again.
    pub fn detach_process(&mut self, slot: u32) {
        locked(&self.links).drop_process(slot, true);
    }

    /// As [`Self::detach_process`], for one that gets other probes instead.
    pub fn detach_for_others(&mut self, slot: u32) {
        locked(&self.links).drop_process(slot, false);
    }

    /// Detaches all probes; tracepoints stay. Returns when it is done.
    pub fn detach(&mut self) {
        locked(&self.links).drop_all();
    }

    /// Makes an image's unwinding table known; `None` when there is no room for it. It stays until the end.
    pub fn add_native_table(&mut self, rows: &[Row]) -> Result<Option<unwind::RowRange>, KernelError> {
        self.native.add_table(&self.ebpf, rows)
    }

    /// Replaces the executable mappings of a process, sorted by address; false when there is no room for them (the
    /// old ones stay).
    pub fn set_native_mappings(&mut self, slot: u32, mappings: &[NativeMapping]) -> Result<bool, KernelError> {
        self.native.set_mappings(&self.ebpf, slot, mappings)
    }

    /// Forgets the executable mappings of a process.
    pub fn forget_native(&mut self, slot: u32) {
        self.native.forget(slot);
    }

    /// The ring of events; can be taken once.
    pub fn take_ring(&mut self) -> Option<Ring> {
        self.ring.take()
    }

    /// Whether a code object's address still belongs to a serial.
    pub fn code_state(&self, slot: u32, address: u64, serial: u64) -> CodeState {
        match self.codes.get(&BlockKey::new(slot, address).0, 0) {
            Ok(current) if current.0.serial != serial => CodeState::Dead,
            Ok(current) if current.0.print == 0 => CodeState::Alive,
            Ok(_) => CodeState::Unwatched,
            Err(_) => CodeState::Dead,
        }
    }

    /// The serials of all code objects that are alive, as far as they stood in a stack.
    pub fn live_serials(&self) -> Result<StdHashSet<u64>, KernelError> {
        self.sweeper.live_serials()
    }

    /// Has what a process left in the maps taken out, when it has ended and what is to be known of it is known.
    pub fn clear_slot(&mut self, slot: u32) {
        self.sweeper.add(slot);
    }

    /// Goes on with [`Self::clear_slot`] for some milliseconds; the numbers of stacks that may be given anew from now on.
    pub fn sweep(&mut self) -> Result<Vec<u64>, KernelError> {
        self.sweeper.turn(&self.sums)
    }

    /// The sums of every stack, by number.
    pub fn stacks(&self) -> Result<Vec<(u64, StackSums)>, KernelError> {
        self.sums.read()
    }

    /// The pools opened during the trace.
    pub fn pools(&self) -> Result<Vec<(BlockKey, Pool)>, KernelError> {
        maps::read_all(&self.ebpf, "POOLS")
    }

    /// How many pools of each size class (the key's address) each process has opened, but for those that were opened a
    /// moment before.
    pub fn openings(&self) -> Result<Vec<(BlockKey, u64)>, KernelError> {
        maps::read_all(&self.ebpf, "OPENINGS")
    }

    /// One of the pools, by its address.
    pub fn pool(&self, key: BlockKey) -> Option<Pool> {
        let pools: aya::maps::HashMap<_, u64, Raw<Pool>> = self.ebpf.map("POOLS")?.try_into().ok()?;
        pools.get(&key.0, 0).ok().map(|found| found.0)
    }

    /// The pages touched since the last call.
    pub fn take_touches(&self) -> Result<Vec<(BlockKey, Touch)>, KernelError> {
        maps::take_all(&self.ebpf, "TOUCHES")
    }

    /// The live blocks.
    pub fn blocks(&self) -> Result<Vec<(BlockKey, Block)>, KernelError> {
        maps::read_all(&self.ebpf, "BLOCKS")
    }

    /// All counters, indexed by [`Counter`].
    pub fn counters(&self) -> Result<Vec<u64>, KernelError> {
        (0..Counter::COUNT)
            .map(|index| {
                let values = self.counters.get(&index, 0).map_err(|error| map_error("COUNTERS", error))?;
                Ok(values.iter().sum())
            })
            .collect()
    }
}

/// Likewise, for what goes through sockets.
const TRAFFIC_TRACEPOINTS: [&str; 2] = ["sock_recv_length", "sock_send_length"];

/// Programs that are attached to the kernel tracepoint of their name.
const TRACEPOINTS: [&str; 4] = ["sys_exit", "sched_process_exit", "sched_process_exec", "sched_process_fork"];

/// The map that says which allocations are looked at.
const SAMPLING: &str = "SAMPLING";

/// Likewise, for the resident ledger.
const FAULT_TRACEPOINTS: [&str; 2] = ["page_fault_user", "page_fault_kernel"];

/// A panic while it is held leaves whole entries only.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// File descriptors of all maps, those of global variables included.
fn map_fds(ebpf: &Ebpf) -> StdHashMap<String, RawFd> {
    ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), maps::data(map)?.fd().as_fd().as_raw_fd()))).collect()
}

fn refused(what: &str, error: &dyn std::error::Error) -> KernelError {
    let mut reason = error.to_string();
    let mut source = error.source();
    let mut denied = false;
    while let Some(inner) = source {
        denied |= inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    if denied && namespace::in_user_namespace() {
        return KernelError::UserNamespace;
    }
    if denied && !sys::is_root() {
        return KernelError::NotPermitted;
    }
    KernelError::Refused { what: what.to_owned(), reason }
}

fn map_error(name: &'static str, error: aya::maps::MapError) -> KernelError {
    let source = match error {
        aya::maps::MapError::SyscallError(error) => error.io_error,
        other => std::io::Error::other(other.to_string()),
    };
    KernelError::Map { name, source }
}

/// Something whose descriptor keeps it in the kernel.
type Handle = OwnedFd;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(links: LinkKind) -> Result<Kernel, KernelError> {
        let mut kernel =
            Kernel::load(Settings { max_live_blocks: 1024, links: Some(links), native: None, verbose: false })?;
        kernel.attach_tracepoints(true)?;
        Ok(kernel)
    }

    #[test]
    fn loads_with_every_kind_of_link() {
        if !sys::is_root() {
            println!("SKIPPED loads_with_every_kind_of_link: needs root");
            return;
        }
        for kind in [LinkKind::Session, LinkKind::Multi, LinkKind::Perf] {
            let kernel = load(kind).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert_eq!(kernel.link_kind(), kind);
            for program in aya::programs::loaded_programs().filter_map(Result::ok) {
                if let (Some(name), Some(count)) = (program.name_as_str(), program.verified_instruction_count()) {
                    println!("{kind:?} {name}: {count} instructions verified");
                }
            }
            assert!(kernel.stacks().unwrap().is_empty());
            assert_eq!(kernel.counters().unwrap().len(), Counter::COUNT as usize);
        }
    }
}
