//! The diagnosis for a terminal: three lines that say it, then why, then the five questions, then what it cost.

use super::{cost, culprit, titles, visible};
use crate::profile::Profile;
use crate::profile::verdict::{Answer, Diagnosis, Finding};
use crate::render::Options;
use crate::render::page::{Page, words};

/// Renders it; nothing if the profile has none.
pub fn render(profile: &Profile, options: &Options) -> String {
    let Some(diagnosis) = &profile.diagnosis else { return String::new() };
    let mut page = Page::new(options.width, options.colour);
    verdict(&mut page, diagnosis);
    for (finding, title) in diagnosis.findings.iter().zip(titles(diagnosis)) {
        if let Some(title) = title {
            page.heading(&title);
            page.sentence(&visible(&finding.sentence));
        }
        details(&mut page, finding);
    }
    for (number, answer) in diagnosis.answers.iter().enumerate() {
        question(&mut page, number + 1, answer);
    }
    page.heading("What it cost");
    page.sentence(&cost(profile));
    for note in &profile.evidence.notes {
        page.sentence(&visible(note));
    }
    page.finish()
}

/// The verdict, the sentence, the culprit.
fn verdict(page: &mut Page, diagnosis: &Diagnosis) {
    let first = diagnosis.findings.first();
    let sure = first.filter(|_| diagnosis.pattern.is_trouble());
    let sure = sure.map(|first| format!(" (confidence: {})", first.confidence.word())).unwrap_or_default();
    page.heading(&format!("VERDICT: {}{sure}", diagnosis.pattern.words()));
    page.row(&visible(&diagnosis.headline));
    if let Some(culprit) = first.and_then(culprit) {
        page.row(&culprit);
    }
}

fn details(page: &mut Page, finding: &Finding) {
    for seen in &finding.evidence {
        item(page, "seen", seen);
    }
    for step in &finding.next_steps {
        item(page, "next", step);
    }
    if !finding.not_to_do.is_empty() {
        item(page, "not", &finding.not_to_do);
    }
    if !finding.to_be_surer.is_empty() {
        item(page, "surer by", &finding.to_be_surer);
    }
}

fn item(page: &mut Page, name: &str, text: &str) {
    const COLUMNS: usize = 10;
    page.pieces(&format!("  {name:<COLUMNS$}"), 2 + COLUMNS, &words(&visible(text)));
}

fn question(page: &mut Page, number: usize, answer: &Answer) {
    page.heading(&format!("{number}. {}", visible(&answer.question)));
    for line in &answer.lines {
        page.pieces("  ", 4, &words(&visible(line)));
    }
}
