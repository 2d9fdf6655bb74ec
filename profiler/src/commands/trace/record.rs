//! A recording: attached, fed by the ring and the clock, ended in order.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal as NixSignal;
use profiler_common::config::process_flags;
use profiler_common::event::lifecycle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::end::End;
use super::live::{self, Live};
use super::probes::Probes;
use super::progress::Progress;
use super::target::{Roots, Target};
use super::tree::{Tree, descendants};
use super::window::Window;
use super::{LedgerArg, TraceArgs};
use crate::diagnose::diagnose;
use crate::exit::{Exit, Failure};
use crate::kernel::calibrate::Costs;
use crate::kernel::{Kernel, Ring};
use crate::output::{self, WriteError};
use crate::process::Pid;
use crate::process::launch::{Fate, Launched};
use crate::profile::{self, Profile, Trace, file};
use crate::recorder::{Looks, Recorder};

/// How often the process and the sums are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How often a program just executed is looked at for its interpreter.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often it is looked who fills the pools of small objects, at the most.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// How often the profile is written: what a SIGKILL of pyalloc can cost at the most.
const WRITE_EVERY: Duration = Duration::from_secs(4);
/// The shares of more processes than this are read at the end only: each reading takes some ms.
const SHARES_WHILE_RUNNING: u64 = 16;
/// The slot of a launched process, or of the first that was found.
const FIRST: u32 = 0;

/// Reading a process's pools takes at most one part in this many of one CPU: each pool is a read of its own, and a
/// process may have 100 000.
const READING_SHARE: u32 = 200;

/// A running recording.
pub struct Recording {
    pub(super) kernel: Kernel,
    ring: Ring,
    pub(super) recorder: Recorder,
    pub(super) tree: Tree,
    launched: Option<Launched>,
    native: bool,
    /// The heap ledger is kept.
    heap: bool,
    /// Who fills the pools of small objects is watched.
    watches: bool,
    next_reading: Instant,
    pub(super) path: PathBuf,
    ready: Option<PathBuf>,
    progress: Progress,
    /// The write under way: forks are not to wait for a disk.
    writing: Option<JoinHandle<Result<(), WriteError>>>,
    /// The last copy could not be written, and the user was told so.
    unwritten: bool,
    /// For a diagnosis.
    evidence: Option<Evidence>,
    /// Looks at the objects of the processes, if they are wanted.
    looks: Option<Looks>,
    /// The screen of who watches it.
    pub(super) live: Option<Live>,
}

/// When the next readings for a diagnosis are due.
#[derive(Default)]
struct Evidence {
    samples: u32,
}

impl Evidence {
    /// Asked at each sample: every second one.
    fn is_due(&mut self) -> bool {
        self.samples = self.samples.wrapping_add(1);
        self.samples % 2 == 1
    }
}

/// What is left of a recording.
pub struct Finished {
    /// The profile, as written.
    pub profile: Profile,
    /// Why it could not be written.
    pub unwritten: Option<WriteError>,
    /// The exit code: a launched program's own.
    pub exit: Exit,
    /// The program was launched.
    pub launched: bool,
}

impl Recording {
    /// Attaches, and lets a launched program go.
    pub fn start(args: &TraceArgs, mut kernel: Kernel, roots: Roots, path: &Path) -> Result<Self, Failure> {
        let Roots { targets, mut launched } = roots;
        let ring = kernel.take_ring().ok_or_else(|| Failure::cannot_observe("the ring buffer is taken"))?;
        let mut recorder = Recorder::new(trace_of(args, launched.is_some()));
        let follow = if args.no_children { 0 } else { process_flags::FOLLOW };
        let native = if args.native { process_flags::NATIVE } else { 0 };
        let resident = if args.keeps(LedgerArg::Resident) { process_flags::RESIDENT } else { 0 };
        let mut tree = Tree::new(follow | native | resident, Probes::wanted(args), args.counts_each_object());
        let hold = if launched.is_some() { process_flags::HOLD_AT_EXIT } else { 0 };
        let found: Vec<Pid> = targets.iter().map(|target| target.identity.pid).collect();
        // A report without its cost is still a report, and says so.
        let costs = if args.no_uprobes { Costs::default() } else { kernel.calibrate().unwrap_or_default() };
        let began = Instant::now();
        for target in targets {
            let (pid, many) = (target.identity.pid, found.len() > 1);
            let target = target.with_shared_limit();
            // One of many may end while the others are attached to.
            match tree.add(&mut kernel, &mut recorder, target, hold) {
                Err(_) if many && !Path::new(&format!("/proc/{pid}")).exists() => {}
                other => other?,
            }
        }
        let watching = args.keeps(LedgerArg::Heap).then(|| kernel.start_watching());
        let watches = matches!(watching, Some(Ok(_)));
        let quality = recorder.quality_mut();
        quality.attach_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        quality.hit_cost_ns = costs.hit_ns;
        match watching {
            Some(Ok(cost_ns)) => quality.write_cost_ns = cost_ns,
            Some(Err(error)) => quality.unwatched = Some(error.to_string()),
            None => {}
        }
        quality.return_cost_ns = costs.return_ns;
        quality.links = kernel.link_kind().describe().to_owned();
        if let Some(launched) = &mut launched {
            launched.let_go().map_err(|error| Failure::cannot_observe(format!("cannot start the program: {error}")))?;
        }
        // After the launch: a program inherits the limit.
        allow_many_files();
        let progress = Progress::start(args.quiet);
        let (path, ready) = (path.to_owned(), args.ready.clone());
        let mut recording = Self {
            kernel,
            ring,
            recorder,
            tree,
            launched,
            native: args.native,
            heap: args.keeps(LedgerArg::Heap),
            watches,
            next_reading: Instant::now(),
            path,
            ready,
            progress,
            writing: None,
            unwritten: false,
            evidence: None,
            looks: None,
            live: None,
        };
        if args.objects {
            recording.look_at_objects();
        }
        if follow != 0 {
            recording.catch_up(&found)?;
        }
        Ok(recording)
    }

