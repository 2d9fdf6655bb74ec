//! The gate: runs against limits, and against baselines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::bound::{self, Basis, Sample};
use super::budget::{Budget, Config, Target};
use super::measure::{Measure, Scope, Tolerance};
use super::merged::{CodeId, NodeId};
use super::pytest;
use super::sums::{Run, Runs, Subject};

/// Most culprits of a finding.
const MOST_CULPRITS: usize = 5;

/// What a number was held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Against {
    /// A limit, and where it was written.
    Limit(String),
    /// The baselines.
    Baselines {
        /// Their mean.
        mean: f64,
        /// What the bound is made of.
        basis: Basis,
        /// The chance that runs of the same code differ as much, where their spread is known.
        chance: Option<f64>,
        /// Bytes that are allowed because processes ran a moment without probes.
        unseen: f64,
    },
}

/// One number, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Whose.
    pub subject: Subject,
    /// Which.
    pub measure: Measure,
    /// The number: the mean of the runs.
    pub value: f64,
    /// The standard error of it by sampling; 0 where everything was counted.
    pub standard_error: f64,
    /// Most that passes.
    pub limit: f64,
    /// What it was held against.
    pub against: Against,
    /// Whether it passes.
    pub passed: bool,
    /// What it is made of, largest growth first; empty if it passes.
    pub culprits: Vec<Culprit>,
}

/// A part of what is too much.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// The function; `None` for paths without any frame.
    pub code: Option<CodeId>,
    /// Its line with the most bytes; 0 if there is none.
    pub line: u32,
    /// Mean of the baselines; 0 without any.
    pub before: f64,
    /// Mean of the runs.
    pub after: f64,
    /// Its path that grew most.
    pub path: NodeId,
}

/// What the gate says.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The sums that it looked at.
    pub runs: Runs,
    /// Everything judged: what failed first, then by subject.
    pub judgements: Vec<Judgement>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether everything passes.
    pub fn passed(&self) -> bool {
        self.judgements.iter().all(|judgement| judgement.passed)
    }

    /// What does not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(|judgement| !judgement.passed)
    }

    /// `tests/test_api.py::test_new`, `shop/app.py::remember`, `all processes`.
    pub fn name(&self, subject: Subject) -> String {
        name(&self.runs, subject)
    }
}

/// Judges. The limits of `config` hold for the runs alone; what is in both the runs and the baselines is compared.
pub fn judge(mut runs: Runs, config: &Config) -> Verdict {
    let mut notes = Vec::new();
    let mut judgements = Vec::new();
    for budget in &config.budgets {
        judgements.extend(against_limit(&runs, budget, &mut notes));
    }
    if !runs.baselines.is_empty() {
        let common = common(&mut runs, &mut notes);
        let looked_at: Vec<(Subject, Measure)> =
            common.iter().flat_map(|subject| measures(*subject).iter().map(|measure| (*subject, *measure))).collect();
        let kept: Vec<_> = looked_at.into_iter().filter(|(subject, _)| !is_ignored(&runs, config, *subject)).collect();
        let judged =
            kept.iter().map(|(subject, measure)| against_baselines(&runs, config, *subject, *measure, kept.len()));
        judgements.extend(judged.flatten());
        judgements.extend(slopes(&runs));
    }
    for judgement in judgements.iter_mut().filter(|judgement| !judgement.passed) {
        judgement.culprits = culprits(&runs, judgement);
    }
    judgements.sort_by_key(|judgement| (judgement.passed, judgement.subject, judgement.measure));
    Verdict { runs, judgements, notes }
}

fn measures(subject: Subject) -> &'static [Measure] {
    match subject {
        Subject::Whole => &[Measure::Allocated, Measure::Peak, Measure::Surviving, Measure::RssPeak],
        Subject::Test(_) | Subject::Function(_) => &Measure::OF_PATHS,
    }
}

fn scope(subject: Subject) -> Scope {
    match subject {
        Subject::Whole => Scope::Whole,
        Subject::Test(_) => Scope::Test,
        Subject::Function(_) => Scope::Function,
    }
}

fn name(runs: &Runs, subject: Subject) -> String {
    match subject {
        Subject::Whole => "all processes".to_owned(),
        Subject::Test(code) => pytest::node_id(runs.merged.code_of(code)),
        Subject::Function(code) => {
            let code = runs.merged.code_of(code);
            format!("{}::{}", code.file, code.function)
        }
    }
}

fn is_ignored(runs: &Runs, config: &Config, subject: Subject) -> bool {
    subject != Subject::Whole && {
        let name = name(runs, subject);
        config.ignore.iter().any(|pattern| pattern.matches(&name))
    }
}

