//! Probes for processes just forked: a thread that does nothing else, so that no report and no symbol keeps it waiting.
//!
//! Every millisecond until its probes are on is one in which a worker allocates unseen, and next to all of them go by in
//! one place: before the first uprobe after a while is registered, the kernel waits for an RCU grace period, some 10 ms
//! (`rcu_sync_enter` of `dup_mmap_sem`, under `register_for_each_vma`). Registrations that follow each other closely do
//! not wait, and take 0.1 ms. So, as long as processes come and go, a probe of our own entry point, which never runs
//! again, is registered every few milliseconds.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use profiler_common::event::{Lifecycle, lifecycle};

use super::links::{self, Deaths, Links};
use super::programs::{self, Programs};
use super::{KernelError, ProbePoint, locked, map_error, sys};
use crate::event::{self, Event};
use crate::process::Pid;

/// How long after a fork, an exec or an exit the next is expected.
const RESTLESS_FOR: Duration = Duration::from_secs(1);
/// How often a probe is registered meanwhile: below the shortest grace period.
const WARM_EVERY: Duration = Duration::from_millis(3);
/// Threads that give these probes back: the kernel takes some 50 ms for each, waiting.
const RETURNERS: usize = 24;

/// What became of the probes of a process just forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// They are on; else it had ended.
    pub probed: bool,
    /// When that was, on the clock of the kernel side's records.
    pub at_ns: u64,
}

/// The thread. Dropping it ends it.
pub(super) struct Follower {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    programs: Arc<Programs>,
    links: Arc<Mutex<Links>>,
    deaths: Arc<Deaths>,
    /// The probes of each process, by slot: what its children get.
    points: Mutex<HashMap<u32, Arc<[ProbePoint]>>>,
    outcomes: Mutex<HashMap<u32, Followed>>,
}

