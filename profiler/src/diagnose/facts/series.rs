//! Values over time: how fast they grow, how sure that is, and whether they have stopped.

use crate::diagnose::thresholds::{FEWEST_READINGS, LAST_PART, LEVEL_SHARE};

/// Most points that slopes are taken from: all pairs of them are compared.
const MOST_POINTS: usize = 160;

/// A slope, per second, with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The median of the slopes between all pairs of points (Theil and Sen): a third of the points may be anything.
    pub per_s: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Slope {
    /// Half the width of the interval, per second.
    pub fn error(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// Values over time, s.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: Vec<(f64, f64)>,
}

impl Series {
    /// Of points in the order of time.
    pub fn new(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { points: points.into_iter().collect() }
    }

    /// How many.
    pub fn number(&self) -> usize {
        self.points.len()
    }

    /// From the first to the last, s.
    pub fn seconds(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0.0,
        }
    }

    /// The points.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// How much it grew, from the median of the first readings to that of the last: one odd reading counts for nothing.
    pub fn growth(&self) -> f64 {
        let few = (self.points.len() / 12).clamp(1, 5).min(self.points.len());
        let (first, last) = (&self.points[..few], &self.points[self.points.len() - few..]);
        median(last.iter().map(|point| point.1)) - median(first.iter().map(|point| point.1))
    }

    /// The slope; `None` with fewer than [`FEWEST_READINGS`] points.
    ///
    /// The interval is Sen's, by the normal approximation of Kendall's statistic: as if readings were independent of each
    /// other. Those of memory are not quite, so it is somewhat too narrow.
    pub fn slope(&self) -> Option<Slope> {
        if self.points.len() < FEWEST_READINGS {
            return None;
        }
        let step = self.points.len().div_ceil(MOST_POINTS);
        let points: Vec<(f64, f64)> = self.points.iter().copied().step_by(step).collect();
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, from) in points.iter().enumerate() {
            let later = points[index + 1..].iter().filter(|to| to.0 > from.0);
            slopes.extend(later.map(|to| (to.1 - from.1) / (to.0 - from.0)));
        }
        if slopes.is_empty() {
            return None;
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let number = points.len() as f64;
        let deviation = (number * (number - 1.0) * (2.0 * number + 5.0) / 18.0).sqrt();
        let reach = 1.96 * deviation;
        let count = slopes.len() as f64;
        let at = |rank: f64| slopes[(rank.max(0.0) as usize).min(slopes.len() - 1)];
        Some(Slope {
            per_s: at(count / 2.0),
            low: at(((count - reach) / 2.0).floor()),
            high: at(((count + reach) / 2.0).ceil()),
        })
    }

    /// The part from a share of its time on.
    pub fn from_share(&self, share: f64) -> Self {
        let Some(first) = self.points.first() else { return Self::default() };
        let from = first.0 + self.seconds() * share;
        Self::new(self.points.iter().copied().filter(|point| point.0 >= from))
    }

    /// What the last part of the time brought, as a share of what it would have if the whole had grown evenly.
    pub fn late_share(&self) -> f64 {
        let (all, last) = (self.growth(), self.from_share(1.0 - LAST_PART));
        if all <= 0.0 { 0.0 } else { last.growth() / (all * LAST_PART) }
    }

    /// Whether it grew and has stopped.
    pub fn levels_off(&self) -> bool {
        self.number() >= FEWEST_READINGS && self.growth() > 0.0 && self.late_share() < LEVEL_SHARE
    }

    /// How often it rose by at least `least` from a low and fell by as much again.
    pub fn swings(&self, least: f64) -> u64 {
        let Some(first) = self.points.first() else { return 0 };
        let (mut low, mut high, mut is_up, mut swings) = (first.1, first.1, false, 0);
        for (_, value) in &self.points {
            if is_up {
                high = high.max(*value);
                if high - value >= least {
                    (low, is_up, swings) = (*value, false, swings + 1);
                }
            } else {
                low = low.min(*value);
                if value - low >= least {
                    (high, is_up) = (*value, true);
                }
            }
        }
        swings
    }

    /// How much its lows rose, from the first third of the time to the last: what comes and goes counts for nothing.
    pub fn floor_growth(&self) -> f64 {
        const THIRD: f64 = 1.0 / 3.0;
        let Some(first) = self.points.first() else { return 0.0 };
        let until = first.0 + self.seconds() * THIRD;
        let early = Self::new(self.points.iter().copied().filter(|point| point.0 <= until));
        self.from_share(1.0 - THIRD).least() - early.least()
    }

    /// The smallest value.
    pub fn least(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min)
    }

    /// The largest value.
    pub fn most(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(0.0, f64::max)
    }
}

/// The median; 0 of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(value: impl Fn(f64) -> f64) -> Series {
        Series::new((0..60).map(|second| (f64::from(second), value(f64::from(second)))))
    }

    #[test]
    fn a_line_has_its_slope_whatever_a_third_of_the_points_say() {
        let slope = series(|t| if t as u32 % 4 == 3 { 1e9 } else { 100.0 + 7.0 * t }).slope().unwrap();
        assert!((slope.per_s - 7.0).abs() < 0.5, "{slope:?}");
        let exact = series(|t| 3.0 * t).slope().unwrap();
        assert!((exact.per_s - 3.0).abs() < 1e-9 && exact.error() < 1e-9);
    }

    #[test]
    fn noise_around_a_level_has_an_interval_around_nothing() {
        let slope = series(|t| 1000.0 + f64::from((t as u32 * 7919) % 13)).slope().unwrap();
        assert!(slope.low <= 0.0 && slope.high >= 0.0, "{slope:?}");
        assert!(Series::new([(0.0, 1.0), (1.0, 2.0)]).slope().is_none());
    }

    #[test]
    fn what_has_stopped_is_told_from_what_grows_in_steps() {
        assert!(series(|t| 100.0 * (t / 20.0).min(1.0)).levels_off());
        assert!(!series(|t| 100.0 * t).levels_off());
        assert!(!series(|t| (t / 9.0).floor() * 1000.0).levels_off());
        assert!(!series(|_| 5.0).levels_off());
    }

    #[test]
    fn swings_are_rises_that_are_given_back() {
        let saw = series(|t| (t % 10.0) * 10.0);
        assert_eq!(saw.swings(50.0), 5);
        assert_eq!(saw.swings(95.0), 0);
        assert_eq!(series(|t| t).swings(20.0), 0);
        assert!(saw.floor_growth().abs() < 1e-9);
        assert!((series(|t| t * 3.0 + (t % 5.0) * 100.0).floor_growth() - 120.0).abs() < 1e-9);
    }

    #[test]
    fn medians() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
