//! Comparisons: the golden service against a run of it that has grown, and against one whose names try to break out of a
//! format.

use super::{KIB, hostile, hostile_tree, rich, workers};
use crate::compare::budget::Config;
use crate::compare::caveats::Named;
use crate::compare::diff::{self, Side};
use crate::compare::gate;
use crate::compare::sums::Runs;
use crate::profile::Profile;
use crate::render::compare::{self, CheckFormat, Checked, Compared, DiffFormat};
use crate::render::{Ledger, Options, Value, sanitize};

const DIFF: [DiffFormat; 6] = [
    DiffFormat::Text,
    DiffFormat::Html,
    DiffFormat::Json,
    DiffFormat::Markdown,
    DiffFormat::Flamegraph,
    DiffFormat::Folded,
];
const CHECK: [CheckFormat; 5] =
    [CheckFormat::Text, CheckFormat::Json, CheckFormat::Markdown, CheckFormat::Junit, CheckFormat::Sarif];
const BUDGETS: &str = "[[budget]]\nrss_peak = '100 MiB'\n[[budget]]\nfunction = '*::upload'\npeak = '1 GiB'\n\
                       [[budget]]\nfunction = '*::nobody'\npeak = '1 GiB'\n";
/// What GitHub takes as a comment, in letters.
const COMMENT: usize = 65_536;

/// One function allocates and keeps 5 % more, another keeps nothing any more, a third one a few bytes more.
fn grown() -> Profile {
    let mut profile = rich();
    for row in &mut profile.blocks[..40] {
        row.alloc_space += row.alloc_space / 20;
        row.inuse_space += row.inuse_space / 20;
        row.peak_space += row.peak_space / 20;
    }
    profile.blocks[41].inuse_space = 0;
    profile.blocks[43].inuse_space += 600;
    profile.pools[1].inuse_space += 16 * KIB;
    profile
}

fn compared(before: &Profile, after: &Profile, format: DiffFormat) -> String {
    let (ledger, value) = (Ledger::Heap, Value::InuseSpace);
    let side = |profile, name| {
        let weights = compare::weights(profile, ledger, value).unwrap();
        Side { named: Named { name, profile }, weights }
    };
    let options = diff::Options { bytes: true, root: Some("/srv/shop"), ..diff::Options::default() };
    let diff = diff::diff(&side(before, "before.pyalloc"), &side(after, "after.pyalloc"), &options);
    let compared = Compared { before: "before.pyalloc", after: "after.pyalloc", ledger, value };
    compare::diff(&diff, &compared, format, &Options::default()).unwrap()
}

fn judged(before: &Profile, after: &Profile, format: CheckFormat) -> String {
    let config = Config::parse(BUDGETS, "pyalloc.toml").unwrap();
    let verdict = gate::judge(Runs::new(&[after], &[before], Some("/srv/shop")), &config);
    let (runs, baselines) = (vec!["run.pyalloc".to_owned()], vec!["main.pyalloc".to_owned()]);
    compare::check(&verdict, &Checked { runs, baselines, version: "0.1.0".to_owned() }, format, &Options::default())
        .unwrap()
}

#[test]
fn grown_diff_text() {
    insta::assert_snapshot!(compared(&rich(), &grown(), DiffFormat::Text));
}

#[test]
fn grown_diff_markdown() {
    insta::assert_snapshot!(compared(&rich(), &grown(), DiffFormat::Markdown));
}

#[test]
fn grown_diff_json() {
    insta::assert_snapshot!(compared(&rich(), &grown(), DiffFormat::Json));
}

#[test]
fn grown_check_text() {
    insta::assert_snapshot!(judged(&rich(), &grown(), CheckFormat::Text));
}

#[test]
fn grown_check_markdown() {
    insta::assert_snapshot!(judged(&rich(), &grown(), CheckFormat::Markdown));
}

#[test]
fn grown_check_junit() {
    insta::assert_snapshot!(judged(&rich(), &grown(), CheckFormat::Junit));
}

#[test]
fn grown_check_sarif() {
    insta::assert_snapshot!(judged(&rich(), &grown(), CheckFormat::Sarif));
}

#[test]
fn the_same_profile_has_no_change_and_passes() {
    for profile in [rich(), workers(), hostile()] {
        assert!(compared(&profile, &profile, DiffFormat::Text).contains("0 new, 0 more, 0 less, 0 gone, 0 noise"));
        let verdict = gate::judge(Runs::new(&[&profile], &[&profile], None), &Config::default());
        assert!(verdict.passed());
    }
}

#[test]
fn hostile_names_are_texts_in_every_comparison() {
    let line = regex::Regex::new(r"^.+ \d+ \d+$").unwrap();
    for (before, after) in [(rich(), hostile()), (hostile(), rich()), (rich(), hostile_tree())] {
        let diffs = DIFF.map(|format| (format!("{format:?}"), compared(&before, &after, format)));
        let checks = CHECK.map(|format| (format!("{format:?}"), judged(&before, &after, format)));
        for (format, text) in diffs.iter().chain(&checks) {
            let bad = text.chars().find(|letter| *letter != '\n' && sanitize::is_hidden(*letter));
            assert_eq!(bad, None, "{format}");
            // For programs a name is whole, however long it is.
            assert!(format == "Json" || text.len() < 2_000_000, "{format}: {} bytes", text.len());
        }
        let [_, html, json, markdown, _, folded] = diffs.map(|(_, text)| text);
        assert!(!html.contains("<script") && html.matches("<title>").count() == 1);
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        assert!(!markdown.contains("<script"));
        assert!(folded.lines().all(|text| line.is_match(text)));
        let [_, json, markdown, junit, sarif] = checks.map(|(_, text)| text);
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        serde_json::from_str::<serde_json::Value>(&sarif).unwrap();
        assert!(!markdown.contains("<script") && markdown.chars().count() < COMMENT);
        assert!(!junit.contains("<script"));
    }
}
