//! One verdict of what the rules found: whose share is most, or that none is.

use super::facts::Facts;
use super::facts::process::Trend;
use super::rules::{self, levels_off, no_growth, not_enough};
use super::thresholds::{LEAST_GROWTH, LEAST_PART, MOST, PART};
use super::words::{change, list, whole};
use crate::profile::verdict::{Confidence, Diagnosis, Finding, Part, Pattern};
use crate::render::units::bytes;

/// The verdict.
pub fn of(facts: &Facts<'_>) -> Diagnosis {
    let mut diagnosis = match facts.trend {
        Trend::Grows => growing(facts),
        Trend::LevelsOff => levelled(facts),
        Trend::Flat | Trend::Unclear | Trend::Unknown => still(facts),
    };
    if let Some((finding, watch)) = not_enough::judge(facts) {
        diagnosis.watch_for_s = Some(watch);
        // What is there can be told without any watch: how much is held free, or multiplied.
        let rest = std::mem::take(&mut diagnosis.findings).into_iter().filter(|one| is_of_a_moment(one.pattern));
        diagnosis.findings = std::iter::once(finding).chain(rest).collect();
    }
    if let Some(first) = diagnosis.findings.first() {
        diagnosis.pattern = if diagnosis.pattern == Pattern::Mixed && first.pattern != Pattern::NotEnoughData {
            Pattern::Mixed
        } else {
            first.pattern
        };
        if diagnosis.headline.is_empty() || first.pattern == Pattern::NotEnoughData {
            diagnosis.headline = first.sentence.clone();
        }
    }
    diagnosis.growth = facts.growth.total;
    diagnosis
}

const fn is_of_a_moment(pattern: Pattern) -> bool {
    matches!(pattern, Pattern::HeldByAllocator | Pattern::ProcessModelMultiplication)
}

/// Findings that explain the growth, with what they explain of it.
fn growing(facts: &Facts<'_>) -> Diagnosis {
    let worth = facts.growth.total.max(0) as f64 * LEAST_PART;
    let mut left = facts.live();
    let mut findings = Vec::new();
    for rule in rules::LIVE {
        if let Some(finding) = rule(facts, left).filter(|finding| finding.bytes as f64 >= worth) {
            left = left.saturating_sub(finding.bytes);
            findings.push(finding);
        }
    }
    let in_flight = findings.iter().any(|finding| finding.pattern == Pattern::PayloadOrTrafficPressure);
    let mut beside = Vec::new();
    let again = |finding: &Finding| in_flight && finding.pattern == Pattern::PayloadOrTrafficPressure;
    let others: Vec<Finding> = others(facts).into_iter().filter(|finding| !again(finding)).collect();
    // Growth of less than a burst is not told from one, but for what is seen to be kept.
    let total = facts.growth.total.max(0).unsigned_abs();
    let is_burst = |finding: &Finding| finding.pattern == Pattern::PayloadOrTrafficPressure && finding.bytes >= total;
    if others.iter().any(is_burst) {
        findings.retain(is_kept);
    }
    for finding in others {
        match of_growth(facts, &finding).or_else(|| is_burst(&finding).then_some(total)) {
            Some(bytes) => findings.push(Finding { bytes, ..finding }),
            None => beside.push(finding),
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.bytes));
    let explained = findings.iter().fold(0u64, |sum, finding| sum.saturating_add(finding.bytes));
    let share = |finding: &Finding| finding.bytes as f64 / explained.max(1) as f64;
    findings.retain(|finding| share(finding) >= LEAST_PART);
    let parts = parts(facts, &findings);
    let mixed = findings.first().is_some_and(|first| share(first) < MOST);
    let headline = if mixed { mixture(facts, &findings, share) } else { String::new() };
    let pattern = if mixed && !headline.is_empty() { Pattern::Mixed } else { Pattern::NotEnoughData };
    if findings.is_empty() {
        findings.push(unexplained(facts));
    }
    findings.extend(beside);
    Diagnosis { pattern, headline, findings, parts, ..Diagnosis::default() }
}

/// Whether a finding rests on what keeps the memory, and not on its growth alone.
fn is_kept(finding: &Finding) -> bool {
    match finding.pattern {
        Pattern::NativeLeak => false,
        Pattern::RetainedReferences | Pattern::BackgroundStateWhileIdle => !finding.culprit.holder.is_empty(),
        _ => true,
    }
}

/// The bytes of growth that a finding explains; `None` if its bytes are of a level. Bursts explain what they leave with the
/// allocator.
fn of_growth(facts: &Facts<'_>, finding: &Finding) -> Option<u64> {
    let held = facts.growth.held.max(0).unsigned_abs();
    match finding.pattern {
        Pattern::HeldByAllocator => Some(finding.bytes).filter(|bytes| *bytes <= held),
        Pattern::PayloadOrTrafficPressure => {
            let enough = LEAST_GROWTH.max(whole(facts.growth.total as f64 * PART));
            // Of a burst at the end of the watch, the growth is live, for the moment.
            let moment = facts.grown_live().saturating_sub(facts.live());
            Some(finding.bytes.min(held.saturating_add(moment))).filter(|bytes| *bytes >= enough)
        }
        Pattern::ProcessModelMultiplication => Some(finding.bytes).filter(|_| facts.growth.new_processes > 0),
        _ => None,
    }
}

