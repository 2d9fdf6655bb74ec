//! What the diagnosis concluded, as the page shows it first.

use serde::Serialize;

use crate::profile::Profile;
use crate::profile::verdict::{Answer, Diagnosis, Finding};
use crate::render::diagnosis::{self, visible};

/// The verdict, its findings, and the questions answered.
#[derive(Serialize)]
pub(super) struct VerdictOut {
    pattern: &'static str,
    is_trouble: bool,
    confidence: Option<&'static str>,
    headline: String,
    culprit: Option<String>,
    findings: Vec<FindingOut>,
    answers: Vec<(String, Vec<String>)>,
}

/// A finding; the first one's sentence is the headline, unless the verdict is a mixture.
#[derive(Serialize)]
struct FindingOut {
    title: Option<String>,
    sentence: Option<String>,
    seen: Vec<String>,
    next: Vec<String>,
    not: Vec<String>,
    surer: Vec<String>,
}

impl VerdictOut {
    /// Of a profile that has been diagnosed.
    pub(super) fn new(profile: &Profile) -> Option<Self> {
        let diagnosis = profile.diagnosis.as_ref()?;
        let first = diagnosis.findings.first();
        let is_trouble = diagnosis.pattern.is_trouble();
        Some(Self {
            pattern: diagnosis.pattern.words(),
            is_trouble,
            confidence: first.filter(|_| is_trouble).map(|first| first.confidence.word()),
            headline: visible(&diagnosis.headline),
            culprit: first.and_then(diagnosis::culprit),
            findings: findings(diagnosis),
            answers: diagnosis.answers.iter().map(answer).collect(),
        })
    }
}

fn findings(diagnosis: &Diagnosis) -> Vec<FindingOut> {
    let titles = diagnosis::titles(diagnosis);
    diagnosis.findings.iter().zip(titles).map(|(finding, title)| out(finding, title)).collect()
}

fn out(finding: &Finding, title: Option<String>) -> FindingOut {
    let line = |text: &String| Some(visible(text)).filter(|text| !text.is_empty()).into_iter().collect();
    FindingOut {
        sentence: title.as_ref().map(|_| visible(&finding.sentence)),
        title,
        seen: finding.evidence.iter().map(|text| visible(text)).collect(),
        next: finding.next_steps.iter().map(|text| visible(text)).collect(),
        not: line(&finding.not_to_do),
        surer: line(&finding.to_be_surer),
    }
}

fn answer(answer: &Answer) -> (String, Vec<String>) {
    (visible(&answer.question), answer.lines.iter().map(|line| visible(line)).collect())
}
