//! What the resident memory is, at the start and at the end, so that the difference adds up.
//!
//! `RSS change = live heap + held by the allocator + other memory + files + shared + unexplained`, each as the change of
//! what the pages were.

use serde::Serialize;

use super::tree::counted;
use super::{Process, Profile, Residency, ResidentKind, ResidentRow};

/// A line of the reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Blocks and objects in use, with what their allocators need to keep them.
    LiveHeap,
    /// Free memory that an allocator has not given back.
    HeldByAllocator,
    /// Mapped without a file, or written to since: the program's own mappings, stacks, variables of libraries.
    Other,
    /// Pages of files.
    Files,
    /// Shared memory, and pages shared with a parent or child since a fork.
    Shared,
    /// What the kernel counts and the page tables do not show.
    Unexplained,
}

impl Part {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::LiveHeap, Self::HeldByAllocator, Self::Other, Self::Files, Self::Shared, Self::Unexplained];
}

/// The parts of the resident memory of one or more processes, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// At the start: by the index of [`Part::ALL`]. `Unexplained` may be negative.
    pub start: [i64; 6],
    /// At the end.
    pub end: [i64; 6],
    /// RSS at the start, as the kernel says.
    pub rss_start: u64,
    /// RSS at the end.
    pub rss_end: u64,
    /// Bytes that came during the trace and are still there.
    pub came: u64,
    /// Bytes in swap at the end.
    pub swapped: u64,
    /// Bytes of RSS at the end that the program has given back and the kernel has not taken yet (`MADV_FREE`).
    pub given_back: u64,
    /// Bytes of hugetlbfs at the end, which RSS does not count.
    pub hugetlb: u64,
    /// What the allocators hold free could not be told from what is in use, at the start or at the end.
    pub held_unknown: bool,
    /// Of how many processes.
    pub processes: u64,
}

impl Reconciliation {
    /// Of the processes that count at the end and were looked at; `None` if none was.
    pub fn of_counted(profile: &Profile) -> Option<Self> {
        let counts = counted(profile);
        Self::of(profile, |index| counts.get(index).copied().unwrap_or(true))
    }

    /// Of one process.
    pub fn of_process(profile: &Profile, process: usize) -> Option<Self> {
        Self::of(profile, |index| index == process)
    }

    fn of(profile: &Profile, wanted: impl Fn(usize) -> bool) -> Option<Self> {
        let mut sum = Self::default();
        for (index, process) in profile.processes.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            sum.add(process);
            let of_rss = |row: &&ResidentRow| row.process as usize == index && row.kind != ResidentKind::HugeTlb;
            let rows = profile.resident.iter().filter(of_rss);
            sum.came = rows.fold(sum.came, |came, row| came.saturating_add(row.inuse_space));
        }
        (sum.processes > 0).then_some(sum)
    }

    fn add(&mut self, process: &Process) {
        let (Some(start), Some(end)) = (&process.residency_start, &process.residency_end) else { return };
        let (from, unknown_at_start) = parts(start);
        let (to, unknown_at_end) = parts(end);
        for part in 0..Part::ALL.len() {
            self.start[part] = self.start[part].saturating_add(from[part]);
            self.end[part] = self.end[part].saturating_add(to[part]);
        }
        self.rss_start = self.rss_start.saturating_add(start.rss);
        self.rss_end = self.rss_end.saturating_add(end.rss);
        self.swapped = self.swapped.saturating_add(end.swapped);
        self.given_back = self.given_back.saturating_add(end.given_back);
        let hugetlb = end.lines.iter().filter(|line| line.kind == ResidentKind::HugeTlb);
        self.hugetlb = hugetlb.fold(self.hugetlb, |sum, line| sum.saturating_add(line.space));
        self.held_unknown |= unknown_at_start || unknown_at_end;
        self.processes += 1;
    }

    /// How much a part changed, bytes.
    pub fn change(&self, part: Part) -> i64 {
        self.end[part as usize].saturating_sub(self.start[part as usize])
    }

    /// How much RSS changed, bytes.
    pub fn rss_change(&self) -> i64 {
        signed(self.rss_end).saturating_sub(signed(self.rss_start))
    }
}

