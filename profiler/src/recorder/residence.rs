//! What is resident in one process: its page tables, read at moments, joined with the faults that were seen.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use profiler_common::event::Mapping;
use profiler_common::ledger::{BlockKey, Touch};

use super::held::{Books, Holdings, mmapped_blocks};
use crate::kernel::monotonic_ns;
use crate::ledger::mapping::MappingLedger;
use crate::ledger::resident::{Allocation, Estimate, Owner, PageRun, ResidentLedger, Sums, Unshared, join};
use crate::process::Pid;
use crate::process::maps::{self, Region, RegionName};
use crate::process::memory::ProcessMemory;
use crate::process::pagemap::{Entry, PAGE, PageMap};
use crate::profile::{Allocators, MappingOrigin, Residency, ResidencyLine, ResidentKind};

/// The resident ledger of a process, with what it reads.
pub struct Residence {
    pid: Pid,
    tables: PageMap,
    ledger: ResidentLedger,
    /// The physical page of zeroes.
    zero: Option<u64>,
    /// Where its allocators keep their books.
    pub books: Books,
    /// What they held at the last look.
    pub allocators: Allocators,
    /// What was resident at the first look.
    pub start: Residency,
    /// What was resident at the last look.
    pub end: Residency,
    /// By who touched and who allocated, as of the last look.
    pub sums: Sums,
    /// Shared pages written to since the last call of [`Self::take_unshared`].
    unshared: Vec<Unshared>,
    /// Writes to protected pages that were not recorded, up to the last look.
    protected_left_out: u64,
}

/// The page faults of a process since the last look.
#[derive(Debug, Default)]
pub struct Faults {
    /// Those recorded.
    pub touches: Vec<(BlockKey, Touch)>,
    /// Writes to protected pages that were not recorded, since the trace of the process started; `None`: not known any more.
    pub protected_left_out: Option<u64>,
}

impl Residence {
    /// Looks at a process for the first time; `owner` had what is there now. `books` are its parent's, if it was forked.
    pub fn first_look(
        process: &Subject<'_>,
        owner: Owner,
        books: Books,
        zero: Option<u64>,
        at_ms: u64,
    ) -> io::Result<Self> {
        let mut residence = Self {
            pid: process.pid,
            tables: PageMap::open(process.pid)?,
            ledger: ResidentLedger::default(),
            zero,
            books,
            allocators: Allocators::default(),
            start: Residency::default(),
            end: Residency::default(),
            sums: Sums::new(),
            unshared: Vec::new(),
            protected_left_out: 0,
        };
        let pages = residence.see(process, at_ms)?;
        residence.ledger = ResidentLedger::new(&pages, owner, process.mappings.program_break());
        residence.start = residence.end.clone();
        Ok(residence)
    }

