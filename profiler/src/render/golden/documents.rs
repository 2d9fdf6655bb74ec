//! The formats for other tools, and the page.

use std::io::Read as _;

use prost::Message as _;

use super::{empty, hostile, hostile_tree, rich, workers};
use crate::profile::path_timeline::{PathSeries, PathTimeline};
use crate::profile::{Profile, StackId};
use crate::render::pprof::message;
use crate::render::{Format, Options, RenderError, Value, document, render, sanitize};

pub(super) const ALL: [Format; 7] =
    [Format::Text, Format::Flamegraph, Format::Folded, Format::Json, Format::Html, Format::Speedscope, Format::Pprof];

pub(super) fn bytes(profile: &Profile, format: Format) -> Vec<u8> {
    document(profile, format, &Options::default()).unwrap()
}

/// The golden profile with call paths over time: the first grows, the second comes and goes.
fn over_time(mut profile: Profile) -> Profile {
    let stacks: Vec<StackId> = profile.blocks.iter().take(2).map(|row| row.stack).collect();
    let series = |stack, first, live: &[u64]| PathSeries {
        process: 0,
        stack,
        first,
        live: live.to_vec(),
        allocated: live.iter().map(|live| 2 * live).collect(),
    };
    profile.path_timeline = PathTimeline {
        at_ms: vec![500, 10_000, 20_000, 30_000],
        paths: vec![series(stacks[0], 0, &[1 << 10, 1 << 16, 1 << 19, 1 << 20]), series(stacks[1], 1, &[1 << 20, 0])],
    };
    profile
}

