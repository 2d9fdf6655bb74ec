//! Profiles made by hand, for readers that are not ours: a service, one with hostile names, and a very large one.

use pyalloc::profile::builder::{ProfileBuilder, Readings};
use pyalloc::profile::evidence::{Evidence, Reading};
use pyalloc::profile::objects::{CacheRow, ContainerKind, ContainerRow, Holder, ObjectLook, RetainerRow, TypeRow};
use pyalloc::profile::path_timeline::{PathSeries, PathTimeline};
use pyalloc::profile::quality::{Count, CountClass, Quality};
use pyalloc::profile::verdict::{Answer, Culprit, Diagnosis, Finding, Pattern};
use pyalloc::profile::{
    BlockRow, End, FrameKind, MappingOrigin, MappingRow, PoolRow, Process, Profile, ResidentRow, StackId,
    TimelinePoint, Trace,
};

const MIB: u64 = 1 << 20;

/// Texts that try to break out of a format.
pub const HOSTILE: [&str; 12] = [
    "\x1b[2J\x1b]0;owned\x07",
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "<!--<script>",
    "\" onload=\"window.owned = 1",
    "a;b 12 34\n# comment\r\n",
    "\u{202e}cod.exe\u{2066}",
    "\u{2028}\u{2029}]]>",
    "${window.owned = 1}{{data}}",
    "</title></style><b>",
    "\u{fffd}\u{fffe}\0",
    "=HYPERLINK(\"x\")",
];

/// A service whose worker remembers every request.
pub fn service() -> Profile {
    let mut profile = of_names("remember", "/srv/shop/app.py", "python app.py", 12);
    profile.diagnosis = Some(diagnosis("pid 7 grows: what app.py:3 main allocates is kept by app.SEEN (dict)"));
    profile
}

/// A verdict all of whose texts are this one.
fn diagnosis(text: &str) -> Diagnosis {
    let texts = || vec![text.to_owned(), text.to_owned()];
    let finding = |pattern| Finding {
        pattern,
        sentence: text.to_owned(),
        bytes: 59 << 20,
        evidence: texts(),
        next_steps: texts(),
        not_to_do: text.to_owned(),
        to_be_surer: text.to_owned(),
        culprit: Culprit { code: text.to_owned(), holder: text.to_owned(), ..Culprit::default() },
        ..Finding::default()
    };
    Diagnosis {
        pattern: Pattern::RetainedReferences,
        headline: text.to_owned(),
        findings: vec![finding(Pattern::RetainedReferences), finding(Pattern::HeldByAllocator)],
        answers: vec![Answer { question: text.to_owned(), lines: texts() }],
        ..Diagnosis::default()
    }
}

/// The same with hostile texts everywhere, one of them a megabyte long.
pub fn hostile() -> Profile {
    let all = HOSTILE.join(" ");
    let mut profile = of_names(&all, &all, &all, 12);
    for (text, hostile) in profile.strings.iter_mut().zip(HOSTILE.iter().cycle()) {
        *text = (*hostile).to_owned();
    }
    // The builder bounds texts; a file from elsewhere need not.
    if let Some(text) = profile.strings.last_mut() {
        *text = "A\x1b</script>".repeat(80_000);
    }
    profile.diagnosis = Some(diagnosis(&all));
    profile.trace.kernel = all.clone();
    profile.trace.pyalloc_version = all.clone();
    profile.quality.counts.push(Count {
        name: all.clone(),
        class: CountClass::Dropped,
        value: 3,
        meaning: all.clone(),
    });
    profile.quality.links = all.clone();
    for process in &mut profile.processes {
        process.python = all.clone();
        process.interpreter = all.clone();
        process.notes = vec![all.clone()];
    }
    profile
}

/// As many call paths and processes as a large service has: some 50 000 stacks.
pub fn large() -> Profile {
    of_names(
        "handle_request_with_a_long_name",
        "/srv/application/package/module.py",
        "gunicorn: worker [app:app]",
        8_000,
    )
}

