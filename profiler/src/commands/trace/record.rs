//! A recording: attached, fed by the ring and the clock, ended in order.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use profiler_common::config::process_flags;
use profiler_common::event::lifecycle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::TraceArgs;
use super::end::End;
use super::progress::Progress;
use super::target::Target;
use crate::exit::{Exit, Failure};
use crate::kernel::{Kernel, Ring};
use crate::output;
use crate::process::launch::{Fate, Launched};
use crate::process::Identity;
use crate::profile::{self, Profile, Trace, file};
use crate::python::Interpreter;
use crate::recorder::{Recorder, Start};

/// How often the process and the sums are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// How often the profile is written: what a SIGKILL of pyalloc can cost at the most.
const WRITE_EVERY: Duration = Duration::from_secs(4);
/// The one traced process.
const SLOT: u32 = 0;

/// A running recording.
pub struct Recording {
    kernel: Kernel,
    ring: Ring,
    recorder: Recorder,
    identity: Identity,
    launched: Option<Launched>,
    /// The interpreter was not initialized when the trace started: where its threads keep their state is not final.
    settling: bool,
    flags: u32,
    exit_status: Option<i32>,
    path: PathBuf,
    ready: Option<PathBuf>,
    progress: Progress,
}

/// What is left of a recording.
pub struct Finished {
    /// The profile, as written.
    pub profile: Profile,
    /// The exit code: a launched program's own.
    pub exit: Exit,
    /// The program was launched.
    pub launched: bool,
}

impl Recording {
    /// Attaches, and lets a launched program go.
    pub fn start(args: &TraceArgs, mut kernel: Kernel, target: Target, path: &Path) -> Result<Self, Failure> {
        let Target { identity, interpreter, plan, memory, program_break, launched } = target;
        let pid = identity.pid;
        let ring = kernel.take_ring().ok_or_else(|| Failure::cannot_observe("the ring buffer is taken"))?;
        let mut recorder = Recorder::new(trace_of(args, launched.is_some()));
        recorder.add_process(Start {
            identity,
            layout: Some(interpreter.layout),
            python: interpreter.version.to_string(),
            interpreter: interpreter.image.path.display().to_string(),
            notes: plan.notes.clone(),
            memory: Some(memory),
            program_break,
        });
        let hold = if launched.is_some() { process_flags::HOLD_AT_EXIT } else { 0 };
        let flags = hold | if args.native { process_flags::NATIVE } else { 0 };
        let began = Instant::now();
        kernel.trace_process(pid, &interpreter.walker_config(SLOT, flags)).map_err(Failure::cannot_observe)?;
        kernel.attach(pid, &plan.points).map_err(Failure::cannot_observe)?;
        let quality = recorder.quality_mut();
        quality.attach_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        quality.links = kernel.link_kind().describe().to_owned();
        if let Some(launched) = &launched {
            launched.resume().map_err(|error| Failure::cannot_observe(format!("cannot start the program: {error}")))?;
        }
        let settling = !interpreter.initialized;
        let progress = Progress::start(args.quiet);
        let (path, ready) = (path.to_owned(), args.ready.clone());
        Ok(Self { kernel, ring, recorder, identity, launched, settling, flags, exit_status: None, path, ready, progress })
    }

    /// Records until the end.
    pub async fn run(&mut self, duration: Option<Duration>) -> Result<End, Failure> {
        let mut signals = Signals::new().map_err(Failure::cannot_observe)?;
        let deadline = duration.map(|duration| tokio::time::Instant::now() + duration);
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut written = Instant::now();
        self.write(false)?;
        self.say_ready()?;
        loop {
            tokio::select! {
                ready = self.ring.readable() => {
                    ready.map_err(Failure::cannot_observe)?;
                    if let Some(end) = self.drain() {
                        return Ok(end);
                    }
                }
                _ = samples.tick() => {
                    if let Some(end) = self.sample()? {
                        return Ok(end);
                    }
                    if written.elapsed() >= WRITE_EVERY {
                        self.write(false)?;
                        written = Instant::now();
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(far_away)), if deadline.is_some() => return Ok(End::Duration),
                // A launched program gets the terminal's Ctrl-C itself, and decides what to do with it.
                _ = signals.interrupt.recv() => if self.launched.is_none() { return Ok(End::Interrupted) },
                _ = signals.terminate.recv() => return Ok(End::Interrupted),
                _ = signals.hangup.recv() => return Ok(End::Interrupted),
            }
        }
    }

    /// Tells who waits for it that the probes are on, signals are heard and a first profile is written.
    fn say_ready(&self) -> Result<(), Failure> {
        let Some(path) = &self.ready else { return Ok(()) };
        let written = OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(b"attached\n"));
        written.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
    }

