use super::*;
use crate::profile::builder::{ProfileBuilder, Readings};
use crate::profile::evidence::Evidence;
use crate::profile::objects::{ObjectLook, TypeRow};
use crate::profile::path_timeline::{PathSeries, PathTimeline};
use crate::profile::{BlockRow, End, FrameKind, PoolRow, Process, Profile, ResidentRow, TimelinePoint, Trace};
use crate::render::{Format, Ledger, Options, Value, render};

const SITE: &str = "/venv/lib/python3.11/site-packages";

/// Two processes; `remember` is reached by two lines of `handler` and grows in the first from 10 to 20 s.
fn shop() -> Profile {
    let mut builder = ProfileBuilder::new();
    let main = builder.frame(FrameKind::Own, "main", "/srv/shop/app.py", 3, 1);
    let handlers = [40, 41].map(|line| builder.frame(FrameKind::Own, "handler", "/srv/shop/app.py", line, 30));
    let remember = builder.frame(FrameKind::Own, "remember", "/srv/shop/cache.py", 21, 19);
    let scan = builder.frame(FrameKind::Stdlib, "scan_once", "/usr/lib/python3.11/json/scanner.py", 60, 50);
    let decode = builder.frame(FrameKind::Stdlib, "decode", "/usr/lib/python3.11/json/decoder.py", 340, 330);
    let parse = builder.frame(FrameKind::Package, "parse", &format!("{SITE}/flask/json.py"), 9, 1);
    let [first, second] = handlers.map(|handler| builder.stack(&[main, handler, remember]));
    let parsing = builder.stack(&[main, parse, decode, scan]);
    let block = |process, stack, alloc_space, inuse_space| BlockRow {
        process,
        stack,
        alloc_objects: 1,
        alloc_space,
        inuse_objects: 1,
        inuse_space,
        ..BlockRow::default()
    };
    let point = |process, at_ms, rss| TimelinePoint { process, at_ms, rss, live: rss / 2, allocated: at_ms };
    let series = |stack, first, live: &[u64], allocated: &[u64]| PathSeries {
        process: 0,
        stack,
        first,
        live: live.to_vec(),
        allocated: allocated.to_vec(),
    };
    let process = |pid| Process { pid, command: "python app.py".to_owned(), end: End::Detached, ..Process::default() };
    let look = |at_ms, objects| ObjectLook {
        at_ms,
        objects,
        types: vec![
            TypeRow { name: "shop.cache.Entry".to_owned(), objects, space: 100 * objects },
            TypeRow { name: "dict".to_owned(), objects: 5, space: 900 },
        ],
        ..ObjectLook::default()
    };
    builder.snapshot(Readings {
        trace: Trace { duration_ms: 30_000, started_unix_ms: 1_000_000, complete: true, ..Trace::default() },
        processes: vec![process(7), Process { ended_at_ms: Some(8_000), end: End::Exited(0), ..process(8) }],
        blocks: vec![
            block(0, first, 5000, 4000),
            block(0, second, 700, 600),
            block(0, parsing, 90_000, 0),
            block(1, first, 50, 50),
        ],
        pools: vec![PoolRow { process: 0, stack: parsing, inuse_objects: 3, inuse_space: 96, ..PoolRow::default() }],
        resident: vec![ResidentRow {
            process: 0,
            stack: parsing,
            allocated_by: Some(first),
            inuse_space: 8192,
            ..ResidentRow::default()
        }],
        timeline: vec![
            point(0, 0, 100),
            point(1, 0, 50),
            point(0, 10_000, 140),
            point(0, 20_000, 400),
            point(0, 30_000, 300),
        ],
        path_timeline: PathTimeline {
            at_ms: vec![0, 10_000, 20_000, 30_000],
            paths: vec![
                series(first, 0, &[0, 1000, 4500, 4000], &[0, 1000, 5000, 5000]),
                series(parsing, 1, &[500, 100, 0], &[30_000, 60_000, 90_000]),
            ],
        },
        evidence: Evidence { looks: vec![look(1_000, 10), look(25_000, 40)], ..Evidence::default() },
        ..Readings::default()
    });
    builder.into_profile()
}

fn regex(text: &str) -> Option<Regex> {
    Some(Regex::new(text).unwrap())
}

fn folded(filter: &Filter, options: &Options) -> String {
    render(&filter.apply(shop()).unwrap(), Format::Folded, options).unwrap()
}

fn allocated() -> Options {
    Options { value: Some(Value::AllocSpace), ..Options::default() }
}

#[test]
fn no_filter_changes_nothing() {
    assert_eq!(Filter::default().apply(shop()).unwrap(), shop());
}

#[test]
fn focus_keeps_and_ignore_drops_whole_paths() {
    let focus = Filter { focus: regex(r"handler .*app\.py:40$"), ..Filter::default() };
    assert_eq!(folded(&focus, &allocated()), "main (app.py:3);handler (app.py:40);remember (cache.py:21) 5050\n");
    let ignore = Filter { ignore: regex("json"), ..Filter::default() };
    let left = folded(&ignore, &allocated());
    assert!(left.lines().count() == 2 && !left.contains("scan_once"), "{left}");
    let both = Filter { focus: regex("main"), ignore: regex("remember|scan_once"), ..Filter::default() };
    let nothing = both.apply(shop()).unwrap();
    assert!(nothing.blocks.is_empty() && nothing.pools.is_empty() && nothing.path_timeline.paths.is_empty());
    assert!(nothing.left_out[0].contains("with a frame that matches main and without a frame that matches remember"));
}

