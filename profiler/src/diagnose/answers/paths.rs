//! Which code allocates, what survives, what is large for a moment; and what the growth is made of.

use crate::diagnose::facts::Facts;
use crate::diagnose::words::{change, percent};
use crate::profile::verdict::Diagnosis;
use crate::render::units::{bytes, counted, rough_share};

/// Most lines of code of each kind.
const MOST: usize = 3;

/// Survivors, churn, bursts; then the parts.
pub fn answer(facts: &Facts<'_>, diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = survivors(facts);
    let heap = facts.profile.heap_totals_of(|process| facts.tree.counts(process));
    if heap.alloc_space > 0 {
        lines.push(format!(
            "{} were allocated in {}: {} of the bytes given back, {} within 100 ms",
            bytes(heap.alloc_space),
            counted(heap.alloc_objects, "block"),
            rough_share(heap.freed_space(), heap.alloc_space),
            rough_share(heap.temporary_space, heap.alloc_space)
        ));
    }
    if let Some(burst) = facts.bursts.culprit(facts.profile, &facts.names).filter(|_| facts.bursts.total > 1 << 20) {
        lines.push(format!(
            "most that came and went at once: up to {}, most of it at {}",
            bytes(facts.bursts.total),
            burst.code
        ));
    }
    if !diagnosis.parts.is_empty() {
        let told: Vec<String> =
            diagnosis.parts.iter().map(|part| format!("{} {}", change(part.bytes), part.what)).collect();
        lines.push(format!("RSS change {} = {}", change(facts.growth.total), told.join(", ")));
    }
    lines
}

fn survivors(facts: &Facts<'_>) -> Vec<String> {
    let paths = &facts.surviving;
    if facts.profile.trace.without_heap {
        let refused = facts.profile.processes.iter().find_map(|process| process.without_probes.as_deref());
        let why = refused.map_or_else(String::new, |reason| format!(" ({reason})"));
        return vec![format!("the heap was not probed{why}: only pages are known")];
    }
    if paths.total == 0 {
        return vec!["nothing that was allocated during the watch survives it".to_owned()];
    }
    let mut lines = vec![format!("{} of what was allocated during the watch survive", bytes(paths.total))];
    for (frame, space) in paths.lines(facts.profile, MOST) {
        if let Some(frame) = facts.profile.frame(frame) {
            let share = percent(space as f64 / paths.total.max(1) as f64);
            lines.push(format!("{} ({share}) from {}", bytes(space), facts.names.code(frame)));
        }
    }
    lines
}
