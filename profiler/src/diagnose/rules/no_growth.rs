//! It does not grow.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::Trend;
use crate::diagnose::thresholds::LEAST_GROWTH;
use crate::diagnose::words::{change, time, whole};
use crate::profile::verdict::{Confidence, Finding, Pattern};
use crate::render::units::{bytes, counted};

/// Whether nothing moved, or what came went again.
fn moved(facts: &Facts<'_>, processes: usize) -> String {
    let rose = facts.counted().filter(|process| process.growth >= LEAST_GROWTH as f64);
    let (does, rises) = if processes == 1 { ("does", "rose") } else { ("do", "one of them rose") };
    match rose.max_by(|a, b| a.rss.most().total_cmp(&b.rss.most())) {
        Some(process) => format!(
            "{does} not go on growing; {rises} to {} and gave most of that back",
            bytes(whole(process.rss.most()))
        ),
        None => format!("{does} not grow"),
    }
}

/// Judges that there is nothing to judge.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    let counted_processes: Vec<_> = facts.counted().collect();
    if !matches!(facts.trend, Trend::Flat) {
        return None;
    }
    let largest = counted_processes.iter().max_by_key(|process| facts.info(process).rss_end)?;
    let info = facts.info(largest);
    let error = largest.slope.map_or(0.0, |slope| slope.error());
    Some(Finding {
        pattern: Pattern::NoGrowth,
        sentence: format!(
            "{} {}: {} resident, {} over {}",
            facts.names_of(&counted_processes),
            moved(facts, counted_processes.len()),
            bytes(facts.rss()),
            change(facts.growth.total),
            time(facts.seconds())
        ),
        bytes: 0,
        confidence: if facts.seconds() >= 60.0 { Confidence::High } else { Confidence::Medium },
        to_be_surer: "a longer watch: what grows by less than about 2 MiB within it is not told".to_owned(),
        evidence: vec![format!(
            "{} of {}: from {} to {}, at most {}; slope +-{} a minute",
            counted(largest.rss.number() as u64, "reading"),
            facts.name(largest),
            bytes(info.rss_start),
            bytes(info.rss_end),
            bytes(info.rss_peak),
            crate::diagnose::words::size(error * 60.0)
        )],
        next_steps: vec!["none; watch again under the load that brought you here".to_owned()],
        ..Finding::default()
    })
}