    /// Reads what the kernel has, detaches, lets a held program go, and writes the profile.
    pub fn finish(mut self, end: &End) -> Result<Finished, Failure> {
        self.progress.finish();
        self.kernel.forget_process(self.identity.pid);
        self.drain();
        // The last reading of a process that has ended is the one from before.
        self.recorder.sample(&self.kernel).map_err(Failure::cannot_observe)?;
        self.recorder.read_pools(&self.kernel).map_err(Failure::cannot_observe)?;
        self.kernel.detach();
        let fate = self.launched.as_ref().map(|launched| see_off(launched, *end)).transpose()?;
        let how = match fate {
            Some(Fate::Exited(code)) => profile::End::Exited(code),
            Some(Fate::Killed(signal)) => profile::End::Killed(signal),
            _ => end.of_process(),
        };
        self.recorder.set_end(SLOT, how);
        let profile = self.write(true)?;
        let exit = match fate {
            Some(Fate::Exited(code)) => Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)),
            Some(Fate::Killed(signal)) => Exit::Program(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            _ => Exit::Fine,
        };
        Ok(Finished { profile, exit, launched: self.launched.is_some() })
    }

    /// Takes every record there is; the end if one of them is.
    fn drain(&mut self) -> Option<End> {
        let Self { ring, recorder, kernel, exit_status, identity, .. } = self;
        let mut end = None;
        ring.drain(|record| {
            let Some(event) = recorder.take(record, kernel) else { return };
            match event.what {
                lifecycle::EXITED => {
                    *exit_status = Some(event.code.cast_signed());
                    // The leader may end before the process's other threads.
                    if !identity.is_alive() {
                        end = Some(End::Exited(*exit_status));
                    }
                }
                lifecycle::EXECUTED => end = Some(End::Executed),
                lifecycle::HELD_AT_EXIT => end = Some(End::Held),
                _ => {}
            }
        });
        end
    }

    fn sample(&mut self) -> Result<Option<End>, Failure> {
        if let Some(end) = self.drain() {
            return Ok(Some(end));
        }
        if !self.identity.is_alive() {
            return Ok(Some(End::Exited(self.exit_status)));
        }
        if self.settling {
            self.settle();
        }
        let now = self.recorder.sample(&self.kernel).map_err(Failure::cannot_observe)?;
        self.progress.update(&now);
        Ok(None)
    }

    /// Once the interpreter runs, where its threads keep their state is known for good, and one read fewer is needed.
    fn settle(&mut self) {
        let Ok(interpreter) = Interpreter::discover(self.identity.pid) else { return };
        if interpreter.initialized {
            let config = interpreter.walker_config(SLOT, self.flags);
            self.settling = self.kernel.trace_process(self.identity.pid, &config).is_err();
        }
    }

    /// Writes the profile as it is now.
    fn write(&mut self, complete: bool) -> Result<Profile, Failure> {
        if !complete {
            self.recorder.read_pools(&self.kernel).map_err(Failure::cannot_observe)?;
        }
        let profile = self.recorder.snapshot(&self.kernel, complete).map_err(Failure::cannot_observe)?;
        file::write(&self.path, profile, output::sudo_owner()).map_err(Failure::usage)?;
        Ok(profile.clone())
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

fn far_away() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(1 << 30)
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
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ..Trace::default()
    }
}
