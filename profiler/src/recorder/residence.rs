//! What is resident in one process: its page tables, read at moments, joined with the faults that were seen.

use std::io;
use std::ops::Range;

use profiler_common::event::Mapping;
use profiler_common::ledger::{BlockKey, Touch};

use crate::ledger::mapping::MappingLedger;
use crate::ledger::resident::{Allocation, Owner, PageRun, ResidentLedger, Sums, Unshared, join};
use crate::process::Pid;
use crate::process::maps::{self, Region, RegionName};
use crate::process::pagemap::{Entry, PAGE, PageMap};
use crate::profile::{MappingOrigin, Residency, ResidencyLine, ResidentKind};

/// The resident ledger of a process, with what it reads.
pub struct Residence {
    pid: Pid,
    tables: PageMap,
    ledger: ResidentLedger,
    /// The physical page of zeroes.
    zero: Option<u64>,
    /// What was resident at the first look.
    pub start: Residency,
    /// What was resident at the last look.
    pub end: Residency,
    /// By who touched and who allocated, as of the last look.
    pub sums: Sums,
    /// Shared pages written to since the last call of [`Self::take_unshared`].
    unshared: Vec<Unshared>,
}

impl Residence {
    /// Looks at a process for the first time; `owner` had what is there now.
    pub fn first_look(
        pid: Pid,
        owner: Owner,
        mappings: &MappingLedger,
        zero: Option<u64>,
        at_ms: u64,
    ) -> io::Result<Self> {
        let tables = PageMap::open(pid)?;
        let mut residence = Self {
            pid,
            tables,
            ledger: ResidentLedger::default(),
            zero,
            start: Residency::default(),
            end: Residency::default(),
            sums: Sums::new(),
            unshared: Vec::new(),
        };
        let regions = maps::read(pid)?;
        let (pages, swapped) = residence.pages(&regions, mappings)?;
        residence.ledger = ResidentLedger::new(&pages, owner, mappings.program_break());
        residence.start = residency(pid, &pages, swapped, at_ms)?;
        residence.end = residence.start.clone();
        Ok(residence)
    }

    /// Notes a change of the address space.
    pub fn map(&mut self, event: &Mapping) {
        self.ledger.map(event);
    }

    /// Books the faults since the last look, and looks again; fails when the process has gone: what is known stays.
    pub fn look(
        &mut self,
        touches: &mut [(BlockKey, Touch)],
        mappings: &MappingLedger,
        allocations: impl FnOnce() -> Vec<Allocation>,
        at_ms: u64,
    ) -> io::Result<()> {
        self.ledger.book(touches);
        self.unshared.extend(self.ledger.take_unshared());
        let regions = maps::read(self.pid)?;
        let (pages, swapped) = self.pages(&regions, mappings)?;
        if pages.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has no memory any more"));
        }
        self.end = residency(self.pid, &pages, swapped, at_ms)?;
        let tables = &self.tables;
        let owned = self.ledger.settle(&pages, |address| tables.is_part_of_larger(address));
        self.sums = join(&owned, &allocations());
        Ok(())
    }

    /// Shared pages written to since the last call.
    pub fn take_unshared(&mut self) -> Vec<Unshared> {
        std::mem::take(&mut self.unshared)
    }

    /// The pages that are there, by address, and how many bytes are in swap.
    fn pages(&self, regions: &[Region], mappings: &MappingLedger) -> io::Result<(Vec<PageRun>, u64)> {
        let (mut runs, mut swapped) = (Vec::new(), 0);
        for region in regions {
            for (range, kind) in kinds(region, mappings) {
                self.tables.read(range, |first, entries| {
                    for (address, entry) in (first..).step_by(PAGE as usize).zip(entries) {
                        swapped += u64::from(entry.is_swapped()) * PAGE;
                        if entry.is_present() && self.zero.is_none_or(|zero| entry.frame() != zero) {
                            add(&mut runs, address, kind_of_page(kind, *entry), !entry.is_exclusive());
                        }
                    }
                })?;
            }
        }
        Ok((runs, swapped))
    }
}

fn add(runs: &mut Vec<PageRun>, address: u64, kind: ResidentKind, shared: bool) {
    match runs.last_mut() {
        Some(last) if last.end == address && last.kind == kind && last.shared == shared => last.end += PAGE,
        _ => runs.push(PageRun { start: address, end: address + PAGE, kind, shared }),
    }
}

