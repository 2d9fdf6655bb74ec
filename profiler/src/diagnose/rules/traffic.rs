//! Payload or traffic pressure: memory that comes and goes with what is handled, again and again, and is much while it is
//! there.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::paths::Paths;
use crate::diagnose::facts::series::Series;
use crate::diagnose::rules::allocator::held_in;
use crate::diagnose::rules::in_flight;
use crate::diagnose::thresholds::{BURST_LEAST, BURST_SHARE, BURSTS, PAYLOAD_LEAST};
use crate::diagnose::words::whole;
use crate::profile::TimelinePoint;
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, count};

/// Judges bursts; where there are none, what is live while it is handled.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    bursts(facts).or_else(|| in_flight::judge(facts))
}

fn bursts(facts: &Facts<'_>) -> Option<Finding> {
    let worst = facts.counted().filter_map(|process| burst(facts, process.index)).max_by_key(|burst| burst.bytes)?;
    let process = &facts.processes[worst.process as usize];
    let base = worst.paths.culprit(facts.profile, &facts.names)?;
    let origin = worst.paths.main_origin(facts.profile, &facts.names);
    let per_byte = amplification(facts, &worst);
    let mut evidence = vec![
        format!(
            "{} came and went, {} times over, most of it allocated at {}",
            bytes(worst.bytes),
            count(worst.times),
            base.code
        ),
        format!("the largest single block is {}, made {}", bytes(worst.largest), origin.words()),
    ];
    evidence.extend(per_byte.map(|ratio| {
        format!(
            "{} came in through sockets meanwhile: {ratio:.1} bytes live for each byte received at a time",
            bytes(process.work.received)
        )
    }));
    let amplified = per_byte.map(|ratio| format!(", {ratio:.1} x what it receives at a time")).unwrap_or_default();
    Some(Finding {
        pattern: Pattern::PayloadOrTrafficPressure,
        sentence: format!(
            "{} needs {} more for a moment, again and again, for what it handles at {}{amplified}",
            facts.name(process),
            bytes(worst.bytes),
            base.code
        ),
        bytes: worst.bytes,
        confidence: Confidence::Medium,
        to_be_surer: "watch a time with less traffic: the bursts go with it".to_owned(),
        evidence,
        culprit: Culprit { pids: vec![facts.info(process).pid], ..base },
        next_steps: vec![
            "handle it in pieces: stream the body, read and decompress with a limit, do not build the whole in memory"
                .to_owned(),
            format!(
                "limit how many are handled at once, or how large one may be: each holds up to {}",
                bytes(worst.largest)
            ),
        ],
        not_to_do: "do not look for a leak: the memory is given back".to_owned(),
    })
}

struct Burst {
    process: u32,
    /// Most that was there at once and is gone.
    bytes: u64,
    /// How often.
    times: u64,
    largest: u64,
    paths: Paths,
}

/// The bursts of a process, if they are much and come again: by the blocks of one function, or by its memory, which rises
/// and falls.
fn burst(facts: &Facts<'_>, process: u32) -> Option<Burst> {
    let left = held_in(facts.profile.processes.get(process as usize)?);
    let quiet = facts.processes.get(process as usize)?.rss.least() - left as f64;
    let enough = BURST_LEAST.max(whole(quiet * BURST_SHARE));
    let of = |series: &Series| (whole(series.most() - series.least()), series.swings(enough as f64));
    let swings = [of(&timeline(facts, process, |point| point.rss)), of(&timeline(facts, process, |point| point.live))];
    let found = swings.into_iter().chain(of_function(facts, process));
    let (bytes, times) = found.filter(|(bytes, times)| *bytes >= enough && *times >= BURSTS).max()?;
    let paths = Paths::given_back(facts.profile, process, times);
    let largest =
        facts.profile.blocks.iter().filter(|row| row.process == process && paths.by_stack.contains_key(&row.stack));
    let largest = largest.map(|row| row.largest).max().unwrap_or(0);
    Some(Burst { process, bytes, times, largest, paths })
}

/// The most that one call path of the function with the largest bursts had at once and gave back, and how often.
fn of_function(facts: &Facts<'_>, process: u32) -> Option<(u64, u64)> {
    let paths = Paths::bursts(facts.profile, |index| index == process);
    let base = paths.culprit(facts.profile, &facts.names)?;
    let through = |stack| {
        facts.profile.frames_of(stack).any(|frame| {
            facts.profile.text(frame.function) == base.function && facts.profile.text(frame.file) == base.file
        })
    };
    let rows = facts.profile.blocks.iter().filter(|row| row.process == process && through(row.stack));
    // Different paths peak at different moments: the largest one is a lower bound, and certain.
    let heaviest = rows.max_by_key(|row| row.peak_space.saturating_sub(row.inuse_space))?;
    let bytes = heaviest.peak_space.saturating_sub(heaviest.inuse_space);
    Some((bytes, heaviest.alloc_space.saturating_sub(heaviest.inuse_space) / bytes.max(1)))
}

/// Of every half second.
fn timeline(facts: &Facts<'_>, process: u32, value: impl Fn(&TimelinePoint) -> u64) -> Series {
    let points = facts.profile.timeline.iter().filter(|point| point.process == process);
    Series::new(points.map(|point| (point.at_ms as f64 / 1000.0, value(point) as f64)))
}

/// Bytes live at once for each byte received meanwhile.
fn amplification(facts: &Facts<'_>, burst: &Burst) -> Option<f64> {
    let received = facts.processes.get(burst.process as usize)?.work.received;
    let each = received / burst.times.max(1);
    (facts.profile.evidence.sockets_counted && each >= PAYLOAD_LEAST).then(|| burst.bytes as f64 / each as f64)
}
