//! Which process grows: one worker, every worker, the parent, one in the background?

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::process::{ProcessFacts, Role, Trend};
use crate::diagnose::words::{change, size, whole};
use crate::render::units::{bytes, counted};

/// Most processes told one by one.
const MOST: usize = 6;

/// A line each, the fastest first; then how many more there are.
pub fn answer(facts: &Facts<'_>) -> Vec<String> {
    let mut processes: Vec<&ProcessFacts> = facts.counted().collect();
    processes.sort_by(|a, b| {
        let grows = |process: &ProcessFacts| process.trend == Trend::Grows;
        grows(b).cmp(&grows(a)).then(b.growth.total_cmp(&a.growth))
    });
    let mut lines: Vec<String> = processes.iter().take(MOST).map(|process| line(facts, process)).collect();
    if processes.len() > MOST {
        lines.push(format!("and {} more", counted((processes.len() - MOST) as u64, "process")));
    }
    let ended = facts.processes.len() - processes.len();
    if ended > 0 {
        lines.push(format!(
            "{} ended during the watch and {} not among these",
            counted(ended as u64, "process"),
            if ended == 1 { "is" } else { "are" }
        ));
    }
    lines
}

fn line(facts: &Facts<'_>, process: &ProcessFacts) -> String {
    let info = facts.info(process);
    let role = match process.role {
        Role::Only => "",
        Role::Parent => ", the parent",
        Role::Worker => ", a worker",
        Role::Other if facts.workers().is_empty() => "",
        Role::Other => ", beside the workers",
    };
    let new = if process.is_new { ", came during the watch" } else { "" };
    let trend = match process.trend {
        Trend::Grows => {
            let error = process.slope.map_or(0.0, |slope| slope.error());
            format!("grows by {} a minute (+-{})", size(process.rate() * 60.0), size(error * 60.0))
        }
        Trend::LevelsOff => format!("grew by {} and has stopped", bytes(whole(process.growth))),
        Trend::Unclear if process.rss.levels_off() => {
            let late = process.late.map_or(0.0, |slope| slope.per_s);
            let grown = bytes(whole(process.growth));
            format!("grew by {grown}, most of it at first, and still grows by {} a minute", size(late * 60.0))
        }
        Trend::Unclear => format!("may grow a little ({} so far)", bytes(whole(process.growth))),
        Trend::Flat => "does not grow".to_owned(),
        Trend::Unknown => "was seen for too short a time".to_owned(),
    };
    let moved = i64::try_from(info.rss_end).unwrap_or(0) - i64::try_from(info.rss_start).unwrap_or(0);
    format!(
        "{}{role}{new}: {trend}; {} resident now ({}), {} its own",
        facts.name(process),
        bytes(info.rss_end),
        change(moved),
        bytes(process.own)
    )
}
