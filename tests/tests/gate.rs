//! `pyalloc check` on real runs: the same code twice passes, more memory in one function fails, whatever runs it: pytest, its
//! workers under xdist, forked workers, a service under load.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use live_tests::tracer::{Tracer, pyalloc};
use live_tests::workload::{self, Workload};
use live_tests::{readers, skip};
use serde_json::Value as Json;
use tempfile::TempDir;
use xtask::gate;
use xtask::python::{self, Venv};

/// How much room an export takes, in percent, when it has grown: its room is a third of what the function allocates, so
/// that this is 5 % more.
const GROWN: &str = "115";
/// A third more: workers that live as short as these are not judged to the per cent.
const FAR_GROWN: &str = "200";
const SAME: &str = "100";
/// Requests to the service in each run.
const REQUESTS: usize = 100;

fn folder() -> PathBuf {
    workload::path("gate")
}

/// The environment with pytest; `None` after saying why the test cannot run.
fn venv(test: &str) -> Option<Venv> {
    if skip::without_root(test) {
        return None;
    }
    match python::newest().and_then(|interpreter| gate::venv(&interpreter)) {
        Ok(venv) => Some(venv),
        Err(error) => {
            skip::because(test, &format!("no environment with pytest: {error:#}"));
            None
        }
    }
}

/// Runs a program under trace; its profile lies in the folder.
fn traced(out: &Path, name: &str, export: &str, program: &[&OsStr]) -> PathBuf {
    let path = out.join(name);
    let mut trace = pyalloc().unwrap();
    trace.args(["trace", "--quiet", "-o"]).arg(&path).arg("--").args(program).current_dir(folder());
    trace.env("SHOP_EXPORT", export).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONHASHSEED", "0");
    let output = trace.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    path
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// `pyalloc check`, from the workloads' folder, as a job would call it.
fn check(run: &Path, baseline: &Path, options: &[&OsStr]) -> Output {
    let mut check = pyalloc().unwrap();
    check.arg("check").arg(run).arg("--baseline").arg(baseline).args(["--format", "json"]).args(options);
    check.current_dir(folder()).output().unwrap()
}

/// What is over its limit: scope, name and measure of each.
fn over(output: &Output) -> Vec<(String, String, String)> {
    let verdict: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let of = |judgement: &Json, key: &str| judgement[key].as_str().unwrap().to_owned();
    let judgements = verdict["judgements"].as_array().unwrap().iter();
    let over = judgements.filter(|judgement| judgement["passed"] == false);
    over.map(|one| (of(one, "scope"), of(one, "name"), of(one, "measure"))).collect()
}

/// The same code passes; what has grown fails, and is named.
#[track_caller]
fn same_passes_and_grown_fails(make: impl Fn(&Path, &str, &str) -> PathBuf, grown: &str, tests: &[&str]) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let before = make(out.path(), "before.pyalloc", SAME);
    let same = make(out.path(), "same.pyalloc", SAME);
    let grown = make(out.path(), "grown.pyalloc", grown);
    let passed = check(&same, &before, &[]);
    assert_eq!((passed.status.code(), over(&passed)), (Some(0), vec![]), "{}", text(&passed.stdout));
    let failed = check(&grown, &before, &[]);
    assert_eq!(failed.status.code(), Some(1), "{}{}", text(&failed.stdout), text(&failed.stderr));
    let over = over(&failed);
    let has = |scope: &str, name: &str| over.contains(&(scope.to_owned(), name.to_owned(), "allocated".to_owned()));
    assert!(has("function", "shop.py::export"), "{over:?}");
    for test in tests {
        assert!(has("test", test), "{test}: {over:?}");
    }
    assert!(over.iter().all(|(scope, name, _)| scope != "function" || name == "shop.py::export"), "{over:?}");
    out
}

const PYTEST: [&str; 6] = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "."];
const TESTS: [&str; 2] = ["tests/test_shop.py::TestCart::test_export", "tests/test_shop.py::OldTest::test_old"];

