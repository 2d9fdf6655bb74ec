//! Golden tests: hand-built profiles, each format of each compared with a file in `snapshots/`.

mod compare;
mod documents;
mod pages;

use super::{Format, Ledger, Options, RenderError, Value, render};
use crate::profile::builder::{ProfileBuilder, Readings};
use crate::profile::quality::{Count, CountClass, Quality, counts};
use crate::profile::{
    BlockRow, End, FrameId, FrameKind, KilledBy, MappingOrigin, MappingRow, MemoryLimit, PoolRow, Process, Profile,
    StackId, Trace,
};
use profiler_common::counter::Counter;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SITE: &str = "/srv/shop/venv/lib/python3.11/site-packages";

fn text(profile: &Profile, width: usize) -> String {
    let options = Options { width, ..Options::default() };
    render(profile, Format::Text, &options).unwrap()
}

fn rendered(profile: &Profile, format: Format) -> String {
    render(profile, format, &Options::default()).unwrap()
}

/// inferno's script and style are its own; what is ours stands around them.
fn svg(profile: &Profile, options: &Options) -> String {
    let svg = render(profile, Format::Flamegraph, options).unwrap();
    let parts = regex::Regex::new(r"(?s)<(script|style)[^>]*>.*?</(script|style)>").unwrap();
    parts.replace_all(&svg, "<$1/>").replace("><", ">\n<")
}

/// A Flask service under gunicorn that remembers every request.
struct Shop {
    builder: ProfileBuilder,
}

impl Shop {
    fn frame(&mut self, kind: FrameKind, file: &str, line: u32, function: &str) -> FrameId {
        self.builder.frame(kind, function, file, line, line.saturating_sub(2))
    }

    fn own(&mut self, line: u32, function: &str) -> FrameId {
        self.frame(FrameKind::Own, "/srv/shop/app.py", line, function)
    }

    fn package(&mut self, file: &str, line: u32, function: &str) -> FrameId {
        self.frame(FrameKind::Package, &format!("{SITE}/{file}"), line, function)
    }

    fn stdlib(&mut self, file: &str, line: u32, function: &str) -> FrameId {
        self.frame(FrameKind::Stdlib, &format!("/usr/lib/python3.11/{file}"), line, function)
    }

    /// A request as gunicorn's threads and Flask bring it, then `inner`.
    fn request(&mut self, dispatch_line: u32, inner: &[FrameId]) -> StackId {
        let mut frames = vec![
            self.stdlib("threading.py", 1002, "Thread._bootstrap"),
            self.stdlib("threading.py", 1045, "Thread._bootstrap_inner"),
            self.stdlib("concurrent/futures/thread.py", 83, "_worker"),
            self.package("gunicorn/workers/gthread.py", 282, "ThreadWorker.handle"),
            self.package("gunicorn/workers/gthread.py", 334, "ThreadWorker.handle_request"),
            self.package("flask/app.py", 1498, "Flask.__call__"),
            self.package("flask/app.py", 1473, "Flask.wsgi_app"),
            self.package("flask/app.py", dispatch_line, "Flask.dispatch_request"),
        ];
        frames.extend(inner);
        self.builder.stack(&frames)
    }
}

fn block(stack: StackId, calls: u64, size: u64, live: u64, soon: u64) -> BlockRow {
    BlockRow {
        process: 0,
        stack,
        alloc_objects: calls,
        alloc_space: calls * size,
        inuse_objects: live,
        inuse_space: live * size,
        temporary_objects: soon,
        temporary_space: soon * size,
        largest: size,
        peak_space: size * (live + 3).min(calls),
        samples: calls,
        ..BlockRow::default()
    }
}

