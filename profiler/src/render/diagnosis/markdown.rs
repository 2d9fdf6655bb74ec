//! The diagnosis as Markdown, for an issue or a chat.

use std::fmt::Write as _;

use super::{cost, culprit, titles};
use crate::profile::Profile;
use crate::profile::verdict::Finding;
use crate::render::sanitize;

/// Renders it; nothing if the profile has none.
pub fn render(profile: &Profile) -> String {
    let Some(diagnosis) = &profile.diagnosis else { return String::new() };
    let mut out = String::new();
    line(&mut out, "## ", &format!("Memory: {}", diagnosis.pattern.words()));
    out.push('\n');
    line(&mut out, "**", &format!("{}**", escaped(&diagnosis.headline)));
    for (finding, title) in diagnosis.findings.iter().zip(titles(diagnosis)) {
        if let Some(title) = title {
            line(&mut out, "\n### ", &title);
            line(&mut out, "\n", &escaped(&finding.sentence));
        }
        write_finding(&mut out, finding);
    }
    for (number, answer) in diagnosis.answers.iter().enumerate() {
        line(&mut out, "\n### ", &format!("{}. {}\n", number + 1, escaped(&answer.question)));
        answer.lines.iter().for_each(|text| line(&mut out, "- ", &escaped(text)));
    }
    line(&mut out, "\n### ", "What it cost\n");
    line(&mut out, "- ", &cost(profile));
    profile.evidence.notes.iter().for_each(|note| line(&mut out, "- ", &escaped(note)));
    out
}

fn write_finding(out: &mut String, finding: &Finding) {
    out.push('\n');
    if let Some(culprit) = culprit(finding) {
        line(out, "- ", &escaped(&culprit));
    }
    finding.evidence.iter().for_each(|seen| line(out, "- seen: ", &escaped(seen)));
    finding.next_steps.iter().for_each(|step| line(out, "- **next**: ", &escaped(step)));
    if !finding.not_to_do.is_empty() {
        line(out, "- not: ", &escaped(&finding.not_to_do));
    }
    if finding.pattern.is_trouble() {
        let surer =
            if finding.to_be_surer.is_empty() { String::new() } else { format!("; surer by: {}", finding.to_be_surer) };
        line(out, "- confidence: ", &escaped(&format!("{}{surer}", finding.confidence.word())));
    }
}

fn line(out: &mut String, start: &str, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{start}{text}");
}

/// Names from the target may hold anything that Markdown or HTML reads as more than text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in sanitize::visible(text).chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A backslash or a number does not keep these from a mention or a reference; code does.
            '@' | '#' => out.extend(["<code>", letter.encode_utf8(&mut [0; 4]), "</code>"]),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '!' | '~' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_nothing_else() {
        assert_eq!(escaped("<img src=x> [a](b) __init__ `x`\n"), r"&lt;img src=x&gt; \[a\](b) \_\_init\_\_ \`x\`\\n");
    }

    #[test]
    fn nobody_is_called_and_nothing_is_referred_to() {
        assert_eq!(escaped("held by @team"), "held by <code>@</code>team");
        assert_eq!(escaped("me/it#1"), "me/it<code>#</code>1");
    }
}
