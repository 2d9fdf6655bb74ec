//! How what was said compares with what is true.

use std::collections::BTreeMap;

use pyalloc::profile::verdict::Pattern;

use super::label::Label;
use super::run::Told;

/// One program, diagnosed once.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The program's name.
    pub name: String,
    /// What is true.
    pub label: Label,
    /// What was said; or why nothing was.
    pub told: Result<Told, String>,
}

impl Scored {
    /// The verdict.
    pub fn verdict(&self) -> Option<Pattern> {
        self.told.as_ref().ok().map(|told| told.diagnosis.pattern)
    }

    /// Whether it is right.
    pub fn is_right(&self) -> bool {
        self.told.as_ref().is_ok_and(|told| self.label.accepts(told.diagnosis.pattern, &told.found()))
    }

    /// Whether something healthy was called trouble.
    pub fn is_false_alarm(&self) -> bool {
        self.label.healthy && self.verdict().is_some_and(Pattern::is_trouble)
    }

    /// Whether a name of the culprit is in the first three lines; `None` where nothing is at fault.
    pub fn names_culprit(&self) -> Option<bool> {
        let named = || self.told.as_ref().is_ok_and(|told| self.label.names_culprit(&told.opening));
        (!self.label.culprit.is_empty()).then(named)
    }
}

/// The sums over several.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// How often each verdict was given for each label; `None`: no verdict.
    pub matrix: BTreeMap<Pattern, BTreeMap<Option<Pattern>, u32>>,
    /// All, and those with the right verdict.
    pub right: (u32, u32),
    /// The healthy ones, and those of them that were called trouble.
    pub alarms: (u32, u32),
    /// Those with a culprit, and those of them where it is in the first three lines.
    pub named: (u32, u32),
}

impl Score {
    /// Of some programs.
    pub fn of(scored: &[Scored]) -> Self {
        let mut score = Self::default();
        for one in scored {
            *score.matrix.entry(one.label.pattern).or_default().entry(one.verdict()).or_default() += 1;
            count(&mut score.right, one.is_right());
            if one.label.healthy {
                count(&mut score.alarms, one.is_false_alarm());
            }
            if let Some(named) = one.names_culprit() {
                count(&mut score.named, named);
            }
        }
        score
    }
}

fn count((all, those): &mut (u32, u32), is_one: bool) {
    *all += 1;
    *those += u32::from(is_one);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(label: Pattern, verdict: Option<Pattern>, opening: &str) -> Scored {
        let culprit = if label.is_trouble() { vec!["PAGES".to_owned()] } else { Vec::new() };
        let label = Label { pattern: label, culprit, healthy: !label.is_trouble(), ..Label::default() };
        let told = verdict.ok_or("it has ended".to_owned()).map(|pattern| Told {
            diagnosis: pyalloc::profile::verdict::Diagnosis { pattern, ..Default::default() },
            opening: opening.to_owned(),
            interpreter: String::new(),
            target_cost: 0.0,
            own_cost: 0.0,
            look_ms: 0,
            beside_s: 0.0,
        });
        Scored { name: String::new(), label, told }
    }

    #[test]
    fn sums_tell_right_from_wrong_and_false_alarms() {
        let all = [
            scored(Pattern::NativeLeak, Some(Pattern::NativeLeak), "app.PAGES"),
            scored(Pattern::NativeLeak, Some(Pattern::NoGrowth), ""),
            scored(Pattern::NoGrowth, Some(Pattern::NativeLeak), ""),
            scored(Pattern::NoGrowth, Some(Pattern::NoGrowth), ""),
            scored(Pattern::LevelsOff, None, ""),
        ];
        let score = Score::of(&all);
        assert_eq!((score.right, score.alarms, score.named), ((5, 2), (3, 1), (2, 1)));
        assert_eq!(score.matrix[&Pattern::NativeLeak][&Some(Pattern::NoGrowth)], 1);
        assert_eq!(score.matrix[&Pattern::LevelsOff][&None], 1);
    }
}