fn of_names(function: &str, file: &str, command: &str, paths: u32) -> Profile {
    let mut builder = ProfileBuilder::new();
    let stacks: Vec<StackId> = (0..paths).map(|n| stack(&mut builder, function, file, n)).collect();
    let processes: Vec<Process> = (0..4_u32.min(paths)).map(|n| process(n, command)).collect();
    let of = |n: usize| u32::try_from(n % processes.len()).unwrap_or(0);
    let live = |n: usize| MIB * 64 / (n as u64 + 1);
    let block = |(n, stack): (usize, &StackId)| BlockRow {
        process: of(n),
        stack: *stack,
        alloc_objects: 100 + n as u64,
        alloc_space: 3 * live(n),
        inuse_objects: 10,
        inuse_space: live(n),
        temporary_objects: 5,
        temporary_space: live(n) / 2,
        largest: 70_000,
        peak_space: 2 * live(n),
        ..BlockRow::default()
    };
    let series = |(n, stack): (usize, &StackId)| PathSeries {
        process: of(n),
        stack: *stack,
        first: 0,
        live: (0..60).map(|at| live(n) * at / 59).collect(),
        allocated: (0..60).map(|at| 3 * live(n) * at / 59).collect(),
    };
    let point = |at: u64, n: u32| TimelinePoint {
        process: n,
        at_ms: at * 1000,
        rss: 40 * MIB + at * MIB * u64::from(n == 1),
        live: at * MIB,
        allocated: at * at * MIB,
    };
    let count = u32::try_from(processes.len()).unwrap_or(0);
    let pools = stacks.iter().enumerate().map(|(n, stack)| PoolRow {
        process: of(n),
        stack: *stack,
        opened: 9,
        live_pools: 3,
        inuse_objects: 30,
        inuse_space: 4096,
        ..PoolRow::default()
    });
    let mappings = stacks.iter().take(20).map(|stack| MappingRow {
        process: 0,
        stack: *stack,
        origin: MappingOrigin::Anonymous,
        alloc_objects: 2,
        alloc_space: 2 * MIB,
        inuse_objects: 1,
        inuse_space: MIB,
    });
    let resident = stacks.iter().enumerate().map(|(n, stack)| ResidentRow {
        process: of(n),
        stack: *stack,
        allocated_by: Some(*stack),
        inuse_space: live(n),
        ..ResidentRow::default()
    });
    let readings = Readings {
        trace: Trace {
            pyalloc_version: "0.1.0".to_owned(),
            started_unix_ms: 1_790_000_000_000,
            duration_ms: 59_000,
            complete: true,
            kernel: "6.8".to_owned(),
            ..Trace::default()
        },
        blocks: stacks.iter().enumerate().map(block).collect(),
        pools: pools.collect(),
        mappings: mappings.collect(),
        resident: resident.collect(),
        timeline: (0..60).flat_map(|at| (0..count).map(move |n| point(at, n))).collect(),
        path_timeline: PathTimeline {
            at_ms: (0..60).map(|at| at * 1000).collect(),
            paths: stacks.iter().enumerate().take(128).map(series).collect(),
        },
        processes,
        evidence: evidence(file),
        quality: Quality { links: "uprobe_multi".to_owned(), ..Quality::default() },
        ..Readings::default()
    };
    builder.snapshot(readings);
    builder.into_profile()
}

/// Forty frames: the server, the framework, the service's own, and a native one.
fn stack(builder: &mut ProfileBuilder, function: &str, file: &str, n: u32) -> StackId {
    let mut frames = vec![builder.frame(FrameKind::Own, "main", file, 3, 1)];
    for depth in 0..12 {
        frames.push(builder.frame(FrameKind::Stdlib, "run", "/usr/lib/python3.11/threading.py", 900 + depth, 890));
    }
    for depth in 0..20 {
        let file = "/venv/lib/python3.11/site-packages/flask/app.py";
        frames.push(builder.frame(FrameKind::Package, &format!("dispatch_{}", n % 7), file, 100 + depth, 90));
    }
    for depth in 0..6 {
        let name = format!("{function}_{}", n % (depth + 5));
        frames.push(builder.frame(FrameKind::Own, &name, file, 10 + n % 500, 10));
    }
    frames.push(builder.frame(FrameKind::Own, function, file, 21 + n, 20));
    frames.push(builder.frame(FrameKind::Native, "PyBytes_FromStringAndSize", "/usr/bin/python3.11", 0, 0));
    builder.stack(&frames)
}

fn process(n: u32, command: &str) -> Process {
    Process {
        pid: 4711 + n,
        start_time: u64::from(n),
        command: command.to_owned(),
        python: "3.11.2".to_owned(),
        interpreter: "/usr/bin/python3.11".to_owned(),
        threads_start: 1,
        threads_end: 3,
        rss_start: 40 * MIB,
        rss_end: (40 + 59 * u64::from(n == 1)) * MIB,
        rss_peak: 100 * MIB,
        end: End::Detached,
        parent: (n > 0).then_some(0),
        ..Process::default()
    }
}

/// Traffic of the worker, and two looks at its objects.
fn evidence(name: &str) -> Evidence {
    let reading = |at: u64| Reading {
        process: 1,
        at_ms: at * 1000,
        received: at * at * 20_000,
        sent: at * 300_000,
        accepted: at,
        ..Reading::default()
    };
    let look = |at_ms: u64, objects: u64| ObjectLook {
        process: 1,
        at_ms,
        objects,
        types: vec![
            TypeRow { name: format!("shop.{name}"), objects, space: objects * 400 },
            TypeRow { name: "dict".to_owned(), objects: 900, space: 90_000 },
        ],
        containers: vec![ContainerRow {
            kind: ContainerKind::Dict,
            type_name: "dict".to_owned(),
            address: 0x7000,
            owner: name.to_owned(),
            holder: Holder::ModuleGlobal,
            length: objects,
            space: 4096,
            deep_space: objects * 400,
            ..ContainerRow::default()
        }],
        caches: vec![CacheRow {
            function: name.to_owned(),
            currsize: 90,
            maxsize: Some(128),
            hits: 5,
            misses: 95,
            deep_space: 9000,
            ..CacheRow::default()
        }],
        retainers: vec![RetainerRow {
            type_name: "shop.Entry".to_owned(),
            path: name.to_owned(),
            sampled: 10,
            objects,
            space: objects * 400,
            ..RetainerRow::default()
        }],
        ..ObjectLook::default()
    };
    let (readings, looks) = ((0..60).map(reading).collect(), vec![look(5_000, 1000), look(55_000, 30_000)]);
    Evidence { readings, looks, ..Evidence::default() }
}
