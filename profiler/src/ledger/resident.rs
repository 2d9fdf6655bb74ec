//! The resident ledger of one process: which call path brought which page into memory.
//!
//! Page faults say who touched a page, the page tables say which pages are there: what has left, by whatever way, is in
//! no table and so in no sum. Where only some of the faults were recorded, those stand for the others (see `share`).

use std::collections::HashMap;

use profiler_common::event::{Mapping, mapping};
use profiler_common::ledger::{BlockKey, Touch, touch};

pub use super::join::{Allocation, Sums, join};
use super::pages::{Interval, Intervals};
use super::share::{Sample, Share, Unseen, share_out};
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unshared {
    /// The stack that wrote.
    pub stack: u64,
    /// The address first written to.
    pub address: u64,
    /// For how many such pages it stands: 1 where every fault was recorded.
    pub pages: f64,
}

/// What is not known but estimated of one stack's pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Bytes of its pages of which no fault was recorded.
    pub space: u64,
    /// Standard error of that, bytes.
    pub error: u64,
}

/// Who touched what, for one process.
#[derive(Clone, Debug, Default)]
pub struct ResidentLedger {
    intervals: Intervals,
    /// Mapping changes since the last settling.
    changes: Vec<Mapping>,
    unshared: Vec<Unshared>,
    program_break: Option<u64>,
    /// How sure all estimates so far were, by stack.
    shares: HashMap<u64, Share>,
    /// Not every fault was recorded so far.
    is_sampled: bool,
}

impl ResidentLedger {
    /// Starts with the pages that are there already.
    pub fn new(pages: &[PageRun], owner: Owner, program_break: Option<u64>) -> Self {
        let mut ledger = Self { program_break, ..Self::default() };
        for run in pages {
            // Writing to a file's page makes a page of one's own of it, with or without a fork.
            let written = run.kind != ResidentKind::File;
            let (end, time_ns) = (run.end, 0);
            let interval = Interval { end, owner, written, time_ns, missed: false, weight: 1, estimated: false };
            ledger.intervals.add(run.start, interval);
        }
        ledger
    }

    /// Notes a change of the address space.
    pub fn map(&mut self, event: &Mapping) {
        self.changes.push(*event);
    }

    /// Books the touches and mapping changes since the last time, in the order of their time. `left_out` are the writes to
    /// protected pages that were not recorded; if their number is not known, the weights of those recorded must do.
    pub fn book(&mut self, touches: &mut [(BlockKey, Touch)], left_out: Option<u64>) {
        touches.sort_by_key(|(_, touch)| touch.time_ns);
        let mut changes = std::mem::take(&mut self.changes).into_iter().peekable();
        let each = each_stands_for(touches, left_out);
        for (key, touch) in touches {
            while let Some(change) = changes.next_if(|change| change.header.time_ns < touch.time_ns) {
                self.change(&change);
            }
            self.touch(Touch::page(*key), touch, each);
        }
        changes.for_each(|change| self.change(&change));
    }

    /// The pages that were un-shared since the last call.
    pub fn take_unshared(&mut self) -> Vec<Unshared> {
        std::mem::take(&mut self.unshared)
    }

    fn touch(&mut self, start: u64, touch: &Touch, each: f64) {
        self.is_sampled |= touch.weight > 1;
        let owner = Owner::Stack(touch.stack);
        let written = touch.flags & touch::WRITE != 0;
        let copied = is_write_to_protected(touch);
        for page in (start..).step_by(PAGE as usize).take(touch.pages.into()) {
            // Written before and shared since: the process gets a page of its own in the place of one that it had.
            if copied && self.intervals.at(page).is_some_and(|interval| interval.written) {
                let offset = if page == start { u64::from(touch.offset) } else { 0 };
                let pages = f64::from(touch.weight) * each;
                self.unshared.push(Unshared { stack: touch.stack, address: page + offset, pages });
                continue;
            }
            let (end, time_ns, weight) = (page + PAGE, touch.time_ns, touch.weight);
            self.intervals
                .put(page, Interval { end, owner, written, time_ns, missed: false, weight, estimated: false });
        }
    }

    fn change(&mut self, event: &Mapping) {
        let (time, end) = (event.header.time_ns, page_end(event.address, event.length));
        match event.operation {
            mapping::MMAP | mapping::MUNMAP | mapping::DISCARD => self.clear(event.address, end, time),
            mapping::MREMAP => self.remap(event),
            mapping::BRK => {
                if let Some(old) = self.program_break.replace(event.address) {
                    self.clear(page_end(event.address, 0), page_end(old, 0), time);
                }
            }
            _ => {}
        }
    }

