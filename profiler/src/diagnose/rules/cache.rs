//! A cache or a queue that only fills: a store by key, a queue or a `functools` cache that gains entries along with the
//! growth, and has no bound.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::objects::{GrowingCache, GrowingContainer, ObjectFacts};
use crate::diagnose::thresholds::{LEAST_PART, PART, PYTHON_SHARE};
use crate::diagnose::words::{list, rate, time, whole};
use crate::profile::objects::ContainerKind;
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, count};

/// Judges what is live and not yet explained.
pub fn judge(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    let growing = facts.growing();
    let objects = facts.objects_of(&growing)?;
    let whole = growing.len().max(1) as u64;
    of_functools(facts, objects, left, whole).or_else(|| of_container(facts, objects, left, whole))
}

fn of_functools(facts: &Facts<'_>, objects: &ObjectFacts, left: u64, processes: u64) -> Option<Finding> {
    let cache = objects.caches.iter().find(|cache| cache.now.maxsize.is_none_or(|most| cache.now.currsize > most))?;
    let claimed = explained(cache.bytes.saturating_mul(processes), left)?;
    let now = &cache.now;
    let holder = format!("functools cache of {}", now.function);
    let code =
        if now.file.is_empty() { now.function.clone() } else { format!("{}:{} {}", now.file, now.line, now.function) };
    let base = facts.culprit_of(claimed);
    let is_part = |row: &&&GrowingContainer| row.bytes as f64 >= cache.bytes as f64 * LEAST_PART;
    let unbounded = objects.unbounded();
    let others = unbounded.iter().filter(|row| !objects.is_of_functools(row) && row.is_cache_or_queue());
    let also: Vec<String> = others.filter(is_part).take(2).map(|row| told(row, objects.seconds)).collect();
    Some(Finding {
        pattern: Pattern::UnboundedCacheOrQueue,
        sentence: format!(
            "{} by {}: the {holder} has no bound and gained {} entries in {}",
            facts.who_grows(),
            rate(facts.rate()),
            count(cache.gained),
            time(objects.seconds)
        ),
        bytes: claimed,
        confidence: Confidence::High,
        evidence: vec![
            format!(
                "{} entries now, {} gained between two looks {} apart, some {}",
                count(now.currsize),
                count(cache.gained),
                time(objects.seconds),
                bytes(cache.bytes)
            ),
            format!("maxsize: none; {} hits against {} misses", count(now.hits), count(now.misses)),
        ]
        .into_iter()
        .chain(also.iter().map(|row| format!("it is not alone: {row}")))
        .collect(),
        culprit: Culprit { holder, code, pids: facts.pids_growing(), ..base },
        next_steps: vec![format!("set a bound: @lru_cache(maxsize={}) on {}", suggested(cache), now.function)],
        not_to_do: "do not restart on a schedule instead: each entry is one argument that was seen once".to_owned(),
        ..Finding::default()
    })
}

/// A bound that keeps what there is and no more: the next power of two below the entries of now.
fn suggested(cache: &GrowingCache) -> u64 {
    1 << cache.now.currsize.max(128).ilog2()
}