/// What the runs and the baselines both have. A test that only one side has is taken out of the whole: adding a test is
/// no regression.
fn common(runs: &mut Runs, notes: &mut Vec<String>) -> Vec<Subject> {
    let (new, old) = (Runs::subjects_of(&runs.runs), Runs::subjects_of(&runs.baselines));
    let tests = |one: &BTreeSet<Subject>, other: &BTreeSet<Subject>| -> BTreeSet<CodeId> {
        let test = |subject: &Subject| if let Subject::Test(code) = subject { Some(*code) } else { None };
        one.difference(other).filter_map(test).collect()
    };
    let (added, removed) = (tests(&new, &old), tests(&old, &new));
    if !added.is_empty() || !removed.is_empty() {
        let told = [are(added.len(), "test", "new"), are(removed.len(), "test", "gone")];
        let told: Vec<String> = told.into_iter().flatten().collect();
        notes.push(format!("{}: in no comparison but that of the peak RSS, which is of all.", told.join(" and ")));
        runs.leave_out(&added.union(&removed).copied().collect());
    }
    let functions = new.difference(&old).filter(|subject| matches!(subject, Subject::Function(_))).count();
    if let Some(told) = are(functions, "function", "new") {
        notes.push(format!("{told}: without a baseline, and a part of the whole."));
    }
    new.intersection(&old).copied().collect()
}

/// `1 test is new`, `2 tests are new`; `None` of none.
fn are(count: usize, noun: &str, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {noun} is {what}")),
        _ => Some(format!("{count} {noun}s are {what}")),
    }
}

fn sample(runs: &[Run], subject: Subject, measure: Measure) -> Sample {
    let amount = |run: &Run| match measure {
        Measure::RssPeak => super::Amount::exact(run.rss_peak),
        _ => run.subjects.get(&subject).map(|sums| sums.get(measure)).unwrap_or_default(),
    };
    let amounts = runs.iter().map(amount);
    let (values, variances) = amounts.map(|amount| (amount.value as f64, amount.variance)).unzip();
    let unseen = |run: &Run| run.subjects.get(&subject).map_or(0.0, |sums| sums.unseen(measure));
    let unseen = runs.iter().map(unseen).sum::<f64>() / runs.len().max(1) as f64;
    Sample { values, variances, unseen }
}

fn against_baselines(
    runs: &Runs,
    config: &Config,
    subject: Subject,
    measure: Measure,
    looked_at: usize,
) -> Option<Judgement> {
    let (before, after) = (sample(&runs.baselines, subject, measure), sample(&runs.runs, subject, measure));
    if before.mean() == 0.0 && after.mean() == 0.0 {
        return None;
    }
    let scope = scope(subject);
    let usual = measure.tolerance(scope);
    let bound = bound::over(&before, &after, usual, asked_for(runs, config, subject, measure), looked_at);
    Some(Judgement {
        subject,
        measure,
        value: after.mean(),
        standard_error: after.sampling().sqrt(),
        limit: bound.limit,
        against: Against::Baselines {
            mean: before.mean(),
            basis: bound.basis,
            chance: bound.chance,
            unseen: bound.unseen,
        },
        passed: after.mean() <= bound.limit,
        culprits: Vec::new(),
    })
}

/// A tolerance that the user has set: the nearest to the subject counts.
fn asked_for(runs: &Runs, config: &Config, subject: Subject, measure: Measure) -> Option<Tolerance> {
    let scope = scope(subject);
    let growth =
        config.budgets.iter().filter(|budget| is_for(runs, &budget.target, subject)).find_map(|one| one.growth);
    let of_scope = config.tolerances.get(&(scope, measure)).copied();
    growth.map(|percent| Tolerance { percent, floor: measure.tolerance(scope).floor }).or(of_scope)
}

fn is_for(runs: &Runs, target: &Target, subject: Subject) -> bool {
    match (target, subject) {
        (Target::Whole, Subject::Whole) => true,
        (Target::Tests(pattern), Subject::Test(_)) | (Target::Functions(pattern), Subject::Function(_)) => {
            pattern.matches(&name(runs, subject))
        }
        _ => false,
    }
}

