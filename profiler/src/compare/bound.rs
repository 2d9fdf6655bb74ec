//! How much a number may differ from its baselines before it counts as grown.

use super::measure::Tolerance;
use super::student;

/// The chance that a gate fails without reason, over everything that it looks at, where the spread of repeated runs is
/// known.
pub const FALSE_ALARM: f64 = 0.001;
/// Fewest degrees of freedom for which a spread says anything.
const FEWEST_DF: usize = 3;

/// The numbers of one side.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// One a run.
    pub values: Vec<f64>,
    /// The variance of each, where it is an estimate.
    pub variances: Vec<f64>,
    /// By how many bytes their mean may be wrong because processes ran a moment without probes.
    pub unseen: f64,
}

/// What a bound is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// A fixed share: too few runs to know their spread, or a share that was asked for.
    Tolerance(Tolerance),
    /// The spread of repeated runs.
    Spread {
        /// Runs judged.
        runs: usize,
        /// Baselines.
        baselines: usize,
    },
}

/// The bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Most that passes.
    pub limit: f64,
    /// What it is made of.
    pub basis: Basis,
    /// The chance that runs of the same code differ as much, as far as their spread tells.
    pub chance: Option<f64>,
    /// Bytes of the limit that are allowed because processes ran a moment without probes.
    pub unseen: f64,
}

impl Sample {
    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { self.values.iter().sum::<f64>() / self.values.len() as f64 }
    }

    fn squares(&self) -> f64 {
        let mean = self.mean();
        self.values.iter().map(|value| (value - mean).powi(2)).sum()
    }

    /// The variance of the mean that comes from sampling.
    pub fn sampling(&self) -> f64 {
        self.variances.iter().sum::<f64>() / (self.values.len().max(1) as f64).powi(2)
    }
}

/// How far `runs` may be over `baselines`. `looked_at` is how many numbers the gate judges: the more, the further apart
/// they must be for one of them to be no chance. `fixed` is a share that was asked for.
pub fn over(baselines: &Sample, runs: &Sample, usual: Tolerance, fixed: Option<Tolerance>, looked_at: usize) -> Bound {
    let (n, m) = (baselines.values.len(), runs.values.len());
    let single = FALSE_ALARM / looked_at.max(1) as f64;
    let before = baselines.mean();
    let unseen = baselines.unseen + runs.unseen;
    let df = (n + m).saturating_sub(2);
    if let Some(tolerance) = fixed.or((df < FEWEST_DF).then_some(usual)) {
        let sampling = (baselines.sampling() + runs.sampling()).sqrt();
        let noise = if sampling > 0.0 { student::quantile(single, 1e6) * sampling } else { 0.0 };
        return Bound {
            limit: before + tolerance.over(before) + noise + unseen,
            basis: Basis::Tolerance(tolerance),
            chance: None,
            unseen,
        };
    }
    // The spread of runs holds that of sampling too.
    let variance = (baselines.squares() + runs.squares()) / df as f64;
    let error = (variance * (1.0 / n as f64 + 1.0 / m as f64)).sqrt();
    let spread = student::quantile(single, df as f64) * error;
    let t = (runs.mean() - before) / error.max(f64::MIN_POSITIVE);
    Bound {
        limit: before + spread.max(usual.floor as f64) + unseen,
        basis: Basis::Spread { runs: m, baselines: n },
        chance: Some(student::chance_over(t, df as f64)),
        unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Tolerance = Tolerance { percent: 2.0, floor: 100 };

    fn sample(values: &[f64]) -> Sample {
        Sample { values: values.to_vec(), variances: vec![0.0; values.len()], unseen: 0.0 }
    }

    #[test]
    fn single_runs_have_a_fixed_share() {
        let bound = over(&sample(&[10_000.0]), &sample(&[10_500.0]), USUAL, None, 50);
        assert_eq!((bound.limit, bound.chance), (10_200.0, None));
        assert_eq!(over(&sample(&[1000.0]), &sample(&[1050.0]), USUAL, None, 50).limit, 1100.0);
        let estimated = Sample { values: vec![10_000.0], variances: vec![10_000.0], unseen: 0.0 };
        let limit = over(&estimated, &estimated, USUAL, None, 1).limit;
        assert!((limit - 10_200.0 - 3.09 * 20_000_f64.sqrt()).abs() < 1.0, "{limit}");
    }

    #[test]
    fn repeated_runs_have_their_spread() {
        let quiet = over(&sample(&[1e6, 1e6 + 10.0, 1e6 - 10.0]), &sample(&[1.05e6; 3]), USUAL, None, 50);
        assert!(quiet.limit < 1.001e6 && quiet.chance.unwrap() < 1e-6, "{quiet:?}");
        let loud = over(&sample(&[1e6, 1.1e6, 0.9e6]), &sample(&[1.05e6, 1.1e6, 1.0e6]), USUAL, None, 50);
        assert!(loud.limit > 1.2e6 && loud.chance.unwrap() > 0.1, "{loud:?}");
        let fixed = Some(Tolerance { percent: 5.0, floor: 0 });
        assert_eq!(over(&sample(&[1e6; 3]), &sample(&[1e6; 3]), USUAL, fixed, 50).limit, 1.05e6);
    }

    #[test]
    fn what_ran_without_probes_is_allowed_on_both_sides() {
        let unseen = |bytes: f64| Sample { unseen: bytes, ..sample(&[10_000.0]) };
        let bound = over(&unseen(30.0), &unseen(40.0), USUAL, None, 50);
        assert_eq!((bound.limit, bound.unseen), (10_270.0, 70.0));
    }

    #[test]
    fn runs_that_are_all_the_same_have_the_floor() {
        let bound = over(&sample(&[1000.0; 3]), &sample(&[1000.0; 3]), USUAL, None, 50);
        assert_eq!((bound.limit, bound.chance), (1100.0, Some(0.5)));
    }
}
