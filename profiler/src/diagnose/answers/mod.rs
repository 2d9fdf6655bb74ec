//! The five questions in the order in which a good engineer works, each with its answer: one question a file.

mod bounds;
mod paths;
mod traffic;
mod which;
mod workers;

use super::facts::Facts;
use crate::profile::verdict::{Answer, Diagnosis};

/// All five.
pub fn all(facts: &Facts<'_>, diagnosis: &Diagnosis) -> Vec<Answer> {
    let answer = |question: &str, lines: Vec<String>| Answer { question: question.to_owned(), lines };
    vec![
        answer("Which process grows?", which::answer(facts)),
        answer("Does it follow traffic, jobs or the clock?", traffic::answer(facts)),
        answer("Are caches and queues bounded?", bounds::answer(facts)),
        answer("Do the workers multiply it?", workers::answer(facts)),
        answer("Which code allocates, and what survives?", paths::answer(facts, diagnosis)),
    ]
}
