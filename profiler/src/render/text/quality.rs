//! How good the trace is: what was lost or is unknown, and what it cost.

use super::{filling, without_probes};
use crate::profile::quality::{Count, CountClass, Quality};
use crate::profile::{End, Process, Profile};
use crate::render::page::{Page, words};
use crate::render::sanitize;
use crate::render::units::{count, counted, share, time_ms, time_us};

pub(super) fn write(page: &mut Page, profile: &Profile) {
    let quality = &profile.quality;
    page.heading("Quality of this trace");
    write_seen(page, quality);
    write_losses(page, quality);
    without_probes::write(page, profile);
    write_gaps(page, profile);
    write_old_readings(page, profile);
    filling::write(page, profile);
    let killed = |process: &Process| matches!(process.end, End::Killed(_));
    if quality.tells_oom_kills == Some(false) && profile.processes.iter().any(killed) {
        let reason = "this kernel does not tell which processes its OOM killer chooses: a SIGKILL may have been its";
        page.fact("killed by", reason);
    }
    write_cost(page, profile);
}

fn write_seen(page: &mut Page, quality: &Quality) {
    let seen = quality.counts.iter().filter(|count| count.class == CountClass::Seen && count.value > 0);
    let seen: Vec<String> = seen.map(|seen| format!("{}\u{a0}{}", count(seen.value), words_of(seen))).collect();
    page.fact("events seen", &if seen.is_empty() { "none".to_owned() } else { seen.join(", ") });
}

/// A counter's name in words: it is kept together on a line.
fn words_of(count: &Count) -> String {
    sanitize::name(&count.name, 40).replace('_', "\u{a0}")
}

fn write_losses(page: &mut Page, quality: &Quality) {
    let lost = |class| quality.counts.iter().filter(move |count| count.class == class && count.value > 0);
    let mut clean = Vec::new();
    for (class, name) in CLASSES {
        if lost(class).next().is_none() {
            clean.push(name);
        }
        for count in lost(class) {
            write_loss(page, name, count);
        }
    }
    if let Some((last, others)) = clean.split_last() {
        let others = if others.is_empty() { String::new() } else { format!("{} or ", others.join(", ")) };
        page.fact("no losses", &format!("nothing was {others}{last}"));
    }
}

const CLASSES: [(CountClass, &str); 4] = [
    (CountClass::Dropped, "dropped"),
    (CountClass::Unmatched, "unmatched"),
    (CountClass::Truncated, "truncated"),
    (CountClass::Unknown, "unknown"),
];

fn write_loss(page: &mut Page, class: &str, loss: &Count) {
    let first = format!("  {class:<12}{:>12}  ", count(loss.value));
    page.pieces(&first, 28, &words(&sanitize::name(&loss.meaning, 400)));
}

/// How old the small objects of ended processes are, where they could not be read at the end.
fn write_old_readings(page: &mut Page, profile: &Profile) {
    let missing = "what changed after it is missing";
    if let Some(ms) = profile.quality.pools_read_before_end_ms.filter(|_| !profile.pools.is_empty()) {
        page.fact("small objects", &format!("last read {} before the end: {missing}", time_ms(ms)));
        return;
    }
    let has_pools = |index: u32| profile.pools.iter().any(|row| row.process == index);
    let old = (0..).zip(&profile.processes).filter(|(index, _)| has_pools(*index));
    let ages: Vec<u64> = old.filter_map(|(_, process)| process.pools_read_before_end_ms).collect();
    if let Some(oldest) = ages.iter().max() {
        let ended = counted(ages.len() as u64, "process");
        let text = format!("of {ended} that ended: last read up to {} before that; {missing}", time_ms(*oldest));
        page.fact("small objects", &text);
    }
}

/// How long the processes that came during the trace ran without probes.
fn write_gaps(page: &mut Page, profile: &Profile) {
    let probed = profile.processes.iter().filter(|process| process.without_probes.is_none());
    let came = || probed.clone().filter(|process| process.seen_at_ms > 0 || process.unprobed_us > 0);
    let all = came().count() as u64;
    let mut gaps: Vec<u64> = came().map(|process| process.unprobed_us).filter(|gap| *gap > 0).collect();
    gaps.sort_unstable();
    let never = all - gaps.len() as u64;
    let gap = match (gaps[..].last(), gaps.len()) {
        _ if all == 0 => return,
        (None, _) => String::new(),
        (Some(gap), 1) => format!("; probes were on after {}; what it allocated before is not counted", time_us(*gap)),
        (Some(longest), number) => format!(
            "; probes were on after {} (median), {} (longest); what they allocated before is not counted",
            time_us(gaps[number / 2]),
            time_us(*longest)
        ),
    };
    let never = match never {
        0 => String::new(),
        never if never == all => "; no probes: ended before, or no Python".to_owned(),
        never => format!("; {never} of them had none: ended before, or no Python"),
    };
    let were = if all == 1 { "was" } else { "were" };
    let came = format!("{} {were} forked or executed during the trace", counted(all, "process"));
    page.fact("new processes", &format!("{came}{gap}{never}"));
}

fn write_cost(page: &mut Page, profile: &Profile) {
    let quality = &profile.quality;
    let of_trace = share(quality.own_cpu_ms, profile.trace.duration_ms);
    page.fact("cost: pyalloc", &format!("{} of CPU time, {of_trace} of one CPU", time_ms(quality.own_cpu_ms)));
    let hit = match quality.hit_cost_ns {
        _ if without_probes::everywhere(profile) => "no probe, page faults only".to_owned(),
        0 => "the cost of a probe hit could not be measured".to_owned(),
        ns => format!("estimated at {} ns a probe hit, measured on this machine", count(ns)),
    };
    let cost = time_ms(quality.target_cost_ms);
    // Of a process that was killed the last CPU time read may be far too small.
    let target = match quality.target_cpu_ms {
        cpu if cpu < quality.target_cost_ms => format!("about {cost} of CPU time; {hit}"),
        cpu => {
            format!("about {cost} of its {} of CPU time, {}; {hit}", time_ms(cpu), share(quality.target_cost_ms, cpu))
        }
    };
    page.fact("cost: target", &target);
    if quality.fault_cost_ns > 0 {
        let faults = quality.value("faults").saturating_add(quality.value("faults_left_out"));
        let each = format!("{} at {} ns each, measured", counted(faults, "page fault"), count(quality.fault_cost_ns));
        page.fact("  of that", &format!("{} for {each}", time_ms(quality.faults_cost_ms)));
    }
    let writes = quality.value("watch_hits");
    if writes > 0 {
        let each = format!("{}, {} ns each and their programs", counted(writes, "write"), count(quality.write_cost_ns));
        page.fact("  of that", &format!("{} for slots that are watched: {each}", time_ms(quality.watch_cost_ms)));
    }
    let links = if quality.links.is_empty() { "unknown links" } else { &quality.links };
    let time = if quality.attach_ms == 0 { "less than 1 ms".to_owned() } else { time_ms(quality.attach_ms) };
    let way = match without_probes::everywhere(profile) {
        true => "without a probe in the process".to_owned(),
        false => format!("by {}", sanitize::name(links, 80)),
    };
    page.fact("attached", &format!("in {time}, {way}"));
}
