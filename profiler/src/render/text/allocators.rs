//! What the allocators hold free, where, and what would make them give it back.

use std::collections::BTreeSet;

use crate::profile::reconcile::{Part, Reconciliation};
use crate::profile::tree::counted;
use crate::profile::{Allocators, Profile};
use crate::render::page::Page;
use crate::render::sanitize;
use crate::render::units::{bytes, counted as number, rough_share};

/// Less than this is not worth advice, bytes; and less than this share of RSS, in percent.
const WORTH_ADVICE: u64 = 8 << 20;
const WORTH_PERCENT: u64 = 10;
/// Advice that would give back less than this share of what is held is not given, in percent.
const WORTH_OF_HELD: u64 = 10;
/// Most sentences about what could not be read.
const MOST_NOTES: usize = 4;

pub(super) fn write(page: &mut Page, profile: &Profile, sum: &Reconciliation) {
    let counts = counted(profile);
    let looked = profile.processes.iter().zip(&counts).filter(|(_, counts)| **counts);
    let known: Vec<&Allocators> = looked.filter_map(|(process, _)| process.allocators.as_ref()).collect();
    let held = u64::try_from(sum.end[Part::HeldByAllocator as usize]).unwrap_or(0);
    if held >= WORTH_ADVICE && held >= sum.rss_end / 100 * WORTH_PERCENT {
        page.sentence(&places(&known, held));
        advice(page, &known, held);
    }
    let notes: BTreeSet<&str> = known.iter().flat_map(|found| found.notes.iter().map(String::as_str)).collect();
    for note in notes.into_iter().take(MOST_NOTES) {
        page.sentence(&format!("Note: {}.", sanitize::name(note, 200)));
    }
}

/// `Held free, 56.0 MiB: 55.0 MiB between the blocks of malloc (5 arenas), 1.0 MiB at the ends of its arenas ...`
fn places(known: &[&Allocators], held: u64) -> String {
    let sum = |field: fn(&Allocators) -> u64| known.iter().fold(0u64, |sum, found| sum.saturating_add(field(found)));
    let arenas = sum(|found| found.arenas);
    let parts = [
        (sum(|found| found.bin_space), format!("between the blocks of malloc ({})", number(arenas, "arena"))),
        (sum(|found| found.top_space), "at the ends of its arenas".to_owned()),
        (sum(|found| found.cached_space), "in its threads' caches".to_owned()),
        (sum(|found| found.pool_free_space), "in half-empty pools of small objects".to_owned()),
        (sum(|found| found.free_pool_space), "in empty pools of small objects".to_owned()),
    ];
    let told = parts.into_iter().filter(|(space, _)| *space >= held / 100);
    let told: Vec<String> = told.map(|(space, place)| format!("{} {place}", bytes(space))).collect();
    format!("Held free, {}: {} (read from the process's memory).", bytes(held), told.join(", "))
}

fn advice(page: &mut Page, known: &[&Allocators], held: u64) {
    let sum = |field: fn(&Allocators) -> u64| known.iter().fold(0u64, |sum, found| sum.saturating_add(field(found)));
    let worth = |space: u64| space > 0 && space >= held / 100 * WORTH_OF_HELD;
    let trim = sum(|found| found.trim_gives_back);
    if worth(trim) {
        page.sentence(&format!(
            "To get back {}: call malloc_trim(0) after large jobs (from Python by ctypes).",
            bytes(trim)
        ));
    }
    let arenas = sum(|found| if found.arena_max.is_none() { found.two_arenas_give_back } else { 0 });
    if worth(arenas) {
        page.sentence(&format!(
            "To get back up to {}: set MALLOC_ARENA_MAX=2 in the environment; threads then share two arenas.",
            bytes(arenas)
        ));
    }
    let threshold = sum(|found| found.threshold_gives_back);
    if worth(threshold) {
        page.sentence(&format!(
            "To get back {}: set MALLOC_TRIM_THRESHOLD_=131072 in the environment; malloc then gives the free end of its \
             heap back early.",
            bytes(threshold)
        ));
    }
    if [trim, arenas, threshold].into_iter().filter(|space| worth(*space)).count() > 1 {
        page.sentence("These overlap: do not add them up.");
    }
    let objects = sum(|found| found.pool_free_space);
    if worth(objects) {
        page.sentence(&format!(
            "{} ({}) is held because a few small objects keep whole pools. Only a new process gives it back: recycle \
             workers (max_requests).",
            bytes(objects),
            rough_share(objects, held)
        ));
    }
    let rest = sum(|found| found.bin_space.saturating_add(found.cached_space)).saturating_sub(trim);
    if worth(rest) {
        page.sentence(&format!(
            "{} ({}) is held in gaps of less than a page between blocks. Recycle workers, or try another allocator \
             (jemalloc or mimalloc, by LD_PRELOAD).",
            bytes(rest),
            rough_share(rest, held)
        ));
    }
}