/// The data of a page: what stands around it is the same in each.
fn island(profile: &Profile, options: &Options) -> serde_json::Value {
    let page = render(profile, Format::Html, options).unwrap();
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn rich_html() {
    let mut data = island(&over_time(rich()), &Options { value: Some(Value::InuseSpace), ..Options::default() });
    // Hundreds of numbers; what they mean is tested below.
    let paths = data["paths"].take();
    assert_eq!(paths["parents"].as_array().unwrap().len(), paths["node_frames"].as_array().unwrap().len());
    let rows = data["views"][0]["flame"]["rows"].take();
    let sum: u64 = rows.as_array().unwrap().chunks(3).map(|row| row[2].as_u64().unwrap()).sum();
    assert_eq!(sum, data["views"][0]["flame"]["total"].as_u64().unwrap(), "nothing is lost by what is not drawn");
    insta::assert_snapshot!(pretty(&data));
}

#[test]
fn workers_html_has_the_tree_and_every_number() {
    let data = island(&workers(), &Options::default());
    let names = |list: &serde_json::Value, key: &str| {
        let list = list.as_array().unwrap().iter().map(|entry| entry[key].to_string()).collect::<Vec<_>>();
        list.join(" ").replace('"', "")
    };
    assert_eq!(names(&data["processes"], "pid"), "4711 4712 4713 4714 4715 4718");
    assert_eq!(names(&data["processes"], "depth"), "0 1 1 1 1 1");
    let views = names(&data["views"], "value");
    assert!(views.starts_with("inuse_space inuse_objects alloc_space") && views.contains("touched_space"), "{views}");
}

#[test]
fn a_process_keeps_its_number_in_the_flamegraph() {
    let data = island(&workers(), &Options::default());
    for view in data["views"].as_array().unwrap() {
        let rows = view["flame"]["rows"].as_array().unwrap();
        let most = data["processes"].as_array().unwrap().len() as u64;
        assert!(rows.chunks(3).all(|row| row[0].as_u64().unwrap() < most));
        let sum = rows.chunks(3).fold(0, |sum: u64, row| sum.saturating_add(row[2].as_u64().unwrap()));
        assert_eq!(sum, view["flame"]["total"].as_u64().unwrap());
    }
}

#[test]
fn hostile_names_cannot_leave_the_island() {
    for profile in [hostile(), hostile_tree()] {
        let page = render(&profile, Format::Html, &Options::default()).unwrap();
        assert!(!page.contains(|letter: char| letter != '\n' && sanitize::is_hidden(letter)));
        assert_eq!(page.matches("<script").count(), 2, "the data and the script");
        assert_eq!(page.matches("</script>").count(), 2);
        assert_eq!(page.matches("<title>").count(), 1);
        island(&profile, &Options::default());
    }
}

#[test]
fn rich_speedscope() {
    let options = Options { value: Some(Value::InuseSpace), ..Options::default() };
    let text = render(&rich(), Format::Speedscope, &options).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    insta::assert_snapshot!(pretty(&value));
}

#[test]
fn speedscope_has_a_profile_for_each_number_or_process() {
    let profiles = |profile: &Profile, options: &Options| {
        let text = render(profile, Format::Speedscope, options).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let profiles = value["profiles"].as_array().unwrap().clone();
        profiles.iter().map(|profile| profile["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let numbers = profiles(&rich(), &Options::default());
    assert_eq!(numbers.len(), 12, "{numbers:?}");
    assert_eq!(numbers[0], "heap: surviving bytes (inuse_space)");
    let processes = profiles(&workers(), &Options { per_process: true, ..Options::default() });
    assert!(processes.iter().any(|name| name.starts_with("4713 ")), "{processes:?}");
    assert_eq!(profiles(&empty(), &Options::default()), ["nothing: no surviving bytes"]);
}

#[test]
fn hostile_speedscope_is_json_of_what_is_seen() {
    for per_process in [false, true] {
        let options = Options { per_process, ..Options::default() };
        let text = render(&hostile_tree(), Format::Speedscope, &options).unwrap();
        assert!(!text.contains(|letter: char| letter != '\n' && sanitize::is_hidden(letter)));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

fn pprof(profile: &Profile) -> message::Profile {
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(&bytes(profile, Format::Pprof)[..]).read_to_end(&mut read).unwrap();
    message::Profile::decode(&read[..]).unwrap()
}

#[test]
fn rich_pprof() {
    let profile = pprof(&rich());
    let text = |id: i64| profile.string_table[usize::try_from(id).unwrap()].clone();
    let frame = |id: &u64| {
        let location = profile.location.iter().find(|location| location.id == *id).unwrap();
        let line = &location.line[0];
        let function = profile.function.iter().find(|function| function.id == line.function_id).unwrap();
        format!("{} {}:{}", text(function.name), text(function.filename), line.line)
    };
    let mut lines: Vec<String> = profile.comment.iter().map(|id| text(*id)).collect();
    lines.push(profile.sample_type.iter().map(|kind| text(kind.name)).collect::<Vec<_>>().join(" "));
    for sample in &profile.sample {
        let value = |label: &message::Label| if label.str == 0 { label.num.to_string() } else { text(label.str) };
        let labels = sample.label.iter().map(|label| format!("{}={}", text(label.key), value(label)));
        let labels: Vec<String> = labels.collect();
        lines.push(format!("{:?} {}", sample.value, labels.join(" ")));
        lines.extend(sample.location_id.iter().map(|id| format!("    {}", frame(id))));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn pprof_s_texts_are_what_is_seen() {
    for profile in [hostile(), hostile_tree()] {
        let texts = pprof(&profile).string_table.join(" ");
        assert!(!texts.contains(sanitize::is_hidden));
        assert!(texts.contains("<script>"));
    }
    assert!(pprof(&Profile::default()).sample.is_empty());
}

#[test]
fn what_is_no_text_is_not_given_as_one() {
    assert_eq!(render(&rich(), Format::Pprof, &Options::default()), Err(RenderError::NoText));
    let only = Options { process: Some(4713), ..Options::default() };
    let one = document(&workers(), Format::Pprof, &only).unwrap();
    assert!(one.len() < bytes(&workers(), Format::Pprof).len());
    let nobody = Options { process: Some(1), ..Options::default() };
    assert!(matches!(document(&workers(), Format::Pprof, &nobody), Err(RenderError::NoSuchProcess { .. })));
}
