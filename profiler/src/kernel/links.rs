//! Attaching the probes of one process, by the best kind of link the kernel has.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::plan::ProbePoint;
use super::programs::Programs;
use super::{Handle, KernelError, locked, map_error, sys};
use crate::process::Pid;
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use profiler_common::config::MAX_SLOTS;
use profiler_common::probe::Function;

/// How probes are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkKind {
    /// uprobe_multi links with session programs (Linux 6.13): a return costs only where it is wanted.
    Session,
    /// uprobe_multi links (Linux 6.6).
    Multi,
    /// One perf event a probe.
    Perf,
}

impl LinkKind {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Session => "uprobe_multi with sessions",
            Self::Multi => "uprobe_multi",
            Self::Perf => "perf events",
        }
    }
}

/// A link; dropping it detaches.
#[allow(dead_code, reason = "held for its drop")]
pub(super) enum Link {
    Multi(Handle),
    Perf(UProbeLink),
}

/// The links of each process, by its slot: a pid may be given to another one.
#[derive(Default)]
pub(super) struct Links {
    by_slot: HashMap<u32, Vec<Link>>,
    /// Processes that ended or executed another program, maybe before their links were made.
    unwanted: HashSet<u32>,
    dropping: Vec<JoinHandle<()>>,
}

/// Tells the kernel side in which processes code objects do not die unseen any more.
pub(super) struct Deaths(Mutex<Array<MapData, u64>>);

impl Deaths {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let map = ebpf.take_map(DEATHS_SEEN).ok_or(KernelError::MissingField(DEATHS_SEEN))?;
        Ok(Self(Mutex::new(Array::try_from(map).map_err(|error| map_error(DEATHS_SEEN, error))?)))
    }

    /// These probes are on in the process that has the slot.
    pub(super) fn seen(&self, slot: u32, points: &[ProbePoint]) {
        if slot < MAX_SLOTS && points.iter().any(|point| point.function == Function::CodeDealloc) {
            // Should it fail, the kernel side goes on looking twice, which is slow and right.
            let _ = locked(&self.0).set(slot, 1, 0);
        }
    }
}

const DEATHS_SEEN: &str = "DEATHS_SEEN";

/// Links are dropped by this many threads: each waits for the kernel, not for a CPU.
const DROPPERS: usize = 16;

impl Links {
    pub(super) fn add(&mut self, slot: u32, made: Vec<Link>) {
        if self.unwanted.contains(&slot) {
            return self.drop_aside(made);
        }
        self.by_slot.entry(slot).or_default().extend(made);
    }

    /// Drops them, in the background; those that are yet to be made, too, if the slot will not be used again.
    pub(super) fn drop_process(&mut self, slot: u32, for_good: bool) {
        if for_good {
            self.unwanted.insert(slot);
        }
        if let Some(links) = self.by_slot.remove(&slot) {
            self.drop_aside(links);
        }
    }

    fn drop_aside(&mut self, links: Vec<Link>) {
        self.dropping.retain(|thread| !thread.is_finished());
        self.dropping.push(std::thread::spawn(move || drop(links)));
    }

    pub(super) fn drop_all(&mut self) {
        let mut all: Vec<Link> = self.by_slot.drain().flat_map(|(_, links)| links).collect();
        let share = all.len().div_ceil(DROPPERS).max(1);
        while !all.is_empty() {
            let links = all.split_off(all.len().saturating_sub(share));
            self.dropping.push(std::thread::spawn(move || drop(links)));
        }
        for thread in self.dropping.drain(..) {
            // A thread that only drops has nothing to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.drop_all();
    }
}

/// Attaches all points. On failure nothing stays attached.
pub(super) fn attach(
    programs: &Programs,
    ebpf: &mut Ebpf,
    pid: Pid,
    points: &[ProbePoint],
) -> Result<Vec<Link>, KernelError> {
    if let Some(made) = attach_multi(programs, pid, points) {
        return made;
    }
    let Programs::Perf { entry, returns } = programs else { return Ok(Vec::new()) };
    let mut links = Vec::new();
    for point in points.iter().filter(|point| point.wants_return()) {
        links.push(perf(ebpf, returns, pid, point)?);
    }
    for point in points {
        links.push(perf(ebpf, entry, pid, point)?);
    }
    Ok(links)
}

/// As [`attach`], where the kernel can link many probes at once: that takes nothing but the programs' descriptors.
pub(super) fn attach_multi(
    programs: &Programs,
    pid: Pid,
    points: &[ProbePoint],
) -> Option<Result<Vec<Link>, KernelError>> {
    match programs {
        Programs::Session { session, entry } => Some(sessions(session.as_fd(), entry.as_fd(), pid, points)),
        Programs::Multi { entry, returns } => Some(entries_and_returns(entry.as_fd(), returns.as_fd(), pid, points)),
        Programs::Perf { .. } => None,
    }
}

fn sessions(
    session: BorrowedFd<'_>,
    entry: BorrowedFd<'_>,
    pid: Pid,
    points: &[ProbePoint],
) -> Result<Vec<Link>, KernelError> {
    let (with, without): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.wants_return());
    let mut links = multi(session, sys::UPROBE_SESSION, pid, &with, false)?;
    links.extend(multi(entry, sys::UPROBE_MULTI, pid, &without, false)?);
    Ok(links)
}

