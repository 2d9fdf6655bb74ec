//! `pyalloc.toml`: limits that hold without a baseline, and how much more than a baseline is allowed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::measure::{Measure, Scope, Tolerance};
use super::pattern::Pattern;

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All processes together.
    Whole,
    /// The tests that match, each.
    Tests(Pattern),
    /// The functions that match, each.
    Functions(Pattern),
}

/// Limits for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Where it was written: "budget 2 of pyalloc.toml", "--max-peak".
    pub origin: String,
    /// Whose.
    pub target: Target,
    /// Most bytes, by measure; of the slope, in an hour.
    pub limits: BTreeMap<Measure, u64>,
    /// In place of the tolerance over the baseline, in percent.
    pub growth: Option<f64>,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Limits.
    pub budgets: Vec<Budget>,
    /// Tolerances that differ from the usual.
    pub tolerances: BTreeMap<(Scope, Measure), Tolerance>,
    /// Functions and tests that are held against no baseline.
    pub ignore: Vec<Pattern>,
}

impl Config {
    /// Reads the file's text; `name` is what it is called in messages.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub fn parse(text: &str, name: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| located(&error, text, name))?;
        let mut config =
            Self { ignore: file.ignore.iter().map(|pattern| Pattern::new(pattern)).collect(), ..Self::default() };
        for (scope, table) in [
            (Scope::Whole, file.tolerance.whole),
            (Scope::Test, file.tolerance.test),
            (Scope::Function, file.tolerance.function),
        ] {
            for (word, allowed) in table {
                let measure = Measure::of_name(&word).ok_or_else(|| format!("{name}: {}", unknown(&word)))?;
                let tolerance = allowed.over(measure.tolerance(scope)).map_err(|why| format!("{name}: {why}"))?;
                config.tolerances.insert((scope, measure), tolerance);
            }
        }
        for (number, budget) in file.budget.into_iter().enumerate() {
            let origin = format!("budget {} of {name}", number + 1);
            config.budgets.push(budget.read(&origin)?);
        }
        Ok(config)
    }

    /// How much more than the baseline is allowed.
    pub fn tolerance(&self, scope: Scope, measure: Measure) -> Tolerance {
        self.tolerances.get(&(scope, measure)).copied().unwrap_or_else(|| measure.tolerance(scope))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    ignore: Vec<String>,
    tolerance: Tables,
    budget: Vec<Row>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    whole: BTreeMap<String, Allowed>,
    test: BTreeMap<String, Allowed>,
    function: BTreeMap<String, Allowed>,
}

/// `"3 %"`, or `{ percent = 3, floor = "1 MiB" }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Allowed {
    Percent(String),
    Both { percent: Option<f64>, floor: Option<Size> },
}

/// `"64 MiB"`, or a number of bytes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    test: Option<String>,
    function: Option<String>,
    peak: Option<Size>,
    rss_peak: Option<Size>,
    allocated: Option<Size>,
    surviving: Option<Size>,
    slope: Option<Size>,
    growth: Option<String>,
}

impl Row {
    fn read(self, origin: &str) -> Result<Budget, String> {
        let target = match (self.test, self.function) {
            (Some(_), Some(_)) => return Err(format!("{origin}: `test` and `function` exclude each other")),
            (Some(test), None) => Target::Tests(Pattern::new(&test)),
            (None, Some(function)) => Target::Functions(Pattern::new(&function)),
            (None, None) => Target::Whole,
        };
        let sizes = [
            (Measure::Peak, self.peak),
            (Measure::RssPeak, self.rss_peak),
            (Measure::Allocated, self.allocated),
            (Measure::Surviving, self.surviving),
            (Measure::Slope, self.slope),
        ];
        let mut limits = BTreeMap::new();
        for (measure, size) in sizes {
            let Some(size) = size else { continue };
            if target != Target::Whole && !Measure::OF_PATHS.contains(&measure) {
                return Err(format!(
                    "{origin}: `{}` is of whole processes; a test or function has peak, allocated and surviving",
                    measure.name()
                ));
            }
            limits.insert(measure, size.bytes().map_err(|why| format!("{origin}: {why}"))?);
        }
        let growth = self.growth.map(|text| percent(&text)).transpose().map_err(|why| format!("{origin}: {why}"))?;
        if limits.is_empty() && growth.is_none() {
            return Err(format!(
                "{origin} limits nothing: it has none of peak, rss_peak, allocated, surviving, slope, growth"
            ));
        }
        Ok(Budget { origin: origin.to_owned(), target, limits, growth })
    }
}

