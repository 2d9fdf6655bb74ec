//! Does growth follow traffic, jobs, or the clock? Does it stay after traffic stops?

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::{ProcessFacts, Trend};
use crate::diagnose::thresholds::{FOLLOWS, INDEPENDENT};
use crate::diagnose::words::{percent, size, time};
use crate::render::units::{bytes, counted};

/// Of the processes that grow; else of the busiest.
pub fn answer(facts: &Facts<'_>) -> Vec<String> {
    if facts.profile.evidence.readings.is_empty() {
        return vec!["not looked at: only `pyalloc diagnose` records it".to_owned()];
    }
    let growing = facts.growing();
    let mut lines = Vec::new();
    let told: Vec<&ProcessFacts> = if growing.is_empty() { busiest(facts).into_iter().collect() } else { growing };
    for process in told.iter().take(3) {
        lines.push(came(facts, process));
        lines.extend(followed(process));
    }
    if !facts.profile.evidence.sockets_counted {
        lines.push("what goes through sockets could not be counted on this kernel (6.3 and later can)".to_owned());
    }
    lines
}

fn busiest<'f>(facts: &'f Facts<'_>) -> Option<&'f ProcessFacts> {
    facts.counted().max_by_key(|process| (process.work.events, process.work.received))
}

fn came(facts: &Facts<'_>, process: &ProcessFacts) -> String {
    let work = process.work;
    /// Less is a configuration file now and then.
    const WORTH_A_WORD: u64 = 64 << 10;
    let files = if work.files_read > WORTH_A_WORD {
        format!(", {} read from files and pipes", bytes(work.files_read))
    } else {
        String::new()
    };
    format!(
        "{}: {} ({}) came in through sockets{files}; {} of a CPU",
        facts.name(process),
        counted(work.events, "message"),
        bytes(work.received),
        percent(work.cpu)
    )
}

fn followed(process: &ProcessFacts) -> Option<String> {
    let work = process.work;
    if process.trend != Trend::Grows {
        return None;
    }
    if work.is_idle() {
        return Some(
            "nothing asked for it, and it grew all the same: it follows the clock, or work of its own".to_owned(),
        );
    }
    if work.varies() {
        let rates = format!(
            "{} a minute in busy stretches ({}), {} in idle ones ({})",
            size(work.busy_rate * 60.0),
            time(work.busy_s),
            size(work.idle_rate * 60.0),
            time(work.idle_s)
        );
        let word = match work.idle_rate {
            idle if idle <= work.busy_rate * FOLLOWS && idle >= -work.busy_rate * FOLLOWS => {
                "it follows traffic, and stays when traffic stops"
            }
            idle if idle < 0.0 => "it follows traffic, and comes back when traffic stops",
            idle if idle >= work.busy_rate * INDEPENDENT => "it does not follow traffic",
            _ => "it follows traffic in part",
        };
        return Some(format!("{word}: {rates}"));
    }
    let each = process.growth / work.events.max(1) as f64;
    let of_bytes = if work.received > 0 {
        format!(", {:.2} bytes for each byte received", process.growth / work.received as f64)
    } else {
        String::new()
    };
    let along = match work.correlation {
        Some(along) if along >= 0.5 => {
            format!("it goes with traffic from second to second (rank correlation {along:.1})")
        }
        _ => "traffic was even: whether growth follows it shows only when it changes".to_owned(),
    };
    Some(format!("{along}; {} kept for each message{of_bytes}", size(each)))
}
