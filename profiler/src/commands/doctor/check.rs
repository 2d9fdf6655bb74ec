//! One thing looked at, and how it is told.

use std::io::{self, Write};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// Nothing is wrong, but the reader should know.
    Note,
    /// Without it nothing, or not this process, can be observed.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) verdict: Verdict,
    /// What was found, in one line.
    pub(super) found: String,
    /// What to do about it.
    pub(super) way_out: Option<String>,
}

impl Check {
    pub(super) fn fine(found: impl Into<String>) -> Self {
        Self::new(Verdict::Fine, found, None)
    }

    pub(super) fn note(found: impl Into<String>) -> Self {
        Self::new(Verdict::Note, found, None)
    }

    pub(super) fn missing(found: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self::new(Verdict::Missing, found, Some(way_out.into()))
    }

    /// Fine, or missing with the way out.
    pub(super) fn needed(present: bool, found: impl Into<String>, way_out: impl Into<String>) -> Self {
        match present {
            true => Self::fine(found),
            false => Self::missing(found, way_out),
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.verdict == Verdict::Missing
    }

    fn new(verdict: Verdict, found: impl Into<String>, way_out: Option<String>) -> Self {
        Self { verdict, found: found.into(), way_out }
    }

    /// One line, and below it the way out.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Note => "note",
            Verdict::Missing => "missing",
        };
        writeln!(out, "  {word:<8} {}", printable(&self.found))?;
        match &self.way_out {
            Some(way_out) => writeln!(out, "           -> {}", printable(way_out)),
            None => Ok(()),
        }
    }
}

/// Text in which nothing can move the cursor: names come from the target.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_one_line_and_the_way_out() {
        let written = |check: Check| {
            let mut out = Vec::new();
            check.write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Check::fine("Linux 6.18")), "  ok       Linux 6.18\n");
        assert_eq!(
            written(Check::missing("no \x1b[31mroot", "run it with sudo")),
            "  missing  no \u{fffd}[31mroot\n           -> run it with sudo\n"
        );
    }
}
