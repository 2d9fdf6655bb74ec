//! The biggest call paths over time, in bounded room: when there are too many moments, every second one goes.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::StackId;
use super::bounds::{self, FEW, ROWS};

/// Most moments that are kept.
pub const MOMENTS: usize = 120;
/// Most call paths that a profile holds: the half of them by live bytes, the other by bytes allocated.
pub const PATHS: usize = 128;
/// Most call paths that are followed while a trace runs, so that a path has a past when it grows to be one of the biggest.
const FOLLOWED: usize = 1024;
/// A path that allocated less in all is not followed, bytes.
const LEAST: u64 = 4096;

/// Live and allocated bytes of the biggest call paths at some moments. Blocks of the C allocator only: small objects,
/// mappings and pages are not read that often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathTimeline {
    /// The moments, milliseconds from the start of the trace.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub at_ms: Vec<u64>,
    /// The paths, by process and stack.
    #[serde(deserialize_with = "bounds::vec::<_, _, ROWS>")]
    pub paths: Vec<PathSeries>,
}

/// One call path of one process over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathSeries {
    /// Index into [`super::Profile::processes`].
    pub process: u32,
    /// The stack.
    pub stack: StackId,
    /// Index of the first moment that it has values for. Before, it had allocated nothing, or so little that it was not
    /// followed.
    pub first: u32,
    /// Bytes live at each moment from `first` on; fewer than there are moments if its process ended.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub live: Vec<u64>,
    /// Bytes allocated since the start, at the same moments.
    #[serde(deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub allocated: Vec<u64>,
}

/// What one path has at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathReading {
    /// Index of the process.
    pub process: u32,
    /// The stack; where several readings have the same, they are added up.
    pub stack: StackId,
    /// Bytes live.
    pub live: u64,
    /// Bytes allocated since the start.
    pub allocated: u64,
}

/// Follows the paths while a trace runs.
#[derive(Clone, Debug)]
pub struct PathFollower {
    timeline: PathTimeline,
    /// By process and stack, its place in the timeline.
    places: HashMap<(u32, StackId), usize>,
    /// Every so many readings are kept.
    stride: u64,
    readings: u64,
}

impl Default for PathFollower {
    fn default() -> Self {
        Self { timeline: PathTimeline::default(), places: HashMap::new(), stride: 1, readings: 0 }
    }
}

impl PathFollower {
    /// Whether the next reading is kept; counts it.
    pub fn is_due(&mut self) -> bool {
        self.readings += 1;
        (self.readings - 1).is_multiple_of(self.stride)
    }

    /// Adds a moment; moments come in the order of their time.
    pub fn push(&mut self, at_ms: u64, readings: impl Iterator<Item = PathReading>) {
        if self.timeline.at_ms.last().is_some_and(|last| *last >= at_ms) {
            return;
        }
        let moment = self.timeline.at_ms.len();
        self.timeline.at_ms.push(at_ms);
        for reading in biggest(summed(readings), FOLLOWED) {
            let timeline = &mut self.timeline;
            let place = *self.places.entry((reading.process, reading.stack)).or_insert_with(|| {
                timeline.paths.push(PathSeries {
                    process: reading.process,
                    stack: reading.stack,
                    first: u32::try_from(moment).unwrap_or(u32::MAX),
                    ..PathSeries::default()
                });
                timeline.paths.len() - 1
            });
            timeline.paths[place].push(moment, &reading);
        }
        self.forget_small();
        if self.timeline.at_ms.len() > MOMENTS {
            self.timeline.halve();
            self.stride *= 2;
            self.find_places();
        }
    }

    /// The timeline with this last moment, and of the biggest paths only.
    pub fn finish(&self, at_ms: u64, readings: impl Iterator<Item = PathReading>) -> PathTimeline {
        let mut last = self.clone();
        last.push(at_ms, readings);
        let mut timeline = last.timeline;
        let kept = biggest(timeline.paths.iter().map(PathSeries::peak).collect(), PATHS);
        let kept: HashSet<_> = kept.iter().map(|path| (path.process, path.stack)).collect();
        timeline.paths.retain(|path| kept.contains(&(path.process, path.stack)));
        timeline.paths.sort_by_key(|path| (path.process, path.stack));
        timeline
    }