    /// Forgets what is known of a range and came until then.
    fn clear(&mut self, start: u64, end: u64, until_ns: u64) {
        self.intervals.take_if(start, end, |interval| interval.time_ns <= until_ns);
    }

    /// Pages that move keep their owners.
    fn remap(&mut self, event: &Mapping) {
        let time = event.header.time_ns;
        let old_end = page_end(event.old_address, event.old_length);
        let moved = self.intervals.take_if(event.old_address, old_end, |interval| interval.time_ns <= time);
        if event.address != event.old_address {
            self.clear(event.address, page_end(event.address, event.length), time);
        }
        let end = page_end(event.address, event.length);
        for (at, interval) in moved {
            let shift = |address: u64| (address - event.old_address).saturating_add(event.address);
            if shift(at) < end {
                let moved = Interval { end: shift(interval.end).min(end), missed: false, ..interval };
                self.intervals.add_below(shift(at), moved);
            }
        }
    }

    /// Finds the owner of every page that is there now, and forgets the pages that are not for the second time.
    ///
    /// `is_large` tells whether the page at an address is a part of a larger one, all of which came by one fault.
    pub fn settle(&mut self, pages: &[PageRun], now_ns: u64, mut is_large: impl FnMut(u64) -> bool) -> Vec<OwnedRun> {
        let mut look = Look::default();
        for run in pages {
            let mut at = run.start;
            let first = self.intervals.last_before(at.saturating_add(1)).map_or(at, |(start, _)| start);
            let overlapping = self.intervals.range(first..run.end).filter(|(_, interval)| interval.end > run.start);
            for (&start, interval) in overlapping {
                let (from, to) = (start.max(run.start), interval.end.min(run.end));
                if from > at {
                    self.settle_unseen(PageRun { start: at, end: from, ..*run }, &mut is_large, &mut look);
                }
                let pages = PageRun { start: from, end: to, ..*run };
                if self.was_only_read(run.kind, interval) {
                    self.settle_unseen(pages, &mut is_large, &mut look);
                } else {
                    look.known(pages, interval);
                }
                at = to;
            }
            if at < run.end {
                self.settle_unseen(PageRun { start: at, end: run.end, ..*run }, &mut is_large, &mut look);
            }
        }
        self.share(&mut look, now_ns);
        let absent = self.absent(&look.kept);
        for (at, interval) in absent {
            look.kept.add(at, interval);
        }
        self.intervals = look.kept;
        look.owned
    }

    /// Whether the fault that is known of a page is not the one that brought it. To read memory that nobody has written to
    /// gives the page of zeroes, and to read a file the file's page: a page of the process's own came by a later write,
    /// which was left out.
    fn was_only_read(&self, kind: ResidentKind, interval: &Interval) -> bool {
        use ResidentKind::{File, HugeTlb, Shared};
        self.is_sampled && !interval.written && !matches!(kind, File | HugeTlb | Shared)
    }

