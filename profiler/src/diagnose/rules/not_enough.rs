//! Too little was seen to say anything; and for how long to watch.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::paths::Origin;
use crate::diagnose::facts::process::Trend;
use crate::diagnose::thresholds::{CULPRIT_SHARE, LEAST_GROWTH, LONGEST_WATCH_S, SHORTEST_MS, USUAL_WATCH_S};
use crate::diagnose::words::{percent, rate, time, whole};
use crate::profile::verdict::{Finding, Pattern};

/// Judges whether what was seen is enough; with for how long to watch if not, s.
pub fn judge(facts: &Facts<'_>) -> Option<(Finding, u64)> {
    if let Some(loading) = loading(facts) {
        return Some(loading);
    }
    let too_short = facts.profile.trace.duration_ms < SHORTEST_MS || facts.trend == Trend::Unknown;
    if !too_short && facts.trend != Trend::Unclear {
        return None;
    }
    let (why, watch) = if too_short {
        (format!("it was watched for {} only", time(facts.seconds())), USUAL_WATCH_S)
    } else {
        let unclear = facts.counted().filter(|process| process.trend == Trend::Unclear);
        let fastest = unclear.map(|process| process.rate()).fold(0.0, f64::max);
        // Until the growth is twice what is told from noise.
        let needed = whole(2.0 * LEAST_GROWTH as f64 / fastest.max(1.0));
        let watch = needed.clamp(2 * whole(facts.seconds()), LONGEST_WATCH_S.max(2 * whole(facts.seconds())));
        let slowed = unclear_growth(facts);
        let goes_up_and_down = facts.counted().any(|process| process.growth >= LEAST_GROWTH as f64);
        let why = if let Some(late) = slowed {
            format!("most of it came at first, and it still grows by some {}", rate(late))
        } else if goes_up_and_down {
            "it goes up and down, and whether its lows rise does not show yet".to_owned()
        } else {
            format!("it may grow by some {}, too little to be told from noise yet", rate(fastest))
        };
        (why, watch.next_multiple_of(30))
    };
    Some((told(&why, watch), watch))
}

/// The rate at which those still grow that have grown faster before.
fn unclear_growth(facts: &Facts<'_>) -> Option<f64> {
    let unclear = facts.counted().filter(|process| process.trend == Trend::Unclear && process.rss.levels_off());
    unclear.filter_map(|process| process.late).map(|slope| slope.per_s).max_by(f64::total_cmp)
}

/// Most of what survives was made by imports, and a start takes a while: each module comes once.
fn loading(facts: &Facts<'_>) -> Option<(Finding, u64)> {
    if facts.trend != Trend::Grows || facts.seconds() >= USUAL_WATCH_S as f64 {
        return None;
    }
    let origins = facts.surviving.origins(facts.profile, &facts.names);
    let share = *origins.get(&Origin::Import)? as f64 / facts.surviving.total.max(1) as f64;
    let why = format!("{} of what came was made by imports: it was still starting", percent(share));
    (share >= CULPRIT_SHARE).then(|| (told(&why, USUAL_WATCH_S), USUAL_WATCH_S))
}

fn told(why: &str, watch: u64) -> Finding {
    Finding {
        pattern: Pattern::NotEnoughData,
        sentence: format!("not enough data: {why}; watch for {} (--for {watch}s)", time(watch as f64)),
        to_be_surer: format!("--for {watch}s"),
        next_steps: vec![format!("run it again with --for {watch}s, while the service does its usual work")],
        ..Finding::default()
    }
}
