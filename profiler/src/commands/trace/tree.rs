//! The processes under trace: found, forked, executed, gone.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_common::config::{
    FIRST_EXECUTED_SLOT, FIRST_FORKED_SLOT, NO_SLOT, ProcessConfig, process_flags, thread_slot,
};
use profiler_common::event::{Lifecycle, lifecycle};

use super::end::exit_of;
use super::nudges::Nudges;
use super::probes::{self, Probes};
use super::target::{Python, Target};
use crate::exit::Failure;
use crate::kernel::{Followed, Kernel, KernelError, ProbePoint, monotonic_ns};
use crate::ledger::resident::Owner;
use crate::process::image::executable_files;
use crate::process::{Identity, Pid, maps};
use crate::profile;
use crate::python::Interpreter;
use crate::recorder::{Recorder, Traced};

/// A program just executed is watched this long for an interpreter.
const UNDECIDED_FOR: Duration = Duration::from_secs(5);

/// Long after the thread that follows forks should have told what became of one.
const UNTOLD_FOR: Duration = Duration::from_secs(1);

type Points = Arc<[ProbePoint]>;

/// The processes under trace.
pub struct Tree {
    members: HashMap<u32, Member>,
    /// The probes that a program had the last time: those of the next process that executes it.
    programs: HashMap<FileState, Points>,
    /// `process_flags` of every member.
    flags: u32,
    /// Which probes the processes get.
    probes: Probes,
    /// What the user was not told yet.
    told: Vec<String>,
    next_slot: u32,
    /// Forked processes whose pages have not been looked at yet.
    new: VecDeque<u32>,
    /// Every small object is to be counted.
    exact_objects: bool,
    nudges: Nudges,
}

struct Member {
    identity: Identity,
    state: State,
    /// The wait status, from the end of its first thread on: the others may go on for a while.
    status: Option<i32>,
}

impl Member {
    fn new(identity: Identity, state: State) -> Self {
        Self { identity, state, status: None }
    }
}

/// An interpreter that was found before it ran.
struct Settling {
    since: Instant,
    looked: Option<(Instant, usize)>,
    /// Without paths until it has settled: how long it was without probes, microseconds, to be told then.
    untold_us: Option<u64>,
}

impl Settling {
    fn of(python: &Python) -> Option<Self> {
        (!python.initialized).then(|| Self { since: Instant::now(), looked: None, untold_us: None })
    }

    /// A program that embeds Python may start it much later, or never.
    fn is_soon(&self) -> bool {
        self.since.elapsed() < UNDECIDED_FOR
    }
}

enum State {
    /// Its probes are on. `settling`: where its threads keep their state is not known for good yet.
    Probed { points: Points, settling: Option<Settling> },
    /// It was forked, and the kernel side's thread attaches its probes.
    Forked { points: Points, since: Instant, forked_ns: u64 },
    /// It has executed a program that may yet turn out to be Python. `ahead`: the probes that this program had the last
    /// time it was executed, attached already.
    Undecided { since: Instant, executed_ns: u64, looked: Option<(Instant, usize)>, ahead: Option<Points> },
    /// Not Python: only what it forks and executes matters.
    Followed,
}

/// The tables of a process are not as they were changed to.
const CHANGED_NOTE: &str = "the allocator tables of this process were changed during the trace, by itself or by another tool \
    (tracemalloc, memray): small objects that it made after that may be missing";

impl Tree {
    /// No process yet. `flags` are those of every process: native frames, following, page faults; `exact_objects`, whether
    /// every small object is counted.
    pub fn new(flags: u32, probes: Probes, exact_objects: bool) -> Self {
        let (members, programs, new, nudges) = (HashMap::new(), HashMap::new(), VecDeque::new(), Nudges::default());
        Self { members, programs, flags, probes, told: Vec::new(), next_slot: 0, new, exact_objects, nudges }
    }

    /// What the user is to be told now, a sentence each.
    pub fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// Whether the pages of a process are all that is known of it, and nothing holds it until they are looked at when it
    /// ends.
    pub fn ends_unheld(&self) -> bool {
        let unprobed = |member: &Member| matches!(&member.state, State::Probed { points, .. } if points.is_empty());
        self.flags & process_flags::RESIDENT != 0 && self.members.values().any(unprobed)
    }

    /// Finds out what is needed to trace a process.
    pub fn inspect(&self, pid: Pid) -> Result<Target, Failure> {
        Target::inspect(pid, self.exact_objects)
    }

    /// Puts back what was written to the processes.
    pub fn restore(&mut self, recorder: &mut Recorder) {
        for slot in self.nudges.restore() {
            if let Some(process) = recorder.process_mut(slot) {
                process.note(CHANGED_NOTE.to_owned());
            }
        }
    }