    /// Paths of processes that ended stay; only many of them go.
    fn forget_small(&mut self) {
        if self.timeline.paths.len() <= 2 * FOLLOWED {
            return;
        }
        let kept = biggest(self.timeline.paths.iter().map(PathSeries::peak).collect(), FOLLOWED);
        let kept: HashSet<_> = kept.iter().map(|path| (path.process, path.stack)).collect();
        self.timeline.paths.retain(|path| kept.contains(&(path.process, path.stack)));
        self.find_places();
    }

    fn find_places(&mut self) {
        let places = self.timeline.paths.iter().enumerate();
        self.places = places.map(|(place, path)| ((path.process, path.stack), place)).collect();
    }
}

impl PathSeries {
    /// A path that was not followed for a while is taken to have stayed as it was.
    fn push(&mut self, moment: usize, reading: &PathReading) {
        let before = moment.saturating_sub(self.first as usize);
        let (live, allocated) = (self.live.last().copied(), self.allocated.last().copied());
        self.live.resize(before, live.unwrap_or_default());
        self.allocated.resize(before, allocated.unwrap_or_default());
        self.live.push(reading.live);
        self.allocated.push(reading.allocated);
    }

    fn peak(&self) -> PathReading {
        let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
        PathReading {
            process: self.process,
            stack: self.stack,
            live: most(&self.live),
            allocated: most(&self.allocated),
        }
    }

    /// Live and allocated bytes at a moment (an index): 0 before its first, the last ones after its process ended.
    pub fn at(&self, moment: usize) -> (u64, u64) {
        let Some(index) = moment.checked_sub(self.first as usize) else { return (0, 0) };
        let at = |values: &[u64]| values.get(index).or(values.last()).copied().unwrap_or(0);
        (at(&self.live), at(&self.allocated))
    }
}

impl PathTimeline {
    /// The last moment that is not after this time; `None` before the first.
    pub fn moment(&self, at_ms: u64) -> Option<usize> {
        self.at_ms.partition_point(|moment| *moment <= at_ms).checked_sub(1)
    }

    /// Every second moment goes; the values of those that stay are as they were read.
    fn halve(&mut self) {
        let stays = |moment: usize| moment.is_multiple_of(2);
        let mut moment = 0;
        self.at_ms.retain(|_| {
            moment += 1;
            stays(moment - 1)
        });
        for path in &mut self.paths {
            let first = path.first as usize;
            let every_second = |values: &[u64]| values.iter().skip(first % 2).step_by(2).copied().collect::<Vec<u64>>();
            (path.live, path.allocated) = (every_second(&path.live), every_second(&path.allocated));
            path.first = path.first.div_ceil(2);
        }
        // One that was there for a single moment, which went, is no path over time.
        self.paths.retain(|path| !path.live.is_empty());
    }
}

fn summed(readings: impl Iterator<Item = PathReading>) -> Vec<PathReading> {
    let mut sums: HashMap<(u32, StackId), PathReading> = HashMap::new();
    for reading in readings {
        let sum =
            sums.entry((reading.process, reading.stack)).or_insert(PathReading { live: 0, allocated: 0, ..reading });
        sum.live = sum.live.saturating_add(reading.live);
        sum.allocated = sum.allocated.saturating_add(reading.allocated);
    }
    // After the sum: one line of code may be many places that each allocate little.
    sums.into_values().filter(|sum| sum.allocated >= LEAST).collect()
}

