//! Growth per hour: a line through the readings that a few outliers do not turn (Theil and Sen), and how sure it is.

use crate::profile::{Profile, TimelinePoint};

/// The first part of a process's time is warming up and does not count, as one in so many.
const WARM_UP_PART: u64 = 5;
/// Fewest readings.
const FEWEST: usize = 10;
/// Shortest time that they span, ms.
const SHORTEST_MS: u64 = 20_000;
/// Two-sided 95 %.
const NORMAL_95: f64 = 1.96;

/// Bytes per hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The estimate.
    pub per_hour: f64,
    /// With 95 % it is not less.
    pub low: f64,
    /// With 95 % it is not more.
    pub high: f64,
}

/// The growth of the RSS of the processes that were there at the end, together; `None` if the trace was too short.
pub fn of_profile(profile: &Profile) -> Option<Slope> {
    let counted = crate::profile::tree::counted(profile);
    let mut sum: Option<Slope> = None;
    for (index, _) in counted.iter().enumerate().filter(|(_, counted)| **counted) {
        let points: Vec<&TimelinePoint> =
            profile.timeline.iter().filter(|point| point.process as usize == index).collect();
        let Some(slope) = of_points(&points) else { continue };
        let all = sum.get_or_insert_default();
        all.per_hour += slope.per_hour;
        all.low += slope.low;
        all.high += slope.high;
    }
    sum
}

fn of_points(points: &[&TimelinePoint]) -> Option<Slope> {
    let (first, last) = (points.first()?, points.last()?);
    let warm = first.at_ms + last.at_ms.saturating_sub(first.at_ms) / WARM_UP_PART;
    let points: Vec<(f64, f64)> =
        points.iter().filter(|point| point.at_ms >= warm).map(|point| (point.at_ms as f64, point.rss as f64)).collect();
    if points.len() < FEWEST || last.at_ms.saturating_sub(warm) < SHORTEST_MS {
        return None;
    }
    let mut slopes = Vec::new();
    for (at, (time, rss)) in points.iter().enumerate() {
        let later = points[at + 1..].iter().filter(|(later, _)| later > time);
        slopes.extend(later.map(|(later, then)| (then - rss) / (later - time)));
    }
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.get(slopes.len() / 2)?;
    // Kendall's variance of the number of rising pairs gives the ranks of the interval's ends.
    let n = points.len() as f64;
    let spread = NORMAL_95 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let rank = |rank: f64| slopes[(rank.max(0.0) as usize).min(slopes.len() - 1)];
    let pairs = slopes.len() as f64;
    let per_hour = |per_ms: f64| per_ms * 3_600_000.0;
    Some(Slope {
        per_hour: per_hour(*middle),
        low: per_hour(rank((pairs - spread) / 2.0)),
        high: per_hour(rank(f64::midpoint(pairs, spread))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Process;

    fn profile(seconds: u64, rss: impl Fn(u64) -> u64) -> Profile {
        let point = |second| TimelinePoint { at_ms: second * 1000, rss: rss(second), ..TimelinePoint::default() };
        Profile {
            processes: vec![Process::default()],
            timeline: (0..seconds).map(point).collect(),
            ..Profile::default()
        }
    }

    #[test]
    fn a_steady_growth_is_found_through_warming_up_and_outliers() {
        let rss = |second: u64| match second {
            0..10 => second << 20,
            50 => 1 << 30,
            _ => (10 << 20) + second * 1024 + (second % 3) * 100,
        };
        let slope = of_profile(&profile(100, rss)).unwrap();
        let expected = 3600.0 * 1024.0;
        assert!((slope.per_hour / expected - 1.0).abs() < 0.01, "{slope:?}");
        assert!(slope.low <= slope.per_hour && slope.per_hour <= slope.high && slope.low > 0.9 * expected);
    }

    #[test]
    fn what_is_flat_or_too_short_has_no_growth() {
        let flat = of_profile(&profile(100, |second| (second % 7) * 4096)).unwrap();
        assert!(flat.low <= 0.0 && flat.high >= 0.0, "{flat:?}");
        assert_eq!(of_profile(&profile(20, |second| second)), None);
        assert_eq!(of_profile(&profile(0, |_| 0)), None);
    }
}
