//! Growth that is no trouble: it has stopped, or it fills something that has a bound.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::Trend;
use crate::diagnose::rules::cache::explained;
use crate::diagnose::thresholds::{LAST_PART, WARM_UP_S};
use crate::diagnose::words::{percent, time, whole};
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, count};

/// It has stopped growing.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    if facts.trend != Trend::LevelsOff {
        return None;
    }
    let levelled: Vec<_> = facts.counted().filter(|process| process.trend == Trend::LevelsOff).collect();
    let most = levelled.iter().max_by(|a, b| a.growth.total_cmp(&b.growth))?;
    let grown: f64 = levelled.iter().map(|process| process.growth).sum();
    let last = most.rss.from_share(1.0 - LAST_PART);
    let base = facts.culprit.clone().unwrap_or_default();
    let at = if base.code.is_empty() { String::new() } else { format!(" (most of it allocated at {})", base.code) };
    Some(Finding {
        pattern: Pattern::LevelsOff,
        sentence: format!(
            "{} grew by {} and {} stopped: {} in the last {}{at}",
            facts.names_of(&levelled),
            bytes(whole(grown)),
            if levelled.len() == 1 { "has" } else { "have" },
            bytes(whole(last.growth())),
            time(last.seconds())
        ),
        bytes: whole(grown),
        confidence: if facts.seconds() >= WARM_UP_S { Confidence::Medium } else { Confidence::Low },
        to_be_surer: "a longer watch, with the usual load".to_owned(),
        evidence: vec![format!(
            "the last {} of the watch brought {} of what an even growth would have",
            percent(LAST_PART),
            percent(most.rss.late_share())
        )],
        culprit: Culprit { pids: levelled.iter().map(|process| facts.info(process).pid).collect(), ..base },
        next_steps: vec![format!("none now; plan for {} resident, and look again after a day", bytes(facts.rss()))],
        not_to_do: "do not hunt a leak: warm-up and caches look like this".to_owned(),
    })
}

/// It fills caches that have a bound, and will stop there.
pub fn filling(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    let growing = facts.growing();
    let objects = facts.objects_of(&growing)?;
    let caches = objects.caches.iter().filter_map(|row| {
        Some(Filling {
            name: format!("functools cache of {}", row.now.function),
            length: row.now.currsize,
            bound: row.now.maxsize?,
            gained: row.gained,
            bytes: row.bytes,
        })
    });
    let containers = objects.containers.iter().filter_map(|row| {
        Some(Filling {
            name: row.name(),
            length: row.now.length,
            bound: row.now.bound?,
            gained: row.gained,
            bytes: row.bytes,
        })
    });
    let largest = caches.chain(containers).filter(|row| row.length <= row.bound).max_by_key(|row| row.bytes)?;
    let claimed = explained(largest.bytes.saturating_mul(growing.len().max(1) as u64), left)?;
    let each = largest.bytes / largest.gained.max(1);
    let full = each.saturating_mul(largest.bound);
    Some(Finding {
        pattern: Pattern::LevelsOff,
        sentence: format!(
            "{} because {} fills up, and stops at its bound: {} of {} entries now, some {} when full",
            facts.who_grows(),
            largest.name,
            count(largest.length),
            count(largest.bound),
            bytes(full)
        ),
        bytes: claimed,
        confidence: Confidence::High,
        evidence: vec![format!(
            "{} entries gained, some {} each; bound {}",
            count(largest.gained),
            bytes(each),
            count(largest.bound)
        )],
        culprit: Culprit {
            holder: largest.name,
            pids: facts.pids_growing(),
            ..facts.culprit.clone().unwrap_or_default()
        },
        next_steps: vec![format!("none, if {} for it is fine; else lower its bound", bytes(full))],
        not_to_do: "do not call it a leak: it has a bound".to_owned(),
        ..Finding::default()
    })
}

struct Filling {
    name: String,
    length: u64,
    bound: u64,
    gained: u64,
    bytes: u64,
}