fn shop_rows(shop: &mut Shop) -> Readings {
    let [remember, cart, upload, export] =
        [(21, "remember"), (40, "cart"), (58, "upload"), (75, "Exporter.run.<locals>.page")]
            .map(|(line, function)| shop.own(line, function));
    let loads = shop.stdlib("json/__init__.py", 346, "loads");
    let decode = shop.stdlib("json/decoder.py", 337, "JSONDecoder.decode");
    let raw_decode = shop.stdlib("json/decoder.py", 353, "JSONDecoder.raw_decode");
    let read = shop.package("werkzeug/wsgi.py", 156, "LimitedStream.readall");
    let deflate = shop.frame(FrameKind::Native, "/lib/x86_64-linux-gnu/libz.so.1.2.13", 0, "deflateInit2_");
    let leaks: Vec<StackId> = (0..40).map(|line| shop.request(900 + line, &[cart, remember])).collect();
    let uploads = shop.request(880, &[upload, loads, decode, raw_decode]);
    let bodies = shop.request(880, &[upload, read]);
    let exports = shop.request(881, &[export, deflate]);
    let no_own = shop.request(880, &[]);
    let native = shop.builder.marker("[native thread, no Python stack]");
    let native = shop.builder.stack(&[native]);
    let mut blocks: Vec<BlockRow> =
        (0..).zip(&leaks).map(|(n, stack)| block(*stack, 30 + n, 16 * KIB, 30 + n, 0)).collect();
    blocks.extend([
        block(uploads, 1200, 260 * KIB, 0, 500),
        block(bodies, 1200, 3 * MIB, 2, 480),
        block(exports, 9, 268 * KIB, 0, 9),
        block(no_own, 70_000, 600, 20, 69_000),
        block(native, 12, MIB, 12, 0),
    ]);
    let pool = |stack, opened, live_pools, inuse_objects, inuse_space| PoolRow {
        process: 0,
        stack,
        opened,
        live_pools,
        inuse_objects,
        inuse_space,
        opened_space: inuse_space,
        ..PoolRow::default()
    };
    let mapping = |stack, origin, alloc_objects, alloc_space, inuse_objects, inuse_space| MappingRow {
        process: 0,
        stack,
        origin,
        alloc_objects,
        alloc_space,
        inuse_objects,
        inuse_space,
    };
    let touching = pages::Touching { remember: leaks[0], upload: uploads, export: exports, no_own };
    let mut readings = Readings {
        blocks,
        pools: vec![pool(leaks[0], 300, 290, 70_311, 4 * MIB), pool(uploads, 900, 12, 41, 9 * KIB)],
        mappings: vec![
            mapping(bodies, MappingOrigin::AllocatorMmap, 1200, 3600 * MIB, 2, 6 * MIB),
            mapping(leaks[3], MappingOrigin::AllocatorBrk, 40, 34 * MIB, 1, 30 * MIB),
            mapping(leaks[0], MappingOrigin::PymallocArena, 5, 5 * MIB, 5, 5 * MIB),
            mapping(native, MappingOrigin::Anonymous, 12, 12 * MIB, 12, 12 * MIB),
        ],
        ..Readings::default()
    };
    pages::rows(shop, &touching, &mut readings);
    readings
}

fn shop_quality() -> Quality {
    let value = |counter| match counter {
        Counter::EntryHits => 312_480,
        Counter::ReturnHits => 156_000,
        Counter::Allocations => 73_400,
        Counter::Frees => 71_004,
        Counter::UnmatchedFrees => 8_123,
        Counter::RingFull => 12,
        Counter::Walks => 73_412,
        Counter::Frames => 998_000,
        Counter::PoolsOpened => 1_200,
        Counter::NotPython => 12,
        Counter::Faults => 32_812,
        Counter::FaultsInRuns => 20_100,
        _ => 0,
    };
    Quality {
        counts: counts(value),
        own_cpu_ms: 612,
        target_cost_ms: 90,
        target_cpu_ms: 14_200,
        return_cost_ns: 240,
        hit_cost_ns: 288,
        faults_cost_ms: 21,
        fault_cost_ns: 640,
        attach_ms: 37,
        links: "uprobe_multi with sessions".to_owned(),
        pools_read_before_end_ms: None,
        tells_oom_kills: Some(true),
        ..Quality::default()
    }
}

fn rich() -> Profile {
    let mut shop = Shop { builder: ProfileBuilder::new() };
    let mut readings = shop_rows(&mut shop);
    readings.trace = Trace {
        pyalloc_version: "0.1.0".to_owned(),
        started_unix_ms: 1_795_361_329_000,
        duration_ms: 30_040,
        launched: false,
        native: true,
        without_heap: false,
        complete: true,
        kernel: "6.8.0-45-generic".to_owned(),
    };
    readings.processes = vec![Process {
        pid: 4711,
        start_time: 1234,
        command: "/srv/shop/venv/bin/python /srv/shop/venv/bin/gunicorn --threads 8 app:app".to_owned(),
        python: "3.11.2".to_owned(),
        interpreter: "/usr/bin/python3.11".to_owned(),
        notes: vec!["pymalloc is inlined in this build: small objects are counted by pool, not one by one".to_owned()],
        threads_start: 9,
        threads_end: 11,
        rss_start: 61 * MIB,
        rss_end: 118 * MIB + 300 * KIB,
        rss_peak: 131 * MIB,
        end: End::Detached,
        ..Process::default()
    }];
    readings.processes[0] = pages::of_the_shop(&readings.processes[0]);
    readings.quality = shop_quality();
    shop.builder.snapshot(readings);
    shop.builder.into_profile()
}

