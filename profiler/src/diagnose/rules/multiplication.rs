//! The process model multiplies memory: workers were added, pages that were shared became copies, or several workers each
//! have a large copy for themselves.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::copied::{self, Copied};
use crate::diagnose::facts::paths::Paths;
use crate::diagnose::facts::process::ProcessFacts;
use crate::diagnose::thresholds::{COPIED_LEAST, COPIES_SHARE, LARGE_WORKER, LEAST_GROWTH, LIKE_WORKERS, PART};
use crate::diagnose::words::{percent, whole};
use crate::profile::UnsharedCause;
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, count, counted};

/// Judges the workers: what came with new ones, or how much they have each for themselves.
pub fn judge(facts: &Facts<'_>) -> Option<Finding> {
    let workers = facts.workers();
    added(facts, &workers).or_else(|| copied(facts, &workers)).or_else(|| copies(facts, &workers))
}

/// Workers that came, beyond those that went.
fn added(facts: &Facts<'_>, workers: &[&ProcessFacts]) -> Option<Finding> {
    let new = workers.iter().filter(|worker| worker.is_new).count();
    let net = whole(facts.growth.new_processes.saturating_add(facts.growth.ended) as f64);
    let (before, after) = (facts.tree.rss_at_start(facts.profile).0, facts.counted().count() as u64);
    let is_growth = net >= LEAST_GROWTH && net as f64 >= facts.growth.total as f64 * PART;
    if new == 0 || after <= before || !is_growth {
        return None;
    }
    let is_new = |index: u32| workers.iter().any(|worker| worker.is_new && worker.index == index);
    let code = Paths::surviving(facts.profile, is_new).culprit(facts.profile, &facts.names).unwrap_or_default();
    let mostly = if code.code.is_empty() { String::new() } else { format!(", most of it allocated at {}", code.code) };
    Some(Finding {
        pattern: Pattern::ProcessModelMultiplication,
        sentence: format!(
            "{} were added during the watch, {before} processes became {after}: they brought {} of their own{mostly}",
            counted(new as u64, "worker"),
            bytes(net)
        ),
        bytes: net,
        confidence: Confidence::High,
        evidence: sizes(facts, workers),
        culprit: Culprit { pids: pids(facts, workers), ..code },
        next_steps: vec![format!(
            "set the number of workers to what the load needs; one less saves {}",
            bytes(one_less(workers))
        )],
        not_to_do: "do not look for a leak in the code: each process is as large as the others".to_owned(),
        ..Finding::default()
    })
}

/// Pages that workers shared since their fork, and copied because somebody wrote to them.
fn copied(facts: &Facts<'_>, workers: &[&ProcessFacts]) -> Option<Finding> {
    let is_worker = |index: u32| workers.iter().any(|worker| worker.index == index);
    let paths = Paths::unshared(facts.profile, is_worker);
    let own = workers.iter().fold(0u64, |sum, worker| sum.saturating_add(worker.own));
    if workers.len() < 2 || paths.total < COPIED_LEAST || (paths.total as f64) < own as f64 * PART {
        return None;
    }
    let culprit = paths.culprit(facts.profile, &facts.names).unwrap_or_default();
    let by = if culprit.code.is_empty() { String::new() } else { format!(", most of it by {}", culprit.code) };
    let mut evidence: Vec<String> = copied_on_write(facts).into_iter().collect();
    evidence.extend(sizes(facts, workers));
    Some(Finding {
        pattern: Pattern::ProcessModelMultiplication,
        sentence: format!(
            "{} workers make copies of what they shared since the fork: {} during the watch{by}",
            workers.len(),
            bytes(paths.total)
        ),
        bytes: paths.total,
        confidence: Confidence::High,
        evidence,
        culprit: Culprit { pids: pids(facts, workers), ..culprit },
        next_steps: vec![
            "call gc.collect() and gc.freeze() in the parent right before the fork: the garbage collector then leaves what is \
             shared alone"
                .to_owned(),
            "keep what only is read in memory without reference counts: bytes, array, numpy, mmap, a database file".to_owned(),
        ],
        not_to_do: "do not look for a leak: RSS counted these pages before too, and the machine's memory did not".to_owned(),
        ..Finding::default()
    })
}

