//! Golden tests: what is said of recorded profiles, compared with files in `snapshots/`. The profiles are of programs of the
//! corpus (`tests/workloads/corpus`, where each says what is true of it) and of cases from elsewhere, recorded by `cargo xtask
//! corpus --record FOLDER`.

use std::path::Path;

use super::diagnose;
use crate::profile::verdict::Pattern;
use crate::profile::{Profile, file};
use crate::render::Options;
use crate::render::diagnosis::{DiagnosisFormat, render};

/// A recorded profile, by the name of its program.
pub(super) fn recorded(name: &str) -> Profile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/diagnose/recorded/{name}.pyalloc"));
    file::read(&path).unwrap()
}

/// The verdict, as a terminal shows it, without what it cost.
fn said(name: &str) -> String {
    let mut profile = recorded(name);
    profile.diagnosis = Some(diagnose(&profile));
    let text = render(&profile, DiagnosisFormat::Text, &Options::default()).unwrap();
    text.split("\nWhat it cost").next().unwrap().to_owned()
}

fn check(name: &str, pattern: Pattern) {
    assert_eq!(diagnose(&recorded(name)).pattern, pattern, "{name}");
    insta::assert_snapshot!(name, said(name));
}

#[test]
fn programs_in_trouble() {
    check("held_fragmented", Pattern::HeldByAllocator);
    check("workers_added", Pattern::ProcessModelMultiplication);
    check("workers_uvicorn", Pattern::ProcessModelMultiplication);
    check("payload_csv_import", Pattern::PayloadOrTrafficPressure);
    check("background_metrics", Pattern::BackgroundStateWhileIdle);
    check("retained_listeners", Pattern::RetainedReferences);
    check("payload_json_bodies", Pattern::PayloadOrTrafficPressure);
    check("workers_gunicorn_tables", Pattern::ProcessModelMultiplication);
    check("mixed_cache_and_held", Pattern::Mixed);
}

/// Of starts on a busy machine: modules are still imported, or a leak is small beside what the start took.
#[test]
fn starts_are_not_judged_too_soon() {
    check("short_imports", Pattern::NotEnoughData);
    check("short_slow_leak", Pattern::NotEnoughData);
}

/// It was watched until the middle of a burst: what lives for a moment is lost by nobody.
#[test]
fn what_is_there_at_the_end_only_is_no_leak() {
    check("held_batches", Pattern::PayloadOrTrafficPressure);
    let found = diagnose(&recorded("held_batches")).findings;
    check("held_batches_busy", Pattern::PayloadOrTrafficPressure);
    check("payload_inflated_stream", Pattern::PayloadOrTrafficPressure);
    assert!(found.iter().all(|finding| finding.pattern != Pattern::NativeLeak), "{found:?}");
}

/// The first three lines name every part of a mixture, and the container that each worker has a copy of.
#[test]
fn the_first_lines_name_the_culprits() {
    let opening = |name: &str| said(name).lines().take(3).collect::<String>();
    assert!(opening("mixed_cache_and_held").contains("__main__.PROFILES"));
    assert!(opening("workers_gunicorn_tables").contains("workers_gunicorn_tables.TABLE (dict)"));
    assert!(opening("payload_json_bodies").contains("local documents of __main__.order"));
}

#[test]
fn healthy_programs() {
    check("level_pool", Pattern::LevelsOff);
    check("steady_churn", Pattern::NoGrowth);
    check("steady_burst", Pattern::NoGrowth);
    check("steady_preloaded", Pattern::NoGrowth);
    check("steady_large", Pattern::NoGrowth);
    check("short_leak", Pattern::NotEnoughData);
}

#[test]
fn parts_add_up_to_the_growth() {
    for name in [
        "held_fragmented",
        "workers_added",
        "background_metrics",
        "level_pool",
        "steady_churn",
        "payload_json_bodies",
        "workers_gunicorn_tables",
        "mixed_cache_and_held",
    ] {
        let diagnosis = diagnose(&recorded(name));
        let sum: i64 = diagnosis.parts.iter().map(|part| part.bytes).sum();
        assert_eq!(sum, diagnosis.growth, "{name}: {:?}", diagnosis.parts);
    }
}

#[test]
fn a_profile_of_nothing_is_judged() {
    let diagnosis = diagnose(&Profile::default());
    assert_eq!(diagnosis.pattern, Pattern::NotEnoughData);
    assert_eq!(diagnosis.answers.len(), 5);
}
