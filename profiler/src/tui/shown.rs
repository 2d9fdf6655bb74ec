//! What one screen shows, taken out of a profile: texts and numbers, nothing that needs the profile any more.

use std::collections::HashMap;

use super::state::Choice;
use super::workers::{self, Worker};
use crate::profile::quality::CountClass;
use crate::profile::{Profile, StackId};
use crate::render::live::{self, Place};

/// Most places kept: nobody scrolls further.
const MOST_PLACES: usize = 500;
/// Most call paths of one place, and frames of one path.
const MOST_PATHS: usize = 20;
const MOST_FRAMES: usize = 200;

/// One screen's content.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Milliseconds since the trace started.
    pub at_ms: u64,
    /// The processes.
    pub workers: Vec<Worker>,
    /// The places of the chosen ledger and number.
    pub places: Vec<Place>,
    /// How much each place's number grew in a second since the reading before, by name.
    pub growth: HashMap<String, i64>,
    /// The sum of all places' numbers.
    pub sum: u64,
    /// The call paths of the place that was gone into: number, and frames outermost first.
    pub paths: Vec<(u64, Vec<(String, bool)>)>,
    /// CPU time that the probes take of the target's, in 1/1000.
    pub cost: u64,
    /// Events lost.
    pub dropped: u64,
}

impl Shown {
    /// Takes it out of the profile; `before` is the reading before, for rates.
    pub fn of(profile: &Profile, choice: &Choice, before: &Self) -> Self {
        let mut places = live::places(profile, choice.ledger, choice.value, choice.process);
        let sum = places.iter().fold(0, |sum: u64, place| sum.saturating_add(place.value));
        places.truncate(MOST_PLACES);
        let at_ms = profile.trace.duration_ms;
        let mut shown = Self {
            at_ms,
            workers: workers::of(profile, choice.sort),
            growth: growth(&places, before, at_ms),
            sum,
            cost: cost(profile),
            dropped: dropped(profile),
            places,
            paths: Vec::new(),
        };
        if let Some(name) = &choice.place {
            shown.paths = shown.paths_of(profile, name);
        }
        shown
    }

    fn paths_of(&self, profile: &Profile, name: &str) -> Vec<(u64, Vec<(String, bool)>)> {
        let Some(place) = self.places.iter().find(|place| place.name == name) else { return Vec::new() };
        let path = |(stack, value): &(StackId, u64)| {
            let mut frames = live::frames(profile, *stack);
            frames.drain(..frames.len().saturating_sub(MOST_FRAMES));
            (*value, frames)
        };
        place.paths.iter().take(MOST_PATHS).map(path).collect()
    }
}

/// Nothing is known of a place that was not listed before: it may only have been too small.
fn growth(places: &[Place], before: &Shown, at_ms: u64) -> HashMap<String, i64> {
    let earlier: HashMap<&str, u64> = before.places.iter().map(|place| (place.name.as_str(), place.value)).collect();
    let ms = i64::try_from(at_ms.saturating_sub(before.at_ms)).unwrap_or(i64::MAX);
    if ms == 0 {
        return before.growth.clone();
    }
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rate = |place: &Place| {
        let was = *earlier.get(place.name.as_str())?;
        Some((place.name.clone(), signed(place.value).saturating_sub(signed(was)).saturating_mul(1000) / ms))
    };
    places.iter().filter_map(rate).collect()
}

fn cost(profile: &Profile) -> u64 {
    let quality = &profile.quality;
    quality.target_cost_ms.saturating_mul(1000).checked_div(quality.target_cpu_ms).unwrap_or(0)
}

fn dropped(profile: &Profile) -> u64 {
    let lost = profile.quality.counts.iter().filter(|count| count.class == CountClass::Dropped);
    lost.fold(0, |sum: u64, count| sum.saturating_add(count.value))
}