/// Large workers that are alike.
fn copies(facts: &Facts<'_>, workers: &[&ProcessFacts]) -> Option<Finding> {
    let least = workers.iter().map(|worker| worker.own).min()?;
    let most = workers.iter().map(|worker| worker.own).max()?;
    let all = workers.iter().fold(0u64, |sum, worker| sum.saturating_add(worker.own));
    let saved = all - most;
    let alike = least as f64 >= most as f64 * LIKE_WORKERS;
    let total = facts.counted().fold(0u64, |sum, process| sum.saturating_add(process.own));
    if workers.len() < 2 || least < LARGE_WORKER || !alike || (saved as f64) < total as f64 * COPIES_SHARE {
        return None;
    }
    let paths = Paths::surviving(facts.profile, |index| workers.iter().any(|worker| worker.index == index));
    let culprit = paths.culprit(facts.profile, &facts.names);
    let came = facts.profile.processes.iter().any(|process| process.seen_at_ms > 0);
    let was_seen = came || paths.total as f64 >= all as f64 * PART;
    let container = copied::largest(facts.profile, workers.iter().map(|worker| worker.index));
    let container = container.filter(|copied| copied.space as f64 >= least as f64 * PART);
    let (code, seen) = match &culprit {
        Some(culprit) if was_seen => (format!(", loaded at {}", culprit.code), true),
        _ => (String::new(), false),
    };
    let mut evidence: Vec<String> = container.iter().map(told).collect();
    evidence.extend(sizes(facts, workers));
    evidence.extend(copied_on_write(facts));
    let what = container.as_ref().map_or("the same memory".to_owned(), |copied| copied.name.clone());
    Some(Finding {
        pattern: Pattern::ProcessModelMultiplication,
        sentence: format!(
            "{} workers hold {} each for themselves alone, {} together{code}: {what} {} times",
            workers.len(),
            bytes(all / workers.len() as u64),
            bytes(all),
            workers.len()
        ),
        bytes: saved,
        confidence: if container.is_some() { Confidence::High } else { Confidence::Medium },
        to_be_surer: if seen {
            String::new()
        } else {
            "they were loaded before the watch: `pyalloc diagnose -- COMMAND` from their start names the code that loads it"
                .to_owned()
        },
        evidence,
        culprit: Culprit {
            holder: container.map(|copied| copied.name).unwrap_or_default(),
            pids: pids(facts, workers),
            ..culprit.filter(|_| seen).unwrap_or_default()
        },
        next_steps: vec![
            share(facts, workers, saved),
            format!("or run fewer workers with more threads: one less saves {}", bytes(one_less(workers))),
        ],
        not_to_do: "do not look for a leak: the workers are large, and do not grow".to_owned(),
    })
}

/// How the workers come to share it: by their start.
fn share(facts: &Facts<'_>, workers: &[&ProcessFacts], saved: u64) -> String {
    let spawned = workers.iter().any(|worker| facts.info(worker).command.contains("multiprocessing.spawn"));
    let saved = bytes(saved);
    if spawned {
        return format!(
            "they are spawned, and so share nothing: load once and start them by fork (multiprocessing.get_context(\"fork\"), \
             a server that forks), or put it into shared memory or a mapped file; saves up to {saved}"
        );
    }
    format!(
        "load once and fork: gunicorn --preload (uWSGI: without lazy-apps), with gc.freeze() before the fork; saves up to {saved}"
    )
}

fn told(copied: &Copied) -> String {
    format!(
        "{}: {} entries, some {}, in each of the {} workers that were looked at",
        copied.name,
        count(copied.length),
        bytes(copied.space),
        copied.times
    )
}

/// What a worker less saves, bytes: what the smallest has alone.
pub fn one_less(workers: &[&ProcessFacts]) -> u64 {
    workers.iter().map(|worker| worker.own).min().unwrap_or(0)
}

fn pids(facts: &Facts<'_>, workers: &[&ProcessFacts]) -> Vec<u32> {
    workers.iter().take(64).map(|worker| facts.info(worker).pid).collect()
}

/// What the workers have alone and in all.
pub fn sizes(facts: &Facts<'_>, workers: &[&ProcessFacts]) -> Vec<String> {
    const MOST: usize = 4;
    let mut lines: Vec<String> = workers
        .iter()
        .take(MOST)
        .map(|worker| {
            let info = facts.info(worker);
            let shared = info.rss_end.saturating_sub(worker.own);
            format!(
                "pid {}: {} resident, {} of it its own, {} ({}) shared",
                info.pid,
                bytes(info.rss_end),
                bytes(worker.own),
                bytes(shared),
                percent(shared as f64 / info.rss_end.max(1) as f64)
            )
        })
        .collect();
    if workers.len() > MOST {
        lines.push(format!("and {} workers more", workers.len() - MOST));
    }
    lines
}

/// Who breaks copy-on-write, if anybody does.
pub fn copied_on_write(facts: &Facts<'_>) -> Option<String> {
    let sum = |cause: Option<UnsharedCause>| facts.profile.unshared_space(cause);
    let all = sum(None);
    (all > 0).then(|| {
        format!(
            "{} shared since a fork was copied during the watch: {} to count references, {} by the garbage collector, {} \
             to change data",
            bytes(all),
            bytes(sum(Some(UnsharedCause::ReferenceCount))),
            bytes(sum(Some(UnsharedCause::GcHeader))),
            bytes(sum(Some(UnsharedCause::Data)))
        )
    })
}