    /// What was not found at this look, for the first time: if it was moved meanwhile, the event is still to come.
    fn absent(&self, kept: &Intervals) -> Vec<(u64, Interval)> {
        let mut absent = Vec::new();
        for (start, interval) in self.intervals.iter().filter(|(_, interval)| !interval.missed) {
            let missed = Interval { missed: true, weight: 1, ..*interval };
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

    /// Pages without a fault of their own: they came with a neighbour's, or it was left out, or nobody knows.
    fn settle_unseen(&self, pages: PageRun, is_large: &mut impl FnMut(u64) -> bool, look: &mut Look) {
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
            let run = PageRun { start: at, end: last.min(pages.end), ..pages };
            match if window == PAGE { Owner::Unseen } else { self.neighbour(at, first, last) } {
                Owner::Unseen => look.unseen(run, window != PAGE),
                owner => look.owns(run, owner),
            }
            at = run.end;
        }
    }

    /// Who touched a page within a window: the one below, else the one above.
    fn neighbour(&self, at: u64, first: u64, last: u64) -> Owner {
        let below = self.intervals.last_before(at).filter(|(_, interval)| interval.end > first);
        let above = || self.intervals.range(at..last).next().map(|(&at, interval)| (at, interval));
        below.or_else(above).map_or(Owner::Unseen, |(_, interval)| interval.owner)
    }

    /// Shares out what no fault was recorded of, and remembers it: it is not shared out again.
    fn share(&mut self, look: &mut Look, now_ns: u64) {
        if look.samples.is_empty() {
            for unseen in &look.unseen {
                look.owned.push(OwnedRun { pages: unseen.pages, owner: Owner::Unseen });
            }
        } else {
            let shared = share_out(&look.unseen, &look.samples);
            for (pages, owner) in shared.owned {
                let (end, written) = (pages.end, pages.kind != ResidentKind::File);
                let interval =
                    Interval { end, owner, written, time_ns: now_ns, missed: false, weight: 1, estimated: true };
                look.kept.add(pages.start, interval);
                look.owned.push(OwnedRun { pages, owner });
            }
            for (stack, share) in shared.shares {
                let sum = self.shares.entry(stack).or_default();
                sum.pages += share.pages;
                sum.variance += share.variance;
            }
        }
        look.owned.sort_by_key(|run| run.pages.start);
    }

    /// What is estimated of each stack's pages, as of the last look.
    pub fn estimates(&self) -> HashMap<u64, Estimate> {
        let mut pages: HashMap<u64, f64> = HashMap::new();
        for (at, interval) in self.intervals.iter().filter(|(_, interval)| interval.estimated && !interval.missed) {
            if let Owner::Stack(stack) = interval.owner {
                *pages.entry(stack).or_default() += ((interval.end - at) / PAGE) as f64;
            }
        }
        let estimate = |(stack, pages): (u64, f64)| {
            // Of what was estimated at some time a part is still there, and with it that part of the variance.
            let share = self.shares.get(&stack).filter(|share| share.pages > 0.0)?;
            let error = (share.variance * (pages / share.pages)).sqrt();
            let bytes = |pages: f64| (pages * PAGE as f64).round() as u64;
            Some((stack, Estimate { space: bytes(pages), error: bytes(error) }))
        };
        pages.into_iter().filter_map(estimate).collect()
    }
}

/// What a look finds.
#[derive(Default)]
struct Look {
    owned: Vec<OwnedRun>,
    kept: Intervals,
    unseen: Vec<Unseen>,
    samples: Vec<Sample>,
}

impl Look {
    /// Pages whose owner is known.
    fn known(&mut self, pages: PageRun, interval: &Interval) {
        self.owns(pages, interval.owner);
        self.kept.add(pages.start, Interval { end: pages.end, missed: false, weight: 1, ..*interval });
        if let Owner::Stack(stack) = interval.owner
            && interval.weight > 1
        {
            let (address, kind) = (pages.start, pages.kind);
            let others = f64::from(interval.weight - 1) * ((pages.end - pages.start) / PAGE) as f64;
            self.samples.push(Sample { address, kind, stack, others });
        }
    }

    fn owns(&mut self, pages: PageRun, owner: Owner) {
        match self.owned.last_mut() {
            Some(last) if last.owner == owner && follows(&last.pages, &pages) => last.pages.end = pages.end,
            _ => self.owned.push(OwnedRun { pages, owner }),
        }
    }

    fn unseen(&mut self, pages: PageRun, several: bool) {
        match self.unseen.last_mut() {
            Some(last) if last.several == several && follows(&last.pages, &pages) => last.pages.end = pages.end,
            _ => self.unseen.push(Unseen { pages, several }),
        }
    }
}

fn follows(before: &PageRun, pages: &PageRun) -> bool {
    before.end == pages.start && before.kind == pages.kind && before.shared == pages.shared
}

fn is_write_to_protected(touch: &Touch) -> bool {
    const BOTH: u16 = touch::WRITE | touch::PROTECTED;
    touch.flags & BOTH == BOTH
}

/// How many writes to protected pages one weight of those recorded stands for; 1 if none was left out, or if it is not
/// known how many were.
fn each_stands_for(touches: &[(BlockKey, Touch)], left_out: Option<u64>) -> f64 {
    let Some(left_out) = left_out else { return 1.0 };
    let recorded = || touches.iter().filter(|(_, touch)| is_write_to_protected(touch));
    let weights: f64 = recorded().map(|(_, touch)| f64::from(touch.weight)).sum();
    if weights == 0.0 { 1.0 } else { (recorded().count() as f64 + left_out as f64) / weights }
}

fn page_end(start: u64, length: u64) -> u64 {
    start.saturating_add(length).saturating_add(PAGE - 1) / PAGE * PAGE
}

#[cfg(test)]
mod tests;
