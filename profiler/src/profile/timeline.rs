//! Memory over time in bounded room: when there are too many readings, neighbours become one.

use std::collections::BTreeMap;

use super::{TIMELINE_POINTS, TimelinePoint};

/// The readings of all processes, oldest first.
///
/// At most [`TIMELINE_POINTS`], or eight for each process where there are many: the first and the last reading
/// of a process always stay.
#[derive(Clone, Debug)]
pub struct Timeline {
    points: Vec<TimelinePoint>,
    most: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { points: Vec::new(), most: TIMELINE_POINTS }
    }
}

impl Timeline {
    /// Adds a reading; readings come in the order of their time.
    pub fn push(&mut self, point: TimelinePoint) {
        self.points.push(point);
        if self.points.len() > self.most {
            self.merge();
        }
    }

    /// Makes one point of two neighbours of a process, but for its first and its last.
    fn merge(&mut self) {
        let mut by_process: BTreeMap<u32, Vec<TimelinePoint>> = BTreeMap::new();
        for point in self.points.drain(..) {
            by_process.entry(point.process).or_default().push(point);
        }
        // A process keeps up to three points at least: with eight each, there is always room gained.
        self.most = TIMELINE_POINTS.max(8 * by_process.len());
        self.points.extend(by_process.into_values().flat_map(|points| halved(&points)));
        self.points.sort_by_key(|point| (point.at_ms, point.process));
    }

    /// The readings.
    pub fn points(&self) -> &[TimelinePoint] {
        &self.points
    }
}

fn halved(points: &[TimelinePoint]) -> Vec<TimelinePoint> {
    let [first, inner @ .., last] = points else {
        return points.to_vec();
    };
    let inner = inner.chunks(2).map(|pair| pair.iter().copied().reduce(join).unwrap_or(pair[0]));
    std::iter::once(*first).chain(inner).chain(std::iter::once(*last)).collect()
}

/// The peaks of both, so that a merge never hides one; the sums as of the later.
fn join(earlier: TimelinePoint, later: TimelinePoint) -> TimelinePoint {
    TimelinePoint { rss: earlier.rss.max(later.rss), live: earlier.live.max(later.live), ..later }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_readings_keeps_its_ends_and_its_peak() {
        let mut timeline = Timeline::default();
        for second in 0..86_400_u64 {
            let rss = if second == 40_000 { 999 } else { 100 };
            let point = TimelinePoint { process: 0, at_ms: second * 1000, rss, live: second, allocated: second };
            timeline.push(point);
        }
        let points = timeline.points();
        assert!((TIMELINE_POINTS / 2..=TIMELINE_POINTS).contains(&points.len()), "{}", points.len());
        assert_eq!((points[0].at_ms, points[points.len() - 1].at_ms), (0, 86_399_000));
        assert_eq!(points.iter().map(|point| point.rss).max(), Some(999));
        assert!(points.is_sorted_by_key(|point| point.at_ms));
    }

    #[test]
    fn more_processes_than_points_stay_bounded() {
        let mut timeline = Timeline::default();
        for at_ms in 0..20 {
            for process in 0..1000 {
                timeline.push(TimelinePoint { process, at_ms, ..TimelinePoint::default() });
            }
        }
        assert!(timeline.points().len() <= 8 * 1000);
    }
}
