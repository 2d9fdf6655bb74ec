//! What the allocators of a process hold free, read from its memory while it runs.
//!
//! glibc's malloc and CPython's pymalloc keep memory that the program has given back: it stays resident and no ledger of
//! live blocks knows it. Here their own structures are read from outside, with bounds, and nothing is believed that does
//! not agree with its neighbours. The target is not stopped: what it changes meanwhile does not validate, is left out and
//! counted. Reading a page that was never touched does not make it resident (the kernel's zero page stands in for it);
//! one that is in swap comes back.

pub mod advice;
pub mod glibc;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::Pid;
use crate::process::bounded::{Bounded, Budget};
use crate::process::image::Image;
use crate::process::maps::Region;
use crate::process::memory::Memory;
use crate::python::Interpreter;
use crate::python::arenas::{self, Pymalloc};

pub use glibc::{Arena, FreeKind, FreeRange, Glibc};

/// One look at the allocators of a process.
#[derive(Debug)]
pub struct Held {
    /// glibc's malloc.
    pub glibc: Result<Glibc, NotRead>,
    /// CPython's allocator of small objects.
    pub pymalloc: Result<Pymalloc, NotRead>,
    /// Bytes copied from the target.
    pub bytes_read: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Chunks, lists and pools that did not validate: the target changed them meanwhile, or they are broken. What is
    /// behind them is left out.
    pub refused: u64,
    /// The budget was spent before everything was looked at.
    pub unfinished: bool,
}

/// Why an allocator was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// No file in the process is glibc.
    #[error("the process maps no glibc: what its C library's malloc holds free is not known")]
    NoGlibc,
    /// musl, as in Alpine.
    #[error("the C library is musl, whose malloc pyalloc cannot read: what it holds free is not known")]
    Musl,
    /// Another allocator in front.
    #[error("malloc is served by {}, which pyalloc cannot read: what it holds free is not known", .0.display())]
    Replaced(PathBuf),
    /// A version that no test was run on.
    #[error("glibc {0} is not known to pyalloc, which reads 2.28 to 2.43: what its malloc holds free is not known")]
    Version(String),
    /// The structures do not lie where they should, or malloc was not used yet.
    #[error("the arenas of glibc's malloc were not found: what it holds free is not known")]
    NoArenas,
    /// They were found, and then could not be read.
    #[error("the arenas of glibc's malloc could not be read: the process has ended, or the time for a look was over")]
    Unreadable,
    /// No interpreter was given.
    #[error("no CPython interpreter in the process")]
    NoPython,
    /// Why pymalloc was not read.
    #[error(transparent)]
    Python(#[from] arenas::NotRead),
}

/// Where a process's allocators keep their books: found once, as it does not change while the program runs. A forked
/// child has the same.
#[derive(Clone, Debug)]
pub struct Places {
    glibc: Result<glibc::Place, NotRead>,
    pymalloc: Result<arenas::Place, NotRead>,
}

/// The pages that could be given back, as addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// By `malloc_trim(0)`.
    pub trim: Vec<Range<u64>>,
    /// By `MALLOC_ARENA_MAX=2`, at most.
    pub arena_max: Vec<Range<u64>>,
}

impl Advice {
    /// Of what glibc's malloc holds.
    pub fn of(glibc: &Glibc) -> Self {
        Self { trim: advice::malloc_trim(glibc), arena_max: advice::arena_max(glibc, 2) }
    }
}

impl Places {
    /// Whether another search would find the same: not while a program has yet to allocate for the first time.
    pub fn are_settled(&self) -> bool {
        !matches!(self.glibc, Err(NotRead::NoArenas))
            && !matches!(self.pymalloc, Err(NotRead::NoPython | NotRead::Python(arenas::NotRead::NotFound)))
    }

    /// Finds them. `regions` and `images` are the process's of this moment.
    pub fn find(
        pid: Pid,
        memory: &impl Memory,
        regions: &[Region],
        images: &[Image],
        python: Option<&Interpreter>,
    ) -> Self {
        let pymalloc = match python {
            None => Err(NotRead::NoPython),
            Some(python) => arenas::find(&python.allocators(), python.layout, memory, regions).map_err(NotRead::from),
        };
        Self { glibc: glibc::find(pid, memory, regions, images), pymalloc }
    }

    /// Looks. `regions` are the mappings of this moment. Where the target got in between, it is looked at twice and the
    /// better look is kept.
    pub fn look(&self, memory: &impl Memory, regions: &[Region], budget: Budget) -> Held {
        let bounded = Bounded::new(memory, budget);
        // What costs less comes first.
        let pymalloc = self.pymalloc.clone().and_then(|place| {
            twice(&bounded, || arenas::look(&place, &bounded).map(|look| (look.refused, look)).map_err(NotRead::from))
        });
        let glibc = self.glibc.clone().and_then(|place| twice(&bounded, || glibc::look(&place, &bounded, regions)));
        let refused = glibc.as_ref().map_or(0, |(refused, _)| *refused);
        let refused = refused + pymalloc.as_ref().map_or(0, |(refused, _)| *refused);
        Held {
            glibc: glibc.map(|(_, glibc)| glibc),
            pymalloc: pymalloc.map(|(_, pymalloc)| pymalloc),
            bytes_read: bounded.bytes_read(),
            elapsed: bounded.elapsed(),
            refused,
            unfinished: bounded.is_spent(),
        }
    }
}

/// A second look if the first was not clean, and there is the time for one as long as the first.
fn twice<M: Memory, T>(
    bounded: &Bounded<'_, M>,
    look: impl Fn() -> Result<(u64, T), NotRead>,
) -> Result<(u64, T), NotRead> {
    let before = (bounded.left(), bounded.elapsed());
    let first = look();
    let cost = bounded.elapsed() - before.1;
    let room = bounded.left().time > cost * 2 && bounded.left().bytes > (before.0.bytes - bounded.left().bytes) * 2;
    match first {
        Ok((0, found)) => Ok((0, found)),
        first if !room || bounded.is_spent() => first,
        first => match (first, look()) {
            (Ok(one), Ok(other)) => Ok(if other.0 < one.0 { other } else { one }),
            (one, other) => one.or(other),
        },
    }
}
