//! Objects kept by references: what is live grows, and no rule before this one says why. The holder, where it was found.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::objects::{GrowingContainer, ObjectFacts};
use crate::diagnose::facts::process::Work;
use crate::diagnose::rules::cache::told;
use crate::diagnose::thresholds::{FOLLOWS, PART, WARM_UP_S};
use crate::diagnose::words::{percent, rate, size, time};
use crate::profile::objects::Holder;
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, count, counted};

/// Judges what is live and not yet explained.
pub fn judge(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    let growing = facts.growing();
    let fastest = growing.first()?;
    let code = facts.culprit.clone();
    if left == 0 || (left as f64) < facts.live() as f64 * PART || (code.is_none() && facts.objects.is_empty()) {
        return None;
    }
    let objects = facts.objects_of(&growing);
    let container = facts.keeper(objects, left);
    // Where a container is known and others fill too, it is not known what fills this one.
    let base = if container.is_some() { facts.culprit_of(left) } else { code.unwrap_or_default() };
    let holder = container.map(GrowingContainer::name).or_else(|| objects.and_then(retainer));
    let at = if base.code.is_empty() { String::new() } else { format!(": what {} allocates is kept", base.code) };
    let by = holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default();
    let mut evidence = survivors(facts);
    evidence.extend(container.zip(objects).map(|(row, objects)| told(row, objects.seconds)));
    evidence.extend(objects.and_then(types));
    evidence.extend(with_traffic(&fastest.work));
    let is_short = facts.seconds() < WARM_UP_S;
    let confidence = match (container.is_some(), base.code.is_empty()) {
        (true, _) if is_short => Confidence::Medium,
        (true, _) => Confidence::High,
        (false, false) => Confidence::Medium,
        (false, true) => Confidence::Low,
    };
    Some(Finding {
        pattern: Pattern::RetainedReferences,
        sentence: format!("{} by {}{at}{by}", facts.who_grows(), rate(facts.rate())),
        bytes: left,
        confidence,
        to_be_surer: match &holder {
            None => unknown_holder(facts),
            Some(_) if is_short => "a longer watch: a warm-up of a minute looks the same so far".to_owned(),
            Some(_) => String::new(),
        },
        evidence,
        next_steps: steps(facts, &base, holder.as_deref(), container),
        culprit: Culprit { holder: holder.unwrap_or_default(), pids: facts.pids_growing(), ..base },
        not_to_do: "do not tune the allocator: the memory is in use".to_owned(),
    })
}

fn unknown_holder(facts: &Facts<'_>) -> String {
    let why = facts.profile.evidence.looks.iter().find_map(|look| look.not_available.clone());
    match why {
        Some(why) => format!("who keeps it is not known: {why}"),
        None => "who keeps it is not known: no container was seen to grow along".to_owned(),
    }
}

/// What keeps most of the sample, if that is a fair part of it.
fn retainer(objects: &ObjectFacts) -> Option<String> {
    let known = |holder: Holder| !matches!(holder, Holder::Unknown | Holder::NoReferrer | Holder::Interpreter);
    let keepers = objects.keepers();
    let all = keepers.iter().fold(0u64, |sum, (_, _, bytes)| sum.saturating_add(*bytes));
    let largest = keepers.into_iter().find(|(_, holder, _)| known(*holder));
    largest.filter(|(_, _, bytes)| *bytes as f64 >= all as f64 * PART).map(|(path, ..)| path)
}

fn survivors(facts: &Facts<'_>) -> Vec<String> {
    let paths = &facts.surviving;
    let mut lines = vec![format!(
        "{} allocated during the watch survive it, in {}",
        bytes(paths.total),
        counted(paths.objects, "object")
    )];
    for (frame, space) in paths.lines(facts.profile, 3) {
        if let Some(frame) = facts.profile.frame(frame) {
            lines.push(format!(
                "{} ({}) of it from {}",
                bytes(space),
                percent(space as f64 / paths.total.max(1) as f64),
                facts.names.code(frame)
            ));
        }
    }
    lines
}

fn types(objects: &ObjectFacts) -> Option<String> {
    let top: Vec<String> = objects
        .types
        .iter()
        .take(3)
        .map(|(name, gained, space)| format!("{} more {name} ({})", count(*gained), bytes(*space)))
        .collect();
    (!top.is_empty()).then(|| format!("by type, in {}: {}", time(objects.seconds), top.join(", ")))
}

/// How the growth goes with what is asked of the process.
pub fn with_traffic(work: &Work) -> Option<String> {
    if work.varies() {
        let (idle, busy) = (work.idle_rate.max(0.0), work.busy_rate);
        let word = if idle <= busy * FOLLOWS { "it follows traffic" } else { "it does not only follow traffic" };
        return Some(format!(
            "{word}: {} a minute in busy stretches, {} in idle ones; what came in busy ones stays",
            size(busy * 60.0),
            size(idle * 60.0)
        ));
    }
    (work.events > 0 && !work.is_idle()).then(|| {
        format!(
            "{} came in ({}), evenly: whether it follows traffic shows only when traffic changes",
            counted(work.events, "message"),
            bytes(work.received)
        )
    })
}

fn steps(
    facts: &Facts<'_>,
    culprit: &Culprit,
    holder: Option<&str>,
    container: Option<&GrowingContainer>,
) -> Vec<String> {
    let foreign = container.map(|row| facts.whose(row).steps(&row.now.owner, culprit.own_code())).unwrap_or_default();
    if !foreign.is_empty() {
        return foreign;
    }
    let code = if culprit.code.is_empty() { "the code that allocates" } else { &culprit.code };
    vec![match holder {
        Some(holder) => format!("release what {holder} keeps when its work is done; it is filled by {code}"),
        None => format!("follow what {code} returns or stores: some reference to it outlives the work it was made for"),
    }]
}