/// What the rules on other things than live memory find. What bursts leave behind with the allocator, and come back to, is
/// the bursts': with those gone, it would not be there.
fn others(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = rules::OTHERS.iter().filter_map(|rule| rule(facts)).collect();
    let bursts = findings.iter().position(|finding| finding.pattern == Pattern::PayloadOrTrafficPressure);
    let held = findings.iter().position(|finding| finding.pattern == Pattern::HeldByAllocator);
    if let (Some(bursts), Some(held)) = (bursts, held)
        && findings[bursts].bytes >= findings[held].bytes / 2
    {
        let held = findings.remove(held);
        let bursts = bursts.min(findings.len() - 1);
        findings[bursts].evidence.push(held.sentence);
        findings[bursts].bytes = findings[bursts].bytes.max(held.bytes);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.bytes));
    findings
}

fn mixture(facts: &Facts<'_>, findings: &[Finding], share: impl Fn(&Finding) -> f64) -> String {
    let worth: Vec<&Finding> = findings.iter().filter(|finding| share(finding) >= PART).collect();
    if worth.len() < 2 {
        return String::new();
    }
    let told: Vec<String> = worth
        .iter()
        .map(|finding| format!("{} {}{}", bytes(finding.bytes), finding.pattern.words(), at(finding)))
        .collect();
    format!(
        "{} grew by {}, for more than one reason: {}",
        facts.names_of(&facts.growing()),
        bytes(facts.growth.total.max(0).unsigned_abs()),
        list(&told)
    )
}

/// Who is at fault, in a few words.
fn at(finding: &Finding) -> String {
    let culprit = &finding.culprit;
    let is_named = !culprit.holder.is_empty() && finding.pattern != Pattern::NativeLeak;
    let name = if is_named || culprit.code.is_empty() { &culprit.holder } else { &culprit.code };
    if name.is_empty() { String::new() } else { format!(" ({name})") }
}

/// It grows, and no rule says why.
fn unexplained(facts: &Facts<'_>) -> Finding {
    let watch = whole(facts.seconds() * 4.0).clamp(60, 3600);
    Finding {
        pattern: Pattern::NotEnoughData,
        sentence: format!(
            "{} grew by {}, and nothing that was seen explains it: watch for longer (--for {watch}s)",
            facts.names_of(&facts.growing()),
            change(facts.growth.total)
        ),
        bytes: facts.growth.total.max(0).unsigned_abs(),
        confidence: Confidence::Low,
        next_steps: vec![
            format!("run it again with --for {watch}s"),
            "look at what RSS is made of: pyalloc report".to_owned(),
        ],
        ..Finding::default()
    }
}

/// It grew and has stopped: that is the verdict, unless most of what came is trouble of another kind.
fn levelled(facts: &Facts<'_>) -> Diagnosis {
    let mut findings = others(facts);
    let grown = facts.growth.total.max(1) as f64;
    let is_most = findings.first().is_some_and(|first| first.bytes as f64 >= grown * 0.5);
    let level = levels_off::judge(facts);
    if is_most {
        // Beside trouble that is most of it, it is no verdict of its own.
        let told = level.into_iter().map(|level| level.sentence);
        findings.iter_mut().take(1).for_each(|first| first.evidence.extend(told.clone()));
    } else {
        findings.splice(0..0, level);
    }
    let explains = findings.iter().take(1).filter_map(|finding| {
        let bytes = match finding.pattern {
            Pattern::LevelsOff => Some(finding.bytes),
            // Of what is handled right now, the growth is live.
            Pattern::PayloadOrTrafficPressure => {
                of_growth(facts, finding).or(Some(finding.bytes.min(facts.grown_live())))
            }
            _ => of_growth(facts, finding),
        };
        Some(Finding { pattern: finding.pattern, bytes: bytes?, ..Finding::default() })
    });
    let parts = parts(facts, &explains.collect::<Vec<_>>());
    Diagnosis { findings, parts, ..Diagnosis::default() }
}

/// It does not grow: it may be large all the same.
fn still(facts: &Facts<'_>) -> Diagnosis {
    let mut findings = others(facts);
    match (findings.first_mut(), no_growth::judge(facts)) {
        (Some(first), Some(none)) => first.evidence.push(none.sentence),
        (None, none) => findings.extend(none),
        (Some(_), None) => {}
    }
    Diagnosis { parts: parts(facts, &[]), findings, ..Diagnosis::default() }
}

/// The parts of the growth, adding up: what findings explain, and what the pages are of the rest.
fn parts(facts: &Facts<'_>, findings: &[Finding]) -> Vec<Part> {
    let growth = facts.growth;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut parts: Vec<Part> = findings
        .iter()
        .map(|finding| Part {
            pattern: Some(finding.pattern),
            what: finding.pattern.words().to_owned(),
            bytes: signed(finding.bytes),
        })
        .collect();
    let of = |pattern: Pattern| -> i64 {
        findings.iter().filter(|finding| finding.pattern == pattern).map(|finding| signed(finding.bytes)).sum()
    };
    let payload = of(Pattern::PayloadOrTrafficPressure).min(growth.held.max(0));
    let held = of(Pattern::HeldByAllocator) + payload;
    let new = of(Pattern::ProcessModelMultiplication);
    let live: i64 = parts.iter().map(|part| part.bytes).sum::<i64>() - held - new;
    let rest = [
        ("live, not explained", growth.live + growth.other - live),
        ("held free by the allocators", growth.held - held),
        ("files and shared memory", growth.shared),
        ("processes that came and went", growth.new_processes + growth.ended - new),
        ("unexplained", growth.unexplained),
    ];
    let rest = rest.into_iter().filter(|(_, bytes)| *bytes != 0);
    parts.extend(rest.map(|(what, bytes)| Part { pattern: None, what: what.to_owned(), bytes }));
    parts
}
