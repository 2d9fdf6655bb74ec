//! Which probes a trace sets in its processes, and what it does where there can be none.

use profiler_common::config::{ABSENT, PythonLayout};
use profiler_common::probe::Function;

use super::{LedgerArg, TraceArgs};
use crate::process::Pid;

/// The probes that a trace sets, as far as a process allows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    /// All of them.
    Heap {
        /// No other ledger is kept.
        alone: bool,
    },
    /// Only those without which pages and mappings could not be told: of a program that was launched, its exit; up to
    /// CPython 3.11, where code objects have no version, the end of a code object.
    Few {
        /// It was launched.
        launched: bool,
    },
    /// None: the user said so.
    None,
}

impl Probes {
    /// What the user asked for.
    pub fn wanted(args: &TraceArgs) -> Self {
        if args.no_uprobes {
            Self::None
        } else if args.keeps(LedgerArg::Heap) {
            Self::Heap { alone: !args.keeps(LedgerArg::Mapping) && !args.keeps(LedgerArg::Resident) }
        } else {
            Self::Few { launched: !args.command.is_empty() }
        }
    }

    /// Whether the probe of a function is one of them.
    pub fn want(self, function: Function, layout: &PythonLayout) -> bool {
        match (self, function) {
            (Self::Heap { .. }, _) => true,
            (Self::Few { .. }, Function::CodeDealloc) => layout.code_version == ABSENT,
            (Self::Few { launched }, Function::Exit) => launched,
            _ => false,
        }
    }

    /// In the report, why there is no probe in a process for which none is wanted.
    pub const fn why_none(self) -> &'static str {
        match self {
            Self::None => "none is set, as --no-uprobes says",
            Self::Heap { .. } | Self::Few { .. } => "these ledgers need none",
        }
    }
}

/// What the user is told at once of a process in which no probe can be set.
pub fn sentence(pid: Pid, reason: &str) -> String {
    format!(
        "no probe can be set in process {pid}: its allocations are not recorded (no heap ledger); its pages and mappings \
         are, with their call paths. Why: {reason}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::layout::LAYOUTS;

    fn check(wanted: Probes, minor: u8, expected: &[Function]) {
        let all = [Function::Malloc, Function::PoolOpen, Function::CodeDealloc, Function::Exit];
        let layout = LAYOUTS.iter().find(|row| row.minor == minor).unwrap().walker();
        let kept: Vec<Function> = all.into_iter().filter(|function| wanted.want(*function, &layout)).collect();
        assert_eq!(kept, expected, "{wanted:?} on 3.{minor}");
    }

    #[test]
    fn no_more_probes_than_the_ledgers_need() {
        let (attached, launched) = (Probes::Few { launched: false }, Probes::Few { launched: true });
        check(attached, 12, &[]);
        check(attached, 11, &[Function::CodeDealloc]);
        check(launched, 12, &[Function::Exit]);
        check(launched, 8, &[Function::CodeDealloc, Function::Exit]);
        check(Probes::None, 8, &[]);
        check(
            Probes::Heap { alone: true },
            13,
            &[Function::Malloc, Function::PoolOpen, Function::CodeDealloc, Function::Exit],
        );
    }
}
