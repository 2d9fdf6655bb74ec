//! Walking the chunks of a span from its first to its last.

use super::heaps::Span;
use super::{FreeKind, FreeRange};
use crate::process::bounded::Window;
use crate::process::memory::Memory;

const PREVIOUS_IN_USE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const NON_MAIN_ARENA: u64 = 4;
const FLAGS: u64 = 7;

/// Bytes of the smallest chunk, and of the headers that malloc puts where its memory ends.
const SMALLEST: u64 = 32;
const FENCE: u64 = 16;

/// After a chunk that does not validate the next place is looked for from which so many chunks do in a row.
const CHAIN: usize = 6;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub free: Vec<FreeRange>,
    /// Chunks in use that have the size of a thread's cache.
    pub caches: Vec<u64>,
    /// Bytes between a chunk that did not validate and the next that did.
    pub skipped: u64,
    pub refused: u64,
}

/// Walks a span. `top` is the arena's top chunk when its head was read; `top_now` reads it anew.
pub(super) fn walk<M: Memory>(
    memory: &M,
    span: &Span,
    top: u64,
    top_now: impl Fn() -> Option<u64>,
    cache_chunk: u64,
) -> Walked {
    let mut walker = Walker { window: Window::new(memory, span.range.end), span, walked: Walked::default() };
    let mut chunk = span.first_chunk;
    while chunk < span.range.end {
        let next = match walker.step(chunk) {
            Step::Last => {
                // The chunk that reaches the end is the top, if malloc says so.
                if chunk == top || top_now() == Some(chunk) {
                    walker.free(chunk, span.range.end, FreeKind::Top);
                } else {
                    walker.refuse(chunk, span.range.end);
                }
                break;
            }
            Step::Free(next) => {
                walker.free(chunk, next, FreeKind::Bin);
                next
            }
            Step::Used(next) => {
                if next - chunk == cache_chunk {
                    walker.walked.caches.push(chunk);
                }
                next
            }
            Step::Fence => walker.after_fence(chunk),
            Step::Unread => {
                walker.walked.skipped += span.range.end - chunk;
                break;
            }
            Step::Wrong => {
                let found = walker.resume(chunk + 16);
                walker.refuse(chunk, found);
                found
            }
        };
        chunk = next;
    }
    walker.walked
}

struct Walker<'a, M> {
    window: Window<'a, M>,
    span: &'a Span,
    walked: Walked,
}

/// A chunk, with where the next one is.
enum Step {
    Used(u64),
    Free(u64),
    /// It reaches the end.
    Last,
    /// A header that only keeps malloc from walking on.
    Fence,
    Wrong,
    /// Its header, or that of the next, cannot be read; perhaps the budget is spent.
    Unread,
}

impl<M: Memory> Walker<'_, M> {
    fn step(&mut self, chunk: u64) -> Step {
        let Some(header) = self.window.word(chunk + 8) else { return Step::Unread };
        let size = header & !FLAGS;
        if size == FENCE || header == PREVIOUS_IN_USE {
            return Step::Fence;
        }
        let room = self.span.range.end - chunk;
        if size < SMALLEST || !size.is_multiple_of(16) || size > room || header & IS_MMAPPED != 0 {
            return Step::Wrong;
        }
        if self.span.main && header & NON_MAIN_ARENA != 0 {
            return Step::Wrong;
        }
        if size == room {
            return Step::Last;
        }
        let next = chunk + size;
        let Some(behind) = self.window.word(next + 8) else { return Step::Unread };
        match behind & PREVIOUS_IN_USE {
            0 if self.window.word(next) == Some(size) => Step::Free(next),
            0 => Step::Wrong,
            _ => Step::Used(next),
        }
    }

    fn free(&mut self, start: u64, end: u64, kind: FreeKind) {
        self.walked.free.push(FreeRange { start, end, kind });
    }

    fn refuse(&mut self, from: u64, to: u64) {
        self.walked.refused += 1;
        self.walked.skipped += to - from;
    }

    /// At a heap's end there are two fences. In the main arena memory of others may follow, and chunks again.
    fn after_fence(&mut self, fence: u64) -> u64 {
        let behind = fence + 2 * FENCE;
        if behind >= self.span.range.end {
            return self.span.range.end;
        }
        let found = self.resume(behind);
        self.walked.skipped += found - behind;
        found
    }

    /// The next place from which chunks follow each other, or the end.
    fn resume(&mut self, from: u64) -> u64 {
        let mut start = from;
        while start < self.span.range.end {
            if self.window.word(start + 8).is_none() {
                return self.span.range.end;
            }
            if self.is_chain(start) {
                return start;
            }
            start += 16;
        }
        self.span.range.end
    }

    fn is_chain(&mut self, start: u64) -> bool {
        let mut chunk = start;
        for _ in 0..CHAIN {
            chunk = match self.step(chunk) {
                Step::Used(next) | Step::Free(next) => next,
                Step::Last => return chunk != start,
                Step::Fence | Step::Wrong | Step::Unread => return false,
            };
        }
        true
    }
}
