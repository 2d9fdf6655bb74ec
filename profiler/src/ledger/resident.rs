//! The resident ledger of one process: which call path brought which page into memory.
//!
//! Page faults say who touched a page, the page tables say which pages are there: what has left, by whatever way, is in
//! no table and so in no sum.

use std::collections::{BTreeMap, HashMap};

use profiler_common::event::{Mapping, mapping};
use profiler_common::ledger::{BlockKey, Touch, touch};

use crate::profile::ResidentKind;

const PAGE: u64 = 4096;
/// A fault on a file's page brings the pages around it that are in the page cache (`fault_around_bytes`).
const FAULT_AROUND: u64 = 64 << 10;
/// No fault brings a larger page than this without hugetlbfs.
const HUGE_PAGE: u64 = 2 << 20;

/// Who brought a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// It was there when the trace of the process started.
    Before,
    /// It was there when the process was forked: its parent brought it.
    Inherited,
    /// The stack with this number.
    Stack(u64),
    /// No fault was seen: the kernel brought it by itself, or the fault was dropped.
    Unseen,
}

/// Pages that are in memory, one after the other and all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// First address.
    pub start: u64,
    /// First address after them.
    pub end: u64,
    /// What memory it is.
    pub kind: ResidentKind,
    /// Other processes have them too.
    pub shared: bool,
}

/// Pages in memory with the one who brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedRun {
    /// The pages.
    pub pages: PageRun,
    /// Who brought them.
    pub owner: Owner,
}

/// A page that was shared with a parent or child and was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unshared {
    /// The stack that wrote.
    pub stack: u64,
    /// The address first written to.
    pub address: u64,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    end: u64,
    owner: Owner,
    written: bool,
    time_ns: u64,
    /// The pages were not there at the last look: they have left, or have moved and it was not told yet.
    missed: bool,
}

/// Who touched what, for one process.
#[derive(Clone, Debug, Default)]
pub struct ResidentLedger {
    /// By first address; they never overlap.
    intervals: BTreeMap<u64, Interval>,
    /// Mapping changes since the last settling.
    changes: Vec<Mapping>,
    unshared: Vec<Unshared>,
    program_break: Option<u64>,
}

impl ResidentLedger {
    /// Starts with the pages that are there already.
    pub fn new(pages: &[PageRun], owner: Owner, program_break: Option<u64>) -> Self {
        let mut ledger = Self { program_break, ..Self::default() };
        for run in pages {
            // Writing to a file's page makes a page of one's own of it, with or without a fork.
            let written = run.kind != ResidentKind::File;
            ledger.intervals.insert(run.start, Interval { end: run.end, owner, written, time_ns: 0, missed: false });
        }
        ledger
    }

    /// Notes a change of the address space.
    pub fn map(&mut self, event: &Mapping) {
        self.changes.push(*event);
    }

    /// Books the touches and mapping changes since the last time, in the order of their time.
    pub fn book(&mut self, touches: &mut [(BlockKey, Touch)]) {
        touches.sort_by_key(|(_, touch)| touch.time_ns);
        let mut changes = std::mem::take(&mut self.changes).into_iter().peekable();
        for (key, touch) in touches {
            while let Some(change) = changes.next_if(|change| change.header.time_ns < touch.time_ns) {
                self.change(&change);
            }
            self.touch(key.address(), touch);
        }
        changes.for_each(|change| self.change(&change));
    }

    /// The pages that were un-shared since the last call.
    pub fn take_unshared(&mut self) -> Vec<Unshared> {
        std::mem::take(&mut self.unshared)
    }

    fn touch(&mut self, start: u64, touch: &Touch) {
        let owner = Owner::Stack(touch.stack);
        let written = touch.flags & touch::WRITE != 0;
        let copied = written && touch.flags & touch::PROTECTED != 0;
        for page in (start..).step_by(PAGE as usize).take(touch.pages as usize) {
            // Written before and shared since: the process gets a page of its own in the place of one that it had.
            if copied && self.at(page).is_some_and(|interval| interval.written) {
                let offset = if page == start { u64::from(touch.offset) } else { 0 };
                self.unshared.push(Unshared { stack: touch.stack, address: page + offset });
                continue;
            }
            self.put(page, Interval { end: page + PAGE, owner, written, time_ns: touch.time_ns, missed: false });
        }
    }

    fn at(&self, address: u64) -> Option<&Interval> {
        self.intervals.range(..=address).next_back().map(|(_, interval)| interval).filter(|found| found.end > address)
    }

    /// Gives pages to an owner, and makes one interval of neighbours that came together.
    fn put(&mut self, start: u64, new: Interval) {
        self.clear(start, new.end, u64::MAX);
        if let Some((_, before)) = self.intervals.range_mut(..start).next_back()
            && before.end == start
            && (before.owner, before.written, before.time_ns) == (new.owner, new.written, new.time_ns)
        {
            before.end = new.end;
            return;
        }
        self.intervals.insert(start, new);
    }