    /// Adds the processes that were forked between the search and the attach: their forks told us nothing.
    fn catch_up(&mut self, found: &[Pid]) -> Result<(), Failure> {
        self.drain()?;
        for pid in found.iter().flat_map(|&pid| descendants(pid)) {
            if self.tree.contains(pid) {
                continue;
            }
            let Ok(target) = self.tree.inspect(pid).or_else(|_| Target::unknown(pid)) else { continue };
            // It may have ended by now.
            let _ = self.tree.add(&mut self.kernel, &mut self.recorder, target, 0);
        }
        Ok(())
    }

    /// From now on what a diagnosis looks at is recorded too.
    pub fn gather_evidence(&mut self) {
        let evidence = self.recorder.evidence_mut();
        match self.kernel.attach_traffic() {
            Ok(()) => evidence.sockets_counted = true,
            Err(error) => evidence.notes.push(format!(
                "what goes through sockets could not be counted ({error}): whether growth follows traffic is told by \
                 connections accepted and CPU time only"
            )),
        }
        self.evidence = Some(Evidence::default());
    }

    /// From now on the objects of the processes are looked at too.
    pub fn look_at_objects(&mut self) {
        match Looks::start() {
            Ok(looks) => self.looks = Some(looks),
            Err(error) => self.recorder.evidence_mut().notes.push(format!("objects could not be looked at: {error}")),
        }
    }

    /// Records until the end; where somebody watches, until they have seen enough.
    pub async fn run(&mut self, window: &mut Window) -> Result<End, Failure> {
        let mut signals = Signals::new().map_err(Failure::cannot_observe)?;
        let end = self.record(window, &mut signals).await?;
        if end == End::Over && self.live.is_some() {
            tokio::select! {
                seen = self.linger() => seen?,
                _ = signals.terminate.recv() => {}
                _ = signals.hangup.recv() => {}
            }
        }
        Ok(end)
    }

    async fn record(&mut self, window: &mut Window, signals: &mut Signals) -> Result<End, Failure> {
        window.begin();
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut watches = interval(WATCH_EVERY);
        watches.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut written = Instant::now();
        if self.live.is_none() {
            self.write_first()?.map_err(Failure::usage)?;
        }
        self.tell()?;
        if self.heap {
            // What is live now is not of this trace.
            self.recorder.find_pools();
        }
        self.say_ready()?;
        loop {
            tokio::select! {
                ready = self.ring.readable() => {
                    ready.map_err(Failure::cannot_observe)?;
                    if let Some(end) = self.drain()? {
                        return Ok(end);
                    }
                    self.say_probed()?;
                }
                _ = looks.tick(), if self.tree.is_undecided() => {
                    self.tree.decide(&mut self.kernel, &mut self.recorder).map_err(Failure::cannot_observe)?;
                    self.tree.look_at_new(&mut self.recorder);
                    self.say_probed()?;
                }
                _ = watches.tick(), if self.watches => self.watch_pools()?,
                _ = samples.tick() => {
                    if let Some(end) = self.sample(window)? {
                        return Ok(end);
                    }
                    self.say_probed()?;
                    if self.live.is_none() && written.elapsed() >= WRITE_EVERY {
                        self.write_aside().await?;
                        written = Instant::now();
                    }
                }
                happened = live::happened(&mut self.live) => if let Some(end) = self.show(happened)? { return Ok(end) },
                changed = window.change() => match changed {
                    Some(longer) => self.progress.say(&longer),
                    None => return Ok(End::Duration),
                },
                // A launched program gets the terminal's Ctrl-C itself, and decides what to do with it.
                _ = signals.interrupt.recv() => if self.launched.is_none() { return Ok(End::Interrupted) },
                _ = signals.terminate.recv() => if !self.pass_on(NixSignal::SIGTERM) { return Ok(End::Interrupted) },
                _ = signals.hangup.recv() => if !self.pass_on(NixSignal::SIGHUP) { return Ok(End::Interrupted) },
            }
        }
    }

