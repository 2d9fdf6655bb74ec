//! What a diagnosis concluded: plain data, stored in the profile, so that a report shows it again. The rules that conclude
//! are in the room `diagnose`. Texts hold names from the target, already short, and are shown like any other of them.

use serde::{Deserialize, Serialize};

use super::bounds::{self, FEW};

/// What was found, in one trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The verdict: what most of the growth is, or what there is instead of growth.
    pub pattern: Pattern,
    /// The sentence to paste into an incident channel.
    pub headline: String,
    /// How much the resident memory of the processes grew over the time watched, bytes; negative if it shrank.
    pub growth: i64,
    /// What the growth is made of: the parts add up to it.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub parts: Vec<Part>,
    /// Every finding, the weightiest first; the first one is the verdict's.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub findings: Vec<Finding>,
    /// The five questions, in the order in which they are worked through, each with its answer.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub answers: Vec<Answer>,
    /// For `NotEnoughData`: how long to watch, seconds.
    #[serde(default)]
    pub watch_for_s: Option<u64>,
}

/// The patterns that memory trouble has, and what there is where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Objects are kept by references that nobody takes away.
    RetainedReferences,
    /// A cache or a queue that only fills.
    UnboundedCacheOrQueue,
    /// Each worker holds a copy of the same memory, or workers were added.
    ProcessModelMultiplication,
    /// Memory comes and goes with what is received or handled.
    PayloadOrTrafficPressure,
    /// Something in the background keeps more and more while nothing is asked of the process.
    BackgroundStateWhileIdle,
    /// The objects are gone, and an allocator holds their memory.
    HeldByAllocator,
    /// Native code loses memory, or references to objects.
    NativeLeak,
    /// It grew and has stopped growing.
    LevelsOff,
    /// More than one, none of which is most of it.
    Mixed,
    /// It does not grow.
    NoGrowth,
    /// Nothing can be said yet.
    #[default]
    NotEnoughData,
}

impl Pattern {
    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::RetainedReferences => "retained references",
            Self::UnboundedCacheOrQueue => "unbounded cache or queue",
            Self::ProcessModelMultiplication => "process-model multiplication",
            Self::PayloadOrTrafficPressure => "payload or traffic pressure",
            Self::BackgroundStateWhileIdle => "background state while idle",
            Self::HeldByAllocator => "held by the allocator",
            Self::NativeLeak => "native leak in an extension",
            Self::LevelsOff => "legitimate growth that levels off",
            Self::Mixed => "mixed",
            Self::NoGrowth => "no growth",
            Self::NotEnoughData => "not enough data",
        }
    }

    /// Whether it is something to act on.
    pub const fn is_trouble(self) -> bool {
        !matches!(self, Self::LevelsOff | Self::NoGrowth | Self::NotEnoughData)
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// One sign, or signs that contradict each other in part.
    #[default]
    Low,
    /// Several signs agree; one that would settle it is missing.
    Medium,
    /// What settles it was seen.
    High,
}

impl Confidence {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A part of the growth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Whose; `None` for what no finding explains.
    pub pattern: Option<Pattern>,
    /// What it is, for people.
    pub what: String,
    /// Bytes; negative for memory that was given back.
    pub bytes: i64,
}

/// One thing that a rule found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The pattern.
    pub pattern: Pattern,
    /// One sentence with the process, the rate, and the code or container.
    pub sentence: String,
    /// Bytes of the growth that it explains; where nothing grows, bytes that are at stake.
    pub bytes: u64,
    /// How sure it is.
    pub confidence: Confidence,
    /// What would make it surer; empty if nothing is missing.
    #[serde(default)]
    pub to_be_surer: String,
    /// What was seen, with numbers.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub evidence: Vec<String>,
    /// The code or container at fault.
    #[serde(default)]
    pub culprit: Culprit,
    /// What to do next.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub next_steps: Vec<String>,
    /// What not to do.
    #[serde(default)]
    pub not_to_do: String,
}

/// Where the memory comes from, and who keeps it; each empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Culprit {
    /// The code that allocates: `store.py:21 remember`.
    pub code: String,
    /// The full path of its file.
    pub file: String,
    /// The function.
    pub function: String,
    /// The line; 0 if not known.
    pub line: u32,
    /// The program's own code that calls it, where it is a package's.
    #[serde(default)]
    pub called_from: String,
    /// What holds it: `app.cache.SESSIONS (dict)`.
    pub holder: String,
    /// The pids of the processes concerned.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub pids: Vec<u32>,
}

impl Culprit {
    /// The program's own code that leads to the memory: what allocates, or what calls it.
    pub fn own_code(&self) -> &str {
        if self.called_from.is_empty() { &self.code } else { &self.called_from }
    }
}

/// One of the five questions, answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    pub question: String,
    /// The answer, a sentence each.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub lines: Vec<String>,
}
