//! Pairs of runs, one with and one without: what is compared ran within seconds of each other.

use anyhow::Result;

/// One half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Without pyalloc.
    Plain,
    /// Under `pyalloc trace`.
    Traced,
}

/// Seconds of plain and traced runs, pair by pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    /// Measures `count` pairs. Which side runs first alternates, so that a drift of the machine favours neither.
    pub fn measure(count: usize, mut seconds: impl FnMut(Side) -> Result<f64>) -> Result<Self> {
        // The first run reads files from the disk and compiles Python; it counts for no side.
        seconds(Side::Plain)?;
        let mut pairs = Vec::with_capacity(count);
        for index in 0..count {
            if index % 2 == 0 {
                let plain = seconds(Side::Plain)?;
                pairs.push((plain, seconds(Side::Traced)?));
            } else {
                let traced = seconds(Side::Traced)?;
                pairs.push((seconds(Side::Plain)?, traced));
            }
        }
        Ok(Self(pairs))
    }

    /// One line of the table. The ratio is the median of the pairs' ratios, not the ratio of the medians.
    pub fn row(&self, name: &str) -> String {
        let plain = median(self.0.iter().map(|pair| pair.0));
        let traced = median(self.0.iter().map(|pair| pair.1));
        let ratios: Vec<f64> = self.0.iter().map(|(plain, traced)| traced / plain).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let ratio = median(ratios.into_iter());
        format!(
            "{name:<16} plain {plain:6.2} s   traced {traced:6.2} s   traced/plain {ratio:5.2} ({least:.2} to {most:.2})"
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
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
        let pairs = Pairs::measure(2, |side| {
            sides.push(if side == Side::Plain { 'p' } else { 't' });
            Ok(if side == Side::Plain { 2.0 } else { 3.0 })
        });
        assert_eq!(sides, "pptt".to_owned() + "p");
        assert_eq!(pairs.unwrap(), Pairs(vec![(2.0, 3.0), (2.0, 3.0)]));
    }

    #[test]
    fn a_row_names_the_spread() {
        let pairs = Pairs(vec![(1.0, 1.1), (2.0, 2.0), (1.0, 1.5)]);
        assert_eq!(
            pairs.row("json_loads"),
            "json_loads       plain   1.00 s   traced   1.50 s   traced/plain  1.10 (1.00 to 1.50)"
        );
    }
}