fn against_limit(runs: &Runs, budget: &Budget, notes: &mut Vec<String>) -> Vec<Judgement> {
    let subjects = Runs::subjects_of(&runs.runs);
    let subjects: Vec<Subject> = subjects.into_iter().filter(|one| is_for(runs, &budget.target, *one)).collect();
    if let (Target::Tests(pattern) | Target::Functions(pattern), true) = (&budget.target, subjects.is_empty()) {
        notes.push(format!("{}: nothing in the runs matches `{}`.", budget.origin, pattern.text()));
    }
    let mut judgements = Vec::new();
    for subject in subjects {
        for (&measure, &limit) in &budget.limits {
            let Some((value, standard_error)) = value(&runs.runs, subject, measure) else {
                notes.push(format!("{}: the runs are too short to tell a growth per hour.", budget.origin));
                continue;
            };
            judgements.push(Judgement {
                subject,
                measure,
                value,
                standard_error,
                limit: limit as f64,
                against: Against::Limit(budget.origin.clone()),
                passed: value <= limit as f64,
                culprits: Vec::new(),
            });
        }
    }
    judgements
}

/// The mean of the runs. Of the growth per hour what it is at least, with 95 %.
fn value(runs: &[Run], subject: Subject, measure: Measure) -> Option<(f64, f64)> {
    if measure == Measure::Slope {
        let slopes: Vec<f64> = runs.iter().filter_map(|run| run.slope).map(|slope| slope.low).collect();
        let sum: f64 = slopes.iter().sum();
        return (!slopes.is_empty()).then(|| (sum / slopes.len() as f64, 0.0));
    }
    let sample = sample(runs, subject, measure);
    Some((sample.mean(), sample.sampling().sqrt()))
}

/// The growth per hour, where every run is long enough: it has grown if the intervals of both sides lie apart.
fn slopes(runs: &Runs) -> Option<Judgement> {
    let all = |runs: &[Run]| runs.iter().map(|run| run.slope).collect::<Option<Vec<_>>>();
    let (before, after) = (all(&runs.baselines)?, all(&runs.runs)?);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let high = mean(before.iter().map(|slope| slope.high).collect());
    let low = mean(after.iter().map(|slope| slope.low).collect());
    let tolerance = Measure::Slope.tolerance(Scope::Whole);
    let limit = high.max(0.0) + tolerance.over(high.max(0.0));
    Some(Judgement {
        subject: Subject::Whole,
        measure: Measure::Slope,
        value: mean(after.iter().map(|slope| slope.per_hour).collect()),
        standard_error: 0.0,
        limit,
        against: Against::Baselines {
            mean: mean(before.iter().map(|slope| slope.per_hour).collect()),
            basis: Basis::Tolerance(tolerance),
            chance: None,
            unseen: 0.0,
        },
        passed: low <= limit,
        culprits: Vec::new(),
    })
}

/// The parts that grew most, or that are largest where a limit is exceeded: functions; of a function its paths.
fn culprits(runs: &Runs, judgement: &Judgement) -> Vec<Culprit> {
    let subject = judgement.subject;
    // Pages are not known by path here: what survives in the same runs is the best hint.
    let of_paths = Measure::OF_PATHS.contains(&judgement.measure);
    let measure = if of_paths { judgement.measure } else { Measure::Surviving };
    let baselines = if matches!(judgement.against, Against::Limit(_)) { &[] } else { runs.baselines.as_slice() };
    let mut paths: BTreeMap<NodeId, (f64, f64)> = BTreeMap::new();
    for (side, is_after) in [(baselines, false), (runs.runs.as_slice(), true)] {
        for run in side {
            for (node, sums) in run.paths.iter().filter(|(node, _)| runs.is_of(**node, subject)) {
                let share = sums.get(measure).value as f64 / side.len() as f64;
                let both = paths.entry(*node).or_default();
                *(if is_after { &mut both.1 } else { &mut both.0 }) += share;
            }
        }
    }
    let mut paths: Vec<(NodeId, (f64, f64))> = paths.into_iter().collect();
    let growth = |(before, after): (f64, f64)| Reverse((after - before).round() as i64);
    paths.sort_by_key(|(node, both)| (growth(*both), *node));
    let mut culprits: Vec<Culprit> = Vec::new();
    for (path, (before, after)) in paths {
        let code = runs.named.get(path as usize).copied().flatten();
        let known =
            culprits.iter_mut().find(|one| one.code == code).filter(|_| !matches!(subject, Subject::Function(_)));
        match known {
            Some(known) => (known.before, known.after) = (known.before + before, known.after + after),
            None => {
                let line = code.map_or(0, |code| runs.lines.most(code));
                culprits.push(Culprit { code, line, before, after, path });
            }
        }
    }
    culprits.sort_by_key(|one| (growth((one.before, one.after)), one.path));
    culprits.retain(|one| one.after > one.before);
    culprits.truncate(MOST_CULPRITS);
    culprits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many_are_told_apart() {
        assert_eq!(are(0, "test", "new"), None);
        assert_eq!(are(1, "test", "new").as_deref(), Some("1 test is new"));
        assert_eq!(are(2, "test", "gone").as_deref(), Some("2 tests are gone"));
    }
}