    /// Attaches to a process that was found or launched; `hold` are flags of this one alone.
    pub fn add(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        target: Target,
        hold: u32,
    ) -> Result<(), Failure> {
        let slot = self.take_slot().ok_or_else(|| Failure::cannot_observe("too many processes for one trace"))?;
        let identity = target.identity;
        recorder.add_found(slot, target.start);
        let state = match target.python {
            Some(python) => {
                let settling = Settling::of(&python);
                match self.probe(kernel, recorder, slot, identity.pid, python, hold, None) {
                    Ok(points) => {
                        self.start_residence(recorder, slot, Owner::Before);
                        State::Probed { points, settling }
                    }
                    Err(error) => {
                        kernel.forget_process(identity.pid, slot);
                        recorder.forget_found(slot);
                        return Err(Failure::cannot_observe(error));
                    }
                }
            }
            None => {
                self.follow(kernel, slot, identity.pid).map_err(Failure::cannot_observe)?;
                State::Followed
            }
        };
        self.members.insert(slot, Member::new(identity, state));
        Ok(())
    }

    /// Whether a process is among them.
    pub fn contains(&self, pid: Pid) -> bool {
        self.members.values().any(|member| member.identity.pid == pid)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.members.len() as u64
    }

    /// The kernel side shall look at none of them any more.
    pub fn forget_all(&self, kernel: &mut Kernel) {
        self.members.iter().for_each(|(&slot, member)| kernel.forget_process(member.identity.pid, slot));
    }

    /// Whether any of them is, or may yet be, Python.
    pub fn is_over(&self) -> bool {
        !self.members.values().any(|member| !matches!(member.state, State::Followed))
    }

    /// Looks at the pages of one new process: no fork shall wait for more than one such look.
    pub fn look_at_new(&mut self, recorder: &mut Recorder) {
        if let Some(slot) = self.new.pop_front() {
            self.start_residence(recorder, slot, Owner::Inherited);
        }
    }

    /// Whether there is something to look at soon.
    pub fn is_undecided(&self) -> bool {
        let is_open = |member: &Member| match &member.state {
            State::Undecided { .. } => true,
            State::Probed { settling: Some(settling), .. } => settling.is_soon(),
            _ => false,
        };
        !self.new.is_empty() || self.members.values().any(is_open)
    }