    /// Takes out what is known of a range and was noted at `until_ns` at the latest.
    fn clear(&mut self, start: u64, end: u64, until_ns: u64) -> Vec<(u64, Interval)> {
        if end <= start {
            return Vec::new();
        }
        let before =
            self.intervals.range(..start).next_back().filter(|(_, found)| found.end > start).map(|(&at, _)| at);
        let touched: Vec<u64> = before.into_iter().chain(self.intervals.range(start..end).map(|(&at, _)| at)).collect();
        let mut taken = Vec::new();
        for at in touched {
            let Some(interval) = self.intervals.get(&at).copied().filter(|found| found.time_ns <= until_ns) else {
                continue;
            };
            self.intervals.remove(&at);
            if at < start {
                self.intervals.insert(at, Interval { end: start, ..interval });
            }
            if interval.end > end {
                self.intervals.insert(end, interval);
            }
            taken.push((at.max(start), Interval { end: interval.end.min(end), ..interval }));
        }
        taken
    }

    fn change(&mut self, event: &Mapping) {
        let (time, end) = (event.header.time_ns, page_end(event.address, event.length));
        match event.operation {
            mapping::MMAP | mapping::MUNMAP => {
                self.clear(event.address, end, time);
            }
            mapping::MREMAP => self.remap(event),
            mapping::BRK => {
                if let Some(old) = self.program_break.replace(event.address) {
                    self.clear(page_end(event.address, 0), page_end(old, 0), time);
                }
            }
            _ => {}
        }
    }

    /// Pages that move keep their owners.
    fn remap(&mut self, event: &Mapping) {
        let time = event.header.time_ns;
        let moved = self.clear(event.old_address, page_end(event.old_address, event.old_length), time);
        if event.address != event.old_address {
            self.clear(event.address, page_end(event.address, event.length), time);
        }
        let end = page_end(event.address, event.length);
        for (at, interval) in moved {
            let shift = |address: u64| address - event.old_address + event.address;
            if shift(at) < end {
                self.intervals
                    .insert(shift(at), Interval { end: shift(interval.end).min(end), missed: false, ..interval });
            }
        }
    }

    /// Finds the owner of every page that is there, and forgets the pages that are not for the second time.
    ///
    /// `is_large` tells whether the page at an address is a part of a larger one, all of which came by one fault.
    pub fn settle(&mut self, pages: &[PageRun], mut is_large: impl FnMut(u64) -> bool) -> Vec<OwnedRun> {
        let mut owned = Vec::new();
        let mut kept = BTreeMap::new();
        for run in pages {
            let mut at = run.start;
            let first = self.intervals.range(..=at).next_back().map_or(at, |(&start, _)| start);
            let overlapping = self.intervals.range(first..run.end).filter(|(_, interval)| interval.end > run.start);
            for (&start, interval) in overlapping {
                let (from, to) = (start.max(run.start), interval.end.min(run.end));
                if from > at {
                    self.settle_unseen(PageRun { start: at, end: from, ..*run }, &mut is_large, &mut owned);
                }
                owned.push(OwnedRun { pages: PageRun { start: from, end: to, ..*run }, owner: interval.owner });
                kept.insert(from, Interval { end: to, missed: false, ..*interval });
                at = to;
            }
            if at < run.end {
                self.settle_unseen(PageRun { start: at, end: run.end, ..*run }, &mut is_large, &mut owned);
            }
        }
        let absent = self.absent(&kept);
        kept.extend(absent);
        self.intervals = kept;
        owned
    }

    /// What was not found at this look, for the first time: if it was moved meanwhile, the event is still to come.
    fn absent(&self, kept: &BTreeMap<u64, Interval>) -> Vec<(u64, Interval)> {
        let mut absent = Vec::new();
        for (&start, interval) in self.intervals.iter().filter(|(_, interval)| !interval.missed) {
            let missed = Interval { missed: true, ..*interval };
            let mut at = start;
            for (&from, found) in kept.range(start..interval.end) {
                if from > at {
                    absent.push((at, Interval { end: from, ..missed }));
                }
                at = found.end;
            }
            if at < interval.end {
                absent.push((at, missed));
            }
        }
        absent
    }