/// The biggest by live bytes, at most half of `most`, and of the others the biggest by bytes allocated.
fn biggest(mut all: Vec<PathReading>, most: usize) -> Vec<PathReading> {
    use std::cmp::Reverse;
    if all.len() <= most {
        return all;
    }
    all.sort_unstable_by_key(|path| (Reverse(path.live), path.process, path.stack));
    let mut others = all.split_off(most / 2);
    others.sort_unstable_by_key(|path| (Reverse(path.allocated), path.process, path.stack));
    others.truncate(most - all.len());
    all.extend(others);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(stack: StackId, live: u64, allocated: u64) -> PathReading {
        PathReading { process: 0, stack, live, allocated: LEAST + allocated }
    }

    #[test]
    fn a_day_keeps_its_growth() {
        let mut follower = PathFollower::default();
        for second in 1..=86_400_u64 {
            if follower.is_due() {
                follower.push(second * 1000, [reading(7, second, 2 * second)].into_iter());
            }
        }
        let timeline = follower.finish(86_400_500, [reading(7, 99, 200_000)].into_iter());
        assert!((MOMENTS / 2..=MOMENTS).contains(&timeline.at_ms.len()), "{}", timeline.at_ms.len());
        assert!(timeline.at_ms.is_sorted() && timeline.at_ms[0] == 1000);
        let path = &timeline.paths[0];
        assert_eq!(path.live.len(), timeline.at_ms.len());
        assert_eq!((path.first, path.live.last(), path.allocated.last()), (0, Some(&99), Some(&(LEAST + 200_000))));
        for (moment, at_ms) in timeline.at_ms.iter().enumerate().take(path.live.len() - 1) {
            assert_eq!(path.at(moment), (at_ms / 1000, LEAST + at_ms / 500), "the values of a moment stay with it");
        }
    }

    #[test]
    fn a_path_that_comes_late_and_a_process_that_ends() {
        let mut follower = PathFollower::default();
        for moment in 0..10_u64 {
            let late = (moment >= 4).then(|| reading(2, 50 + moment, 90));
            let ends = (moment < 3).then(|| PathReading { process: 1, ..reading(3, 20, 20 + moment) });
            follower.push(moment * 500, [reading(1, 10, 10)].into_iter().chain(late).chain(ends));
        }
        let timeline = follower.finish(4_600, [reading(1, 10, 10), reading(1, 5, 5)].into_iter());
        let [first, late, ended] = timeline.paths.as_slice() else { panic!("{timeline:?}") };
        assert_eq!((first.live.len(), first.at(10)), (11, (15, 2 * LEAST + 15)), "two readings of a path are one");
        assert_eq!((late.first, late.at(3), late.at(4), late.at(9)), (4, (0, 0), (54, LEAST + 90), (59, LEAST + 90)));
        assert_eq!((ended.live.len(), ended.at(9)), (3, (20, LEAST + 22)));
        assert_eq!((timeline.moment(499), timeline.moment(500)), (Some(0), Some(1)));
    }

    #[test]
    fn small_parts_of_a_path_count_and_small_paths_do_not() {
        let part = |stack, allocated| PathReading { process: 0, stack, live: 0, allocated };
        let readings = [part(1, LEAST / 2), part(1, LEAST / 2), part(2, LEAST - 1)];
        let timeline = PathFollower::default().finish(500, readings.into_iter());
        assert_eq!(timeline.paths.iter().map(|path| path.stack).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_biggest_of_very_many_are_kept() {
        let mut follower = PathFollower::default();
        let all = |moment: u64| {
            (1..50_000_u32).map(move |stack| reading(stack, u64::from(stack), 1_000_000 - u64::from(stack) + moment))
        };
        (1..200).step_by(40).for_each(|moment| follower.push(moment, all(moment)));
        assert!(follower.timeline.paths.len() <= 2 * FOLLOWED);
        let timeline = follower.finish(300, all(300));
        assert_eq!(timeline.paths.len(), PATHS);
        assert!(timeline.paths.iter().any(|path| path.stack == 49_999), "most live");
        assert!(timeline.paths.iter().any(|path| path.stack == 1), "most allocated");
    }
}
