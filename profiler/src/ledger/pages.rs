//! Who brought which pages, as intervals of addresses that never overlap.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::RangeBounds;

use super::resident::Owner;

/// Pages that came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// First address after them.
    pub end: u64,
    /// Who brought them.
    pub owner: Owner,
    /// They have been written to.
    pub written: bool,
    /// When they came: monotonic clock, ns.
    pub time_ns: u64,
    /// The pages were not there at the last look: they have left, or have moved and it was not told yet.
    pub missed: bool,
    /// For how many faults each page stands since the last look; 1 if for its own only.
    pub weight: u16,
    /// No fault of theirs was recorded: the owner is the one of faults recorded near them.
    pub estimated: bool,
}

/// Intervals by their first address.
#[derive(Clone, Debug, Default)]
pub(super) struct Intervals(BTreeMap<u64, Interval>);

impl Intervals {
    /// The one that holds an address.
    pub fn at(&self, address: u64) -> Option<&Interval> {
        self.last_before(address.saturating_add(1)).map(|(_, interval)| interval).filter(|found| found.end > address)
    }

    /// The last one that starts below an address.
    pub fn last_before(&self, address: u64) -> Option<(u64, &Interval)> {
        self.0.range(..address).next_back().map(|(&at, interval)| (at, interval))
    }

    /// Those that start in a range.
    pub fn range(&self, range: impl RangeBounds<u64>) -> Range<'_, u64, Interval> {
        self.0.range(range)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Interval)> {
        self.0.iter().map(|(&at, interval)| (at, interval))
    }

    /// Adds one in a place that is known to be free.
    pub fn add(&mut self, start: u64, interval: Interval) {
        self.0.insert(start, interval);
    }

    /// Adds one where nothing is, and in the place of what is only estimated.
    pub fn add_below(&mut self, start: u64, new: Interval) {
        for (at, known) in self.take_if(start, new.end, |_| true) {
            if !known.estimated {
                self.add(at, known);
            }
        }
        let mut at = start;
        let known: Vec<(u64, u64)> = self.0.range(start..new.end).map(|(&from, found)| (from, found.end)).collect();
        for (from, to) in known {
            if from > at {
                self.add(at, Interval { end: from, ..new });
            }
            at = to;
        }
        if at < new.end {
            self.add(at, new);
        }
    }

    /// Gives pages to an owner, and makes one interval of neighbours that came together.
    pub fn put(&mut self, start: u64, new: Interval) {
        self.take_if(start, new.end, |_| true);
        if let Some((_, before)) = self.0.range_mut(..start).next_back()
            && *before == (Interval { end: start, ..new })
        {
            before.end = new.end;
            return;
        }
        self.0.insert(start, new);
    }

    /// Takes out what is known of a range, as far as it is wanted.
    pub fn take_if(&mut self, start: u64, end: u64, wanted: impl Fn(&Interval) -> bool) -> Vec<(u64, Interval)> {
        if end <= start {
            return Vec::new();
        }
        let before = self.last_before(start).filter(|(_, found)| found.end > start).map(|(at, _)| at);
        let touched: Vec<u64> = before.into_iter().chain(self.0.range(start..end).map(|(&at, _)| at)).collect();
        let mut taken = Vec::new();
        for at in touched {
            let Some(interval) = self.0.get(&at).copied().filter(&wanted) else { continue };
            self.0.remove(&at);
            if at < start {
                self.0.insert(at, Interval { end: start, ..interval });
            }
            if interval.end > end {
                self.0.insert(end, interval);
            }
            taken.push((at.max(start), Interval { end: interval.end.min(end), ..interval }));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(end: u64, number: u64, estimated: bool) -> Interval {
        let owner = Owner::Stack(number);
        Interval { end, owner, written: true, time_ns: 0, missed: false, weight: 1, estimated }
    }

    fn all(intervals: &Intervals) -> Vec<(u64, u64, Owner)> {
        intervals.iter().map(|(at, found)| (at, found.end, found.owner)).collect()
    }

    #[test]
    fn what_is_added_below_covers_no_more_than_gaps_and_estimates() {
        let mut intervals = Intervals::default();
        intervals.add(2, interval(4, 1, false));
        intervals.add(6, interval(9, 2, true));
        intervals.add_below(0, interval(8, 3, false));
        let (first, third) = (Owner::Stack(1), Owner::Stack(3));
        assert_eq!(all(&intervals), [(0, 2, third), (2, 4, first), (4, 8, third), (8, 9, Owner::Stack(2))]);
    }

    #[test]
    fn neighbours_that_came_together_are_one() {
        let mut intervals = Intervals::default();
        intervals.put(0, interval(1, 1, false));
        intervals.put(1, interval(2, 1, false));
        intervals.put(2, interval(3, 1, true));
        assert_eq!(all(&intervals), [(0, 2, Owner::Stack(1)), (2, 3, Owner::Stack(1))]);
        assert_eq!(intervals.at(1).map(|found| found.end), Some(2));
        assert_eq!(intervals.at(3), None);
    }
}