/// Every text in it tries to break out of a format.
fn hostile() -> Profile {
    let mut builder = ProfileBuilder::new();
    let bad = [
        "\x1b[31mred\x1b[0m",
        "</text><script>alert(1)</script>&\"'",
        "a;b 12 34",
        "line\nbreak\r\u{85}\u{2028}",
        "\u{202e}gnp.exe\u{2066}",
        "]]>",
        "# comment",
        "größe_名前",
        "",
    ];
    let mut frames: Vec<FrameId> = Vec::new();
    for (line, text) in (0..).zip(bad) {
        frames.push(builder.frame(FrameKind::Own, text, text, line, 0));
        frames.push(builder.frame(FrameKind::Native, text, text, 0, 0));
        frames.push(builder.frame(FrameKind::Package, text, &format!("/x/site-packages/{text}"), line, 0));
    }
    frames.push(builder.marker("12 34"));
    let stacks: Vec<StackId> = frames.chunks(5).map(|frames| builder.stack(frames)).collect();
    let mut blocks: Vec<BlockRow> = stacks.iter().map(|stack| block(*stack, 2, MIB, 1, 0)).collect();
    blocks.push(block(0, 1, 1, 1, 1));
    let odd = Count { name: "\x1b[2J".to_owned(), class: CountClass::Dropped, value: 3, meaning: "\x07".to_owned() };
    builder.snapshot(Readings {
        trace: Trace { started_unix_ms: u64::MAX, kernel: "\x1b]0;x\x07".to_owned(), ..Trace::default() },
        processes: vec![Process {
            pid: 1,
            command: "sh -c '\x1b[2J' --</title><script>\n".to_owned(),
            python: "\x1b".to_owned(),
            notes: vec!["\u{202e}".to_owned()],
            rss_start: u64::MAX,
            end: End::Killed(9),
            ..Process::default()
        }],
        blocks,
        quality: Quality { counts: vec![odd], links: "\n".to_owned(), ..Quality::default() },
        ..Readings::default()
    });
    let mut profile = builder.into_profile();
    // The builder bounds names; a file from elsewhere need not.
    let name = profile.frames[0].function as usize;
    profile.strings[name] = "A\x1b".repeat(1 << 19);
    pages::hostile(&mut profile);
    profile
}

fn empty() -> Profile {
    let mut builder = ProfileBuilder::new();
    builder.snapshot(Readings {
        trace: Trace { duration_ms: 2_300, complete: true, launched: true, ..Trace::default() },
        processes: vec![Process { pid: 9, container_pid: Some(1), end: End::Exited(0), ..Process::default() }],
        ..Readings::default()
    });
    builder.into_profile()
}

/// The shop under a gunicorn master with four workers: one remembers every request, one was killed and replaced.
fn workers() -> Profile {
    let mut profile = rich();
    let command = "/srv/shop/venv/bin/python /srv/shop/venv/bin/gunicorn --workers 4 app:app";
    let master = Process {
        pid: 4711,
        command: command.to_owned(),
        threads_start: 1,
        threads_end: 1,
        rss_start: 38 * MIB,
        rss_end: 38 * MIB + 200 * KIB,
        pss_end: 11 * MIB,
        uss_end: 3 * MIB,
        container_pid: Some(1),
        ..profile.processes[0].clone()
    };
    let worker = |pid, rss_start, rss_end| Process {
        pid,
        container_pid: Some(pid - 4704),
        start_time: u64::from(pid),
        rss_start,
        rss_end,
        rss_peak: rss_end,
        parent: Some(0),
        pss_end: rss_end - 20 * MIB,
        uss_end: rss_end - 26 * MIB,
        ..master.clone()
    };
    let killed = Process {
        end: End::Killed(9),
        killed_by: Some(KilledBy::OomKiller {
            limits_known: true,
            limits: vec![MemoryLimit { cgroup: "/shop.slice/web".to_owned(), bytes: 512 * MIB }],
        }),
        ended_at_ms: Some(11_800),
        pss_end: 0,
        uss_end: 0,
        ..worker(4714, 61 * MIB, 412 * MIB)
    };
    let replaced = Process { seen_at_ms: 12_020, unprobed_us: 4_210, ..worker(4718, 39 * MIB, 58 * MIB) };
    profile.processes = vec![
        master.clone(),
        worker(4712, 61 * MIB, 61 * MIB + 100 * KIB),
        worker(4713, 61 * MIB, 154 * MIB),
        killed,
        worker(4715, 60 * MIB, 59 * MIB),
        replaced,
    ];
    spread(&mut profile);
    pages::of_the_workers(&mut profile);
    profile
}

