//! What makes two profiles hard to compare, in sentences.

use crate::profile::Profile;
use crate::profile::quality::CountClass;

/// Runs whose lengths differ by less are of the same length, in percent.
const SAME_LENGTH_PERCENT: u64 = 10;

/// A profile and what it is called in sentences.
#[derive(Clone, Copy, Debug)]
pub struct Named<'p> {
    /// "BEFORE", or its file's name.
    pub name: &'p str,
    /// The profile.
    pub profile: &'p Profile,
}

/// What a reader must know who compares them; empty if nothing.
pub fn between(before: Named<'_>, after: Named<'_>) -> Vec<String> {
    let mut caveats: Vec<String> = [before, after].into_iter().flat_map(alone).collect();
    caveats.extend(lengths(before, after));
    let traces = (&before.profile.trace, &after.profile.trace);
    let differ = |what: &str, one: &str, other: &str| {
        (one != other).then(|| format!("{what}: {} has {one}, {} has {other}.", before.name, after.name))
    };
    let with = |yes: bool| if yes { "them" } else { "none" };
    let how = |launched: bool| if launched { "launched" } else { "attached to" };
    caveats.extend(
        differ("Native frames", with(traces.0.native), with(traces.1.native))
            .map(|sentence| format!("{sentence} They are left out of the comparison.")),
    );
    if traces.0.launched != traces.1.launched {
        caveats.push(format!(
            "{} was {}, {} was {}: what was allocated before the trace is in one of them only.",
            before.name,
            how(traces.0.launched),
            after.name,
            how(traces.1.launched)
        ));
    }
    caveats.extend(differ("Python", &pythons(before.profile), &pythons(after.profile)));
    caveats.extend(differ("Processes", &processes(before.profile), &processes(after.profile)));
    caveats.extend(differ("pyalloc", &traces.0.pyalloc_version, &traces.1.pyalloc_version));
    caveats
}

/// What is wrong with one of them.
pub fn alone(named: Named<'_>) -> Vec<String> {
    let Named { name, profile } = named;
    let mut caveats = Vec::new();
    if !profile.trace.complete {
        caveats.push(format!("{name} is what a trace had written before it was ended: it may lack the last seconds."));
    }
    let lost = of_class(profile, CountClass::Dropped);
    if lost > 0 {
        caveats.push(format!("{name} has lost {lost} events: its numbers are too low."));
    }
    let truncated = of_class(profile, CountClass::Truncated);
    if truncated > 0 {
        caveats.push(format!(
            "{name} has {truncated} events whose call path was cut: their outermost callers are not known."
        ));
    }
    caveats
}

fn of_class(profile: &Profile, class: CountClass) -> u64 {
    let counts = profile.quality.counts.iter().filter(|count| count.class == class);
    counts.fold(0, |sum: u64, count| sum.saturating_add(count.value))
}

fn lengths(before: Named<'_>, after: Named<'_>) -> Option<String> {
    let traces = (&before.profile.trace, &after.profile.trace);
    if traces.0.launched && traces.1.launched {
        // A program's work, and not the time that it took for it, says what it allocates.
        return None;
    }
    let (one, other) = (traces.0.duration_ms, traces.1.duration_ms);
    let longer = one.max(other);
    if one.abs_diff(other) <= longer / 100 * SAME_LENGTH_PERCENT || longer < 1000 {
        return None;
    }
    Some(format!(
        "{} ran {:.1} s and {} {:.1} s: of a service under load, the longer one has allocated more.",
        before.name,
        one as f64 / 1000.0,
        after.name,
        other as f64 / 1000.0
    ))
}

fn pythons(profile: &Profile) -> String {
    let versions: std::collections::BTreeSet<&str> =
        profile.processes.iter().map(|process| process.python.as_str()).filter(|python| !python.is_empty()).collect();
    if versions.is_empty() { "none".to_owned() } else { versions.into_iter().collect::<Vec<_>>().join(", ") }
}

fn processes(profile: &Profile) -> String {
    profile.processes.len().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Process, Trace};

    #[test]
    fn what_differs_is_said_and_nothing_else() {
        let trace = Trace { duration_ms: 30_000, complete: true, ..Trace::default() };
        let same = Profile { trace, ..Profile::default() };
        let mut other = same.clone();
        let said = |one: &Profile, other: &Profile| {
            between(Named { name: "A", profile: one }, Named { name: "B", profile: other })
        };
        assert_eq!(said(&same, &other), [""; 0]);
        other.trace = Trace { duration_ms: 60_000, native: true, launched: true, ..Trace::default() };
        other.processes = vec![Process { python: "3.12.1".to_owned(), ..Process::default() }];
        let said = said(&same, &other).join("\n");
        for word in [
            "B is what a trace had written",
            "A ran 30.0 s and B 60.0 s",
            "Native frames: A has none",
            "Python: A has none, B has 3.12.1",
            "launched",
            "Processes: A has 0, B has 1",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