fn entries_and_returns(
    entry: BorrowedFd<'_>,
    returns: BorrowedFd<'_>,
    pid: Pid,
    points: &[ProbePoint],
) -> Result<Vec<Link>, KernelError> {
    let all: Vec<&ProbePoint> = points.iter().collect();
    let with: Vec<&ProbePoint> = points.iter().filter(|point| point.wants_return()).collect();
    // Returns first: an entry without its return would leave its thread inside a call for a while.
    let mut links = multi(returns, sys::UPROBE_MULTI, pid, &with, true)?;
    links.extend(multi(entry, sys::UPROBE_MULTI, pid, &all, false)?);
    Ok(links)
}

/// One link a file.
fn multi(
    program: BorrowedFd<'_>,
    attach_type: u32,
    pid: Pid,
    points: &[&ProbePoint],
    returns: bool,
) -> Result<Vec<Link>, KernelError> {
    let mut files: Vec<&Path> = points.iter().map(|point| point.openable.path()).collect();
    files.sort();
    files.dedup();
    let link_file = |file: &Path| {
        let of_file = points.iter().filter(|point| point.openable.path() == file);
        let shown = of_file.clone().map(|point| point.image_path.as_path()).next().unwrap_or(file);
        let (offsets, cookies): (Vec<u64>, Vec<u64>) =
            of_file.map(|point| (point.file_offset(), point.cookie.0)).unzip();
        let points = sys::MultiPoints { path: file.as_os_str(), offsets: &offsets, cookies: &cookies };
        sys::link_multi(program, attach_type, &points, pid, returns)
            .map(Link::Multi)
            .map_err(|error| link_error(shown, &error))
    };
    files.into_iter().map(link_file).collect()
}

fn perf(ebpf: &mut Ebpf, name: &str, pid: Pid, point: &ProbePoint) -> Result<Link, KernelError> {
    let refused =
        |reason: String| KernelError::Refused { what: format!("a probe in {}", point.image_path.display()), reason };
    let program: &mut UProbe = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| refused(format!("no program {name}")))?;
    if program.fd().is_err() {
        program.load().map_err(|error| super::refused(name, &error))?;
    }
    let scope = NonZeroU32::new(pid.0).map(UProbeScope::OneProcess).ok_or_else(|| refused("pid 0".to_owned()))?;
    let location = UProbeAttachLocation::AbsoluteOffset(point.file_offset());
    let at = UProbeAttachPoint { location, cookie: Some(point.cookie.0) };
    let id = program.attach(at, point.openable.path(), scope).map_err(|error| super::refused(name, &error))?;
    program.take_link(id).map(Link::Perf).map_err(|error| super::refused(name, &error))
}

fn link_error(file: &std::path::Path, error: &std::io::Error) -> KernelError {
    let reason = match error.raw_os_error() {
        // Another tool probes the same instruction with another reference counter (facts: kernel log
        // "ref_ctr_offset mismatch").
        Some(libc::EINVAL) => format!("{error}; another tracer may hold a probe there with other settings"),
        Some(libc::ESRCH) => "the process has gone".to_owned(),
        _ => error.to_string(),
    };
    KernelError::Refused { what: format!("probes in {}", file.display()), reason }
}