/// The leaks to the third process, a few to the killed one; requests to every worker.
fn spread(profile: &mut Profile) {
    let rows = std::mem::take(&mut profile.blocks);
    for (n, row) in (0_u64..).zip(&rows) {
        let is_leak = row.largest == 16 * KIB;
        let process = if is_leak && n % 8 == 0 { 3 } else { 2 };
        profile.blocks.push(BlockRow { process, ..*row });
        if !is_leak {
            let of_worker = |process| BlockRow { process, inuse_objects: 0, inuse_space: 0, ..*row };
            profile.blocks.extend([1, 4, 5].map(of_worker));
        }
    }
    profile.blocks.push(BlockRow { process: 0, ..block(profile.blocks[0].stack, 9, KIB, 1, 0) });
    profile.pools.iter_mut().for_each(|row| row.process = 2);
    profile.mappings.iter_mut().for_each(|row| row.process = 2);
}

/// A queue that forks a child for each job: 500 of them came and went.
fn jobs() -> Profile {
    let mut builder = ProfileBuilder::new();
    let run = builder.frame(FrameKind::Own, "run", "/srv/jobs/queue.py", 31, 12);
    let work = builder.frame(FrameKind::Own, "work", "/srv/jobs/job.py", 8, 4);
    let stacks = [builder.stack(&[run]), builder.stack(&[run, work])];
    let process = |pid, parent, rss_end| Process {
        pid,
        parent,
        command: "python3 -u /srv/jobs/queue.py --fork".to_owned(),
        python: "3.12.1".to_owned(),
        rss_start: 30 * MIB,
        rss_end,
        ..Process::default()
    };
    let mut processes = vec![process(100, None, 30 * MIB), process(101, Some(0), 34 * MIB)];
    let mut blocks = vec![BlockRow { process: 1, ..block(stacks[0], 900, 4 * KIB, 800, 0) }];
    for n in 0..500_u32 {
        let seen_at_ms = 100 * u64::from(n);
        processes.push(Process {
            seen_at_ms: seen_at_ms + 1,
            ended_at_ms: Some(seen_at_ms + 80),
            unprobed_us: 900 + 10 * u64::from(n),
            end: if n % 100 == 7 { End::Exited(1) } else { End::Exited(0) },
            ..process(1000 + n, Some(n % 2), (31 + u64::from(n) % 40) * MIB)
        });
        blocks.push(BlockRow { process: 2 + n, ..block(stacks[1], 3, MIB, 1, 2) });
    }
    let trace = Trace { duration_ms: 51_000, complete: true, ..Trace::default() };
    builder.snapshot(Readings { trace, processes, blocks, ..Readings::default() });
    builder.into_profile()
}

/// Command lines that try to break out of the table; parents in a circle; numbers at the end of what fits.
fn hostile_tree() -> Profile {
    let mut profile = hostile();
    // A name of a megabyte is looked at elsewhere, and is slow.
    profile.strings.iter_mut().for_each(|text| text.truncate(64));
    let bad = [
        "python\n\u{1b}[2J -c \u{202e}import os;os.system('reboot')",
        "gunicorn: </title><script>alert(1)</script>; # 12",
        "/very/long/path/that/never/ends/and/has/no/blank/in/it/so/that/it/cannot/be/broken/anywhere.py",
        "名前名前名前名前名前名前名前名前名前名前名前名前名前名前 名前名前名前名前名前名前",
        "    ",
    ];
    for (n, command) in (1..).zip(bad) {
        profile.processes.push(Process {
            pid: u32::MAX,
            command: command.to_owned(),
            parent: Some(if n == 1 { 5 } else { n - 1 }),
            rss_end: u64::MAX,
            pss_end: u64::MAX,
            seen_at_ms: u64::MAX,
            ended_at_ms: Some(0),
            unprobed_us: u64::MAX,
            end: [End::Vanished, End::Executed, End::Killed(i32::MIN), End::Exited(i32::MAX)][n as usize % 4].clone(),
            ..Process::default()
        });
    }
    profile.blocks.push(BlockRow { process: 2, ..profile.blocks[0] });
    profile
}

