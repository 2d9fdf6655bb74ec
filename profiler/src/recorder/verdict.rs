//! What a watched slot tells.

use std::time::Duration;

use profiler_common::ledger::Watch;

use crate::python::header::Head;

/// An object that has been in its slot for so long counts as one that stays.
const STAYS: Duration = Duration::from_millis(300);

/// The process must have had so much CPU time meanwhile: where it waits, or is kept waiting, everything stays.
const STAYS_RUNNING: Duration = Duration::from_millis(50);

/// A slot that nobody takes is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One that is taken and given back now and then, too.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// What became of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// An object stays in it; the stack that made it.
    Filled(u64),
    /// Nobody takes the slot.
    Idle,
    /// Its pool is one of another size class.
    Other,
    /// It was taken and given back until the watch ended, or too often for one to wait.
    Churned,
    /// It was filled, and nobody was seen: by a thread that is not watched.
    Unseen,
}

/// What is known of a watched slot.
pub(super) struct Seen<'a> {
    pub(super) written: &'a Watch,
    /// Hits after which the watch has ended.
    pub(super) limit: u32,
    pub(super) is_held: bool,
    /// The clock of the writes.
    pub(super) now_ns: u64,
    pub(super) age: Duration,
    /// How much CPU time the process has had since a moment, by the clock of the writes.
    pub(super) ran_since: &'a dyn Fn(u64) -> Duration,
}

/// Judges it; `head` says what the block in it begins with.
pub(super) fn verdict(seen: &Seen<'_>, head: impl FnOnce() -> Head) -> Verdict {
    let Seen { written, is_held, age, .. } = *seen;
    if written.hits == 0 {
        return match is_held {
            true => Verdict::Unseen,
            false if age > PATIENCE => Verdict::Idle,
            false => Verdict::Wait,
        };
    }
    // What was written after the watch had ended is not known.
    if written.hits >= u64::from(seen.limit) {
        return Verdict::Churned;
    }
    let unsettled = if age > LONGEST { Verdict::Churned } else { Verdict::Wait };
    if !is_held {
        return unsettled;
    }
    // The collector and neighbours in its list write to its header for as long as the object lives.
    let writing = match head() {
        Head::Collected if written.birth.stack != 0 => written.birth,
        _ => written.last,
    };
    let stays = Duration::from_nanos(seen.now_ns.saturating_sub(writing.time_ns)) >= STAYS;
    if !stays || (seen.ran_since)(writing.time_ns) < STAYS_RUNNING {
        return unsettled;
    }
    if writing.stack == 0 { Verdict::Unseen } else { Verdict::Filled(writing.stack) }
}

#[cfg(test)]
mod tests {
    use profiler_common::ledger::Writing;

    use super::*;

    const LAST: u64 = 7;
    const BIRTH: u64 = 8;
    const LATER_NS: u64 = 1_000_000_000;

    fn written(hits: u64, birth: u64) -> Watch {
        let by = |stack, time_ns| Writing { stack, time_ns, word: 0 };
        Watch { hits, last: by(LAST, 1000), birth: by(birth, 1) }
    }

    fn check(written: &Watch, is_held: bool, now_ns: u64, age: Duration, head: Head, expected: Verdict) {
        let seen = Seen { written, limit: 64, is_held, now_ns, age, ran_since: &|_| STAYS_RUNNING };
        assert_eq!(verdict(&seen, || head), expected, "{written:?} {is_held} {now_ns} {age:?} {head:?}");
    }

    #[test]
    fn an_object_that_stays_is_its_last_writers() {
        let young = Duration::from_secs(1);
        check(&written(1, 0), true, LATER_NS, young, Head::Object, Verdict::Filled(LAST));
        check(&written(9, BIRTH), true, LATER_NS, young, Head::Other, Verdict::Filled(LAST));
        // In the collector's header neighbours write too.
        check(&written(9, BIRTH), true, LATER_NS, young, Head::Collected, Verdict::Filled(BIRTH));
        check(&written(9, 0), true, LATER_NS, young, Head::Collected, Verdict::Filled(LAST));
        check(&written(1, 0), true, 2000, young, Head::Object, Verdict::Wait);
        check(&written(9, BIRTH), true, 300_000_500, young, Head::Object, Verdict::Wait);
        check(&written(9, BIRTH), true, 300_000_500, young, Head::Collected, Verdict::Filled(BIRTH));
    }

    #[test]
    fn what_stays_because_the_process_waits_is_not_judged_yet() {
        let written = written(1, 0);
        let of = |ran_ms, age| {
            let ran_since = |time_ns| Duration::from_millis(if time_ns == 1000 { ran_ms } else { 1000 });
            let seen =
                Seen { written: &written, limit: 64, is_held: true, now_ns: LATER_NS, age, ran_since: &ran_since };
            verdict(&seen, || Head::Object)
        };
        let (young, old) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(
            (of(20, young), of(50, young), of(20, old)),
            (Verdict::Wait, Verdict::Filled(LAST), Verdict::Churned)
        );
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let (young, old) = (Duration::from_secs(1), Duration::from_secs(60));
        check(&Watch::default(), true, LATER_NS, young, Head::Object, Verdict::Unseen);
        check(&Watch::default(), false, LATER_NS, young, Head::Object, Verdict::Wait);
        check(&Watch::default(), false, LATER_NS, old, Head::Object, Verdict::Idle);
        // The watch has ended: others may have written since.
        check(&written(64, BIRTH), true, LATER_NS, young, Head::Object, Verdict::Churned);
        check(&written(3, BIRTH), false, LATER_NS, young, Head::Object, Verdict::Wait);
        check(&written(3, BIRTH), false, LATER_NS, old, Head::Object, Verdict::Churned);
        // Hit, and there was no room to say by whom.
        let nobody = Watch { hits: 1, ..Watch::default() };
        check(&nobody, true, LATER_NS, young, Head::Object, Verdict::Unseen);
    }
}