    /// Acts on a fork, an exec or an exit.
    pub fn apply(
        &mut self,
        event: &Lifecycle,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
    ) -> Result<(), KernelError> {
        let slot = event.header.slot;
        match event.what {
            lifecycle::FORKED => self.forked(event, kernel, recorder),
            lifecycle::VFORKED => {
                let identity = identity_of(recorder, slot);
                self.members.extend(identity.map(|identity| (slot, Member::new(identity, State::Followed))));
                Ok(())
            }
            lifecycle::LEFT_ALONE => {
                self.nudges.free(slot, Pid(event.header.pid));
                if let Some(Member { state: State::Probed { points, .. }, .. }) = self.members.get(&slot) {
                    // A process that has ended by now needs it no more.
                    let _ = kernel.free_from_probes(Pid(event.header.pid), points);
                }
                Ok(())
            }
            lifecycle::EXECUTED => self.executed(event, kernel, recorder),
            lifecycle::EXITED => {
                self.collect(slot, kernel, recorder);
                if let Some(member) = self.members.get_mut(&slot) {
                    member.status = Some(event.code.cast_signed());
                }
                // Its parent has not buried it yet: the CPU time of its last moments, and its name.
                if let Some(process) = recorder.process_mut(slot) {
                    process.read_last();
                }
                self.remove_if_gone(slot, kernel, recorder);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Looks for the ends that no event told, and finishes what was not ready before.
    pub fn check(&mut self, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        self.collect_all(kernel, recorder);
        for slot in self.slots(|_| true) {
            self.remove_if_gone(slot, kernel, recorder);
        }
        self.settle_all(kernel, recorder)
    }

    /// Looks whether programs just executed have their interpreter by now, and whether it runs.
    pub fn decide(&mut self, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        for slot in self.slots(|member| matches!(member.state, State::Undecided { .. })) {
            self.decide_one(slot, kernel, recorder)?;
        }
        self.settle_all(kernel, recorder)
    }

    fn settle_all(&mut self, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        for slot in self.slots(|member| matches!(member.state, State::Probed { settling: Some(_), .. })) {
            self.settle(slot, kernel, recorder)?;
        }
        Ok(())
    }

    fn slots(&self, wanted: impl Fn(&Member) -> bool) -> Vec<u32> {
        self.members.iter().filter(|(_, member)| wanted(member)).map(|(&slot, _)| slot).collect()
    }

    fn take_slot(&mut self) -> Option<u32> {
        let slot = self.next_slot;
        self.next_slot += 1;
        (slot < FIRST_EXECUTED_SLOT).then_some(slot)
    }

    #[expect(clippy::too_many_arguments, reason = "all of them name one process")]
    fn probe(
        &mut self,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
        slot: u32,
        pid: Pid,
        mut python: Python,
        hold: u32,
        ahead: Option<&Points>,
    ) -> Result<Points, KernelError> {
        python.plan.points.retain(|point| self.probes.want(point.function, &python.config.layout));
        if self.flags & process_flags::NATIVE != 0 {
            recorder.refresh_native(kernel)?;
        }
        let config = ProcessConfig { slot, flags: self.flags | hold, ..python.config };
        let mut points: Points = python.plan.points.into();
        kernel.follow(slot, &points);
        kernel.trace_process(pid, &config)?;
        let mut refused = python.refused.map_or(Ok(()), |reason| Err(KernelError::NoProbes { pid, reason }));
        if refused.is_ok() && ahead.is_none_or(|ahead| **ahead != *points) {
            if ahead.is_some() {
                kernel.detach_for_others(slot);
            }
            refused = kernel.attach(slot, pid, &points);
        }
        if let Err(error) = refused {
            self.go_without(error, pid, recorder.process_mut(slot))?;
            points = Points::default();
            kernel.follow(slot, &points);
        } else if points.is_empty()
            && let Some(process) = recorder.process_mut(slot)
        {
            process.info.without_probes = Some(self.probes.why_none().to_owned());
        }
        if !points.is_empty() {
            let refused = |error: std::io::Error| KernelError::Refused {
                what: format!("to change the allocator tables of process {pid}"),
                reason: error.to_string(),
            };
            self.nudges.apply(slot, pid, python.plan.objects.nudge).map_err(refused)?;
        }
        if let Some(program) = program_of(pid) {
            self.programs.insert(program, points.clone());
        }
        Ok(points)
    }

    /// No probe can be set in a process: that ends nothing as long as there is a ledger that needs none.
    fn go_without(&mut self, error: KernelError, pid: Pid, process: Option<&mut Traced>) -> Result<(), KernelError> {
        let has_gone = !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
        if !error.is_of_probes() || has_gone || self.probes == (Probes::Heap { alone: true }) {
            return Err(error);
        }
        let reason = match error {
            KernelError::NoProbes { reason, .. } => reason,
            other => other.to_string(),
        };
        if matches!(self.probes, Probes::Heap { .. }) {
            self.told.push(probes::sentence(pid, &reason));
        }
        if let Some(process) = process {
            process.info.without_probes = Some(reason);
        }
        Ok(())
    }

    /// After the kernel side records its faults: a page that comes in between is in both, and counts to who touched it.
    fn start_residence(&self, recorder: &mut Recorder, slot: u32, owner: Owner) {
        if self.flags & process_flags::RESIDENT != 0 {
            recorder.start_residence(slot, owner);
        }
    }

    fn follow(&self, kernel: &mut Kernel, slot: u32, pid: Pid) -> Result<(), KernelError> {
        let flags = self.flags & !process_flags::RESIDENT | process_flags::FOLLOW_ONLY;
        let config = ProcessConfig { slot, flags, parent_slot: NO_SLOT, ..bytemuck::Zeroable::zeroed() };
        kernel.trace_process(pid, &config)
    }

    /// The kernel side knows it already, and walks its stacks as its parent's; it has only no probes yet.
    fn forked(&mut self, event: &Lifecycle, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        let slot = event.header.slot;
        let Some(identity) = identity_of(recorder, slot) else { return Ok(()) };
        let parent = self.members.get(&event.code).map(|parent| &parent.state);
        let Some(State::Probed { points, .. } | State::Forked { points, .. }) = parent else {
            self.members.insert(slot, Member::new(identity, State::Followed));
            return Ok(());
        };
        let points = points.clone();
        self.nudges.inherit(event.code, slot, identity.pid);
        if self.flags & process_flags::NATIVE != 0 {
            recorder.refresh_native(kernel)?;
        }
        let forked = State::Forked { points, since: Instant::now(), forked_ns: event.header.time_ns };
        self.members.insert(slot, Member::new(identity, forked));
        self.collect(slot, kernel, recorder);
        self.new.push_back(slot);
        Ok(())
    }

    /// Takes note of the probes that forked processes got since.
    pub fn collect_all(&mut self, kernel: &mut Kernel, recorder: &mut Recorder) {
        for slot in self.slots(|member| matches!(member.state, State::Forked { .. })) {
            self.collect(slot, kernel, recorder);
        }
    }

    /// Takes note of what became of the probes of a forked process; attaches them where nobody else does.
    fn collect(&mut self, slot: u32, kernel: &mut Kernel, recorder: &mut Recorder) {
        let Some(member) = self.members.get_mut(&slot) else { return };
        let State::Forked { points, since, forked_ns } = &member.state else { return };
        let followed = kernel.followed(slot).or_else(|| {
            // A child that has ended by now cannot be attached to, and needs not be.
            let own = !kernel.follows() || since.elapsed() > UNTOLD_FOR;
            own.then(|| {
                let probed = kernel.attach(slot, member.identity.pid, points).is_ok();
                Followed { probed, at_ns: monotonic_ns() }
            })
        });
        let Some(Followed { probed, at_ns }) = followed else { return };
        if let Some(process) = recorder.process_mut(slot).filter(|_| probed) {
            // The kernel side has known it from its first instruction on: without probes there is nothing to wait for.
            let unprobed_ns = if points.is_empty() { 0 } else { at_ns.saturating_sub(*forked_ns) };
            process.probed_after(unprobed_ns / 1000);
        }
        // One that has ended has none, but what it forked has: a daemon's middle process ends at once.
        member.state = State::Probed { points: points.clone(), settling: None };
    }

    /// Another program in the same process: for the profile it is another process.
    fn executed(&mut self, event: &Lifecycle, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        let old_slot = event.header.slot;
        let Some(old) = self.members.remove(&old_slot) else { return Ok(()) };
        kernel.detach_process(old_slot);
        self.nudges.forget(old_slot);
        let slot = event.code;
        if slot == NO_SLOT {
            recorder.set_end(old_slot, profile::End::Executed);
            return Ok(());
        }
        // A shell between two programs is not worth a row either.
        let was_python = matches!(old.state, State::Probed { .. });
        if old_slot >= FIRST_FORKED_SLOT || !was_python {
            recorder.re_slot(old_slot, slot);
        } else {
            recorder.set_end(old_slot, profile::End::Executed);
            let Ok(target) = Target::unknown(old.identity.pid) else { return Ok(()) };
            recorder.add_process(slot, target.start);
        }
        // Between the kernel side's word and this one, the program before may have been written over the new one.
        if kernel.slot_of(old.identity.pid) == Some(old_slot) {
            self.follow(kernel, slot, old.identity.pid)?;
        }
        let ahead = self.attach_ahead(kernel, slot, old.identity.pid);
        let state = State::Undecided { since: Instant::now(), executed_ns: event.header.time_ns, looked: None, ahead };
        self.members.insert(slot, Member::new(old.identity, state));
        self.decide_one(slot, kernel, recorder)
    }

    /// The probes that this program had the last time: they come into the libraries as the loader maps them. What they
    /// see counts from the moment on that the interpreter is known.
    fn attach_ahead(&self, kernel: &mut Kernel, slot: u32, pid: Pid) -> Option<Points> {
        let known = self.programs.get(&program_of(pid)?)?;
        let points = known.clone();
        kernel.attach_ahead(slot, pid, &points).ok().map(|()| points)
    }

    fn decide_one(&mut self, slot: u32, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        let Some(member) = self.members.get_mut(&slot) else { return Ok(()) };
        let identity = member.identity;
        let State::Undecided { since, executed_ns, looked, ahead } = &mut member.state else { return Ok(()) };
        let (executed_ns, ahead) = (*executed_ns, ahead.clone());
        let too_late = since.elapsed() > UNDECIDED_FOR;
        // It has executed yet another program: that is told soon, and what is found now is that one's.
        if kernel.slot_of(identity.pid) != Some(slot) && !too_late {
            return Ok(());
        }
        let found = if is_worth_a_look(identity.pid, looked) {
            Target::inspect(identity.pid, self.exact_objects).ok()
        } else {
            None
        };
        let state = match found {
            // Before the loader is done, CPython's tables of allocator functions are not filled in.
            Some(Target { python: Some(python), .. }) if !python.initialized && !python.sees_objects() => return Ok(()),
            // A look takes long enough for it to execute the next program, and then that one's interpreter was found.
            Some(Target { start, python: Some(python), .. }) if kernel.slot_of(identity.pid) == Some(slot) => {
                if let Some(process) = recorder.process_mut(slot) {
                    process.became_python(start);
                }
                let mut settling = Settling::of(&python);
                let is_blind = python.config.thread_slot.mode == thread_slot::NONE;
                let probed = self.probe(kernel, recorder, slot, identity.pid, python, 0, ahead.as_ref());
                let unprobed_us = since_us(executed_ns);
                if let Some(settling) = settling.as_mut().filter(|_| is_blind) {
                    settling.untold_us = Some(unprobed_us);
                } else if let Some(process) = recorder.process_mut(slot).filter(|_| probed.is_ok()) {
                    process.probed_after(unprobed_us);
                }
                match probed {
                    Ok(points) => {
                        self.start_residence(recorder, slot, Owner::Before);
                        State::Probed { points, settling }
                    }
                    Err(_) => State::Followed,
                }
            }
            _ if too_late => {
                kernel.detach_for_others(slot);
                State::Followed
            }
            _ => return Ok(()),
        };
        self.members.insert(slot, Member::new(identity, state));
        Ok(())
    }

    /// Once the interpreter runs, where its threads keep their state is known for good, and one read fewer is needed.
    fn settle(&mut self, slot: u32, kernel: &mut Kernel, recorder: &mut Recorder) -> Result<(), KernelError> {
        let Some(member) = self.members.get_mut(&slot) else { return Ok(()) };
        let pid = member.identity.pid;
        let State::Probed { settling, .. } = &mut member.state else { return Ok(()) };
        let Some(open) = settling else { return Ok(()) };
        if !is_worth_a_look(pid, &mut open.looked) {
            return Ok(());
        }
        let Ok(interpreter) = Interpreter::discover(pid) else { return Ok(()) };
        // What has executed another program meanwhile is told soon, and this may be that one's interpreter.
        if !interpreter.initialized || kernel.slot_of(pid) != Some(slot) {
            return Ok(());
        }
        kernel.settle_process(pid, interpreter.thread_slot, interpreter.forked_thread_slot)?;
        if let Some((process, unprobed_us)) = recorder.process_mut(slot).zip(open.untold_us) {
            process.probed_after(unprobed_us);
        }
        *settling = None;
        Ok(())
    }

    fn remove_if_gone(&mut self, slot: u32, kernel: &mut Kernel, recorder: &mut Recorder) {
        if self.members.get(&slot).is_none_or(|member| member.identity.is_alive()) {
            return;
        }
        let Some(member) = self.members.remove(&slot) else { return };
        self.nudges.forget(slot);
        recorder.set_end(slot, member.status.map_or(profile::End::Vanished, exit_of));
        kernel.forget_process(member.identity.pid, slot);
        kernel.detach_process(slot);
    }
}

/// A look at the files costs more than one at the maps: it is taken when there is a new file, and now and then, since
/// the loader changes what it has mapped.
pub(super) fn is_worth_a_look(pid: Pid, looked: &mut Option<(Instant, usize)>) -> bool {
    const NOW_AND_THEN: Duration = Duration::from_millis(40);
    let Ok(regions) = maps::read(pid) else { return false };
    let files = executable_files(&regions).len();
    let stale = looked.is_none_or(|(at, before)| before != files || at.elapsed() > NOW_AND_THEN);
    if stale {
        *looked = Some((Instant::now(), files));
    }
    stale
}

/// Which state of which file: one that was written to since is another one.
type FileState = (u64, u64, u64, i64, i64);

/// The program that a process runs.
fn program_of(pid: Pid) -> Option<FileState> {
    let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

fn identity_of(recorder: &mut Recorder, slot: u32) -> Option<Identity> {
    recorder.process_mut(slot).map(|process| process.identity())
}

fn since_us(time_ns: u64) -> u64 {
    monotonic_ns().saturating_sub(time_ns) / 1000
}

/// A process's descendants, nearest first.
pub fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        if let Ok(stat) = process.stat() {
            children.entry(stat.ppid.cast_unsigned()).or_default().push(stat.pid.cast_unsigned());
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more = children.remove(&pid.0).unwrap_or_default();
        found.extend(more.into_iter().map(Pid));
        next += 1;
    }
    found.split_off(1)
}

/// The processes of a control group and of those below it.
///
/// # Errors
/// The folder cannot be read, or is no control group's.
pub fn in_cgroup(folder: &std::path::Path) -> std::io::Result<Vec<Pid>> {
    let text = fs::read_to_string(folder.join("cgroup.procs"))?;
    // A process that our pid namespace does not see is listed as 0.
    let seen = text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0);
    let mut pids: Vec<Pid> = seen.map(Pid).collect();
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(in_cgroup(&entry.path()).unwrap_or_default());
        }
    }
    Ok(pids)
}