fn check_width(text: &str, width: usize) {
    for line in text.lines() {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= width, "{line}");
    }
}

#[test]
fn workers_text() {
    let text = text(&workers(), 100);
    check_width(&text, 100);
    insta::assert_snapshot!(text);
}

#[test]
fn workers_text_in_80_columns() {
    let text = text(&workers(), 80);
    check_width(&text, 80);
    insta::assert_snapshot!(text.split("\nQuality").next().unwrap());
}

#[test]
fn workers_text_per_process() {
    let options = Options { per_process: true, top: 2, ..Options::default() };
    let text = render(&workers(), Format::Text, &options).unwrap();
    let from = text.find("\nProcess 4713").unwrap();
    insta::assert_snapshot!(text[from..].split("\nPayload").next().unwrap());
}

#[test]
fn workers_json() {
    let options = Options { top: 1, value: Some(Value::InuseSpace), ..Options::default() };
    let json = render(&workers(), Format::Json, &options).unwrap();
    insta::assert_snapshot!(json.split("  \"payloads\"").next().unwrap());
}

#[test]
fn jobs_text() {
    let text = text(&jobs(), 100);
    check_width(&text, 100);
    insta::assert_snapshot!(text);
}

#[test]
fn hostile_tree_text() {
    for width in [super::MIN_WIDTH.max(80), 100] {
        let text = text(&hostile_tree(), width);
        assert!(!text.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
        if width == 100 {
            insta::assert_snapshot!(text.split("\nTop call").next().unwrap());
        }
    }
    let options = Options { per_process: true, ..Options::default() };
    let folded = render(&hostile_tree(), Format::Folded, &options).unwrap();
    assert!(folded.lines().all(|line| line.starts_with('[') && !line.contains(super::sanitize::is_hidden)), "{folded}");
    assert!(!svg(&hostile_tree(), &options).contains("<script>"));
    let json = rendered(&hostile_tree(), Format::Json);
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

#[test]
fn one_process_out_of_many_reads_as_if_it_were_alone() {
    let options = Options { process: Some(4714), value: Some(Value::InuseSpace), ..Options::default() };
    let text = render(&workers(), Format::Text, &options).unwrap();
    assert!(text.starts_with("Process 4714 (10 in its container)\n"), "{text}");
    assert!(text.contains("shows process 4714 only") && text.contains("app.py:21 remember"), "{text}");
    let error = render(&workers(), Format::Folded, &Options { process: Some(1), ..options }).unwrap_err();
    assert_eq!(error.to_string(), "no process 1 in this profile: it has 4711, 4712, 4713, 4714, 4715, 4718");
}

#[test]
fn what_was_live_in_an_ended_process_is_in_no_sum_of_surviving_bytes() {
    let profile = workers();
    let sum = |options: &Options| -> u64 {
        let folded = render(&profile, Format::Folded, options).unwrap();
        folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    };
    let all = sum(&Options::default());
    let killed = sum(&Options { process: Some(4714), ..Options::default() });
    let heap = profile.heap_totals();
    assert!(killed > 0);
    assert_eq!(all + killed, heap.surviving_space());
    let json: serde_json::Value = serde_json::from_str(&rendered(&profile, Format::Json)).unwrap();
    assert_eq!(json["ledgers"]["heap"]["inuse_space"], all);
    assert_eq!(json["tree"]["heap_ended_inuse_space"], killed);
    assert_eq!(json["top_paths"][0]["total"], all);
}

#[test]
fn rich_text() {
    insta::assert_snapshot!(text(&rich(), 100));
}

#[test]
fn rich_text_in_80_columns() {
    let text = text(&rich(), 80);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn rich_text_in_colour() {
    let options = Options { colour: true, top: 1, value: Some(Value::InuseObjects), ..Options::default() };
    insta::assert_snapshot!(render(&rich(), Format::Text, &options).unwrap().replace('\x1b', "ESC"));
}

#[test]
fn rich_mapping_text() {
    let options = Options { ledger: Some(Ledger::Mapping), value: Some(Value::InuseSpace), ..Options::default() };
    insta::assert_snapshot!(render(&rich(), Format::Text, &options).unwrap());
}

#[test]
fn rich_resident_text_by_who_allocated() {
    let options = Options { value: Some(Value::OwnedSpace), ..Options::default() };
    let text = render(&rich(), Format::Text, &options).unwrap();
    check_width(&text, 100);
    let from = text.find("\nTop call").unwrap();
    insta::assert_snapshot!(text[from..].split("\nPayload").next().unwrap());
}

#[test]
fn workers_resident_text_per_process() {
    let options = Options { per_process: true, width: 80, ..Options::default() };
    let text = render(&workers(), Format::Text, &options).unwrap();
    let from = text.find("\nWhat made RSS change").unwrap();
    let text = text[from..].split("\nProcess 4713 gunicorn: top").next().unwrap();
    check_width(text, 80);
    insta::assert_snapshot!(text);
}

#[test]
fn rich_resident_folded() {
    let by = |value| {
        let options = Options { ledger: Some(Ledger::Resident), value, ..Options::default() };
        render(&rich(), Format::Folded, &options).unwrap()
    };
    let sum =
        |folded: &str| folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>();
    let (touched, owned) = (by(Some(Value::TouchedSpace)), by(Some(Value::OwnedSpace)));
    assert_eq!(by(None), touched, "who touched is what is shown first");
    let rows = rich().resident;
    assert_eq!(sum(&touched), rows.iter().map(|row| row.inuse_space).sum::<u64>());
    let with_owner = rows.iter().filter(|row| row.allocated_by.is_some());
    assert_eq!(sum(&owned), with_owner.map(|row| row.inuse_space).sum::<u64>());
    insta::assert_snapshot!(format!("touched_space\n{touched}\nowned_space\n{owned}"));
}

#[test]
fn rich_resident_flamegraph() {
    for (name, value) in [("touched", Value::TouchedSpace), ("owned", Value::OwnedSpace)] {
        let options = Options { value: Some(value), ..Options::default() };
        insta::assert_snapshot!(format!("rich_resident_flamegraph_{name}"), svg(&rich(), &options));
    }
}

#[test]
fn rich_resident_json() {
    for (name, value) in [("touched", Value::TouchedSpace), ("owned", Value::OwnedSpace)] {
        let options = Options { value: Some(value), top: 3, ..Options::default() };
        let json = render(&rich(), Format::Json, &options).unwrap();
        let from = json.find("  \"top_paths\"").unwrap();
        let list = json[from..].split("  \"payloads\"").next().unwrap();
        insta::assert_snapshot!(format!("rich_resident_json_{name}"), list);
    }
}

#[test]
fn hostile_resident_ledger_breaks_out_of_nothing() {
    for value in [Value::TouchedSpace, Value::OwnedSpace] {
        let options = Options { value: Some(value), ..Options::default() };
        let text = render(&hostile_tree(), Format::Text, &options).unwrap();
        assert!(!text.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
        let folded = render(&hostile_tree(), Format::Folded, &options).unwrap();
        assert!(folded.lines().all(|line| !line.contains(super::sanitize::is_hidden)
            && line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok())));
        let svg = svg(&hostile_tree(), &options);
        assert!(!svg.contains("<script>") && !svg.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
        let json = render(&hostile_tree(), Format::Json, &options).unwrap();
        assert!(!json.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["processes"][0]["allocators"]["glibc"], "\x1b[2J");
    }
}

#[test]
fn rich_folded() {
    insta::assert_snapshot!(rendered(&rich(), Format::Folded));
}

#[test]
fn rich_json() {
    let options = Options { top: 2, ..Options::default() };
    insta::assert_snapshot!(render(&rich(), Format::Json, &options).unwrap());
}

#[test]
fn rich_flamegraph() {
    let options = Options { value: Some(Value::AllocSpace), ..Options::default() };
    insta::assert_snapshot!(svg(&rich(), &options));
}

#[test]
fn hostile_text() {
    let text = text(&hostile(), 100);
    assert!(!text.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
    insta::assert_snapshot!(text);
}

#[test]
fn hostile_folded_lines_stay_lines() {
    let folded = rendered(&hostile(), Format::Folded);
    for line in folded.lines() {
        let (path, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<u64>().is_ok(), "{line}");
        assert!(path.ends_with([')', ']']), "a number at the end of a name would be taken for a second value: {line}");
        assert!(!line.contains(super::sanitize::is_hidden));
    }
    assert_eq!(folded.lines().count(), 7);
}

#[test]
fn hostile_flamegraph_is_plain_xml() {
    let svg = svg(&hostile(), &Options::default());
    assert!(!svg.contains("<script>"), "a name became markup");
    assert!(!svg.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
    insta::assert_snapshot!(svg);
}

#[test]
fn hostile_json_is_json() {
    let json = rendered(&hostile(), Format::Json);
    assert!(!json.contains(|c: char| c != '\n' && super::sanitize::is_hidden(c)));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["processes"][0]["notes"][0], "\u{202e}");
    assert_eq!(value["trace"]["kernel"], "\x1b]0;x\x07");
}

#[test]
fn empty_in_every_format() {
    let empty = empty();
    insta::assert_snapshot!("empty_text", text(&empty, 100));
    insta::assert_snapshot!("empty_flamegraph", rendered(&empty, Format::Flamegraph));
    insta::assert_snapshot!("empty_json", rendered(&empty, Format::Json));
    assert_eq!(rendered(&empty, Format::Folded), "");
    assert!(!text(&Profile::default(), 100).is_empty());
}

#[test]
fn the_same_profile_renders_to_the_same_bytes() {
    for profile in [rich(), hostile()] {
        for format in documents::ALL {
            assert_eq!(documents::bytes(&profile, format), documents::bytes(&profile, format), "{format:?}");
        }
    }
}

#[test]
fn a_leak_reached_by_many_paths_is_one_entry_and_comes_first() {
    let text = text(&rich(), 100);
    let first = text.lines().find(|line| line.starts_with("  1. ")).unwrap();
    assert!(first.ends_with("app.py:21 remember"), "{first}");
    assert_eq!(
        text.matches("app.py:21 remember").count(),
        4,
        "by surviving bytes, by bytes allocated, by resident bytes, as a payload"
    );
}

#[test]
fn sums_beyond_64_bits_do_not_overflow() {
    let mut profile = rich();
    for row in &mut profile.blocks {
        (row.alloc_space, row.alloc_objects, row.inuse_space, row.inuse_objects) = (u64::MAX, u64::MAX, u64::MAX, 1);
        (row.temporary_space, row.largest, row.peak_space) = (u64::MAX, u64::MAX, u64::MAX);
    }
    profile.resident.iter_mut().for_each(|row| row.inuse_space = u64::MAX);
    profile.unshared.iter_mut().for_each(|row| row.space = u64::MAX);
    for format in documents::ALL {
        assert!(!documents::bytes(&profile, format).is_empty());
    }
}

#[test]
fn several_processes_are_told_apart() {
    let mut profile = rich();
    profile.processes.push(Process { pid: 4712, command: "worker".to_owned(), ..Process::default() });
    profile.blocks.push(BlockRow { process: 1, ..profile.blocks[0] });
    assert_eq!(rendered(&profile, Format::Folded).lines().count(), rendered(&rich(), Format::Folded).lines().count());
    let options = Options { per_process: true, ..Options::default() };
    let folded = render(&profile, Format::Folded, &options).unwrap();
    assert!(folded.lines().all(|l| l.starts_with("[4711 gunicorn];") || l.starts_with("[4712 worker];")), "{folded}");
    assert!(text(&profile, 100).contains("in 2 processes, most in 4711"));
}

#[test]
fn a_ledger_without_the_value_says_what_it_has() {
    let ask = |value| {
        let options = Options { ledger: Some(Ledger::Mapping), value: Some(value), ..Options::default() };
        [Format::Text, Format::Flamegraph, Format::Folded, Format::Json, Format::Speedscope, Format::Html]
            .map(|f| render(&rich(), f, &options).unwrap_err())
    };
    for error in ask(Value::PeakSpace) {
        assert_eq!(error, RenderError::NoSuchValue { ledger: Ledger::Mapping, value: Value::PeakSpace });
        assert_eq!(
            error.to_string(),
            "the mapping ledger has no peak_space: it has inuse_space, inuse_objects, alloc_space, alloc_objects"
        );
    }
}