fn of_container(facts: &Facts<'_>, objects: &ObjectFacts, left: u64, processes: u64) -> Option<Finding> {
    // What owns nothing is told by nothing; it is left to the other rules.
    let (all, others): (Vec<_>, Vec<_>) =
        objects.unbounded().into_iter().partition(|row| row.is_cache_or_queue() && !row.keeps_work());
    let largest = *all.first()?;
    let sum = |rows: &[&GrowingContainer]| rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.bytes));
    let hides = objects.may_hide(facts.surviving.objects);
    let claimed = shared(sum(&all).saturating_mul(processes), sum(&others).saturating_mul(processes), left, hides)?;
    let is_part = |row: &&&GrowingContainer| row.bytes as f64 >= largest.bytes as f64 * LEAST_PART;
    let also: Vec<String> = all.iter().skip(1).filter(is_part).take(3).map(|row| row.name()).collect();
    let mut evidence = vec![told(largest, objects.seconds)];
    evidence.extend(all.iter().skip(1).filter(is_part).take(2).map(|row| told(row, objects.seconds)));
    evidence.push("none of them has a bound that could be read".to_owned());
    let base = facts.culprit_of(claimed);
    if base.code.is_empty() {
        evidence.extend(facts.surviving_at());
    } else {
        evidence.push(format!("its entries are allocated at {}", base.code));
    }
    Some(Finding {
        pattern: Pattern::UnboundedCacheOrQueue,
        sentence: format!(
            "{} by {}: {} has no bound and gained {} entries in {}{}",
            facts.who_grows(),
            rate(facts.rate()),
            largest.name(),
            count(largest.gained),
            time(objects.seconds),
            if base.code.is_empty() { String::new() } else { format!("; filled at {}", base.code) }
        ),
        bytes: claimed,
        confidence: if largest.is_new { Confidence::Medium } else { Confidence::High },
        to_be_surer: if largest.is_new {
            "a longer watch: it was too small to be seen at the first look".to_owned()
        } else {
            String::new()
        },
        evidence,
        next_steps: steps(facts, largest, &also, &base),
        culprit: Culprit { holder: largest.name(), pids: facts.pids_growing(), ..base },
        not_to_do: "do not only add memory or restart on a schedule: it fills again at the same rate".to_owned(),
    })
}

/// The growth that containers of so many bytes explain: all of it if most, since what their entries hold outside of
/// Python's objects is not in their bytes; `None` if next to nothing.
pub fn explained(found: u64, left: u64) -> Option<u64> {
    let share = found as f64 / left.max(1) as f64;
    match share {
        _ if left == 0 => None,
        _ if share >= PYTHON_SHARE => Some(left),
        _ if share >= PART / 2.0 => Some(found.min(left)),
        _ => None,
    }
}

/// As [`explained`], where other containers grow too: each has its share.
fn shared(these: u64, others: u64, left: u64, hides: bool) -> Option<u64> {
    let both = these.saturating_add(others);
    let share = these as f64 / both.max(1) as f64;
    match share {
        _ if share < PART => None,
        // What the entries hold beside what is seen of them makes up the rest.
        _ if share > 1.0 - PART && hides => explained(these.min(left), left).map(|_| left),
        _ if share > 1.0 - PART => explained(these.min(left), left),
        _ => explained(both.min(left), left).map(|claimed| whole(claimed as f64 * share)),
    }
}

/// What was seen of one container.
pub fn told(row: &GrowingContainer, seconds: f64) -> String {
    format!(
        "{}: {} entries now, {} gained in {}, some {} ({} each)",
        row.name(),
        count(row.now.length),
        count(row.gained),
        time(seconds),
        bytes(row.bytes),
        bytes(row.bytes / row.gained.max(1))
    )
}

fn steps(facts: &Facts<'_>, row: &GrowingContainer, also: &[String], culprit: &Culprit) -> Vec<String> {
    let mut steps = facts.whose(row).steps(&row.now.owner, culprit.own_code());
    if steps.is_empty() {
        steps.push(bound(row));
    }
    if !also.is_empty() {
        steps.push(format!("look at {} too: what fills it fills them", list(also)));
    }
    steps
}

fn bound(row: &GrowingContainer) -> String {
    use ContainerKind::{AsyncioQueue, Deque, Queue};
    let owner = &row.now.owner;
    let bound = 1u64 << row.now.length.max(128).ilog2();
    match row.now.kind {
        Queue | AsyncioQueue => format!(
            "bound it where {owner} is made (maxsize={bound}), and find out why its consumers do not keep up: they are \
             slow, stopped, or disconnected"
        ),
        Deque => format!("give {owner} a maxlen ({bound} would keep today's size), or consume it"),
        _ => format!(
            "bound {owner}: remove entries when their work is done, or make it an LRU or TTL cache (maxsize {bound} would \
             keep today's size)"
        ),
    }
}
