//! Rounds of runs, each with and without: what is compared ran within seconds of each other.

use anyhow::Result;

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Without pyalloc.
    Plain,
    /// By `pyalloc trace --`.
    Launched,
    /// By itself, with `pyalloc trace --pid` attached.
    Attached,
}

/// In the order of the columns.
const SIDES: [Side; 3] = [Side::Plain, Side::Launched, Side::Attached];

/// Seconds of each side, round by round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds(Vec<[f64; SIDES.len()]>);

impl Rounds {
    /// Measures `count` rounds. Which side runs first rotates, so that a drift of the machine favours none.
    pub fn measure(count: usize, mut seconds: impl FnMut(Side) -> Result<f64>) -> Result<Self> {
        // The first run reads files from the disk and compiles Python; it counts for no side.
        seconds(Side::Plain)?;
        let mut rounds = Vec::with_capacity(count);
        for first in 0..count {
            let mut round = [0.0; SIDES.len()];
            for turn in 0..SIDES.len() {
                let index = (first + turn) % SIDES.len();
                round[index] = seconds(SIDES[index])?;
            }
            rounds.push(round);
        }
        Ok(Self(rounds))
    }

    /// One line of the table. A ratio is the median of the rounds' ratios, not the ratio of the medians.
    pub fn row(&self, name: &str) -> String {
        let plain = median(self.0.iter().map(|round| round[0]));
        format!("{name:<16} plain {plain:6.2} s   launched {}   attached {}", self.ratio(1), self.ratio(2))
    }

    fn ratio(&self, side: usize) -> String {
        let ratios: Vec<f64> = self.0.iter().map(|round| round[side] / round[0]).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        format!("{:5.2} x ({least:.2} to {most:.2})", median(ratios.into_iter()))
    }
}

/// The middle one; NaN of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn sides_take_turns_after_one_run_for_nothing() {
        let mut sides = String::new();
        let rounds = Rounds::measure(2, |side| {
            let (letter, seconds) = match side {
                Side::Plain => ('p', 2.0),
                Side::Launched => ('l', 3.0),
                Side::Attached => ('a', 4.0),
            };
            sides.push(letter);
            Ok(seconds)
        });
        assert_eq!(sides, "p".to_owned() + "pla" + "lap");
        assert_eq!(rounds.unwrap(), Rounds(vec![[2.0, 3.0, 4.0]; 2]));
    }

    #[test]
    fn a_row_names_the_spread() {
        let rounds = Rounds(vec![[1.0, 1.1, 1.0], [2.0, 2.0, 4.0], [1.0, 1.5, 1.0]]);
        assert_eq!(
            rounds.row("json_loads"),
            "json_loads       plain   1.00 s   launched  1.10 x (1.00 to 1.50)   attached  1.00 x (1.00 to 2.00)"
        );
    }
}