/// The parts of one moment, and whether free memory could not be told from memory in use.
fn parts(residency: &Residency) -> ([i64; 6], bool) {
    let mut parts = [0i64; 6];
    let mut unknown = false;
    let mut add = |part: Part, bytes: u64| parts[part as usize] = parts[part as usize].saturating_add(signed(bytes));
    for line in &residency.lines {
        let free = line.free.unwrap_or(0).min(line.space);
        let shared = line.shared.min(line.space - free);
        let rest = line.space - free - shared;
        match line.kind {
            ResidentKind::CHeap | ResidentKind::Objects => {
                unknown |= line.free.is_none() && line.space > 0;
                add(Part::LiveHeap, rest);
                add(Part::HeldByAllocator, free);
                add(Part::Shared, shared);
            }
            ResidentKind::Anonymous | ResidentKind::Stack | ResidentKind::Image => {
                add(Part::Other, rest);
                add(Part::Shared, shared);
            }
            // Files are shared by nature.
            ResidentKind::File => add(Part::Files, line.space),
            ResidentKind::Shared => add(Part::Shared, line.space),
            ResidentKind::HugeTlb => {}
        }
    }
    let known = parts.iter().fold(0i64, |sum, part| sum.saturating_add(*part));
    parts[Part::Unexplained as usize] = signed(residency.rss).saturating_sub(known);
    (parts, unknown)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{End, ResidencyLine};
    use super::*;

    fn line(kind: ResidentKind, space: u64, free: Option<u64>, shared: u64) -> ResidencyLine {
        ResidencyLine { kind, space, free, shared }
    }

    #[test]
    fn parts_add_up_to_rss() {
        let start =
            Residency { rss: 100, lines: vec![line(ResidentKind::CHeap, 90, Some(0), 0)], ..Residency::default() };
        let lines = vec![
            line(ResidentKind::CHeap, 90, Some(70), 0),
            line(ResidentKind::Objects, 40, Some(10), 20),
            line(ResidentKind::File, 30, None, 30),
            line(ResidentKind::HugeTlb, 2048, None, 0),
        ];
        let end = Residency { rss: 165, lines, ..Residency::default() };
        let process = Process {
            end: End::Detached,
            residency_start: Some(start),
            residency_end: Some(end),
            ..Process::default()
        };
        let row = |kind| ResidentRow { kind, inuse_space: 30, ..ResidentRow::default() };
        let profile = Profile {
            processes: vec![process, Process::default()],
            resident: vec![row(ResidentKind::Objects), row(ResidentKind::HugeTlb)],
            ..Profile::default()
        };
        let found = Reconciliation::of_counted(&profile).unwrap();
        assert_eq!(found.start, [90, 0, 0, 0, 0, 10]);
        assert_eq!(found.end, [30, 80, 0, 30, 20, 5]);
        assert_eq!(Part::ALL.iter().map(|part| found.change(*part)).sum::<i64>(), found.rss_change());
        assert_eq!(found.came, 30, "hugetlbfs is not in RSS");
        assert_eq!((found.processes, found.hugetlb, found.held_unknown), (1, 2048, false));
        assert!(Reconciliation::of_process(&profile, 1).is_none());
    }

    #[test]
    fn numbers_of_a_damaged_file_do_not_overflow() {
        let lines =
            vec![line(ResidentKind::CHeap, 5, Some(u64::MAX), u64::MAX), line(ResidentKind::File, u64::MAX, None, 0)];
        let residency = Residency { rss: u64::MAX, lines, ..Residency::default() };
        let (found, _) = parts(&residency);
        assert_eq!(found[Part::LiveHeap as usize], 0);
    }
}