/// The parts of a region by what memory they are.
fn kinds(region: &Region, mappings: &MappingLedger) -> Vec<(Range<u64>, ResidentKind)> {
    let whole = region.start..region.end;
    let kind = match &region.name {
        // The kernel's own pages in the program's address space are not the program's.
        RegionName::Special(name) if name.starts_with("[v") || name == "[uprobes]" => return Vec::new(),
        RegionName::Special(name) if name == "[heap]" => ResidentKind::CHeap,
        RegionName::Special(name) if name.starts_with("[stack") => ResidentKind::Stack,
        RegionName::File { path, .. } if path.starts_with("/anon_hugepage") => ResidentKind::HugeTlb,
        RegionName::File { .. } if region.permissions.shared && is_memory(region) => ResidentKind::Shared,
        RegionName::File { .. } => ResidentKind::File,
        _ => return anonymous(whole, mappings),
    };
    vec![(whole, kind)]
}

/// Whether a file has no place on a disk: shared memory, or a file made of memory.
fn is_memory(region: &Region) -> bool {
    let Some(path) = region.path().and_then(|path| path.to_str()) else { return false };
    ["/dev/zero", "/memfd:", "/SYSV", "/dev/shm/"].iter().any(|start| path.starts_with(start))
}

/// Neighbouring mappings are one region to the kernel: what they are is known of those made during the trace.
fn anonymous(whole: Range<u64>, mappings: &MappingLedger) -> Vec<(Range<u64>, ResidentKind)> {
    let mut parts = Vec::new();
    let mut at = whole.start;
    for (start, end, _, origin) in mappings.pieces(whole.clone()) {
        if start > at {
            parts.push((at..start, ResidentKind::Anonymous));
        }
        parts.push((start..end, kind_of_origin(origin)));
        at = end;
    }
    if at < whole.end {
        parts.push((at..whole.end, ResidentKind::Anonymous));
    }
    parts
}

fn kind_of_origin(origin: MappingOrigin) -> ResidentKind {
    match origin {
        MappingOrigin::AllocatorMmap | MappingOrigin::AllocatorBrk => ResidentKind::CHeap,
        MappingOrigin::PymallocArena => ResidentKind::Objects,
        MappingOrigin::ThreadStack => ResidentKind::Stack,
        MappingOrigin::Anonymous | MappingOrigin::File => ResidentKind::Anonymous,
    }
}

/// A private mapping of a file holds the file's pages, and anonymous ones where it was written to.
fn kind_of_page(kind: ResidentKind, entry: Entry) -> ResidentKind {
    if kind == ResidentKind::File && !entry.is_file() { ResidentKind::Image } else { kind }
}

/// The mappings of one's own that a process made during the trace, as allocations: what its allocators have mapped is
/// allocated by block and by pool.
pub fn own_mappings(mappings: &MappingLedger) -> impl Iterator<Item = Allocation> {
    let is_own = |origin| !matches!(kind_of_origin(origin), ResidentKind::CHeap | ResidentKind::Objects);
    let pieces = mappings.pieces(0..u64::MAX).filter(move |&(_, _, _, origin)| is_own(origin));
    pieces.map(|(start, end, stack, _)| Allocation { start, end, stack })
}

/// Sorts allocations by address and cuts what overlaps: the later start wins nothing.
pub fn sorted(mut allocations: Vec<Allocation>) -> Vec<Allocation> {
    allocations.sort_unstable_by_key(|found| (found.start, found.end));
    let mut end = 0;
    for found in &mut allocations {
        found.start = found.start.max(end);
        end = end.max(found.end);
    }
    allocations.retain(|found| found.start < found.end);
    allocations
}

fn residency(pid: Pid, pages: &[PageRun], swapped: u64, at_ms: u64) -> io::Result<Residency> {
    let mut lines: Vec<ResidencyLine> = Vec::new();
    for run in pages {
        let bytes = run.end - run.start;
        let at = lines.iter().position(|line| line.kind == run.kind).unwrap_or_else(|| {
            lines.push(ResidencyLine { kind: run.kind, ..ResidencyLine::default() });
            lines.len() - 1
        });
        lines[at].space += bytes;
        lines[at].shared += if run.shared { bytes } else { 0 };
    }
    lines.sort_by_key(|line| line.kind);
    Ok(Residency { at_ms, rss: rss(pid)?, swapped, lines })
}

/// Resident bytes as the kernel counts them page by page; /proc/PID/stat is off by some hundred pages.
fn rss(pid: Pid) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("smaps_rollup has no Rss line"))
}
