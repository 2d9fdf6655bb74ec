//! Are caches and queues bounded?

use crate::diagnose::facts::Facts;
use crate::diagnose::rules::cache::told;
use crate::diagnose::words::time;
use crate::render::units::{bytes, count};

/// What the looks at the objects told.
pub fn answer(facts: &Facts<'_>) -> Vec<String> {
    let growing = facts.growing();
    let any: Vec<_> = if growing.is_empty() { facts.counted().collect() } else { growing };
    let Some(objects) = facts.objects_of(&any) else { return vec![missing(facts)] };
    let mut lines: Vec<String> = objects
        .containers
        .iter()
        .filter(|row| !row.holds_weakly() && !objects.is_of_functools(row))
        .take(4)
        .map(|row| {
            let bound = row.now.bound.map_or("no bound".to_owned(), |bound| format!("bound {}", count(bound)));
            format!("{bound}: {}", told(row, objects.seconds))
        })
        .collect();
    lines.extend(objects.caches.iter().take(4).map(|row| {
        let bound = row.now.maxsize.map_or("no bound".to_owned(), |most| format!("bound {}", count(most)));
        format!(
            "{bound}: functools cache of {}: {} entries now, {} gained, some {}",
            row.now.function,
            count(row.now.currsize),
            count(row.gained),
            bytes(row.bytes)
        )
    }));
    if !objects.whole {
        lines.push(
            "there are more objects than a look reads: what only one look reached is left out, and bytes are at least so many"
                .to_owned(),
        );
    }
    if lines.is_empty() {
        lines.push(format!("no container and no cache was seen to gain entries in {}", time(objects.seconds)));
    }
    lines
}

fn missing(facts: &Facts<'_>) -> String {
    let looks = &facts.profile.evidence.looks;
    match looks.iter().find_map(|look| look.not_available.clone()) {
        Some(why) => format!("not known: {why}"),
        None => "not known: the objects were not looked at twice".to_owned(),
    }
}