    /// What is there now: the allocators are read first, since they tell which memory is theirs.
    fn see(&mut self, process: &Subject<'_>, at_ms: u64) -> io::Result<Vec<PageRun>> {
        let regions = maps::read(self.pid)?;
        let holdings = process.memory.map(|memory| self.books.look(self.pid, memory, &regions));
        let (pages, swapped) = self.pages(&regions, process, holdings.as_ref())?;
        if pages.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has no memory any more"));
        }
        self.end = residency(self.pid, &pages, holdings.as_ref(), swapped, at_ms)?;
        self.allocators = holdings.map_or_else(Allocators::default, |holdings| holdings.summary(&pages));
        Ok(pages)
    }

    /// Notes a change of the address space.
    pub fn map(&mut self, event: &Mapping) {
        self.ledger.map(event);
    }

    /// Books the faults since the last look, and looks again; fails when the process has gone: what is known stays.
    pub fn look(
        &mut self,
        process: &Subject<'_>,
        faults: &mut Faults,
        allocations: impl FnOnce() -> Vec<Allocation>,
        at_ms: u64,
    ) -> io::Result<()> {
        let left_out = faults.protected_left_out.map(|now| {
            let before = std::mem::replace(&mut self.protected_left_out, now);
            now.saturating_sub(before)
        });
        self.ledger.book(&mut faults.touches, left_out);
        self.unshared.extend(self.ledger.take_unshared());
        let pages = self.see(process, at_ms)?;
        let tables = &self.tables;
        let owned = self.ledger.settle(&pages, monotonic_ns(), |address| tables.is_part_of_larger(address));
        self.sums = join(&owned, &allocations());
        Ok(())
    }

    /// What is estimated of each stack's pages, as of the last look.
    pub fn estimates(&self) -> HashMap<u64, Estimate> {
        self.ledger.estimates()
    }

    /// Shared pages written to since the last call.
    pub fn take_unshared(&mut self) -> Vec<Unshared> {
        std::mem::take(&mut self.unshared)
    }

    /// The pages that are there, by address, and how many bytes are in swap.
    fn pages(
        &self,
        regions: &[Region],
        process: &Subject<'_>,
        holdings: Option<&Holdings>,
    ) -> io::Result<(Vec<PageRun>, u64)> {
        let (mut runs, mut swapped) = (Vec::new(), 0);
        for region in regions {
            for (range, kind) in self.kinds(region, process, holdings) {
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

    /// The parts of a region by what memory they are.
    fn kinds(
        &self,
        region: &Region,
        process: &Subject<'_>,
        holdings: Option<&Holdings>,
    ) -> Vec<(Range<u64>, ResidentKind)> {
        let whole = region.start..region.end;
        let kind = match &region.name {
            // The kernel's own pages in the program's address space are not the program's.
            RegionName::Special(name) if name.starts_with("[v") || name == "[uprobes]" => return Vec::new(),
            RegionName::Special(name) if name == "[heap]" => ResidentKind::CHeap,
            RegionName::Special(name) if name.starts_with("[stack") => ResidentKind::Stack,
            RegionName::File { path, .. } if path.starts_with("/anon_hugepage") => ResidentKind::HugeTlb,
            RegionName::File { .. } if region.permissions.shared && is_memory(region) => ResidentKind::Shared,
            RegionName::File { .. } => ResidentKind::File,
            _ => return self.anonymous(whole, process, holdings),
        };
        vec![(whole, kind)]
    }

    /// Neighbouring mappings are one region to the kernel: what they are the allocators know, and of those made during
    /// the trace the mapping ledger.
    fn anonymous(
        &self,
        whole: Range<u64>,
        process: &Subject<'_>,
        holdings: Option<&Holdings>,
    ) -> Vec<(Range<u64>, ResidentKind)> {
        let owned = holdings.map(|holdings| holdings.spans(whole.clone()).collect()).unwrap_or_default();
        let mapped = |rest: Range<u64>| {
            let pieces = process.mappings.pieces(rest.clone());
            let known = pieces.map(|(start, end, _, origin)| (start..end, kind_of_origin(origin)));
            // Who asked for memory without a file is not known where no allocation is probed.
            let known = known.filter(|(_, kind)| *kind != ResidentKind::Anonymous).collect();
            filled(rest, known, |unknown| self.unknown(unknown, process))
        };
        filled(whole, owned, mapped)
    }

    /// Memory mapped before the trace: large blocks of the C allocator, or anything.
    fn unknown(&self, range: Range<u64>, process: &Subject<'_>) -> Vec<(Range<u64>, ResidentKind)> {
        let mut starts_resident = false;
        let read = self.tables.read(range.start..range.start + PAGE, |_, entries| {
            starts_resident = entries.first().is_some_and(|entry| entry.is_present());
        });
        let memory = process.memory.filter(|_| read.is_ok() && starts_resident);
        let blocks = memory.and_then(|memory| mmapped_blocks(memory, range.clone()));
        let known = blocks.map(|blocks| (blocks, ResidentKind::CHeap)).into_iter().collect();
        filled(range, known, |rest| vec![(rest, ResidentKind::Anonymous)])
    }
}

/// What is looked at.
pub struct Subject<'a> {
    /// Whose it is.
    pub pid: Pid,
    /// Its memory, if it can be read.
    pub memory: Option<&'a ProcessMemory>,
    /// What it has mapped during the trace.
    pub mappings: &'a MappingLedger,
}

fn add(runs: &mut Vec<PageRun>, address: u64, kind: ResidentKind, shared: bool) {
    match runs.last_mut() {
        Some(last) if last.end == address && last.kind == kind && last.shared == shared => last.end += PAGE,
        _ => runs.push(PageRun { start: address, end: address + PAGE, kind, shared }),
    }
}

/// Whether a file has no place on a disk: shared memory, or a file made of memory.
fn is_memory(region: &Region) -> bool {
    let Some(path) = region.path().and_then(|path| path.to_str()) else { return false };
    ["/dev/zero", "/memfd:", "/SYSV", "/dev/shm/"].iter().any(|start| path.starts_with(start))
}

/// The parts of a range: those known, and between them what `other` says of the rest.
fn filled(
    whole: Range<u64>,
    known: Vec<(Range<u64>, ResidentKind)>,
    other: impl Fn(Range<u64>) -> Vec<(Range<u64>, ResidentKind)>,
) -> Vec<(Range<u64>, ResidentKind)> {
    let mut parts = Vec::new();
    let mut at = whole.start;
    for (range, kind) in known {
        if range.start > at {
            parts.extend(other(at..range.start));
        }
        at = range.end;
        parts.push((range, kind));
    }
    if at < whole.end {
        parts.extend(other(at..whole.end));
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

fn residency(
    pid: Pid,
    pages: &[PageRun],
    holdings: Option<&Holdings>,
    swapped: u64,
    at_ms: u64,
) -> io::Result<Residency> {
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
    for line in &mut lines {
        line.free = holdings.and_then(|holdings| holdings.free(line.kind, pages)).map(|free| free.min(line.space));
    }
    let Rollup { rss, given_back } = Rollup::read(pid)?;
    Ok(Residency { at_ms, rss, swapped, given_back, lines })
}

/// What the kernel counts page by page, bytes; /proc/PID/stat is off by some hundred pages.
struct Rollup {
    rss: u64,
    given_back: u64,
}

impl Rollup {
    fn read(pid: Pid) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
            kib.map(|kib| kib * 1024)
        };
        let rss = bytes("Rss:").ok_or_else(|| io::Error::other("smaps_rollup has no Rss line"))?;
        Ok(Self { rss, given_back: bytes("LazyFree:").unwrap_or(0) })
    }
}