    /// Tells the user what was found out about the processes.
    fn tell(&mut self) -> Result<(), Failure> {
        for sentence in self.tree.take_told() {
            match &mut self.live {
                Some(live) => live.say(sentence)?,
                None => self.progress.say(&sentence),
            }
        }
        Ok(())
    }

    /// Tells who waits for it that the probes are on, signals are heard and a first profile is written.
    fn say_ready(&self) -> Result<(), Failure> {
        self.tell_waiting("attached\n")
    }

    /// Tells who waits for it which processes that came since have their probes.
    fn say_probed(&mut self) -> Result<(), Failure> {
        if self.ready.is_none() {
            return Ok(());
        }
        let pids = self.recorder.newly_probed();
        pids.into_iter().try_for_each(|pid| self.tell_waiting(&format!("probed {pid}\n")))
    }

    fn tell_waiting(&self, line: &str) -> Result<(), Failure> {
        let Some(path) = &self.ready else { return Ok(()) };
        let written = OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
    }

    /// A launched program is told what we are told to do, and decides; false where there is none.
    fn pass_on(&self, signal: NixSignal) -> bool {
        self.launched.as_ref().is_some_and(|launched| launched.signal(signal).is_ok())
    }

    /// Reads what the kernel has, detaches, lets a held program go, and writes the profile.
    pub fn finish(mut self, end: End) -> Result<Finished, Failure> {
        self.progress.finish();
        self.drain()?;
        self.tree.check(&mut self.kernel, &mut self.recorder).map_err(Failure::cannot_observe)?;
        self.tree.restore(&mut self.recorder);
        // In what was forked just before, too.
        self.drain()?;
        self.tree.restore(&mut self.recorder);
        self.tree.forget_all(&mut self.kernel);
        self.drain()?;
        self.recorder.sample(&self.kernel, self.evidence.is_some()).map_err(Failure::cannot_observe)?;
        if self.evidence.is_some() {
            self.recorder.read_extensions();
        }
        if self.watches {
            // What stayed since the last turn counts too.
            self.recorder.watch_pools(&mut self.kernel).map_err(Failure::cannot_observe)?;
            self.recorder.stop_watching(&mut self.kernel);
        }
        self.recorder.read_memory(&self.kernel).map_err(Failure::cannot_observe)?;
        self.recorder.read_shares();
        if end == End::Held
            && let Some(process) = self.recorder.process_mut(FIRST)
        {
            process.pools_read_at_exit();
        }
        self.kernel.detach();
        if let Some(looks) = self.looks.take() {
            looks.finish(&mut self.recorder);
        }
        let fate = self.launched.as_ref().map(|launched| see_off(launched, end)).transpose()?;
        match fate {
            Some(Fate::Exited(code)) => self.recorder.set_end(FIRST, profile::End::Exited(code)),
            Some(Fate::Killed(signal)) => self.recorder.set_end(FIRST, profile::End::Killed(signal)),
            _ => {}
        }
        let mut profile = self.recorder.snapshot(&self.kernel, true).map_err(Failure::cannot_observe)?.clone();
        if self.evidence.is_some() {
            profile.diagnosis = Some(diagnose(&profile));
        }
        let unwritten = file::write(&self.path, &profile, output::sudo_owner()).err();
        let exit = match fate {
            Some(Fate::Exited(code)) => Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)),
            Some(Fate::Killed(signal)) => Exit::Program(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            _ => Exit::Fine,
        };
        Ok(Finished { profile, unwritten, exit, launched: self.launched.is_some() })
    }

    /// Takes every record there is and acts on it; the end if one of them is.
    fn drain(&mut self) -> Result<Option<End>, Failure> {
        let Self { ring, recorder, kernel, .. } = self;
        let mut events = Vec::new();
        ring.drain(|record| events.extend(recorder.take(record, kernel)));
        self.kernel.print_said();
        let held = events.iter().any(|event| event.what == lifecycle::HELD_AT_EXIT);
        self.tree.collect_all(&mut self.kernel, &mut self.recorder);
        for event in &events {
            self.tree.apply(event, &mut self.kernel, &mut self.recorder).map_err(Failure::cannot_observe)?;
        }
        if self.native {
            self.recorder.refresh_native(&mut self.kernel).map_err(Failure::cannot_observe)?;
        }
        Ok(if held { Some(End::Held) } else { self.tree.is_over().then_some(End::Over) })
    }

    /// Looks who fills the pools, if that is not too early.
    fn watch_pools(&mut self) -> Result<(), Failure> {
        match self.recorder.is_time_to_watch() {
            true => self.recorder.watch_pools(&mut self.kernel).map_err(Failure::cannot_observe),
            false => Ok(()),
        }
    }

    fn sample(&mut self, window: &Window) -> Result<Option<End>, Failure> {
        if let Some(end) = self.drain()? {
            return Ok(Some(end));
        }
        self.tree.check(&mut self.kernel, &mut self.recorder).map_err(Failure::cannot_observe)?;
        if self.tree.is_over() {
            return Ok(Some(End::Over));
        }
        self.tell()?;
        if self.heap {
            self.recorder.find_pools();
        }
        let for_diagnosis = self.evidence.as_mut().is_some_and(Evidence::is_due);
        let now = self.recorder.sample(&self.kernel, for_diagnosis).map_err(Failure::cannot_observe)?;
        if self.tree.ends_unheld() {
            self.read_processes()?;
        }
        self.recorder.make_room(&mut self.kernel).map_err(Failure::cannot_observe)?;
        if self.looks.as_mut().is_some_and(|looks| looks.go_on(&mut self.recorder)) {
            self.tell_waiting("looked\n")?;
        }
        self.progress.update(&now, &window.note());
        Ok(None)
    }

    /// Writes a copy of the profile as it is now, on another thread; after the write before.
    async fn write_aside(&mut self) -> Result<(), Failure> {
        self.finish_writing().await?;
        self.read_processes()?;
        let profile = self.recorder.snapshot(&self.kernel, false).map_err(Failure::cannot_observe)?.clone();
        let path = self.path.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || file::write(&path, &profile, output::sudo_owner())));
        Ok(())
    }

    /// Waits for the write under way. One that failed ends nothing: the copy before is still there, and the next is
    /// tried in its turn.
    pub async fn finish_writing(&mut self) -> Result<(), Failure> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = writing.await.map_err(Failure::cannot_observe)?;
        match &written {
            Ok(()) if self.unwritten => self.progress.say(&format!("{} is written again", self.path.display())),
            Err(error) if !self.unwritten => self.progress.say(&format!("{error}; the trace goes on, and tries again")),
            _ => {}
        }
        self.unwritten = written.is_err();
        Ok(())
    }

    /// Reads the pools and what is shared, unless the last time took so long that it is too early. The report says how
    /// old the reading is; the one at the end is always made.
    pub(super) fn read_processes(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        if began < self.next_reading {
            return Ok(());
        }
        self.recorder.read_memory(&self.kernel).map_err(Failure::cannot_observe)?;
        if self.tree.len() <= SHARES_WHILE_RUNNING {
            self.recorder.read_shares();
        }
        self.next_reading = Instant::now() + began.elapsed() * READING_SHARE;
        Ok(())
    }

    /// Writes a first copy of the profile; the inner error is that of the file.
    fn write_first(&mut self) -> Result<Result<(), WriteError>, Failure> {
        self.read_processes()?;
        let profile = self.recorder.snapshot(&self.kernel, false).map_err(Failure::cannot_observe)?;
        Ok(file::write(&self.path, profile, output::sudo_owner()))
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// A traced process takes some five descriptors, and the usual limit is 1024. What is not granted is not needed yet.
fn allow_many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Lets the launched program go on to its end, and waits for it.
fn see_off(launched: &Launched, end: End) -> Result<Fate, Failure> {
    let failed = |error: std::io::Error| Failure::cannot_observe(format!("cannot wait for the program: {error}"));
    loop {
        if end == End::Held {
            launched.resume().map_err(failed)?;
        }
        match launched.wait_for_change().map_err(failed)? {
            Fate::Stopped => launched.resume().map_err(failed)?,
            fate => return Ok(fate),
        }
    }
}

fn trace_of(args: &TraceArgs, launched: bool) -> Trace {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Trace {
        pyalloc_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_ms: u64::try_from(now.as_millis()).unwrap_or(0),
        launched,
        native: args.native,
        without_heap: !args.keeps(LedgerArg::Heap),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ..Trace::default()
    }
}
