//! The demo's service, under its load: the code that leaks is named first.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use live_tests::demo_service::{self, AUDIT, Leak, PAGES};
use live_tests::guard::Guard;
use live_tests::lookup::{self, Place};
use live_tests::skip;
use live_tests::tracer::Tracer;
use pyalloc::profile::{FrameKind, Profile, StackId};
use xtask::ebpf::workspace_root;
use xtask::python::{self, Venv};

/// Long enough for a thousand requests.
const TRACED_FOR: Duration = Duration::from_secs(8);

/// The service with one worker, and the load on it.
struct Running {
    service: Guard,
    _load: Guard,
}

impl Running {
    fn start(venv: &Venv, folder: &std::path::Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let sources = workspace_root().join("demo/service");
        let service = Guard::start(
            Command::new(venv.program("gunicorn"))
                .args(["--workers", "1", "--threads", "4", "--bind", &format!("127.0.0.1:{port}"), "app:app"])
                .current_dir(&sources)
                .env("ORDERS_DB", folder.join("orders.sqlite3"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(folder.join("service.log")).unwrap()),
        )
        .unwrap();
        let mut load = Guard::start(
            Command::new(venv.python())
                .arg(sources.join("load.py"))
                .args([&port.to_string(), "60"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(load.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "serving\n", "{}", fs::read_to_string(folder.join("service.log")).unwrap());
        Self { service, _load: load }
    }

    /// gunicorn's one worker.
    fn worker(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.service.pid());
        fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// Surviving bytes by the innermost line of the service's own code: blocks, and small objects in their pools.
fn surviving(profile: &Profile) -> Vec<(u64, String, u32)> {
    let app = demo_service::app();
    let own = |stack: StackId| {
        let mut frames = profile.frames_of(stack).filter(|frame| frame.kind == FrameKind::Own);
        let frame = frames.find(|frame| app.ends_with(profile.text(frame.file)))?;
        Some((profile.text(frame.function).to_owned(), frame.line))
    };
    let mut sums = std::collections::BTreeMap::new();
    let blocks = profile.blocks.iter().map(|row| (row.stack, row.inuse_space));
    let pools = profile.pools.iter().map(|row| (row.stack, row.inuse_space));
    for (stack, bytes) in blocks.chain(pools) {
        if let Some(line) = own(stack) {
            *sums.entry(line).or_insert(0) += bytes;
        }
    }
    let mut sums: Vec<_> = sums.into_iter().map(|((function, line), bytes)| (bytes, function, line)).collect();
    sums.sort_by(|one, other| other.cmp(one));
    sums
}

/// Surviving bytes of the C allocator's blocks that a leak's innermost frame made below the leak's line.
fn of_blocks(profile: &Profile, leak: Leak) -> u64 {
    let line = Place { file: "app.py", function: leak.function, line: leak.line().unwrap() };
    let is_of_leak = |stack: StackId| {
        profile.leaf(stack).is_some_and(|leaf| profile.text(leaf.function) == leak.allocated_in)
            && profile.frames_of(stack).any(|frame| line.is(profile, frame))
    };
    profile.blocks.iter().filter(|row| is_of_leak(row.stack)).map(|row| row.inuse_space).sum()
}

#[test]
fn the_demos_leaks_are_named_first() {
    let test = "the_demos_leaks_are_named_first";
    if skip::without_root(test) {
        return;
    }
    let requirements = workspace_root().join("demo/service/requirements.txt");
    let venv = match python::newest().and_then(|python| Venv::ensure("demo", &python, &requirements)) {
        Ok(venv) => venv,
        Err(error) => return skip::because(test, &format!("no environment for the service: {error:#}")),
    };
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(&venv, folder.path());
    let tracer = Tracer::attach(running.worker()).unwrap();
    thread::sleep(TRACED_FOR);
    let traced = tracer.finish().unwrap();
    let profile = &traced.profile;

    let top = surviving(profile);
    assert!(top.len() > 2, "{top:?}");
    let named: Vec<(&str, u32)> = top.iter().map(|(_, function, line)| (function.as_str(), *line)).collect();
    assert_eq!(named[0], (AUDIT.function, AUDIT.line().unwrap()), "{top:?}");
    assert_eq!(named[1], (PAGES.function, PAGES.line().unwrap()), "{top:?}");
    for leak in [AUDIT, PAGES] {
        assert!(of_blocks(profile, leak) > 0, "{leak:?}: nothing of {}", leak.allocated_in);
    }
    // What a person reads first.
    let first = traced.report.split("Top call paths by surviving bytes").nth(1).unwrap();
    let first = first.lines().find(|line| line.trim_start().starts_with("1.")).unwrap();
    let expected = format!("app.py:{} {}", AUDIT.line().unwrap(), AUDIT.function);
    assert!(first.ends_with(&expected), "{}", traced.report);
    assert_eq!(lookup::count(profile, "block_map_full"), 0);
}