impl Allowed {
    fn over(self, usual: Tolerance) -> Result<Tolerance, String> {
        Ok(match self {
            Self::Percent(text) => Tolerance { percent: percent(&text)?, ..usual },
            Self::Both { percent, floor } => Tolerance {
                percent: percent.unwrap_or(usual.percent),
                floor: floor.map(Size::bytes).transpose()?.unwrap_or(usual.floor),
            },
        })
    }
}

impl Size {
    fn bytes(self) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Text(text) => size(&text),
        }
    }
}

fn unknown(word: &str) -> String {
    let all: Vec<&str> = Measure::ALL.into_iter().map(Measure::name).collect();
    format!("there is no measure `{word}`: there are {}", all.join(", "))
}

/// toml's message without its picture of the line.
fn located(error: &toml::de::Error, text: &str, name: &str) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("{name}, line {}: {message}", before.matches('\n').count() + 1),
        None => format!("{name}: {message}"),
    }
}

/// "64 MiB", "1.5GiB", "500 kB", "10 MiB/h", "4096": bytes.
///
/// # Errors
/// A sentence.
pub fn size(text: &str) -> Result<u64, String> {
    let plain = text.trim().trim_end_matches("/h").trim();
    let end = plain.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(plain.len());
    let (number, unit) = plain.split_at(end);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024.0 * 1024.0,
        "mb" => 1e6,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "gb" => 1e9,
        _ => return Err(no_size(text)),
    };
    let number: f64 = number.parse().map_err(|_| no_size(text))?;
    Ok((number * factor).round() as u64)
}

fn no_size(text: &str) -> String {
    format!("`{text}` is no size: write \"64 MiB\", \"1.5 GiB\", \"500 kB\" or a number of bytes")
}

/// "5 %", "2.5%".
///
/// # Errors
/// A sentence.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("`{text}` is no share: write \"5 %\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read_as_people_write_them() {
        let sizes =
            [("64 MiB", 64 << 20), ("1.5GiB", 3 << 29), ("500 kB", 500_000), ("4096", 4096), ("10 MiB/h", 10 << 20)];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("many").is_err() && size("-5 MiB").is_err() && size("5 furlongs").is_err());
        assert_eq!(percent("2.5 %"), Ok(2.5));
        assert!(percent("-1 %").is_err() && percent("inf").is_err());
    }

    #[test]
    fn a_file_has_budgets_and_tolerances() {
        let text = "ignore = ['tests/fuzz.py::*']\n[tolerance.whole]\nallocated = '3 %'\nrss_peak = { floor = '8 MiB' }\n\
                    [[budget]]\ntest = 'tests/test_api.py::*'\npeak = '64 MiB'\n[[budget]]\nrss_peak = 1048576\ngrowth = '5 %'\n";
        let config = Config::parse(text, "pyalloc.toml").unwrap();
        assert_eq!(config.tolerance(Scope::Whole, Measure::Allocated), Tolerance { percent: 3.0, floor: 512 << 10 });
        assert_eq!(config.tolerance(Scope::Whole, Measure::RssPeak), Tolerance { percent: 5.0, floor: 8 << 20 });
        assert_eq!(config.budgets[0].target, Target::Tests(Pattern::new("tests/test_api.py::*")));
        assert_eq!(config.budgets[0].limits[&Measure::Peak], 64 << 20);
        assert_eq!((config.budgets[1].limits[&Measure::RssPeak], config.budgets[1].growth), (1 << 20, Some(5.0)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |text: &str, expected: &str| {
            let said = Config::parse(text, "p.toml").unwrap_err();
            assert!(said.starts_with("p.toml") || said.starts_with("budget 1 of p.toml"), "{said}");
            assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        };
        check("[[budget]]\ntest = 'x'\npeek = 1\n", "line 3: unknown field `peek`");
        check("[[budget]]\ntest = 'x'\n", "limits nothing");
        check("[[budget]]\ntest = 'x'\nfunction = 'y'\npeak = 1\n", "exclude each other");
        check("[[budget]]\ntest = 'x'\nslope = '1 MiB/h'\n", "of whole processes");
        check("[[budget]]\npeak = '1 cow'\n", "is no size");
        check("[tolerance.whole]\npeek = '1 %'\n", "no measure `peek`");
        check("x = [", "line 1");
    }
}
