//! Resident memory that an allocator holds free: little is live, and what was is not given back to the system.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::Trend;
use crate::diagnose::thresholds::{HELD_LEAST, HELD_SHARE, LEAST_GROWTH, PART};
use crate::diagnose::words::{percent, whole};
use crate::profile::reconcile::{Part, Reconciliation};
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::profile::{Allocators, Process};
use crate::render::units::{bytes, counted};

/// Judges what is held free: where memory grew, its growth; else how much it is.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    let parts = Reconciliation::of_counted(facts.profile).filter(|parts| !parts.held_unknown)?;
    let held = whole(parts.end[Part::HeldByAllocator as usize] as f64);
    let live = whole(parts.end[Part::LiveHeap as usize] as f64);
    let grown = whole(facts.growth.held as f64);
    let growing = matches!(facts.trend, Trend::Grows | Trend::LevelsOff);
    let is_growth = growing && grown >= LEAST_GROWTH && grown as f64 >= facts.growth.total as f64 * PART;
    let is_much = held >= HELD_LEAST && held as f64 >= parts.rss_end as f64 * HELD_SHARE;
    if !is_growth && !is_much {
        return None;
    }
    let worst = facts.counted().max_by_key(|process| held_in(facts.info(process)))?;
    let info = facts.info(worst);
    let allocators = info.allocators.clone().unwrap_or_default();
    let who = facts
        .names_of(&facts.counted().filter(|process| held_in(facts.info(process)) >= LEAST_GROWTH).collect::<Vec<_>>());
    Some(Finding {
        pattern: Pattern::HeldByAllocator,
        sentence: format!(
            "{who}: of {} resident only {} are live; {} are held free by {}",
            bytes(parts.rss_end),
            bytes(live),
            bytes(held),
            holder(&allocators)
        ),
        bytes: if is_growth { grown } else { held },
        confidence: if is_much { Confidence::High } else { Confidence::Medium },
        to_be_surer: if is_much {
            String::new()
        } else {
            "a longer watch: an allocator may yet use again what it holds".to_owned()
        },
        evidence: evidence(facts, &allocators, held, grown),
        culprit: Culprit {
            holder: holder(&allocators),
            pids: vec![info.pid],
            ..facts.bursts.culprit(facts.profile, &facts.names).unwrap_or_default()
        },
        next_steps: steps(&allocators),
        not_to_do: "do not look for a leak in Python's objects, and do not call gc.collect(): the objects are gone"
            .to_owned(),
    })
}

/// Bytes that the allocators of a process hold free, at the end.
pub fn held_in(info: &Process) -> u64 {
    let lines = info.residency_end.iter().flat_map(|residency| &residency.lines);
    lines.fold(0u64, |sum, line| sum.saturating_add(line.free.unwrap_or(0)))
}

fn in_glibc(allocators: &Allocators) -> u64 {
    allocators.top_space.saturating_add(allocators.bin_space).saturating_add(allocators.cached_space)
}

fn in_pymalloc(allocators: &Allocators) -> u64 {
    allocators.pool_free_space.saturating_add(allocators.free_pool_space)
}

fn holder(allocators: &Allocators) -> String {
    let glibc = if allocators.glibc.is_empty() {
        "the C allocator".to_owned()
    } else {
        format!("glibc {}'s malloc", allocators.glibc)
    };
    if in_glibc(allocators) >= in_pymalloc(allocators) {
        glibc
    } else {
        "pymalloc, in arenas that are used in part".to_owned()
    }
}

fn evidence(facts: &Facts<'_>, allocators: &Allocators, held: u64, grown: u64) -> Vec<String> {
    let mut lines = vec![format!(
        "{} held free is {} of the resident memory; {} of it came during the watch",
        bytes(held),
        percent(held as f64 / facts.rss().max(1) as f64),
        bytes(grown)
    )];
    if in_glibc(allocators) > 0 {
        lines.push(format!(
            "glibc: {} at the ends of {}, {} between blocks, {} cached by threads",
            bytes(allocators.top_space),
            counted(allocators.arenas, "arena"),
            bytes(allocators.bin_space),
            bytes(allocators.cached_space)
        ));
    }
    if in_pymalloc(allocators) > 0 {
        lines.push(format!(
            "pymalloc: {} in pools used in part, {} in free pools",
            bytes(allocators.pool_free_space),
            bytes(allocators.free_pool_space)
        ));
    }
    if let Some(culprit) = facts.bursts.culprit(facts.profile, &facts.names) {
        lines.push(format!("the largest burst that was given back was allocated at {}", culprit.code));
    }
    lines
}

/// What gives most back first, each with how much.
fn steps(allocators: &Allocators) -> Vec<String> {
    let mut ways = [
        (allocators.trim_gives_back, "call malloc_trim(0) after the batch (ctypes.CDLL(\"libc.so.6\").malloc_trim(0))"),
        (allocators.threshold_gives_back, "set MALLOC_TRIM_THRESHOLD_=131072 in the environment and restart"),
        (allocators.two_arenas_give_back, "set MALLOC_ARENA_MAX=2 in the environment and restart"),
    ];
    ways.sort_by_key(|(gives, _)| std::cmp::Reverse(*gives));
    let useful = ways.into_iter().filter(|(gives, _)| *gives >= LEAST_GROWTH);
    let mut steps: Vec<String> =
        useful.map(|(gives, way)| format!("{way}: gives back up to {}", bytes(gives))).collect();
    if in_pymalloc(allocators) > in_glibc(allocators) {
        steps.push(
            "do the batch in a process of its own that ends, or in smaller pieces: pymalloc gives an arena back only when \
             the last object in it is gone"
                .to_owned(),
        );
    }
    if steps.is_empty() {
        steps.push("use jemalloc (LD_PRELOAD), which gives free pages back by time".to_owned());
    }
    steps
}