impl Follower {
    /// Starts it; `None` where probes are perf events, which only aya attaches.
    pub(super) fn start(
        ebpf: &mut Ebpf,
        programs: &Arc<Programs>,
        links: &Arc<Mutex<Links>>,
        deaths: &Arc<Deaths>,
    ) -> Result<Option<Self>, KernelError> {
        // The map stays where it is: programs that are loaded later use it.
        if matches!(**programs, Programs::Perf { .. }) {
            return Ok(None);
        }
        let map = ebpf.take_map("MOVES").ok_or(KernelError::MissingField("MOVES"))?;
        let moves = RingBuf::try_from(map).map_err(|error| map_error("MOVES", error))?;
        let refused = |reason: String| KernelError::Refused { what: "a thread that follows forks".to_owned(), reason };
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(|error| refused(error.to_string()))?;
        let stop = Arc::new(stop);
        let shared = Arc::new(Shared {
            programs: programs.clone(),
            links: links.clone(),
            deaths: deaths.clone(),
            points: Mutex::default(),
            outcomes: Mutex::default(),
        });
        let (its, until) = (shared.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("follower".to_owned()).spawn(move || its.run(moves, &until));
        let thread = thread.map_err(|error| refused(error.to_string()))?;
        Ok(Some(Self { shared, stop, thread: Some(thread) }))
    }

    pub(super) fn knows(&self, slot: u32, points: &Arc<[ProbePoint]>) {
        locked(&self.shared.points).insert(slot, points.clone());
    }

    pub(super) fn outcome(&self, slot: u32) -> Option<Followed> {
        locked(&self.shared.outcomes).remove(&slot)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It cannot fail: the counter is far from full.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked follows nothing any more, which is what is wanted.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, mut moves: RingBuf<MapData>, stop: &EventFd) {
        // Of use where all CPUs are busy, and allowed to root alone; it is a fraction of a millisecond of work a fork.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
        let mut warmth = Warmth::new(&self.programs);
        while wait(&moves, stop, warmth.timeout()) {
            while let Some(record) = moves.next() {
                if let Some(Event::Lifecycle(event)) = event::decode(&record) {
                    warmth.expect();
                    self.follow(&event);
                }
            }
            warmth.keep();
        }
    }

    fn follow(&self, event: &Lifecycle) {
        let slot = event.header.slot;
        match event.what {
            lifecycle::FORKED => {
                let points = locked(&self.points).get(&event.code).cloned();
                if let Some(points) = points {
                    self.attach(slot, Pid(event.header.pid), &points);
                }
            }
            lifecycle::EXECUTED | lifecycle::EXITED => {
                locked(&self.points).remove(&slot);
            }
            _ => {}
        }
    }

    fn attach(&self, slot: u32, pid: Pid, points: &Arc<[ProbePoint]>) {
        let made = links::attach_multi(&self.programs, pid, points);
        let at_ns = sys::monotonic_ns();
        let probed = match made {
            Some(Ok(made)) => {
                self.deaths.seen(slot, points);
                locked(&self.links).add(slot, made);
                true
            }
            _ => false,
        };
        locked(&self.points).insert(slot, points.clone());
        locked(&self.outcomes).insert(slot, Followed { probed, at_ns });
    }
}

/// Waits for a move or for the time; false when it is to stop.
fn wait(moves: &RingBuf<MapData>, stop: &EventFd, timeout: PollTimeout) -> bool {
    // SAFETY: the ring owns its descriptor and outlives the borrow.
    let ring = unsafe { BorrowedFd::borrow_raw(moves.as_raw_fd()) };
    let mut both = [PollFd::new(ring, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    // Interrupted by a signal: then there is nothing to read, and it is asked again.
    let _ = poll(&mut both, timeout);
    !both[1].any().unwrap_or(false)
}

/// Keeps the kernel ready to register probes; see the top of this file.
struct Warmth {
    programs: Arc<Programs>,
    /// Our own entry point: file and offset.
    place: Option<(PathBuf, u64)>,
    /// Keeps the probe itself registered: the others are only linked to it.
    #[allow(dead_code, reason = "held for its drop")]
    first: Option<OwnedFd>,
    until: Option<Instant>,
    next: Instant,
    returners: Option<mpsc::Sender<OwnedFd>>,
    returning: Arc<AtomicUsize>,
}

impl Warmth {
    fn new(programs: &Arc<Programs>) -> Self {
        let mut warmth = Self {
            programs: programs.clone(),
            place: programs::own_code(),
            first: None,
            until: None,
            next: Instant::now(),
            returners: None,
            returning: Arc::default(),
        };
        warmth.first = warmth.link();
        warmth
    }

    /// There will be more moves.
    fn expect(&mut self) {
        self.until = Some(Instant::now() + RESTLESS_FOR);
    }

    fn timeout(&self) -> PollTimeout {
        if self.until.is_none() {
            return PollTimeout::NONE;
        }
        let rest = self.next.saturating_duration_since(Instant::now());
        PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::ZERO)
    }

    fn keep(&mut self) {
        let now = Instant::now();
        if self.until.is_none_or(|until| until < now) {
            self.until = None;
            return;
        }
        if now < self.next || self.returning.load(Ordering::Relaxed) >= RETURNERS {
            return;
        }
        self.next = now + WARM_EVERY;
        let Some(link) = self.link() else { return };
        self.returning.fetch_add(1, Ordering::Relaxed);
        let returning = self.returning.clone();
        let returners = self.returners.get_or_insert_with(|| start_returners(&returning));
        // They end only with the sender.
        let _ = returners.send(link);
    }

    fn link(&self) -> Option<OwnedFd> {
        let (path, offset) = self.place.as_ref()?;
        let program = match &*self.programs {
            Programs::Session { entry, .. } | Programs::Multi { entry, .. } => entry,
            Programs::Perf { .. } => return None,
        };
        let path: &OsStr = path.as_os_str();
        let points = sys::MultiPoints { path, offsets: &[*offset], cookies: &[0] };
        sys::link_multi(program.as_fd(), sys::UPROBE_MULTI, &points, Pid(std::process::id()), false).ok()
    }
}

fn start_returners(returning: &Arc<AtomicUsize>) -> mpsc::Sender<OwnedFd> {
    let (sender, receiver) = mpsc::channel::<OwnedFd>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..RETURNERS {
        let (receiver, returning) = (receiver.clone(), returning.clone());
        std::thread::spawn(move || {
            while let Ok(link) = next_of(&receiver) {
                drop(link);
                returning.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
    sender
}

fn next_of(receiver: &Mutex<mpsc::Receiver<OwnedFd>>) -> Result<OwnedFd, mpsc::RecvError> {
    locked(receiver).recv()
}