#[test]
fn resident_pages_are_chosen_by_the_side_that_is_shown() {
    let parsing = Filter { focus: regex("scan_once"), ..Filter::default() };
    assert_eq!(parsing.apply(shop()).unwrap().resident.len(), 1, "touched while parsing");
    let by_owner = Filter { by_owner: true, ..parsing };
    assert_eq!(by_owner.apply(shop()).unwrap().resident.len(), 0, "allocated by remember");
}

#[test]
fn a_window_has_what_grew_in_it() {
    let filter = Filter { since_ms: Some(10_000), until_ms: Some(20_000), ..Filter::default() };
    let cut = filter.apply(shop()).unwrap();
    let numbers: Vec<_> = cut.blocks.iter().map(|row| (row.alloc_space, row.inuse_space)).collect();
    assert_eq!(numbers, [(4000, 3500), (30_000, 0)]);
    assert!(cut.pools.is_empty() && cut.resident.is_empty());
    assert_eq!(cut.processes.len(), 1, "the other had ended before");
    let process = &cut.processes[0];
    assert_eq!((process.rss_start, process.rss_end, process.rss_peak), (140, 400, 400));
    assert_eq!((cut.trace.duration_ms, cut.trace.started_unix_ms), (10_000, 1_010_000));
    assert_eq!(cut.timeline.iter().map(|point| point.at_ms).collect::<Vec<_>>(), [0, 10_000]);
    assert_eq!(cut.path_timeline.at_ms, [0, 10_000]);
    assert!(cut.evidence.looks.is_empty());
    let said = cut.left_out.join("\n");
    for expected in ["from 10.0 s to 20.0 s", "2 biggest ones", "those that shrank gave back 400 B", "small objects"] {
        assert!(said.contains(expected), "{said}");
    }
    let text = render(&cut, Format::Text, &Options::default()).unwrap();
    assert!(text.contains("shows the time from 10.0 s to 20.0 s of the trace"), "{text}");
}

#[test]
fn a_window_of_the_end_only_or_of_the_start_only() {
    let last = Filter { since_ms: Some(20_000), ..Filter::default() }.apply(shop()).unwrap();
    assert_eq!(last.blocks.iter().map(|row| row.alloc_space).collect::<Vec<_>>(), [30_000]);
    let first = Filter { until_ms: Some(10_000), ..Filter::default() }.apply(shop()).unwrap();
    assert_eq!(first.blocks.iter().map(|row| row.alloc_space).collect::<Vec<_>>(), [1000, 30_000]);
    assert_eq!(first.processes.len(), 2);
    assert_eq!(first.processes[1].ended_at_ms, Some(8_000));
}

#[test]
fn a_window_outside_the_trace_is_an_error() {
    let outside = Filter { since_ms: Some(40_000), ..Filter::default() }.apply(shop()).unwrap_err();
    assert_eq!(
        outside.to_string(),
        "nothing is between 40.0 s and 30.0 s: the trace lasts 30.0 s, and both count from its start"
    );
    assert!(Filter { until_ms: Some(0), ..Filter::default() }.apply(shop()).is_err());
}

#[test]
fn coarser_frames_join_paths() {
    let by = |by| folded(&Filter { by, ..Filter::default() }, &allocated());
    assert_eq!(by(By::Line).lines().count(), 3);
    assert_eq!(
        by(By::Function),
        "main (app.py:1);handler (app.py:30);remember (cache.py:19) 5750\n\
         main (app.py:1);parse (flask/json.py:1);decode (json/decoder.py:330);scan_once (json/scanner.py:50) 90000\n"
    );
    assert_eq!(
        by(By::File),
        "app.py (file);cache.py (file) 5750\n\
         app.py (file);flask/json.py (file);json/decoder.py (file);json/scanner.py (file) 90000\n"
    );
    assert_eq!(
        by(By::Module),
        "app (module);cache (module) 5750\n\
         app (module);flask.json (module);json.decoder (module);json.scanner (module) 90000\n"
    );
}

#[test]
fn types_stand_for_call_paths() {
    let filter = Filter { by: By::Type, ..Filter::default() };
    let folded = folded(&filter, &Options { ledger: Some(Ledger::Heap), ..Options::default() });
    assert_eq!(folded, "dict (type) 900\nshop.cache.Entry (type) 4000\n", "of the last look");
    let entries = Filter { focus: regex("^shop"), ..filter.clone() };
    assert_eq!(entries.apply(shop()).unwrap().blocks.len(), 1);
    let without = Profile { evidence: Evidence::default(), ..shop() };
    assert_eq!(filter.apply(without).unwrap_err(), RenderError::NoTypes);
}

#[test]
fn filters_go_together() {
    let filter = Filter {
        process: Some(7),
        since_ms: Some(0),
        until_ms: Some(20_000),
        focus: regex("remember"),
        by: By::Module,
        ..Filter::default()
    };
    assert_eq!(folded(&filter, &allocated()), "app (module);cache (module) 5000\n");
    let nobody = Filter { process: Some(99), ..filter };
    assert!(matches!(nobody.apply(shop()).unwrap_err(), RenderError::NoSuchProcess { pid: 99, .. }));
}
