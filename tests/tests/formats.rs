//! Every format opened by a reader that is not ours: Chromium, speedscope's own page, two pprof implementations, xmllint.
#![cfg(test)] // for clippy: the helpers are tests too and may unwrap

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use live_tests::browser::Browser;
use live_tests::{sample, skip};
use pyalloc::profile::Profile;
use pyalloc::render::{self, Format, Ledger, Options, Value};
use serde_json::Value as Json;
use tempfile::TempDir;
use xtask::ebpf::workspace_root;
use xtask::readers::Readers;

/// A folder with the document.
fn document(profile: &Profile, format: Format, options: &Options, name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, render::document(profile, format, options).unwrap()).unwrap();
    (folder, path)
}

fn opened(test: &str, page: &str) -> Option<(TempDir, Browser)> {
    if !Browser::is_here() {
        skip::because(test, "no chromium and chromedriver on this machine (Debian: chromium-driver)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    fs::write(&path, page).unwrap();
    let browser = Browser::start(&["--window-size=1300,1000", "--force-prefers-reduced-motion"]).unwrap();
    browser.open(&format!("file://{}", path.display())).unwrap();
    Some((folder, browser))
}

fn page(profile: &Profile) -> String {
    render::render(profile, Format::Html, &Options::default()).unwrap()
}

fn text(browser: &Browser, selector: &str) -> String {
    let value = browser.value(&format!("document.querySelector('{selector}').textContent")).unwrap();
    value.as_str().unwrap().to_owned()
}

fn number(browser: &Browser, expression: &str) -> u64 {
    browser.value(expression).unwrap().as_f64().unwrap() as u64
}

fn is_quiet(browser: &Browser) {
    assert_eq!(browser.console().unwrap(), [""; 0], "the console stays empty");
    assert_eq!(number(browser, "performance.getEntriesByType('resource').length"), 0, "nothing is loaded");
}

#[test]
fn the_page_works_in_a_browser() {
    let Some((_folder, browser)) = opened("the_page_works_in_a_browser", &page(&sample::service())) else { return };
    assert_eq!(browser.value("document.documentElement.dataset.ready").unwrap(), "yes");
    assert!(text(&browser, "#summary").contains("RSS of the tree grew by 59.0 MiB in 59.0 s"));
    let verdict = text(&browser, "section");
    for part in [
        "Verdict",
        "retained references (confidence: low)",
        "kept by app.SEEN (dict)",
        "Beside that: held by the allocator",
    ] {
        assert!(verdict.contains(part), "{part} is not in {verdict}");
    }
    for section in ["verdict", "memory", "processes", "flamegraph", "paths", "payloads", "objects", "quality"] {
        assert!(number(&browser, &format!("document.getElementById('{section}').getBoundingClientRect().height")) > 50);
    }
    assert!(text(&browser, "#memory").contains("received per second"));
    let objects = text(&browser, "#objects");
    assert!(objects.contains("+11.1 MiB") && objects.contains("+29,000"), "{objects}");
    is_quiet(&browser);

    // Search: what matches is marked and summed up; zoom: a click makes a frame as wide as the graph.
    browser.keys("#flame-search", "dispatch_3").unwrap();
    assert!(number(&browser, "document.querySelectorAll('.f.match').length") >= 20);
    let matched = text(&browser, "#matched");
    assert!(matched.contains(" in matching paths"), "{matched}");
    let wide =
        |part: &str| number(&browser, &format!("document.querySelector('{part}').getBoundingClientRect().width"));
    let narrow = wide(".f.match");
    browser.click(".f.match").unwrap();
    assert!(wide(".f.match") > narrow && wide(".f.match") + 4 >= wide(".f.kall"), "zoomed");
    browser.click("#flame-out").unwrap();
    assert_eq!(wide(".f.match"), narrow);

    // Keys: down to the first frame, Enter zooms; inverted, the innermost frames come first.
    browser.keys(".flame", "\u{e015}\u{e007}").unwrap();
    assert!(text(&browser, ".details").starts_with("main (app.py:3)"), "{}", text(&browser, ".details"));
    browser.click("#inverted").unwrap();
    let second = "[...document.querySelectorAll('.f')].find((part) => part.style.top === '19px').textContent";
    assert_eq!(browser.value(second).unwrap(), "PyBytes_FromStringAndSize (python3.11)");

    // Another number, another table; a row opens to its call path.
    browser
        .value(
            "(() => { const view = document.getElementById('view'); view.value = [...view.options].find((option) => \
                   option.textContent.includes('alloc_space')).value; view.dispatchEvent(new Event('change')); })()",
        )
        .unwrap();
    assert!(text(&browser, "#flamegraph .details").contains("all "), "{}", text(&browser, ".details"));
    browser.click("#paths tr.opens").unwrap();
    assert_eq!(number(&browser, "document.querySelectorAll('#paths tr.more:not([hidden]) .path li').length"), 41);
    assert!(number(&browser, "document.querySelectorAll('#paths .spark').length") > 5);

    // Time: dragging over the chart zooms, Escape shows the whole again.
    browser.drag("#memory svg.chart", -0.2, 0.2).unwrap();
    let window = text(&browser, "#window");
    assert!(window.contains("--since") && window.contains("--until"), "{window}");
    browser.keys("#memory svg.chart", "\u{e00c}").unwrap();
    assert_eq!(text(&browser, "#window"), "drag to zoom");
    is_quiet(&browser);
}

#[test]
fn hostile_names_are_texts_in_a_browser() {
    let Some((_folder, browser)) = opened("hostile_names_are_texts_in_a_browser", &page(&sample::hostile())) else {
        return;
    };
    assert_eq!(browser.value("document.documentElement.dataset.ready").unwrap(), "yes");
    assert_eq!(browser.value("window.owned === undefined").unwrap(), true);
    assert_eq!(number(&browser, "document.querySelectorAll('script').length"), 2, "the data and the script");
    assert_eq!(number(&browser, "document.querySelectorAll('img, iframe, object, link').length"), 0);
    assert_eq!(number(&browser, "document.head.querySelectorAll('title').length"), 1);
    let shown = browser.value("document.body.innerText").unwrap();
    let shown = shown.as_str().unwrap();
    assert!(
        shown.contains("<script>") && shown.contains("\\u{202e}"),
        "names are shown as they are, marks by their numbers"
    );
    assert!(!shown.contains(['\u{202e}', '\u{2066}', '\x1b']));
    browser.keys("#flame-search", "script").unwrap();
    browser.click(".f.match").unwrap();
    browser.click("#paths tr.opens").unwrap();
    assert_eq!(browser.value("window.owned === undefined").unwrap(), true);
    is_quiet(&browser);
}

#[test]
fn a_large_profile_is_a_page_that_opens() {
    let profile = sample::large();
    let page = page(&profile);
    println!("{} stacks, {} bytes of page", profile.stacks.len(), page.len());
    assert!(page.len() < 5_000_000, "{}", page.len());
    let Some((_folder, browser)) = opened("a_large_profile_is_a_page_that_opens", &page) else { return };
    assert_eq!(browser.value("document.documentElement.dataset.ready").unwrap(), "yes");
    let drawn = number(&browser, "document.querySelectorAll('.f').length");
    assert!((100..20_000).contains(&drawn), "{drawn} frames");
    is_quiet(&browser);
}

#[test]
fn speedscope_opens_its_format() {
    let test = "speedscope_opens_its_format";
    let Some(readers) = readers(test) else { return };
    if !Browser::is_here() {
        return skip::because(test, "no chromium and chromedriver on this machine (Debian: chromium-driver)");
    }
    for (profile, expected) in
        [(sample::service(), "heap: surviving bytes (inuse_space)"), (sample::hostile(), "heap: ")]
    {
        let (folder, path) = document(&profile, Format::Speedscope, &Options::default(), "a.speedscope.json");
        // As speedscope's own command line does it: the file as a script that the page loads.
        let base64 = Command::new("base64").arg("-w0").arg(&path).output().unwrap().stdout;
        let base64 = String::from_utf8(base64).unwrap();
        let script = folder.path().join("load.js");
        fs::write(&script, format!("speedscope.loadFileFromBase64('a.speedscope.json', '{base64}')")).unwrap();
        let browser = Browser::start(&["--allow-file-access-from-files", "--enable-unsafe-swiftshader"]).unwrap();
        browser
            .open(&format!("file://{}#localProfilePath={}", readers.speedscope().display(), script.display()))
            .unwrap();
        // The page loads the script after it is there itself; WebDriver waits for a promise.
        let shown = "new Promise((done) => { const look = () => document.title.includes(' - speedscope') || \
                     document.body.innerText.includes('Something went wrong') ? done(document.title + document.body.innerText) : \
                     requestAnimationFrame(look); look(); })";
        let shown = browser.value(shown).unwrap();
        let shown = shown.as_str().unwrap();
        assert!(shown.contains(expected), "{shown}");
        assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'));
    }
}

fn readers(test: &str) -> Option<Readers> {
    let readers = Readers::installed();
    if readers.is_none() {
        skip::because(test, "the readers are not installed: `cargo xtask test` does it where there is npm");
    }
    readers
}

fn node(readers: &Readers, script: &str, file: &Path) -> Json {
    let script = workspace_root().join("tests/readers").join(script);
    let output = Command::new("node").arg(script).arg(readers.folder()).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_pprof_decoder_reads_the_same_sums() {
    let Some(readers) = readers("a_pprof_decoder_reads_the_same_sums") else { return };
    let profile = sample::service();
    let (_folder, path) = document(&profile, Format::Pprof, &Options::default(), "a.pb.gz");
    let read = node(&readers, "pprof.mjs", &path);
    let types = [
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes",
        "resident_space/bytes",
    ];
    assert_eq!(read["types"], serde_json::json!(types));
    let totals = profile.heap_totals();
    let resident: u64 = profile.resident.iter().map(|row| row.inuse_space).sum();
    let expected = [
        totals.alloc_objects,
        totals.alloc_space,
        totals.inuse_objects + totals.small_objects,
        totals.surviving_space(),
        resident,
    ];
    assert_eq!(read["sums"], serde_json::json!(expected.map(|sum| sum.to_string())));
    assert_eq!(read["shown"], "inuse_space");
    let frames: Vec<&str> = read["frames"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    assert_eq!(frames.len(), 41);
    assert_eq!(frames[0], "PyBytes_FromStringAndSize /usr/bin/python3.11:0 /usr/bin/python3.11");
    assert_eq!(frames[1], "remember /srv/shop/app.py:21 /usr/bin/python3.11");
    assert_eq!(read["labels"], serde_json::json!(["pid=4711", "process=4711 app.py"]));

    let (_folder, path) = document(&sample::hostile(), Format::Pprof, &Options::default(), "b.pb.gz");
    let strings = node(&readers, "pprof.mjs", &path)["strings"].clone();
    assert!(
        strings.as_array().unwrap().iter().all(|text| !text.as_str().unwrap().contains(['\x1b', '\u{202e}', '\n']))
    );
}

#[test]
fn go_s_pprof_reads_the_same_sums() {
    let test = "go_s_pprof_reads_the_same_sums";
    let is_here = Command::new("go").args(["tool", "-n", "pprof"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_here.is_ok_and(|status| status.success()) {
        return skip::because(test, "no `go tool pprof` on this machine (Debian: golang-go)");
    }
    let profile = sample::service();
    let (folder, path) = document(&profile, Format::Pprof, &Options::default(), "a.pb.gz");
    let top = |arguments: &[&str], path: &Path| {
        let mut go = Command::new("go");
        go.args(["tool", "pprof", "-unit=B", "-lines", "-nodecount=1000000"]).args(arguments).arg(path);
        let output = go.env("HOME", folder.path()).env("PPROF_TMPDIR", folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = top(&["-top"], &path);
    assert!(shown.contains("Type: inuse_space"), "{shown}");
    let total = profile.heap_totals().surviving_space();
    assert!(shown.contains(&format!("{total}B total")), "{total}: {shown}");
    assert!(shown.contains("remember /srv/shop/app.py:21"), "{shown}");
    let allocated = top(&["-top", "-sample_index=alloc_space"], &path);
    assert!(allocated.contains(&format!("{}B total", profile.heap_totals().alloc_space)), "{allocated}");
    let one = top(&["-top", "-tagfocus=pid=4711"], &path);
    assert!(one.contains("4711") || one.contains("remember"), "{one}");

    let (_folder, path) = document(&sample::hostile(), Format::Pprof, &Options::default(), "b.pb.gz");
    let hostile = top(&["-top"], &path);
    assert!(hostile.contains("<script>") && !hostile.contains('\x1b'), "{hostile}");
}

#[test]
fn the_flamegraph_is_xml() {
    let test = "the_flamegraph_is_xml";
    let is_here = Command::new("xmllint").arg("--version").stderr(Stdio::null()).status();
    if !is_here.is_ok_and(|status| status.success()) {
        return skip::because(test, "no xmllint on this machine (Debian: libxml2-utils)");
    }
    let resident = Options { ledger: Some(Ledger::Resident), value: Some(Value::OwnedSpace), ..Options::default() };
    let nothing = Options { value: Some(Value::AllocSpace), ..Options::default() };
    let empty = Profile::default();
    let service = (sample::service(), sample::hostile());
    let cases = [
        (&service.0, Options::default()),
        (&service.0, resident),
        (&service.1, Options::default()),
        (&service.1, Options { per_process: true, ..Options::default() }),
        (&empty, nothing),
    ];
    for (profile, options) in cases {
        let (_folder, path) = document(profile, Format::Flamegraph, &options, "a.svg");
        let output = Command::new("xmllint").args(["--noout", "--nonet"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn hostile_names_are_harmless_in_every_text() {
    let profile = sample::hostile();
    for format in [Format::Text, Format::Flamegraph, Format::Folded, Format::Json, Format::Speedscope, Format::Html] {
        for per_process in [false, true] {
            let text = render::render(&profile, format, &Options { per_process, ..Options::default() }).unwrap();
            let bad = text.char_indices().find(|(_, letter)| {
                matches!(letter, '\x1b' | '\x07' | '\0' | '\r' | '\u{202e}' | '\u{2066}' | '\u{2028}')
            });
            assert_eq!(bad, None, "{format:?}");
        }
    }
}
