//! What a gate measures, and how much more is allowed where nothing else is said.

/// A number of a run, of a function or of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Most bytes of blocks live at once: the sum of each call path's own peak. Paths peak at different moments, so it is
    /// an upper bound; it does not depend on when a reading was made.
    Peak,
    /// Largest resident set size. Of several processes, of those that ran at the same time.
    RssPeak,
    /// Bytes of blocks allocated, given back or not.
    Allocated,
    /// Bytes of blocks and small objects live at the end of their process.
    Surviving,
    /// Growth of the resident set size in an hour.
    Slope,
}

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All traced processes together.
    Whole,
    /// A pytest test.
    Test,
    /// A function of own code.
    Function,
}

/// How much more than the baseline is allowed: the larger of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Percent of the baseline.
    pub percent: f64,
    /// Bytes.
    pub floor: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Measure {
    /// All.
    pub const ALL: [Self; 5] = [Self::Allocated, Self::Peak, Self::Surviving, Self::RssPeak, Self::Slope];
    /// Those that a call path has, so that a function and a test have them too.
    pub const OF_PATHS: [Self; 3] = [Self::Allocated, Self::Peak, Self::Surviving];

    /// The word for it in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peak => "peak",
            Self::RssPeak => "rss_peak",
            Self::Allocated => "allocated",
            Self::Surviving => "surviving",
            Self::Slope => "slope",
        }
    }

    /// The measure of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// What it counts.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Peak => "bytes live at once, at most",
            Self::RssPeak => "peak RSS",
            Self::Allocated => "bytes allocated",
            Self::Surviving => "surviving bytes",
            Self::Slope => "growth of RSS per hour",
        }
    }

    /// What is allowed where one run is held against one baseline: several times what runs of the same code were measured
    /// to differ by (`docs/ci.md`, "How much is noise").
    pub const fn tolerance(self, scope: Scope) -> Tolerance {
        let (percent, floor) = match (scope, self) {
            (Scope::Whole, Self::Allocated) => (1.0, 512 * KIB),
            (Scope::Whole, Self::Peak) => (2.0, 512 * KIB),
            (Scope::Whole, Self::Surviving) => (5.0, MIB),
            (Scope::Whole | Scope::Test | Scope::Function, Self::RssPeak) => (5.0, 4 * MIB),
            (Scope::Whole | Scope::Test | Scope::Function, Self::Slope) => (10.0, 16 * MIB),
            (Scope::Test | Scope::Function, Self::Allocated | Self::Peak) => (2.0, 16 * KIB),
            (Scope::Test | Scope::Function, Self::Surviving) => (5.0, 256 * KIB),
        };
        Tolerance { percent, floor }
    }
}

impl Tolerance {
    /// Bytes allowed over a baseline.
    pub fn over(self, baseline: f64) -> f64 {
        (baseline * self.percent / 100.0).max(self.floor as f64)
    }
}
