//! What is live belongs to work that is under way: many calls of one function hold the same local variable, and what is
//! there now is not what was there some seconds ago. More at a time, or larger ones, need more memory; nothing is kept.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::ProcessFacts;
use crate::diagnose::rules::allocator::held_in;
use crate::diagnose::thresholds::{BURST_LEAST, BURST_SHARE, BURSTS, IN_FLIGHT_SHARE, TURNOVER};
use crate::diagnose::words::{percent, whole};
use crate::profile::objects::{ContainerRow, Holder, ObjectLook};
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, counted};

/// Judges what is live.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    facts.counted().filter_map(|process| of_process(facts, process)).max_by_key(|finding| finding.bytes)
}

/// As [`judge`], where memory grows: what is live and not yet explained.
pub fn judge_growth(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    judge(facts)
        .map(|finding| Finding { bytes: finding.bytes.min(left), ..finding })
        .filter(|finding| finding.bytes > 0)
}

fn of_process(facts: &Facts<'_>, process: &ProcessFacts) -> Option<Finding> {
    let look = facts.profile.evidence.looks_at(process.index).next_back()?;
    let (local, calls) = common_local(look)?;
    let share = share_of_calls(look);
    let paths = facts.paths_of(process.index);
    let base = paths.culprit(facts.profile, &facts.names)?;
    let turnover = turnover(facts, process.index, paths.total);
    let quiet = process.rss.least() - held_in(facts.info(process)) as f64;
    let is_much = paths.total >= BURST_LEAST.max(whole(quiet * BURST_SHARE));
    let came = process.work.received.saturating_add(process.work.files_read);
    if calls < BURSTS || share < IN_FLIGHT_SHARE || turnover < TURNOVER || !is_much || came == 0 {
        return None;
    }
    Some(Finding {
        pattern: Pattern::PayloadOrTrafficPressure,
        sentence: format!(
            "{} holds {} of what it is handling right now: {calls} calls at a time hold {}, allocated at {}",
            facts.name(process),
            bytes(paths.total),
            local.owner,
            base.code
        ),
        bytes: paths.total,
        confidence: Confidence::Medium,
        to_be_surer: "watch a time with less traffic: it goes with it".to_owned(),
        evidence: vec![
            format!("{} of a sample of what came are held by local variables of calls under way", percent(share)),
            format!("some {turnover:.0} times as much as is live came and went during the watch"),
            format!(
                "{} ({}) came in through sockets, {} read from files and pipes",
                counted(process.work.events, "message"),
                bytes(process.work.received),
                bytes(process.work.files_read)
            ),
        ],
        culprit: Culprit { holder: local.owner.clone(), pids: vec![facts.info(process).pid], ..base },
        next_steps: vec![
            format!("limit how many are handled at once (a semaphore, fewer threads or connections): {calls} were"),
            "limit how large one may be, handle it in pieces, and drop it before waiting for others".to_owned(),
        ],
        not_to_do: "do not look for a leak: the memory goes with the work".to_owned(),
    })
}

/// The local variable that most calls of one function hold a container in, and how many.
fn common_local(look: &ObjectLook) -> Option<(&ContainerRow, u64)> {
    let locals = || look.containers.iter().filter(|row| row.holder == Holder::FrameLocal);
    let calls = |row: &ContainerRow| locals().filter(|other| other.owner == row.owner).count() as u64;
    // Of one outermost variable: what lies in a container of it is no call of its own.
    let outermost = locals().filter(|row| !row.owner.contains('['));
    outermost.map(|row| (row, calls(row))).max_by_key(|(row, calls)| (*calls, row.deep_space))
}

/// Share of the bytes that came whose way begins at a local variable.
fn share_of_calls(look: &ObjectLook) -> f64 {
    let sum = |wanted: &dyn Fn(Holder) -> bool| {
        let rows = look.focused.iter().filter(|row| wanted(row.holder));
        rows.fold(0u64, |sum, row| sum.saturating_add(row.space))
    };
    sum(&|holder| holder == Holder::FrameLocal) as f64 / sum(&|_| true).max(1) as f64
}

/// How often as much as is live now was allocated and is gone.
fn turnover(facts: &Facts<'_>, process: u32, live: u64) -> f64 {
    let blocks = facts.profile.blocks.iter().filter(|row| row.process == process);
    let gone = blocks.fold(0u64, |sum, row| {
        let short = row.temporary_space;
        sum.saturating_add(row.alloc_space.saturating_sub(row.inuse_space).saturating_sub(short))
    });
    let pools = || facts.profile.pools.iter().filter(|row| row.process == process);
    let pool = pools().filter_map(|row| row.inuse_space.checked_div(row.live_pools)).max().unwrap_or(1 << 12);
    let gone_pools = pools().fold(0u64, |sum, row| sum.saturating_add(row.opened.saturating_sub(row.live_pools)));
    gone.saturating_add(gone_pools.saturating_mul(pool)) as f64 / live.max(1) as f64
}