    /// Pages without a fault of their own: they came with a neighbour's, or nobody knows.
    fn settle_unseen(&self, pages: PageRun, is_large: &mut impl FnMut(u64) -> bool, owned: &mut Vec<OwnedRun>) {
        let is_file = matches!(pages.kind, ResidentKind::File | ResidentKind::Shared);
        let mut at = pages.start;
        while at < pages.end {
            let window = if is_file {
                FAULT_AROUND
            } else if is_large(at) {
                HUGE_PAGE
            } else {
                PAGE
            };
            let (first, last) = (at / window * window, (at / window + 1) * window);
            let end = last.min(pages.end);
            let owner = if window == PAGE { Owner::Unseen } else { self.neighbour(at, first, last) };
            let run = PageRun { start: at, end, ..pages };
            match owned.last_mut() {
                Some(before)
                    if before.owner == owner
                        && before.pages.end == at
                        && before.pages.kind == run.kind
                        && before.pages.shared == run.shared =>
                {
                    before.pages.end = end;
                }
                _ => owned.push(OwnedRun { pages: run, owner }),
            }
            at = end;
        }
    }

    /// Who touched a page within a window: the one below, else the one above.
    fn neighbour(&self, at: u64, first: u64, last: u64) -> Owner {
        let below = self.intervals.range(..at).next_back().filter(|(_, interval)| interval.end > first);
        let above = || self.intervals.range(at..last).next();
        below.or_else(above).map_or(Owner::Unseen, |(_, interval)| interval.owner)
    }
}

/// A live piece of memory of a known allocator: a block, or the objects of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Number of the stack that allocated it.
    pub stack: u64,
}

/// Resident bytes by who touched them, who allocated them (`None`: nobody that the trace knows), and what they are.
pub type Sums = HashMap<(Owner, Option<u64>, ResidentKind), u64>;

/// Joins resident pages with the allocations that lie in them. Both are sorted by address; allocations do not overlap.
pub fn join(pages: &[OwnedRun], allocations: &[Allocation]) -> Sums {
    let mut sums = Sums::new();
    let mut next = 0;
    for OwnedRun { pages, owner } in pages {
        while allocations.get(next).is_some_and(|found| found.end <= pages.start) {
            next += 1;
        }
        let mut allocated = 0;
        for found in allocations[next..].iter().take_while(|found| found.start < pages.end) {
            let bytes = found.end.min(pages.end) - found.start.max(pages.start);
            allocated += bytes;
            *sums.entry((*owner, Some(found.stack), pages.kind)).or_default() += bytes;
        }
        let rest = (pages.end - pages.start).saturating_sub(allocated);
        if rest > 0 {
            *sums.entry((*owner, None, pages.kind)).or_default() += rest;
        }
    }
    sums
}