fn pytest(venv: &Venv, more: &[&str]) -> impl Fn(&Path, &str, &str) -> PathBuf {
    let python = venv.python().into_os_string();
    let words: Vec<std::ffi::OsString> = PYTEST.iter().chain(more).map(Into::into).collect();
    move |out, name, export| {
        let program: Vec<&OsStr> = std::iter::once(&python).chain(&words).map(|word| word.as_os_str()).collect();
        traced(out, name, export, &program)
    }
}

#[test]
fn pytest_is_judged_by_test_and_by_function() {
    let test = "pytest_is_judged_by_test_and_by_function";
    let Some(venv) = venv(test) else { return };
    let out = same_passes_and_grown_fails(pytest(&venv, &[]), GROWN, &TESTS);
    let [grown, before] = ["grown.pyalloc", "before.pyalloc"].map(|name| out.path().join(name));
    let [junit, sarif, markdown, picture] = ["a.xml", "a.sarif", "a.md", "a.svg"].map(|name| out.path().join(name));
    let options = ["--junit", "--sarif", "--markdown", "--flamegraph"].map(OsStr::new);
    let files = [&junit, &sarif, &markdown, &picture].map(|path| path.as_os_str());
    let options: Vec<&OsStr> = options.into_iter().zip(files).flat_map(<[&OsStr; 2]>::from).collect();
    let failed = check(&grown, &before, &options);
    let over = over(&failed);
    let Some(read) = readers::of_check(test, &sarif, &junit, &markdown) else { return };
    assert_eq!(read["junit"]["told"][1], over.len(), "{read}");
    assert_eq!(read["junit"]["failed"].as_array().unwrap().len(), over.len());
    assert_eq!(read["sarif"]["results"].as_array().unwrap().len(), over.len());
    let places = read["sarif"]["places"].as_array().unwrap();
    assert!(places.iter().any(|place| place[0] == "shop.py" && place[1].as_u64() > Some(1)), "{read}");
    let codes = read["markdown"]["codes"].as_array().unwrap();
    assert!(codes.iter().any(|code| code == "function shop.py::export"), "{read}");
}

#[test]
fn workers_of_xdist_are_judged_as_one_run() {
    let Some(venv) = venv("workers_of_xdist_are_judged_as_one_run") else { return };
    same_passes_and_grown_fails(pytest(&venv, &["-n", "2"]), GROWN, &TESTS);
}

#[test]
fn forked_workers_are_judged_together() {
    let Some(venv) = venv("forked_workers_are_judged_together") else { return };
    let python = venv.python();
    let program = [python.as_os_str(), OsStr::new("forked.py")];
    same_passes_and_grown_fails(|out, name, export| traced(out, name, export, &program), FAR_GROWN, &[]);
}

#[test]
fn a_service_under_load_is_judged() {
    let Some(venv) = venv("a_service_under_load_is_judged") else { return };
    same_passes_and_grown_fails(|out, name, export| served(&venv, &out.join(name), export), GROWN, &[]);
}

/// Attaches to a service, sends it its requests, one after the other, and ends the trace.
fn served(venv: &Venv, path: &Path, export: &str) -> PathBuf {
    let mut python = Command::new(venv.python());
    python.arg(folder().join("service.py")).env("SHOP_EXPORT", export).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut service = Workload::start_command(&mut python).unwrap();
    let port = service.read::<Json>().unwrap()["port"].as_u64().unwrap();
    let port = u16::try_from(port).unwrap();
    request(port);
    let tracer = Tracer::attach_to_file(service.pid(), path).unwrap();
    (0..REQUESTS).for_each(|_| request(port));
    let traced = tracer.finish().unwrap();
    assert!(traced.status.success(), "{}", traced.complaint);
    path.to_owned()
}

fn request(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    writeln!(stream, "export").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert_eq!(answer, "400000\n");
}
