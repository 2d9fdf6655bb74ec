//! The tables of `docs/corpus.md`.

use std::fmt::Write as _;

use pyalloc::profile::verdict::Pattern;

use super::score::{Score, Scored};

/// The patterns in the order of the tables.
const PATTERNS: [Pattern; 11] = [
    Pattern::RetainedReferences,
    Pattern::UnboundedCacheOrQueue,
    Pattern::ProcessModelMultiplication,
    Pattern::PayloadOrTrafficPressure,
    Pattern::BackgroundStateWhileIdle,
    Pattern::HeldByAllocator,
    Pattern::NativeLeak,
    Pattern::Mixed,
    Pattern::LevelsOff,
    Pattern::NoGrowth,
    Pattern::NotEnoughData,
];

/// What is true by row, what was said by column.
pub fn matrix(score: &Score) -> String {
    let mut text = String::from("| true \\ said |");
    PATTERNS.iter().for_each(|pattern| _ = write!(text, " {} |", short(*pattern)));
    text.push_str(" no answer |\n|---|");
    PATTERNS.iter().for_each(|_| text.push_str("---|"));
    text.push_str("---|\n");
    for label in PATTERNS.into_iter().filter(|label| score.matrix.contains_key(label)) {
        let row = &score.matrix[&label];
        _ = write!(text, "| {} |", label.words());
        for said in PATTERNS.into_iter().map(Some).chain([None]) {
            let cell = row.get(&said).map(u32::to_string).unwrap_or_default();
            let cell = if said == Some(label) && !cell.is_empty() { format!("**{cell}**") } else { cell };
            _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// The sums in sentences.
pub fn rates(score: &Score) -> String {
    format!(
        "- Right verdict: {}.\n- Healthy ones called trouble: {} of {}.\n- The culprit named in the first three lines: {}.\n",
        rate(score.right),
        score.alarms.1,
        score.alarms.0,
        rate(score.named)
    )
}

fn rate((all, those): (u32, u32)) -> String {
    format!("{those} of {all} ({:.0} %)", 100.0 * f64::from(those) / f64::from(all.max(1)))
}

/// A row for each diagnosis.
pub fn rows(scored: &[Scored]) -> String {
    let mut text = String::from(
        "| program | interpreter | true | said | confidence | right | culprit named | look | cost to it |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    scored.iter().for_each(|one| text.push_str(&row(one)));
    text
}

fn row(one: &Scored) -> String {
    let truth = one.label.pattern.words();
    let right = if one.is_right() { "yes" } else { "**no**" };
    let named = one.names_culprit().map_or("", |named| if named { "yes" } else { "**no**" });
    match &one.told {
        Ok(told) => format!(
            "| {} | {} | {truth} | {} | {} | {right} | {named} | {} ms | {:.1} % |\n",
            one.name,
            told.interpreter.trim_start_matches("CPython "),
            told.diagnosis.pattern.words(),
            told.confidence().word(),
            told.look_ms,
            100.0 * told.target_cost
        ),
        Err(reason) => format!("| {} | | {truth} | no answer: {reason} | | {right} | {named} | | |\n", one.name),
    }
}

const fn short(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::RetainedReferences => "retained",
        Pattern::UnboundedCacheOrQueue => "cache, queue",
        Pattern::ProcessModelMultiplication => "workers",
        Pattern::PayloadOrTrafficPressure => "payload",
        Pattern::BackgroundStateWhileIdle => "background",
        Pattern::HeldByAllocator => "held",
        Pattern::NativeLeak => "native",
        Pattern::LevelsOff => "levels off",
        Pattern::Mixed => "mixed",
        Pattern::NoGrowth => "no growth",
        Pattern::NotEnoughData => "not enough",
    }
}

/// A page with the text between the two marks of a section replaced; `None` if it has no such section.
pub fn with_section(page: &str, section: &str, tables: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {section}: begin -->\n"), format!("<!-- {section}: end -->"));
    let (head, rest) = page.split_once(&open)?;
    let (_, tail) = rest.split_once(&close)?;
    Some(format!("{head}{open}\n{tables}\n{close}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let page = "head\n<!-- a: begin -->\nold\n<!-- a: end -->\ntail\n";
        let replaced = "head\n<!-- a: begin -->\n\nnew\n<!-- a: end -->\ntail\n";
        assert_eq!(with_section(page, "a", "new").as_deref(), Some(replaced));
        assert_eq!(with_section(replaced, "a", "new").as_deref(), Some(replaced));
        assert_eq!(with_section(page, "b", "new"), None);
    }

    #[test]
    fn every_pattern_has_a_row_and_a_column() {
        let mut score = Score::default();
        for label in PATTERNS {
            score.matrix.entry(label).or_default().insert(Some(label), 4);
        }
        score.matrix.entry(Pattern::NoGrowth).or_default().insert(None, 1);
        let text = matrix(&score);
        assert!(text.lines().all(|line| line.matches('|').count() == PATTERNS.len() + 3), "{text}");
        assert_eq!(text.matches("**4**").count(), PATTERNS.len());
        assert!(text.contains("| no growth |") && text.contains(" 1 |\n"), "{text}");
    }
}
