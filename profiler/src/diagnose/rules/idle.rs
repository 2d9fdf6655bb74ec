//! Background state: a thread or an event loop's task keeps more and more, while nothing is asked of the process or just
//! as fast as when something is.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::objects::GrowingContainer;
use crate::diagnose::facts::paths::Origin;
use crate::diagnose::facts::process::Work;
use crate::diagnose::rules::cache::told;
use crate::diagnose::thresholds::INDEPENDENT;
use crate::diagnose::words::{percent, rate, size, time};
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::counted;

/// Judges what is live and not yet explained.
pub fn judge(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    let growing = facts.growing();
    let fastest = growing.first()?;
    let origin = facts.surviving.main_origin(facts.profile, &facts.names);
    let holder = facts.keeper(facts.objects_of(&growing), left);
    let of_background = matches!(origin, Origin::Thread | Origin::Loop);
    if left == 0 || !(of_background || holder.is_some_and(GrowingContainer::keeps_work)) {
        return None;
    }
    let seen = while_idle(&fastest.work)?;
    let base = facts.culprit_of(left);
    let code = if base.code.is_empty() { String::new() } else { format!(" at {}", base.code) };
    let kept = holder.map(|row| format!("; kept by {}", row.name())).unwrap_or_default();
    let mut evidence = vec![seen, format!("what survives is allocated {}", origin.words())];
    if let (Some(row), Some(objects)) = (holder, facts.objects_of(&growing)) {
        evidence.push(told(row, objects.seconds));
    }
    Some(Finding {
        pattern: Pattern::BackgroundStateWhileIdle,
        sentence: format!(
            "{} by {} while idle: state made {}{code} is never given up{kept}",
            facts.who_grows(),
            rate(facts.rate()),
            origin.words()
        ),
        bytes: left,
        confidence: if holder.is_some() { Confidence::High } else { Confidence::Medium },
        to_be_surer: if holder.is_some() {
            String::new()
        } else {
            "knowing what keeps it: no container was seen to grow along".to_owned()
        },
        evidence,
        next_steps: steps(facts, holder, &base),
        culprit: Culprit {
            holder: holder.map(GrowingContainer::name).unwrap_or_default(),
            pids: facts.pids_growing(),
            ..base
        },
        not_to_do: "do not scale out or limit requests: it grows without any".to_owned(),
    })
}

fn steps(facts: &Facts<'_>, holder: Option<&GrowingContainer>, culprit: &Culprit) -> Vec<String> {
    let Some(row) = holder else {
        return vec![
            "see what the code above appends to or registers each time round, and give up what is done".to_owned(),
        ];
    };
    let weakly = if row.keeps_work() { ", or hold it weakly (weakref.WeakSet)" } else { "" };
    let foreign = facts.whose(row).steps(&row.now.owner, culprit.own_code());
    let own = format!("take what is done out of {}{weakly}", row.now.owner);
    if foreign.is_empty() { vec![own] } else { foreign }
}

/// What of the traffic says that it does not matter; `None` if it may.
fn while_idle(work: &Work) -> Option<String> {
    /// More than half a CPU is no idleness, whatever comes in.
    const BUSY_CPU: f64 = 0.5;
    if work.is_idle() && work.cpu < BUSY_CPU {
        let came = counted(work.events, "message");
        return Some(format!(
            "nothing was asked of it: {came} in {}, {} of a CPU",
            time(work.idle_s + work.busy_s),
            percent(work.cpu)
        ));
    }
    let goes_on = work.varies() && work.idle_rate > 0.0 && work.idle_rate >= work.busy_rate * INDEPENDENT;
    goes_on.then(|| {
        format!(
            "it gains {} a minute in idle stretches ({}) and {} in busy ones ({})",
            size(work.idle_rate * 60.0),
            time(work.idle_s),
            size(work.busy_rate * 60.0),
            time(work.busy_s)
        )
    })
}
