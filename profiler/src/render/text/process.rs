//! Which process was traced, how, and how the trace ended.

use std::time::{Duration, UNIX_EPOCH};

use super::tree;
use crate::profile::tree::Tree;
use crate::profile::{End, Process, Profile, Trace};
use crate::render::page::Page;
use crate::render::{Options, fate, sanitize, units};

/// Shorter traces say little about growth that follows jobs or traffic, ms.
const SHORT_MS: u64 = 5_000;
/// Last second that fits four digits of a year: a damaged clock must not stop a report.
const LAST_SECOND: u64 = 253_402_300_799;

pub(super) fn write(page: &mut Page, profile: &Profile, options: &Options, processes: &Tree) {
    match profile.processes.as_slice() {
        [] => (),
        [process] => {
            let inside = process.container_pid.map_or_else(String::new, |pid| format!(" ({pid} in its container)"));
            page.heading(&format!("Process {}{inside}", process.pid));
            write_process(page, process, profile);
        }
        _ => tree::write(page, profile, processes),
    }
    page.heading("Trace");
    write_trace(page, &profile.trace);
    for note in &profile.left_out {
        page.fact("filter", note);
    }
    if let Some(pid) = options.process {
        page.fact("note", &format!("shows process {pid} only; the quality of the trace is that of all its processes"));
    }
}

fn write_process(page: &mut Page, process: &Process, profile: &Profile) {
    let command = sanitize::name(&process.command, 160);
    page.fact("command", if command.is_empty() { "unknown" } else { &command });
    let python = match process.python.as_str() {
        "" => "unknown".to_owned(),
        version => sanitize::name(version, 40),
    };
    match process.interpreter.as_str() {
        "" => page.fact("Python", &python),
        file => page.fact("Python", &format!("{python} in {}", sanitize::name(file, 80))),
    }
    page.fact("threads", &format!("{} at the start, {} at the end", process.threads_start, process.threads_end));
    let [start, end, peak] = [process.rss_start, process.rss_end, process.rss_peak].map(units::bytes);
    page.fact("RSS", &format!("{start} at the start, {end} at the end, {peak} at the peak"));
    page.fact("end", &end_in_words(process, profile));
    for note in &process.notes {
        page.fact("note", &sanitize::name(note, 400));
    }
}

fn end_in_words(process: &Process, profile: &Profile) -> String {
    let tells_oom_kills = profile.quality.tells_oom_kills.unwrap_or(false);
    let fate = match process.end {
        End::Exited(code) => Some(format!("ended with exit code {code}")),
        _ => fate::in_words(process, tells_oom_kills),
    };
    match fate {
        None => "still running when the trace ended".to_owned(),
        Some(fate) => match process.ended_at_ms {
            Some(at) => format!("{fate}; {} after the start of the trace", units::time_ms(at)),
            None => fate,
        },
    }
}

pub(super) fn write_trace(page: &mut Page, trace: &Trace) {
    page.fact("duration", &units::time_ms(trace.duration_ms));
    let start = Duration::from_secs((trace.started_unix_ms / 1000).min(LAST_SECOND));
    let start = humantime::format_rfc3339_seconds(UNIX_EPOCH + start).to_string();
    let start = start.replace('T', " ").replace('Z', " UTC");
    let way = match (trace.launched, trace.without_heap) {
        (true, false) => "launched by pyalloc: every allocation from the first on is counted",
        (true, true) => "launched by pyalloc",
        (false, false) => "attached to a running process: what it allocated before is not counted",
        (false, true) => "attached to a running process",
    };
    page.fact("start", &format!("{start}; {way}"));
    let native = if trace.native { ", with native frames" } else { "" };
    let version = sanitize::name(&trace.pyalloc_version, 40);
    page.fact("recorded by", &format!("pyalloc {version} on Linux {}{native}", sanitize::name(&trace.kernel, 60)));
    if !trace.complete {
        page.fact("note", "written while the trace was running: what came after is missing");
    }
    if trace.duration_ms < SHORT_MS {
        page.fact("note", "a short trace: growth that follows traffic, jobs or the clock may not have shown yet");
    }
}
