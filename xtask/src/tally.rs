//! Counting what test runs report, so that all of them close with one line.

use std::collections::BTreeSet;
use std::fmt;

/// Sums over test runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that ran and held.
    pub passed: u64,
    /// Tests that failed, and runs that ended without a result.
    pub failed: u64,
    /// Tests marked `#[ignore]`, and live tests that said they cannot run here.
    pub skipped: u64,
}

impl Tally {
    /// Adds another run's sums.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads the output of one run of `cargo test`, line by line.
#[derive(Debug, Default)]
pub struct Reader {
    sums: Tally,
    /// Tests that printed `SKIPPED name: reason`: libtest counts them as passed, we do not.
    gave_up: BTreeSet<String>,
}

impl Reader {
    /// Takes a line.
    pub fn line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.sums.add(result_line(result));
        } else if let Some((name, _reason)) = line.strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": ")) {
            self.gave_up.insert(name.to_owned());
        }
    }

    /// The run's sums. A run that failed without a failed test (it did not compile, or crashed) counts as one failure.
    pub fn finish(self, success: bool) -> Tally {
        let gave_up = self.gave_up.len() as u64;
        let mut sums = self.sums;
        sums.passed = sums.passed.saturating_sub(gave_up);
        sums.skipped += gave_up;
        if !success && sums.failed == 0 {
            sums.failed = 1;
        }
        sums
    }
}

/// "ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
fn result_line(result: &str) -> Tally {
    let mut tally = Tally::default();
    for part in result.split_once(". ").map_or(result, |(_verdict, counts)| counts).split("; ") {
        let Some((count, what)) = part.split_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse::<u64>() else { continue };
        match what {
            "passed" => tally.passed += count,
            "failed" => tally.failed += count,
            "ignored" => tally.skipped += count,
            _ => {}
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, success: bool, expected: &str) {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        assert_eq!(reader.finish(success).to_string(), expected);
    }

    #[test]
    fn results_are_summed_over_binaries() {
        let output = "\
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s";
        check(output, false, "7 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_gave_up_has_not_passed() {
        let output = "\
SKIPPED heap_is_exact: needs root
SKIPPED heap_is_exact: needs root
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        check(output, true, "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_did_not_compile_has_failed() {
        check("", false, "0 passed, 1 failed, 0 skipped");
    }
}