fn page_end(start: u64, length: u64) -> u64 {
    start.saturating_add(length).saturating_add(PAGE - 1) / PAGE * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::event::Header;

    const KIND: ResidentKind = ResidentKind::Anonymous;

    fn run(first: u64, pages: u64) -> PageRun {
        PageRun { start: first * PAGE, end: (first + pages) * PAGE, kind: KIND, shared: false }
    }

    fn touched(first: u64, pages: u32, stack: u64, time_ns: u64, flags: u16) -> (BlockKey, Touch) {
        (BlockKey::new(3, first * PAGE), Touch { stack, time_ns, pages, flags, offset: 24 })
    }

    fn change(operation: u32, time_ns: u64, address: u64, length: u64) -> Mapping {
        let header = Header { time_ns, ..Header::default() };
        Mapping { header, operation, address: address * PAGE, length: length * PAGE, ..Mapping::default() }
    }

    /// Owners of the pages that are there, as (first page, pages, owner).
    fn check(ledger: &mut ResidentLedger, pages: &[PageRun], expected: &[(u64, u64, Owner)]) {
        let owned = ledger.settle(pages, |_| false);
        let found: Vec<_> = owned
            .iter()
            .map(|run| (run.pages.start / PAGE, (run.pages.end - run.pages.start) / PAGE, run.owner))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pages_belong_to_who_touched_them_last_and_those_gone_to_nobody() {
        let mut ledger = ResidentLedger::new(&[run(0, 4)], Owner::Before, None);
        ledger.book(&mut [touched(10, 4, 7, 5, touch::WRITE), touched(12, 1, 8, 6, touch::WRITE)]);
        check(
            &mut ledger,
            &[run(1, 2), run(10, 3)],
            &[(1, 2, Owner::Before), (10, 2, Owner::Stack(7)), (12, 1, Owner::Stack(8))],
        );
        // Page 13 has left for good: if it comes back without a fault, nobody knows whose it is.
        check(&mut ledger, &[run(1, 1)], &[(1, 1, Owner::Before)]);
        check(&mut ledger, &[run(13, 1)], &[(13, 1, Owner::Unseen)]);
    }

    #[test]
    fn changes_and_touches_are_booked_by_their_time() {
        let mut ledger = ResidentLedger::default();
        ledger.map(&change(mapping::MUNMAP, 10, 0, 8));
        ledger.map(&Mapping { old_address: 0, old_length: 2 * PAGE, ..change(mapping::MREMAP, 30, 100, 2) });
        let mut touches = [touched(0, 4, 2, 20, touch::WRITE), touched(0, 4, 1, 5, touch::WRITE)];
        ledger.book(&mut touches);
        check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(2)), (100, 2, Owner::Stack(2))]);
        // A munmap that is told of late takes nothing that came after it.
        ledger.map(&change(mapping::MUNMAP, 15, 0, 8));
        ledger.book(&mut []);
        check(&mut ledger, &[run(2, 2)], &[(2, 2, Owner::Stack(2))]);
    }

    #[test]
    fn what_is_told_to_have_moved_after_the_look_that_misses_it_keeps_its_owner() {
        let mut ledger = ResidentLedger::default();
        ledger.book(&mut [touched(0, 4, 7, 5, touch::WRITE)]);
        check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(7)), (100, 2, Owner::Unseen)]);
        ledger.map(&Mapping { old_address: 0, old_length: 2 * PAGE, ..change(mapping::MREMAP, 30, 100, 2) });
        ledger.book(&mut []);
        check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(7)), (100, 2, Owner::Stack(7))]);
    }

    #[test]
    fn a_heap_that_shrinks_and_grows_again_belongs_to_who_touches_it_then() {
        let mut ledger = ResidentLedger::new(&[], Owner::Before, Some(8 * PAGE));
        ledger.map(&change(mapping::BRK, 3, 9, 0));
        ledger.map(&change(mapping::BRK, 10, 4, 0));
        ledger.book(&mut [touched(2, 6, 1, 5, touch::WRITE)]);
        check(&mut ledger, &[run(2, 6)], &[(2, 2, Owner::Stack(1)), (4, 4, Owner::Unseen)]);
    }

    #[test]
    fn writing_to_a_shared_page_is_no_growth() {
        let cow = touch::WRITE | touch::PROTECTED;
        let mut ledger = ResidentLedger::new(&[run(0, 2)], Owner::Inherited, None);
        ledger.book(&mut [touched(1, 1, 9, 5, cow)]);
        assert_eq!(ledger.take_unshared(), [Unshared { stack: 9, address: PAGE + 24 }]);
        check(&mut ledger, &[run(0, 2)], &[(0, 2, Owner::Inherited)]);
        // A page that was only read was the page of zeroes: it comes when it is written to.
        ledger.book(&mut [touched(5, 1, 1, 6, 0), touched(5, 1, 2, 7, cow)]);
        check(&mut ledger, &[run(5, 1)], &[(5, 1, Owner::Stack(2))]);
        assert_eq!(ledger.take_unshared(), []);
    }

    #[test]
    fn the_first_write_to_a_files_page_has_nothing_to_do_with_a_fork() {
        let file = PageRun { kind: ResidentKind::File, ..run(0, 1) };
        let mut ledger = ResidentLedger::new(&[file], Owner::Before, None);
        ledger.book(&mut [touched(0, 1, 9, 5, touch::WRITE | touch::PROTECTED)]);
        assert_eq!(ledger.take_unshared(), []);
        check(&mut ledger, &[run(0, 1)], &[(0, 1, Owner::Stack(9))]);
    }

    #[test]
    fn pages_that_come_together_have_one_owner() {
        let mut ledger = ResidentLedger::default();
        ledger.book(&mut [touched(512 + 3, 1, 1, 5, touch::WRITE)]);
        let owned = ledger.clone().settle(&[run(512, 512), run(1024, 1)], |_| true);
        let owners: Vec<_> = owned.iter().map(|run| (run.pages.start / PAGE, run.owner)).collect();
        assert_eq!(owners, [(512, Owner::Stack(1)), (515, Owner::Stack(1)), (1024, Owner::Unseen)]);
        let file = PageRun { kind: ResidentKind::File, ..run(512, 32) };
        let owned = ledger.settle(&[file], |_| false);
        assert_eq!(owned.last().map(|run| (run.pages.start / PAGE, run.owner)), Some((528, Owner::Unseen)));
    }

    #[test]
    fn bytes_are_joined_with_the_blocks_they_lie_in() {
        let owned = [OwnedRun { pages: run(1, 2), owner: Owner::Stack(1) }];
        let block = |start, end, stack| Allocation { start, end, stack };
        let sums = join(
            &owned,
            &[block(0, PAGE + 100, 5), block(PAGE + 200, 2 * PAGE + 50, 6), block(9 * PAGE, 10 * PAGE, 7)],
        );
        let expected = [
            ((Owner::Stack(1), Some(5), KIND), 100),
            ((Owner::Stack(1), Some(6), KIND), PAGE - 150),
            ((Owner::Stack(1), None, KIND), PAGE + 50),
        ];
        assert_eq!(sums, expected.into_iter().collect());
    }
}
