//! More page faults than are recorded each: those recorded must stand for the others.

use live_tests::interpreters::{self, name};
use pyalloc::profile::{EstimateOf, Profile};

use super::{MIB, ROOM, faults, mib, touched_by, traced};

/// One error in some ten thousand runs is chance.
const ERRORS: f64 = 4.0;
const RUNS: u32 = 4;

/// Page faults recorded, and those left out.
fn recorded(profile: &Profile) -> (u64, u64) {
    (profile.quality.value("faults"), profile.quality.value("faults_left_out"))
}

/// The standard error of what a function touched, bytes.
fn error_of(profile: &Profile, function: &str) -> f64 {
    let calls = |stack| profile.frames_of(stack).any(|frame| profile.text(frame.function) == function);
    let rows = profile.estimates.iter().filter(|row| row.of == EstimateOf::Resident && calls(row.stack));
    rows.map(|row| (row.standard_error as f64).powi(2)).sum::<f64>().sqrt()
}

/// Two functions that touch neighbouring pages cannot be told apart by where the pages lie, only by chance.
#[test]
fn what_was_left_out_is_shared_out_without_bias() {
    let test = "what_was_left_out_is_shared_out_without_bias";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let (mut off, mut squares, mut seldom) = (0.0, 0.0, 0);
    for _run in 0..RUNS {
        let (truth, profile) = traced(&interpreter, "in_turns", &["--ledger", "resident"]);
        let (known, said) = (truth.touched["seldom"], touched_by(&profile, "seldom"));
        let both = said + touched_by(&profile, "often");
        let error = error_of(&profile, "seldom");
        println!("in_turns: {} of {} said, standard error {}", mib_of(said), mib_of(known), mib_of(error as u64));
        let (kept, left_out) = recorded(&profile);
        assert!(left_out > kept, "{kept} of {left_out} were recorded: nothing is estimated here");
        assert!(both.abs_diff(48 * MIB) <= MIB / 4, "the sum is counted and not estimated: {both}");
        assert!(known.abs_diff(said) as f64 <= ERRORS * error, "{said} of {known}, standard error {error}");
        assert!(error < known as f64 * 0.25, "{said} of {known}, standard error {error}");
        off += said as f64 - known as f64;
        squares += error.powi(2);
        seldom += known;
    }
    assert!(off.abs() <= ERRORS * squares.sqrt(), "{off} of {seldom}, standard error {}", squares.sqrt());
}

fn mib_of(bytes: u64) -> String {
    mib(bytes.cast_signed())
}

#[test]
fn few_faults_are_all_recorded() {
    let test = "few_faults_are_all_recorded";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let (truth, profile) = traced(&interpreter, "few_in_turns", &["--ledger", "resident"]);
    let (kept, left_out) = recorded(&profile);
    assert!(kept >= 400 && left_out == 0 && profile.estimates.is_empty(), "{kept} recorded, {left_out} left out");
    for (function, known) in truth.touched {
        assert_eq!(touched_by(&profile, &function), known, "{function} on {}", name(&interpreter));
    }
}

/// What is recorded of pages that have been given back says nothing of those that came in their place.
#[test]
fn pages_touched_anew_are_no_more_whose_they_were() {
    let test = "pages_touched_anew_are_no_more_whose_they_were";
    let Some(interpreter) = interpreters::newest_for_test(test) else { return };
    let (truth, profile) = traced(&interpreter, "in_turns_twice", &["--ledger", "resident"]);
    assert!(recorded(&profile).1 > 0, "nothing was left out");
    let faults = faults("in_turns_twice", &truth, &profile);
    assert!(faults.is_empty(), "{} may be off by {ROOM}\n{faults}", name(&interpreter));
}
